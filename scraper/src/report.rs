//! What a scrape says of itself: `up`, `scrape_duration_seconds` and their like, as columns of the target's own row.

use crate::target::Target;
use std::time::Duration;
use tidegauge_model::{AppendError, Appender, Labels, LabelsBuilder, SeriesRef, TimelineRef, reserved};

/// The series every scrape reports, in the order of [`Report::values`].
const NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Those it reports as well if asked for more.
const EXTRA_NAMES: [&str; 3] = [
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// Which series are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportKind {
    Usual,
    Extra,
}

/// The numbers of one scrape.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) up: bool,
    pub(crate) duration: Duration,
    /// Samples in the body.
    pub(crate) scraped: u64,
    /// Samples that relabelling left.
    pub(crate) kept: u64,
    /// Series this target did not have before.
    pub(crate) added: u64,
    pub(crate) timeout: Duration,
    pub(crate) sample_limit: u64,
    /// `None` if the body was too long to be read.
    pub(crate) body_bytes: Option<u64>,
}

impl Report {
    fn values(&self) -> [f64; NAMES.len() + EXTRA_NAMES.len()] {
        [
            f64::from(u8::from(self.up)),
            self.duration.as_secs_f64(),
            self.scraped as f64,
            self.kept as f64,
            self.added as f64,
            self.timeout.as_secs_f64(),
            self.sample_limit as f64,
            self.body_bytes.map_or(-1.0, |bytes| bytes as f64),
        ]
    }

    /// Writes the values over the first places of a row that [`ReportColumns::reserve`] kept free.
    pub(crate) fn fill(&self, row: &mut [(SeriesRef, f64)], columns: usize) {
        for ((_, place), value) in row.iter_mut().take(columns).zip(self.values()) {
            *place = value;
        }
    }
}

/// The columns of a target's report, resolved once.
#[derive(Debug, Default)]
pub(crate) struct ReportColumns {
    columns: Vec<SeriesRef>,
}

impl ReportColumns {
    /// Forgets the columns, since the store let one go or others are wanted.
    pub(crate) fn clear(&mut self) {
        self.columns.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Begins a row with a place for each series of the report; gives how many.
    ///
    /// # Errors
    /// As [`Appender::resolve`].
    pub(crate) fn reserve(
        &mut self,
        kind: ReportKind,
        target: &Target,
        timeline: TimelineRef,
        appender: &mut dyn Appender,
        row: &mut Vec<(SeriesRef, f64)>,
    ) -> Result<usize, AppendError> {
        let extra: &[&str] = match kind {
            ReportKind::Usual => &[],
            ReportKind::Extra => &EXTRA_NAMES,
        };
        if self.columns.len() != NAMES.len() + extra.len() {
            self.columns.clear();
            for name in NAMES.iter().chain(extra) {
                let labels = report_labels(name, &target.labels);
                match appender.resolve(Some(timeline), &labels) {
                    Ok(column) => self.columns.push(column),
                    Err(problem) => {
                        self.columns.clear();
                        return Err(problem);
                    }
                }
            }
        }
        row.clear();
        row.extend(self.columns.iter().map(|column| (*column, 0.0)));
        Ok(self.columns.len())
    }
}

fn report_labels(name: &str, target: &Labels) -> Labels {
    let mut labels = LabelsBuilder::from_labels(target);
    labels.set(reserved::METRIC_NAME, name);
    labels.build()
}
