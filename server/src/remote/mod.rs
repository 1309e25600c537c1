//! Remote write in: samples that others push (protocol 1.0: snappy over protobuf).
//!
//! ```text
//!   POST body -> snappy (bounded) -> wire: walk without copying -> label bytes known? -> SeriesRef -> append_at
//!                                                                       | no                          |
//!                                                                       '-> Labels -> resolve         '-> commit, all or nothing
//! ```

mod histogram;
mod known;
mod metrics;
mod offer;
mod wire;
mod write_in;

pub(crate) use write_in::{Receiver, write};
