//! The blocking half of a scrape: inflate, parse, predict, relabel, append, commit, report.
//!
//! ```text
//!   row   up  scrape_* ..  |  samples in the order of the body  |  stale markers of what vanished      one append_row
//!         samples with a time of their own                                                             append_at each
//!         commit: all of it or nothing
//! ```
//!
//! A body that cannot be taken whole (a bad line, a limit) is not taken at all: what was collected is dropped, and the
//! scrape is appended again as an empty one, which marks the target's series stale and says `up 0`.

use crate::fetch::{Encoding, FetchError, Fetched, InflateError};
use crate::manager::Shared;
use crate::metadata::ScrapeNo;
use crate::parse::{ContentTypeError, Format, ParseError};
use crate::pool::Job;
use crate::predict::Prediction;
use crate::report::{Report, ReportColumns};
use crate::sample::{SampleError, SampleRules};
use crate::target::{Health, LastScrape, Live, Target};
use crate::walk::{Buffers, Counts, Walk};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{
    AppendError, Appender, CommitError, Committed, Histogram, HistogramError, OnReject, OverBudget, RejectReason,
    SeriesRef, TimelineRef, Timestamp, stale_marker,
};
use tokio::time::Instant;

/// What a target's scrapes remember from one to the next.
#[derive(Debug, Default)]
pub(crate) struct TargetState {
    prediction: Prediction,
    report: ReportColumns,
    /// What the prediction was made under: another format or other rules make it void.
    made_under: Option<(Format, Arc<SampleRules>)>,
    /// Series that were live when the prediction was voided. Those that do not come again get stale markers.
    orphans: Vec<SeriesRef>,
    /// Whether the last scrape had samples or series refused, so that this is told once.
    refused: bool,
    scrape: ScrapeNo,
}

