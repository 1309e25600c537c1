//! The door in: rows of a timeline, and samples with their own time.
//!
//! The life of an appender: resolve series once and keep their [`SeriesRef`]s over many appenders; collect rows;
//! [`Appender::commit`] makes all of it durable and visible at once, or drop the appender to forget it.
//!
//! Whether a sample fits its series (order, duplicates, limits) is decided at commit, in one pass; what was
//! refused comes back in [`Committed::rejected`], by the ordinal of the sample in the appender.

use crate::{Exemplar, Histogram, HistogramError, Labels, OverBudget, Timestamp};
use std::sync::Arc;

/// A store that takes samples. Implementors allow any number of appenders at a time.
pub trait Appendable: Send + Sync {
    /// Begins a commit. Cheap.
    fn appender(&self) -> Box<dyn Appender + '_>;
}

/// Names a timeline within a store, from the [`Appender::timeline`] that gave it (or the [`Appender::append_row`] that
/// accepted it) until that appender ends. A later appender asks again by the key, which is cheap: a store may let go of
/// a timeline that holds nothing any more, and then tells an old reference ([`AppendError::StaleTimeline`]); it never
/// meets another timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimelineRef(u64);

/// Names a column: one series on one timeline. Holds a generation, so that a reference to a column that the store
/// has let go is told ([`AppendError::StaleRef`]) and never meets another series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(u64);

macro_rules! opaque {
    ($name:ident) => {
        impl $name {
            /// Made by a store; the bits mean something to it alone.
            pub const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            /// The bits the store gave.
            pub const fn bits(self) -> u64 {
                self.0
            }
        }
    };
}
opaque!(TimelineRef);
opaque!(SeriesRef);

/// Collects the samples of one commit.
///
/// Callers may assume: references stay valid from the moment they are resolved or accepted until the appender ends;
/// nothing is visible or durable before `commit` returns; dropping has no effect but to forget.
pub trait Appender: Send {
    /// The timeline with this key, made if there is none. The key is durable: the same key after a restart gives the
    /// same timeline, so it names its owner (a target's identity) and not a process' accident.
    ///
    /// # Errors
    /// [`AppendError::Limit`] or [`AppendError::Memory`] if a new timeline is too much.
    fn timeline(&mut self, key: &str) -> Result<TimelineRef, AppendError>;

    /// The column of a series on a timeline, made if there is none; `None` lets the store find the series a timeline
    /// among those whose samples move with it (remote write).
    ///
    /// # Errors
    /// [`AppendError::Labels`], [`AppendError::Limit`] or [`AppendError::Memory`]: the series is refused, others go on.
    /// [`AppendError::StaleTimeline`]: ask for the timeline again and repeat the call.
    fn resolve(&mut self, timeline: Option<TimelineRef>, labels: &Labels) -> Result<SeriesRef, AppendError>;

    /// Appends one row: one time and a value for each column named, all of them on this timeline. The order should be
    /// the same at each call (that of the lines in the body): the store predicts it. A column that occurs twice keeps
    /// its first value. Gives each value the next ordinal.
    ///
    /// # Errors
    /// [`AppendError::StaleRef`] with the place in `row`: resolve again and repeat the call.
    /// [`AppendError::StaleTimeline`]: ask for the timeline again, resolve the row on it and repeat the call.
    /// Either way nothing was taken.
    fn append_row(&mut self, timeline: TimelineRef, at: Timestamp, row: &[(SeriesRef, f64)])
    -> Result<(), AppendError>;

    /// Appends one value with its own time. Gives it the next ordinal.
    ///
    /// # Errors
    /// [`AppendError::StaleRef`] with place 0.
    fn append_at(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), AppendError>;

    /// Appends values with their own times, as [`append_at`](Self::append_at) does one after another; a store may do it
    /// with less work.
    ///
    /// # Errors
    /// [`AppendError::StaleRef`] with the place in `samples`: those before it were taken.
    fn append_many(&mut self, samples: &[(SeriesRef, Timestamp, f64)]) -> Result<(), AppendError> {
        for (place, (series, at, value)) in samples.iter().enumerate() {
            self.append_at(*series, *at, *value).map_err(|error| match error {
                AppendError::StaleRef { .. } => AppendError::StaleRef { place },
                other => other,
            })?;
        }
        Ok(())
    }

    /// Appends one native histogram with its own time. Gives it the next ordinal.
    ///
    /// A series may hold both kinds, one sample at a time whatever its kind: order and duplicates are decided over
    /// both, the floats of a commit before its histograms. A float stale marker that comes to a series whose newest
    /// sample is a histogram is stored as the marker of a histogram.
    ///
    /// # Errors
    /// [`AppendError::StaleRef`] with place 0; [`AppendError::Histogram`] if it is not valid. Nothing was taken.
    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: Timestamp,
        histogram: Arc<Histogram>,
    ) -> Result<(), AppendError>;

    /// Appends an exemplar of a series; `at` is the time of its sample, which counts where the exemplar does not tell
    /// its own. Has no ordinal: what becomes of it is counted in [`Committed::exemplars`] and fails no commit. A store
    /// that keeps none takes it and forgets it.
    ///
    /// # Errors
    /// [`AppendError::StaleRef`] with place 0; [`AppendError::ExemplarLabels`]. Nothing was taken.
    fn append_exemplar(&mut self, series: SeriesRef, at: Timestamp, exemplar: &Exemplar) -> Result<(), AppendError>;

    /// Writes everything collected to the log and shows it to readers, atomically.
    ///
    /// # Errors
    /// [`CommitError`]: nothing of this appender is visible, nor will it be after a restart.
    fn commit(self: Box<Self>, on_reject: OnReject) -> Result<Committed, CommitError>;
}

