//! The configuration: `prometheus.yml` as it is.
//!
//! ```text
//!   text --yaml--> Node (every value knows its line) --de--> typed sections --finish--> Config
//!                    |                                                                    |
//!                    '-- schema, validate: sections that are not built yet                '-- reload: the one in force
//! ```
//!
//! One code path serves the start, a reload and `tidegauge check config`: [`load`]. An error names file, line, column
//! and key. A section that is valid but has no effect yet is listed by [`Config::unsupported`].

mod client;
mod de;
mod error;
mod file;
mod hpa_metrics;
mod reload;
mod schema;
mod show;
mod validate;
mod yaml;

pub(crate) use client::client;
pub(crate) use de::{read, unknown};
pub use error::ConfigError;
pub use file::{Config, Unsupported, built_in, load, load_with, presets_alone};
pub(crate) use file::{MAX_FILE_BYTES, jobs, read_file};
pub use hpa_metrics::{HpaMetric, HpaMetrics};
pub use reload::{Reloader, Source};
pub use tidegauge_scraper::config::{ByteSize, PromDuration};
pub use yaml::Place;
pub(crate) use yaml::{Fault, Node};