/// Why a scrape failed, in the words the user sees.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Inflate(#[from] InflateError),
    #[error(transparent)]
    Memory(#[from] OverBudget),
    #[error(transparent)]
    ContentType(#[from] ContentTypeError),
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("{problem} ({place})")]
    Body { problem: ParseError, place: String },
    #[error(transparent)]
    Sample(#[from] SampleError),
    #[error("sample limit exceeded")]
    SampleLimit,
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    #[error(transparent)]
    Histogram(HistogramError),
    #[error("{0}")]
    Forced(String),
    #[error("cannot append: {0}")]
    Append(#[from] AppendError),
    #[error("cannot commit: {0}")]
    Commit(#[from] CommitError),
}

/// One scrape to append.
pub(crate) struct Append<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) job: &'a Job,
    pub(crate) target: &'a Target,
    pub(crate) live: &'a Live,
    /// The time of the row.
    pub(crate) at: Timestamp,
    /// When the scrape began.
    pub(crate) began: Instant,
}

impl Append<'_> {
    /// Appends what a fetch brought, or that it brought nothing. Gives the buffer of the body back.
    pub(crate) fn run(&self, fetched: Result<Fetched, Failure>) -> Option<Vec<u8>> {
        let mut state = self.live.state.lock();
        let mut buffers = self.shared.buffers.take();
        let (body, fetched) = match fetched {
            Ok(mut fetched) => (self.body(&mut fetched, &mut buffers), Some(fetched)),
            Err(failure) => (Err(failure), None),
        };
        // The text is lent apart from the rest, as entries borrow from it while rows are filled.
        let text = std::mem::take(&mut buffers.text);
        let body = body.map(|encoding| {
            let fetched = fetched.as_ref();
            (
                if encoding == Encoding::Plain {
                    fetched.map_or(&[][..], Fetched::body)
                } else {
                    text.as_slice()
                },
                fetched.and_then(|fetched| fetched.content_type.as_deref()),
            )
        });
        self.append(&mut state, &mut buffers, body);
        buffers.text = text;
        self.shared.buffers.give(buffers);
        fetched.map(|fetched| fetched.raw)
    }

    /// Makes the body readable: in `buffers.text` if it had to be inflated.
    fn body(&self, fetched: &mut Fetched, buffers: &mut Buffers) -> Result<Encoding, Failure> {
        let metrics = &self.shared.metrics;
        let packed = fetched.raw.get(fetched.start..).unwrap_or_default();
        metrics.wire_bytes.add(packed.len() as u64);
        if fetched.encoding != Encoding::Plain && !packed.is_empty() {
            let lease = &mut fetched.lease;
            buffers.unpacker.unpack(
                fetched.encoding,
                packed,
                &mut buffers.text,
                self.job.client.limit_bytes(),
                |bytes| lease.grow(bytes as u64),
            )?;
            metrics.body_bytes.add(buffers.text.len() as u64);
            return Ok(fetched.encoding);
        }
        metrics.body_bytes.add(packed.len() as u64);
        Ok(Encoding::Plain)
    }

    fn append(&self, state: &mut TargetState, buffers: &mut Buffers, body: Result<(&[u8], Option<&str>), Failure>) {
        state.scrape.this += 1;
        let mut report = Report {
            timeout: self.target.timeout,
            sample_limit: self.job.rules.sample_limit,
            body_bytes: match &body {
                Ok((body, _)) => Some(body.len() as u64),
                Err(Failure::Inflate(InflateError::TooLong) | Failure::Fetch(FetchError::TooLong)) => None,
                Err(_) => Some(0),
            },
            ..Report::default()
        };
        let failure = match body {
            Ok((body, content_type)) => match self.good(state, buffers, body, content_type, &mut report) {
                Ok(()) => None,
                // The store's trouble is not the target's: nothing is gained by trying to write that.
                Err(failure @ Failure::Commit(_)) => return self.conclude(&report, Some(&failure)),
                Err(failure) => Some(failure),
            },
            Err(failure) => Some(failure),
        };
        let Some(failure) = failure else {
            return self.conclude(&report, None);
        };
        report.up = false;
        if let Err(problem) = self.failed(state, buffers, &mut report) {
            tracing::error!(pool = %self.job.name, url = %self.target.url, %problem, "cannot append the report of a failed scrape");
        }
        self.conclude(&report, Some(&failure));
    }

    /// A body came: walks over it and commits its row.
    fn good(
        &self,
        state: &mut TargetState,
        buffers: &mut Buffers,
        body: &[u8],
        content_type: Option<&str>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let rules = &self.job.rules;
        let format = if body.is_empty() {
            // Upstream takes an empty body for no samples, whatever its content type.
            state
                .made_under
                .as_ref()
                .map_or(Format::PrometheusText, |(format, _)| *format)
        } else {
            let negotiated = Format::negotiate(content_type, rules.fallback)?;
            if let Some(warning) = negotiated.warning {
                tracing::debug!(pool = %self.job.name, url = %self.target.url, %warning, "content type");
            }
            negotiated.format
        };
        state.keep_if_made_under(format, rules);
        let mut added = None;
        // Once with the columns known from before; again without, if the store let one of them go.
        for _ in 0..2 {
            let mut appender = self.shared.store.appender();
            let timeline = appender.timeline(&self.target.timeline_key)?;
            let reserved =
                state
                    .report
                    .reserve(rules.report, self.target, timeline, appender.as_mut(), &mut buffers.row)?;
            let mut walk = Walk {
                append: self,
                appender: appender.as_mut(),
                timeline,
                scrape: state.scrape,
                counts: Counts::default(),
                refusal: None,
                over_limit: false,
                fresh: HashSet::default(),
            };
            let walked = walk.body(&mut state.prediction, buffers, body, format);
            let (mut counts, mut refusal) = (walk.counts, walk.refusal);
            (report.scraped, report.kept) = (counts.scraped, counts.kept);
            // The second time all are found anew, though none of them is new to the target.
            report.added = *added.get_or_insert(counts.added);
            let vanished = walked?;
            (report.up, report.duration) = (true, self.began.elapsed());
            report.fill(&mut buffers.row, reserved);
            let vanished = state.all_vanished(vanished, buffers);
            let taken = append_histograms(appender.as_mut(), &buffers.histograms, &mut counts, &mut refusal)
                .and_then(|()| Ok(self.append_row(appender.as_mut(), timeline, &mut buffers.row, &vanished)?))
                .and_then(|()| Ok(appender.append_many(&buffers.stamped)?));
            match taken {
                Ok(()) => {}
                Err(Failure::Append(AppendError::StaleRef { .. })) => {
                    // Whatever was taken goes with the appender. The prediction has moved on to this body: what had
                    // vanished is remembered as orphaned.
                    state.forget();
                    state.orphans.extend(vanished);
                    continue;
                }
                Err(problem) => {
                    state.orphans.extend(vanished);
                    return Err(problem);
                }
            }
            if !body.is_empty() {
                state.scrape.last_good = state.scrape.this;
            }
            for (series, at, exemplar) in &buffers.exemplars {
                // One that does not fit fails no scrape; the store counts it.
                let _ = appender.append_exemplar(*series, *at, exemplar);
            }
            match appender.commit(OnReject::Skip) {
                Ok(committed) => self.count(state, &counts, refusal.as_ref(), &committed, &vanished),
                Err(problem) => {
                    state.orphans.extend(vanished);
                    return Err(problem.into());
                }
            }
            return Ok(());
        }
        Err(Failure::Append(AppendError::StaleRef { place: 0 }))
    }

    /// Nothing came, or nothing that can be taken: the report, and stale markers for all that was live.
    fn failed(&self, state: &mut TargetState, buffers: &mut Buffers, report: &mut Report) -> Result<(), Failure> {
        let mut gone = std::mem::take(&mut state.orphans);
        state.prediction.fail(|series| gone.push(series));
        let mut appender = self.shared.store.appender();
        let timeline = appender.timeline(&self.target.timeline_key)?;
        report.duration = self.began.elapsed();
        for _ in 0..2 {
            let kind = self.job.rules.report;
            let reserved = state
                .report
                .reserve(kind, self.target, timeline, appender.as_mut(), &mut buffers.row)?;
            report.fill(&mut buffers.row, reserved);
            match appender.append_row(timeline, self.at, &buffers.row) {
                Err(AppendError::StaleRef { .. }) => state.report.clear(),
                Err(problem) => return Err(problem.into()),
                Ok(()) => break,
            }
        }
        self.mark_stale(appender.as_mut(), timeline, &gone);
        appender.commit(OnReject::Skip)?;
        Ok(())
    }

    /// The target is gone for good: stale markers for all that was live and for the report.
    pub(crate) fn gone(&self) {
        let mut state = self.live.state.lock();
        let mut gone = std::mem::take(&mut state.orphans);
        state.prediction.fail(|series| gone.push(series));
        if gone.is_empty() && state.report.is_empty() {
            return;
        }
        let result = (|| -> Result<(), Failure> {
            let mut appender = self.shared.store.appender();
            let timeline = appender.timeline(&self.target.timeline_key)?;
            let mut row = Vec::new();
            let kind = self.job.rules.report;
            state
                .report
                .reserve(kind, self.target, timeline, appender.as_mut(), &mut row)?;
            gone.extend(row.iter().map(|(series, _)| *series));
            self.mark_stale(appender.as_mut(), timeline, &gone);
            appender.commit(OnReject::Skip)?;
            Ok(())
        })();
        if let Err(problem) = result {
            tracing::warn!(pool = %self.job.name, url = %self.target.url, %problem, "cannot mark a vanished target stale");
        }
    }

    /// Appends the row of a body, and in it the stale markers of what vanished: one row costs less than two.
    fn append_row(
        &self,
        appender: &mut dyn Appender,
        timeline: TimelineRef,
        row: &mut Vec<(SeriesRef, f64)>,
        vanished: &[SeriesRef],
    ) -> Result<(), AppendError> {
        let samples = row.len();
        row.extend(vanished.iter().map(|series| (*series, stale_marker())));
        match appender.append_row(timeline, self.at, row) {
            Err(AppendError::StaleRef { place }) if place >= samples => {
                row.truncate(samples);
                appender.append_row(timeline, self.at, row)?;
                self.mark_stale(appender, timeline, vanished);
                Ok(())
            }
            appended => appended,
        }
    }

    /// Appends stale markers. One for a column that the store let go is not needed.
    fn mark_stale(&self, appender: &mut dyn Appender, timeline: TimelineRef, series: &[SeriesRef]) {
        if series.is_empty() {
            return;
        }
        let markers: Vec<(SeriesRef, f64)> = series.iter().map(|series| (*series, stale_marker())).collect();
        if appender.append_row(timeline, self.at, &markers).is_ok() {
            return;
        }
        for (series, marker) in markers {
            // Gone already, or refused: either way there is nothing more to do for it.
            let _ = appender.append_at(series, self.at, marker);
        }
    }

    fn count(
        &self,
        state: &mut TargetState,
        counts: &Counts,
        refusal: Option<&AppendError>,
        committed: &Committed,
        vanished: &[SeriesRef],
    ) {
        let metrics = &self.shared.metrics;
        metrics.samples.add(committed.samples);
        metrics.predicted_lines.add(counts.predicted);
        metrics.slow_lines.add(counts.scraped - counts.predicted);
        metrics.refused_series.add(counts.refused_series);
        metrics.refused_histograms.add(counts.refused_histograms);
        // That a stale marker is refused is expected and of no interest.
        let rejected = committed
            .rejected
            .iter()
            .filter(|rejected| vanished.binary_search(&rejected.series).is_err());
        let mut first = None;
        let mut count = 0u64;
        for rejected in rejected {
            first.get_or_insert(rejected);
            count += 1;
            match rejected.reason {
                RejectReason::OutOfOrder => metrics.out_of_order.inc(),
                RejectReason::Duplicate { .. }
                | RejectReason::HistogramExists { .. }
                | RejectReason::DuplicateHistogram { .. }
                | RejectReason::Repeated => metrics.duplicates.inc(),
                RejectReason::OutOfBounds | RejectReason::TooOld | RejectReason::TooNew => metrics.out_of_bounds.inc(),
            }
        }
        let refused = count > 0 || counts.refused_series > 0 || counts.refused_histograms > 0;
        if refused && !state.refused {
            let of_sample = first.map(|rejected| rejected.reason.to_string());
            let of_series = refusal.map(ToString::to_string);
            let reason = [of_sample, of_series]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; ");
            tracing::warn!(
                pool = %self.job.name, url = %self.target.url, samples = count, series = counts.refused_series, reason,
                "some samples of this target were refused (told once until a scrape is whole again)"
            );
        }
        state.refused = refused;
    }

    /// Tells everyone how it went.
    fn conclude(&self, report: &Report, failure: Option<&Failure>) {
        let metrics = &self.shared.metrics;
        metrics.scrapes.inc();
        let error = failure.map(ToString::to_string).unwrap_or_default();
        if let Some(failure) = failure {
            metrics.failures.inc();
            if let Some(log) = &self.job.failures {
                log.write(self.at, &self.job.name, &self.target.url, &error);
            }
            match failure {
                Failure::SampleLimit => metrics.over_sample_limit.inc(),
                Failure::BucketLimit => metrics.over_bucket_limit.inc(),
                Failure::Sample(SampleError::LabelLimit(_)) => metrics.over_label_limit.inc(),
                Failure::Fetch(FetchError::TooLong) | Failure::Inflate(InflateError::TooLong) => {
                    metrics.over_body_limit.inc();
                }
                Failure::Memory(_)
                | Failure::Fetch(FetchError::Memory(_))
                | Failure::Inflate(InflateError::Memory(_)) => {
                    metrics.over_budget.inc();
                }
                Failure::Commit(_) | Failure::Append(_) => metrics.commit_failures.inc(),
                _ => {}
            }
        }
        let before = self.live.last();
        let health = if failure.is_none() { Health::Up } else { Health::Down };
        let (pool, url) = (&self.job.name, &self.target.url);
        match (before.health, health) {
            (Health::Up, Health::Down) => tracing::warn!(%pool, %url, %error, "target went down"),
            (Health::Down, Health::Up) => tracing::info!(%pool, %url, "target is up again"),
            (_, Health::Down) if error != before.error => tracing::debug!(%pool, %url, %error, "scrape failed"),
            _ => {}
        }
        let took = if report.duration == Duration::ZERO {
            self.began.elapsed()
        } else {
            report.duration
        };
        self.live.set_last(LastScrape {
            at: Some(self.at),
            took,
            error,
            health,
        });
    }
}

