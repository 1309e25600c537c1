//! Remote write in: samples that others push, in the messages of 1.0 and of 2.0 (snappy over protobuf).
//!
//! ```text
//!   POST body -> snappy (bounded) -> wire: walk without copying -> labels known? -> SeriesRef -> append_at
//!                    | 2.0                                            | no                          |
//!                    '-> symbols: hashed once                         '-> Labels -> resolve         '-> commit
//! ```
//!
//! A request of 1.0 is stored whole or not at all, one of 2.0 as far as it fits: `docs/remote-write.md`.

mod content;
mod declared;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod histogram;
mod known;
mod labels;
mod ledger;
mod metrics;
mod names;
mod offer;
mod room;
mod symbols;
mod told;
mod wire;
mod write_in;

pub use content::{ProtoMessage, UnknownMessage};
pub(crate) use write_in::{Receiver, write};
