//! The door out: columns grouped by timeline, and what the index knows.
//!
//! ```text
//!   Queryable --querier(range)--> Querier --select(matchers)--> [ group | group | ... ]
//!   group:  timestamps  t0 t1 t2 t3 ...          shared, decoded once
//!           series 0    v0 v1 v2 v3 ...          decoded into the caller's buffer on `read`
//!           series 1    v0  . v2  . ...          has gaps: comes with timestamps of its own
//! ```

use crate::{Histogram, LabelTable, Labels, Matcher, Meter, OverBudget, TimeRange, Timestamp};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A store that answers.
pub trait Queryable: Send + Sync {
    /// A consistent view for a span of time: of every commit it sees all or nothing.
    ///
    /// # Errors
    /// [`SelectError`] if the view cannot be made.
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, SelectError>;
}

/// A consistent view. Its answers lie within the range it was made for.
///
/// `matchers` are all to hold; an empty list matches every series. Names and values come sorted and unique.
pub trait Querier: Send + Sync {
    /// The series that match and may have samples in `hints.range`, grouped by timeline, in no particular order.
    /// No series occurs twice with one [`SeriesGroup::kind`]; one that holds floats and histograms comes once with each.
    ///
    /// # Errors
    /// Cancelled, over budget, or damage (with the place).
    fn select(&self, matchers: &[Matcher], hints: &SelectHints, cx: &ReadContext) -> Result<SeriesSet, SelectError>;

    /// The label sets that match, sorted; at most `limit` (0: all).
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn series(&self, matchers: &[Matcher], limit: usize, cx: &ReadContext)
    -> Result<Limited<Vec<Labels>>, SelectError>;

    /// As [`Querier::series`], as a table: for many series, which share most of their pairs.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn series_table(
        &self,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<LabelTable>, SelectError> {
        let found = self.series(matchers, limit, cx)?;
        Ok(Limited {
            items: found.items.into_iter().collect(),
            truncated: found.truncated,
        })
    }

    /// The label names of the series that match.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn label_names(
        &self,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError>;

    /// The values of a label among the series that match.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError>;
}

/// An answer that a limit may have cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited<T> {
    /// The answer.
    pub items: T,
    /// Whether there would have been more.
    pub truncated: bool,
}

/// What `select` gives: groups of series that share a timeline.
pub type SeriesSet = Vec<Box<dyn SeriesGroup>>;

/// Series that share one list of timestamps. Reading is per series, from any thread, in any order, repeatable.
pub trait SeriesGroup: Send + Sync + Debug {
    /// The group's timestamps in the selected range, rising strictly.
    fn timestamps(&self) -> &[Timestamp];

    /// How many series there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of a series. `series < len()`.
    fn labels(&self, series: usize) -> Labels;

    /// Tells the labels of a series, in order of name: cheaper than [`SeriesGroup::labels`] for who only looks at them.
    fn visit_labels(&self, series: usize, label: &mut dyn FnMut(&str, &str)) {
        let labels = self.labels(series);
        labels.iter().for_each(|(name, value)| label(name, value));
    }

    /// What kind of values a series has.
    fn kind(&self, _series: usize) -> ColumnKind {
        ColumnKind::Float
    }

    /// How many encoded runs (chunks) a read of this series opens, for explain and statistics.
    fn chunks(&self, _series: usize) -> usize {
        1
    }

    /// Decodes a series' values in the selected range into `buf`.
    ///
    /// # Errors
    /// Cancelled, over budget, or damage.
    fn read<'b>(&'b self, series: usize, buf: &'b mut ColumnBuf) -> Result<Column<'b>, SelectError>;

    /// Tells when a series has samples and which of them are stale markers, for who does not look at values: a store
    /// that knows that without decoding need not decode.
    ///
    /// # Errors
    /// As [`SeriesGroup::read`].
    fn presence<'b>(&'b self, series: usize, buf: &'b mut ColumnBuf) -> Result<Presence<'b>, SelectError> {
        self.read(series, buf).map(Presence::Column)
    }
}