impl TargetState {
    /// Whether it is known what the next body will probably say.
    pub(crate) fn is_predicted(&self) -> bool {
        !self.prediction.is_empty()
    }

    /// Voids the prediction if it was made under another format or other rules.
    fn keep_if_made_under(&mut self, format: Format, rules: &Arc<SampleRules>) {
        let same = self
            .made_under
            .as_ref()
            .is_some_and(|(was, under)| *was == format && (Arc::ptr_eq(under, rules) || **under == **rules));
        if !same {
            self.forget();
        }
        self.made_under = Some((format, Arc::clone(rules)));
    }

    /// Voids the prediction and the report's columns; remembers what was live.
    fn forget(&mut self) {
        let orphans = &mut self.orphans;
        self.prediction.fail(|series| orphans.push(series));
        self.prediction.clear();
        self.report.clear();
    }

    /// What vanished by the prediction, and what was orphaned and did not come again in this body; sorted.
    fn all_vanished(&mut self, mut vanished: Vec<SeriesRef>, body: &Buffers) -> Vec<SeriesRef> {
        if !self.orphans.is_empty() {
            let mut present: Vec<SeriesRef> = body.row.iter().map(|(series, _)| *series).collect();
            present.extend(body.stamped.iter().map(|(series, ..)| *series));
            present.extend(body.histograms.iter().map(|(series, ..)| *series));
            present.sort_unstable();
            let mut orphans = std::mem::take(&mut self.orphans);
            orphans.sort_unstable();
            orphans.dedup();
            let gone = |series: &SeriesRef| present.binary_search(series).is_err();
            vanished.extend(orphans.into_iter().filter(gone));
        }
        vanished.sort_unstable();
        vanished
    }
}

/// Appends native histograms, in front of the row: if a column was let go, nothing else was taken yet. One that has
/// more buckets than the store takes is left out; one that is none fails the scrape, as upstream has it.
fn append_histograms(
    appender: &mut dyn Appender,
    histograms: &[(SeriesRef, Timestamp, Arc<Histogram>)],
    counts: &mut Counts,
    refusal: &mut Option<AppendError>,
) -> Result<(), Failure> {
    for (series, at, histogram) in histograms {
        match appender.append_histogram(*series, *at, Arc::clone(histogram)) {
            Ok(()) => {}
            Err(AppendError::Histogram(problem @ HistogramError::TooMany { .. })) => {
                counts.refused_histograms += 1;
                refusal.get_or_insert(problem.into());
            }
            Err(AppendError::Histogram(problem)) => return Err(Failure::Histogram(problem)),
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}
