//! The walk over one body: each line becomes a place in the row, by what the last body says of it or by its labels.
//!
//! ```text
//!   line --> as the last body has it? --yes--> its column
//!                 | no                            |
//!                 v                               v
//!        labels, relabelling, limits      row, stamped, histograms, exemplars
//!                 |                               ^
//!                 '--> resolve ------------------'
//! ```
//!
//! Nothing is appended here: what the walk collects is in [`Buffers`], and is let go if the body cannot be taken whole.

use crate::append::{Append, Failure};
use crate::fetch::Unpacker;
use crate::manager::Reuse;
use crate::metadata::{MetadataPass, ScrapeNo};
use crate::parse::{Entries, Entry, Fingerprint, Format, ParseError};
use crate::predict::{Pass, Predicted, Prediction, Slot};
use crate::sample::SampleLabels;
use foldhash::fast::RandomState;
use std::collections::HashSet;
use std::sync::Arc;
use tidegauge_model::{AppendError, Appender, Exemplar, Histogram, Labels, SeriesRef, TimelineRef, Timestamp};

/// Buffers that one scrape after another uses.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) text: Vec<u8>,
    pub(crate) unpacker: Unpacker,
    pub(crate) row: Vec<(SeriesRef, f64)>,
    pub(crate) stamped: Vec<(SeriesRef, Timestamp, f64)>,
    pub(crate) exemplars: Vec<(SeriesRef, Timestamp, Exemplar)>,
    pub(crate) histograms: Vec<(SeriesRef, Timestamp, Arc<Histogram>)>,
}

/// A buffer that grew beyond this is given back to the allocator.
const KEPT_BYTES: usize = 4 << 20;

impl Reuse for Buffers {
    fn trim(&mut self) {
        // Its content stays, so that it need not be zeroed for the next.
        if self.text.capacity() > KEPT_BYTES {
            self.text = Vec::new();
        }
        self.row.clear();
        self.row.shrink_to(KEPT_BYTES / 16);
        self.stamped.clear();
        self.stamped.shrink_to(KEPT_BYTES / 32);
        self.exemplars.clear();
        self.exemplars.shrink_to(KEPT_BYTES / 64);
        self.histograms.clear();
        self.histograms.shrink_to(KEPT_BYTES / 32);
    }
}

/// What a walk over a body counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) scraped: u64,
    pub(crate) kept: u64,
    pub(crate) added: u64,
    pub(crate) predicted: u64,
    pub(crate) refused_series: u64,
    pub(crate) refused_histograms: u64,
}

/// The walk over one body.
pub(crate) struct Walk<'a, 'p> {
    pub(crate) append: &'a Append<'a>,
    pub(crate) appender: &'p mut dyn Appender,
    pub(crate) timeline: TimelineRef,
    pub(crate) scrape: ScrapeNo,
    pub(crate) counts: Counts,
    /// Why the first series was refused, if one was.
    pub(crate) refusal: Option<AppendError>,
    /// Whether there were more samples than may be.
    pub(crate) over_limit: bool,
    /// The hashes of lines that are new, as a line may stand there twice.
    pub(crate) fresh: HashSet<u64, RandomState>,
}

impl Walk<'_, '_> {
    /// Fills the row behind what is reserved in it; gives the series that vanished.
    pub(crate) fn body(
        &mut self,
        prediction: &mut Prediction,
        buffers: &mut Buffers,
        body: &[u8],
        format: Format,
    ) -> Result<Vec<SeriesRef>, Failure> {
        let (append, rules) = (self.append, &*self.append.job.rules);
        buffers.stamped.clear();
        buffers.exemplars.clear();
        buffers.histograms.clear();
        let mut labels = SampleLabels::new(rules, &append.target.labels);
        let mut metadata = MetadataPass::new(
            append.live.families(),
            &append.shared.interner,
            append.shared.options.max_metadata_per_target,
            self.scrape,
        );
        let mut entries = Entries::new(body, format).histogram_lines(rules.histograms.lines);
        let mut pass = prediction.begin();
        let mut over_buckets = false;
        // An empty body is no samples in any format, though OpenMetrics alone would miss its end.
        while !body.is_empty()
            && let Some(entry) = entries.next_expecting(pass.expected())
        {
            let entry = entry.map_err(|problem| in_body(problem, body, format))?;
            let is_histogram = matches!(entry, Entry::Histogram(_));
            let (Entry::Sample(line) | Entry::Histogram(line)) = entry else {
                declare(&mut metadata, &entry);
                continue;
            };
            self.counts.scraped += 1;
            let at = line.at.filter(|_| rules.honor_timestamps);
            let predicted = if entries.as_expected() {
                Predicted::Known(pass.next_as_expected())
            } else {
                pass.next_line(entries.key(&line))
            };
            let slot = match predicted {
                Predicted::Known(slot) if rules.fits(slot, at) => {
                    self.counts.predicted += 1;
                    slot
                }
                _ => {
                    let (key, labels) = (entries.key(&line), labels.of(&entries, &line)?);
                    self.look_up(key, labels, rules.stands_apart(at), &mut pass, predicted)
                }
            };
            let (Slot::Series(series) | Slot::Stamped(series)) = slot else {
                continue;
            };
            self.counts.kept += 1;
            if self.is_full() {
                continue;
            }
            match at {
                _ if is_histogram => match rules.histograms.fit(entries.histogram()?) {
                    Some(histogram) => buffers.histograms.push((series, at.unwrap_or(append.at), histogram)),
                    None => over_buckets = true,
                },
                None => buffers.row.push((series, line.value)),
                Some(at) => buffers.stamped.push((series, at, line.value)),
            }
            if entries.may_have_exemplars() {
                keep_exemplars(&entries, series, at.unwrap_or(append.at), &mut buffers.exemplars);
            }
        }
        if self.over_limit {
            return Err(Failure::SampleLimit);
        }
        if over_buckets {
            return Err(Failure::BucketLimit);
        }
        let mut vanished = Vec::new();
        pass.finish(|series| vanished.push(series));
        // A body of nothing declares nothing and unsays nothing.
        if !body.is_empty() {
            let (families, refused) = metadata.finish();
            append.shared.metrics.refused_metadata.add(refused);
            if let Some(families) = families {
                append.live.set_families(families);
            }
        }
        Ok(vanished)
    }

