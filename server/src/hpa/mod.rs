//! The arithmetic of Kubernetes' HorizontalPodAutoscaler, and what can be told with it.
//!
//! ```text
//!   YAML --manifest--> spec --+
//!   pods, readings -----------+--decide: formula (what each metric asks for) --> behavior (how fast) --> Decision
//!   what was decided before --+
//! ```
//!
//! Everything here is pure: no clock, no network, no Kubernetes. A [`Decision`] holds every step that led to its number,
//! [`explain`] puts them into words, and [`backtest`] makes decisions over recorded history.

pub mod backtest;
pub mod behavior;
pub mod condition;
pub mod decide;
pub mod explain;
pub mod formula;
pub mod live;
pub mod manifest;
mod older;
pub mod pods;
pub mod quantity;
pub mod seen;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod usage;

pub use decide::{Barred, Decision, History, Path, Situation, decide};
pub use manifest::ManifestError;
pub use spec::{Hpa, Settings};