/// When a series has samples.
#[derive(Debug, Clone, Copy)]
pub enum Presence<'b> {
    /// At each of the group's timestamps there is a float, and none is a stale marker.
    Full,
    /// Where the column has them. Stale markers are there, floats that are none may be any others.
    Column(Column<'b>),
}

/// The kind of a column's values; one column has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ColumnKind {
    /// `f64`.
    #[default]
    Float,
    /// Native histograms.
    Histogram,
}

/// Lent to [`SeriesGroup::read`]: keeps its allocations from one series to the next.
#[derive(Debug, Default)]
pub struct ColumnBuf {
    /// Decoded values.
    pub values: Vec<f64>,
    /// Timestamps of a column that is not dense.
    pub timestamps: Vec<Timestamp>,
    /// Decoded histograms.
    pub histograms: Vec<Arc<Histogram>>,
    /// Room for the store's own use while it decodes.
    pub scratch: Vec<u8>,
    /// The same, for numbers.
    pub places: Vec<u32>,
}

/// One series' samples: `timestamps` and the values have equal length.
#[derive(Debug, Clone, Copy)]
pub struct Column<'b> {
    /// When. If `dense`, this is exactly [`SeriesGroup::timestamps`], so that windows found on those hold here.
    pub timestamps: &'b [Timestamp],
    /// What.
    pub values: Values<'b>,
    /// Whether the column has a value at each of the group's timestamps.
    pub dense: bool,
    /// Whether some value may be a stale marker. `false` is a promise that none is.
    pub has_stale: bool,
}

/// A column's values.
#[derive(Debug, Clone, Copy)]
pub enum Values<'b> {
    /// Floats, stale markers among them.
    Float(&'b [f64]),
    /// Native histograms.
    Histogram(&'b [Arc<Histogram>]),
}

/// What a selector will do with what it selects. Hints never change an answer, only its cost;
/// `range` does: nothing outside it is returned.
#[derive(Debug, Clone)]
pub struct SelectHints {
    /// The samples wanted, both ends included.
    pub range: TimeRange,
    /// Step of the range query in milliseconds; 0 for an instant.
    pub step_ms: i64,
    /// The function the samples go to (`rate`, `sum_over_time`); empty if none.
    pub func: String,
    /// Width of a range selector's window in milliseconds; 0 for an instant selector.
    pub window_ms: i64,
    /// Whether only the label sets matter and no sample is read (`series`).
    pub labels_only: bool,
}

impl SelectHints {
    /// Hints that say only which samples are wanted.
    pub fn range(range: TimeRange) -> Self {
        Self {
            range,
            step_ms: 0,
            func: String::new(),
            window_ms: 0,
            labels_only: false,
        }
    }
}

/// Goes with every read: may it go on, and who pays for the memory.
#[derive(Debug, Clone)]
pub struct ReadContext {
    /// Raised when nobody waits for the answer any more.
    pub cancel: Cancel,
    /// What the reader takes is counted here.
    pub meter: Meter,
}

impl ReadContext {
    /// A context that is never cancelled and has no limit: for tests and command-line tools.
    pub fn unlimited() -> Self {
        Self {
            cancel: Cancel::new(),
            meter: Meter::unlimited("read"),
        }
    }
}

/// A flag that says: stop. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everyone who holds a clone to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`SelectError::Cancelled`] if it is time to stop.
    pub fn check(&self) -> Result<(), SelectError> {
        if self.is_cancelled() {
            Err(SelectError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SelectError {
    /// Nobody waits for it any more.
    #[error("cancelled")]
    Cancelled,
    /// Its share of memory is used up.
    #[error(transparent)]
    Memory(#[from] OverBudget),
    /// Stored bytes are not what was written.
    #[error("corrupt data in {path} at byte {offset}: {what}")]
    Corrupt {
        /// The file.
        path: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The disk did not answer.
    #[error("cannot read {path}: {cause}")]
    Io {
        /// The file.
        path: String,
        /// The system's words.
        cause: String,
    },
}
