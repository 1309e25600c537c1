//! The listener and the edge: who may connect, how large a request may be, what is counted, and what happens when a
//! handler panics. What a request means is [`crate::api`]'s business.
//!
//! ```text
//!   listener -> edge (URL length, panic -> 500, counters) -> compression -> handler
//! ```

mod body;
pub(crate) mod compress;
pub(crate) mod cors;
pub(crate) mod edge;
mod histogram;
mod listener;
mod measured;
mod metrics;
mod peer;
mod places;
mod traffic;

pub use listener::{ServeOptions, serve};
pub(crate) use metrics::Metrics;
pub(crate) use peer::{Caller, Peer};
pub use traffic::Traffic;
