//! Front page of the store.

pub mod block;
mod db;
mod error;
pub mod fs;
mod metrics;
mod options;

pub use db::{Db, SnapshotHead, Stats};
pub use error::Error;
pub use metrics::{MetricFamily, Metrics};
pub use options::{Fsync, Options};
