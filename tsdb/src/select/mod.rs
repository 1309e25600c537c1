//! The door out: one view over head and blocks, series grouped by what they share.
//!
//! ```text
//!   matchers ──> blocks: series, their spans  ┐
//!           └──> head: series, their timelines ┴──> key of a series = its list of parts
//!   equal keys, parts one after another in time ──> a group: timestamps once, values on demand
//!   parts that overlap (a series that moved)    ──> a group of its own, merged
//!   series of which the same was deleted        ──> a group of their own; what was deleted is cut when they are read
//! ```
//!
//! Whatever a group needs of the head is copied or shared when it is made: reading takes no lock but the index's, for
//! labels.

mod find;
mod group;
mod histograms;
mod list;
mod view;

pub(crate) use view::{View, Views};
