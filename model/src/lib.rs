//! The nouns of tidegauge and the two doors of its storage.
//!
//! ```text
//!   scraper, rules, remote write          PromQL engine, APIs, federation
//!              |                                        ^
//!              v  rows of a timeline                    |  columns grouped by timeline
//!        [ Appendable / Appender ]            [ Queryable / Querier ]
//!              \_______________ the store (tsdb) ______________/
//! ```
//!
//! This crate does no I/O, knows no async runtime and holds no `unsafe`. Everything that two other crates
//! must agree on is here and nothing else: [`Labels`], [`Matcher`], [`Timestamp`] and sample values,
//! metadata, the door in ([`Appender`]), the door out ([`Querier`]), memory budgets ([`Budget`]) and [`Clock`].
//!
//! Words: a **series** is a label set; a **timeline** is a shared, append-only column of timestamps (one per
//! scrape target, rule or remote-write sender); a **row** is one commit on a timeline; a **column** is one
//! series' values on one timeline.

#![forbid(unsafe_code)]

mod append;
mod budget;
mod clock;
mod exemplar;
mod histogram;
mod label_table;
mod labels;
mod matcher;
#[cfg(feature = "testing")]
mod memory;
mod metadata;
#[cfg(feature = "mutation")]
mod mutation;
mod pattern;
mod sample;
mod select;
mod summary;

pub use append::{
    AppendError, Appendable, Appender, CommitError, Committed, ExemplarCounts, OnReject, RejectReason, Rejected,
    SeriesRef, TimelineRef,
};
pub use budget::{Budget, Lease, Meter, OverBudget};
pub use clock::Clock;
pub use exemplar::{Exemplar, ExemplarQueryable, MAX_EXEMPLAR_CHARS, SeriesExemplars};
pub use histogram::{CUSTOM_SCHEMA, Counts, EXPONENTIAL_SCHEMAS, Histogram, HistogramError, ResetHint, Span};
pub use label_table::LabelTable;
pub use labels::{Labels, LabelsBuilder, LabelsError, reserved};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use metadata::{Metadata, MetricKind};
pub use pattern::from_re2;
pub use sample::{STALE_BITS, Sample, TimeRange, Timestamp, is_stale, stale_marker};
pub use select::{
    Cancel, Column, ColumnBuf, ColumnKind, Limited, Presence, Querier, Queryable, ReadContext, SelectError,
    SelectHints, SeriesGroup, SeriesSet, Values,
};
pub use summary::{Summary, SummarySamples};

/// What tests build on: the in-memory store behind both doors and a clock set by hand.
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::clock::HandClock;
    pub use crate::histogram::example_histogram;
    pub use crate::memory::{MemoryStore, Rules};
    #[cfg(feature = "mutation")]
    pub use crate::mutation::{found_once, has_file, mutate};
}