/// What a commit does with samples that do not fit their series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReject {
    /// Leaves them out and keeps the rest, as a scrape does.
    Skip,
    /// Keeps nothing if one does not fit, as remote write 1.0 does: [`CommitError::Rejected`].
    Fail,
}

/// What a commit did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Committed {
    /// Samples stored. An exact repeat (same time, same bits) counts as stored, and so does a late sample of a time that
    /// a late sample came for before: what is stored stays.
    pub samples: u64,
    /// Samples left out, in order of ordinal.
    pub rejected: Vec<Rejected>,
    /// What became of the exemplars.
    pub exemplars: ExemplarCounts,
    /// Which exemplars were left out because a newer one of their series is stored: the n-th that was taken, from 0, in
    /// this order.
    pub late_exemplars: Vec<u64>,
}

/// What a commit did with its exemplars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExemplarCounts {
    /// Stored.
    pub stored: u64,
    /// Left out: the newest of the series says the same. This is the rule, not a fault.
    pub repeated: u64,
    /// Left out: a newer one of the series is stored.
    pub out_of_order: u64,
    /// Left out: there is no memory for it.
    pub refused: u64,
}

/// A sample that did not fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rejected {
    /// Which: the n-th value handed to the appender, from 0.
    pub ordinal: u64,
    /// Its series.
    pub series: SeriesRef,
    /// Its time.
    pub at: Timestamp,
    /// Why.
    pub reason: RejectReason,
}

/// Why a sample does not fit its series.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum RejectReason {
    /// Older than the newest sample of the series, and the store takes no late samples (or it is a stale marker of a
    /// row, which never comes late).
    #[error("out of order sample")]
    OutOfOrder,
    /// Same time as the newest sample, another value.
    #[error("duplicate sample for timestamp {}; overrides not allowed: existing {existing}, new value {new}", at.millis())]
    Duplicate {
        /// The time of both.
        at: Timestamp,
        /// What is stored.
        existing: f64,
        /// What came.
        new: f64,
    },
    /// A float where a histogram of the same time is stored.
    #[error("duplicate sample for timestamp {}; overrides not allowed: existing is a histogram, new value {new}", at.millis())]
    HistogramExists {
        /// The time of both.
        at: Timestamp,
        /// What came.
        new: f64,
    },
    /// A histogram where another sample of the same time is stored.
    #[error("duplicate sample for timestamp {}", at.millis())]
    DuplicateHistogram {
        /// The time of both.
        at: Timestamp,
    },
    /// A second value for the same series in one row.
    #[error("repeated sample for the same series in one scrape")]
    Repeated,
    /// Older than what the store still appends to; it takes no late samples.
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the newest sample of the series and than the store's out-of-order window.
    #[error("too old sample")]
    TooOld,
    /// Further in the future than the store's bound.
    #[error("too far in the future")]
    TooNew,
}

/// Why the door did not take something.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// The column was let go; resolve again.
    #[error("the series reference at place {place} is stale")]
    StaleRef {
        /// Its place in the row.
        place: usize,
    },
    /// The timeline was let go; ask for it again by its key.
    #[error("the timeline reference is stale")]
    StaleTimeline,
    /// The label set cannot be stored.
    #[error("invalid labels: {0}")]
    Labels(String),
    /// The histogram is none.
    #[error("invalid histogram: {0}")]
    Histogram(#[from] HistogramError),
    /// An exemplar's labels are too long.
    #[error("exemplar labels of {chars} characters are over the limit of {limit}")]
    ExemplarLabels {
        /// Characters of its names and values.
        chars: usize,
        /// How many may be.
        limit: usize,
    },
    /// A declared limit is reached.
    #[error("limit {name} of {limit} is reached")]
    Limit {
        /// The limit's name, as the user sets it.
        name: &'static str,
        /// Its value.
        limit: u64,
    },
    /// The share of memory is used up.
    #[error(transparent)]
    Memory(#[from] OverBudget),
}

/// Why a commit failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A sample did not fit and the caller wanted all or nothing; the first that did not.
    #[error("{}", .0.reason)]
    Rejected(Rejected),
    /// The log could not be written. The store says in its own words whether it may heal (full disk) or not.
    #[error("cannot write: {0}")]
    Log(String),
    /// The store no longer takes samples.
    #[error("storage is closed to writes: {0}")]
    Closed(String),
}
