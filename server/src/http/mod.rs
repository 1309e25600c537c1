//! The listener and the edge: who may connect, how large a request may be, what is counted, and what happens when a
//! handler panics. What a request means is [`crate::api`]'s business.
//!
//! ```text
//!   listener (head, time, panic around the edge) -> edge (is the URL one, panic -> 500, counters) -> cross-origin headers
//!       -> compression -> handler
//! ```

mod body;
pub(crate) mod compress;
pub(crate) mod cors;
pub(crate) mod edge;
mod histogram;
mod listener;
mod measured;
mod metrics;
mod panics;
mod peer;
mod places;
mod refused;
mod secure;
mod traffic;

pub(crate) use body::is_too_slow;
pub use cors::CorsOrigin;
pub use listener::{ServeOptions, serve};
pub(crate) use metrics::Metrics;
pub(crate) use peer::{Caller, Peer};
pub(crate) use refused::{Excess, REFUSED};
#[cfg(feature = "kubernetes")]
pub(crate) use secure::Presented;
pub use secure::{Secure, Terms};
pub use traffic::Traffic;
