//! The autoscalers of a cluster, looked at as their controller looks at them.
//!
//! ```text
//!   HorizontalPodAutoscaler --object--> spec, the controller's status --+
//!   .../scale of its target --scale---> replicas, selector -------------+--look--> Decision --> board --> API, /metrics
//!   pods by the selector ----requests-> phase, readiness, requests -----+             ^
//!   metrics APIs, in process --answers> values -------------------------+             '-- History of the looks before
//! ```
//!
//! Nothing is ever changed in the cluster: what the number of replicas becomes is seen at the next look. The parts that
//! need no cluster are pure, as all of [`crate::hpa`]; `watcher` alone calls one.

pub mod answers;
mod autoscalers;
pub mod board;
mod gauges;
#[cfg(feature = "kubernetes")]
mod kinds;
pub mod look;
#[cfg(feature = "kubernetes")]
mod looker;
#[cfg(feature = "kubernetes")]
mod missing;
pub mod object;
pub mod requests;
pub mod scale;
#[cfg(feature = "kubernetes")]
mod sourced;
mod told;
#[cfg(feature = "kubernetes")]
mod watcher;

pub use answers::{Answer, Metrics, Which};
pub use autoscalers::{Autoscalers, LookOnce};
pub use board::{Board, Id, Options};
pub use look::{Decided, Look, Outcome, Sighted, look};
pub use object::{Controller, Shown};
#[cfg(feature = "kubernetes")]
pub use sourced::Sourced;
#[cfg(feature = "kubernetes")]
pub use watcher::Watcher;
