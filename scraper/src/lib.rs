//! Front page; see ARCHITECTURE.md.
#![forbid(unsafe_code)]

pub mod config;
mod error;
mod manager;
mod metrics;
pub mod relabel;
mod target;

pub use error::ScrapeError;
pub use manager::{Manager, ScrapeOptions, TargetMetadata, TargetsSnapshot};
pub use metrics::{Family, Metrics};
pub use target::{DroppedTarget, Health, TargetStatus};
