//! The index of a block: label pairs, postings, series.
//!
//! Builders take everything in one pass and give the bytes of a section; views read those bytes in place, mapped from
//! the file and verified when it was opened. Offsets in drawings count from the start of the section.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub(crate) mod pairs;
pub(crate) mod postings;
pub(crate) mod select;
pub(crate) mod series;