    /// What a line stands for that the last body does not tell: the column of its labels, found or made. A sample that
    /// is not dropped and yet gets none is counted here.
    fn look_up(
        &mut self,
        key: Fingerprint,
        labels: Option<&Labels>,
        stands_apart: bool,
        pass: &mut Pass<'_>,
        predicted: Predicted,
    ) -> Slot {
        let Some(labels) = labels else {
            remember(pass, predicted, Slot::Dropped);
            return Slot::Dropped;
        };
        self.counts.kept += 1;
        if self.is_full() {
            return Slot::Dropped;
        }
        let timeline = (!stands_apart).then_some(self.timeline);
        let series = match self.appender.resolve(timeline, labels) {
            Ok(series) => series,
            // The store has no room for this series; the others go on.
            Err(refusal) => {
                self.counts.refused_series += 1;
                self.refusal.get_or_insert(refusal);
                return Slot::Dropped;
            }
        };
        // Counted with those that are known.
        self.counts.kept -= 1;
        let slot = if stands_apart {
            Slot::Stamped(series)
        } else {
            Slot::Series(series)
        };
        if predicted == Predicted::New {
            self.counts.added += u64::from(self.fresh.insert(key.hash()));
        }
        remember(pass, predicted, slot);
        slot
    }

    /// Whether the samples counted are more than the job takes.
    fn is_full(&mut self) -> bool {
        let limit = self.append.job.rules.sample_limit;
        let full = limit > 0 && self.counts.kept > limit;
        self.over_limit |= full;
        full
    }
}

/// Remembers what a line was found to stand for.
fn remember(pass: &mut Pass<'_>, predicted: Predicted, slot: Slot) {
    match predicted {
        Predicted::New => pass.insert(slot),
        Predicted::Known(_) => pass.update(slot),
    }
}

/// Takes in a line that is no sample.
fn declare<'b>(metadata: &mut MetadataPass<'b, '_>, entry: &Entry<'b>) {
    match *entry {
        Entry::Help { metric, text } => metadata.help(metric, text),
        Entry::Type { metric, kind } => metadata.kind(metric, kind),
        Entry::Unit { metric, unit } => metadata.unit(metric, unit),
        _ => {}
    }
}

/// Collects the exemplars of the sample that was yielded last.
fn keep_exemplars(
    entries: &Entries<'_>,
    series: SeriesRef,
    at: Timestamp,
    kept: &mut Vec<(SeriesRef, Timestamp, Exemplar)>,
) {
    let first = kept.len();
    for raw in entries.exemplars() {
        let Ok(labels) = raw.labels() else { continue };
        let exemplar = Exemplar {
            labels,
            value: raw.value,
            at: raw.at,
        };
        kept.push((series, at, exemplar));
    }
    // Those of a native histogram come in no order, and the store takes none that is older than the last.
    if let Some(own @ [_, _, ..]) = kept.get_mut(first..) {
        own.sort_by(|(_, at, one), (_, other_at, other)| {
            one.order(one.at.unwrap_or(*at), other, other.at.unwrap_or(*other_at))
        });
    }
}

/// Says where in the body something is wrong.
#[cold]
fn in_body(problem: ParseError, body: &[u8], format: Format) -> Failure {
    let place = problem.place(body, format);
    Failure::Body { problem, place }
}
