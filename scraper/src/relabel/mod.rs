//! Rules that change label sets or drop them: for targets, for samples, for alerts, for remote write.
//!
//! ```text
//!   source_labels --join by separator--> value --regex--> groups --replacement--> target_label
//! ```
//!
//! [`apply`] takes a label set through a list of [`RelabelConfig`]s in order. Regexes are anchored at both ends and
//! `.` matches a line break; replacements are templates as of Go's `Regexp.Expand`.
//!
//! - `config`: [`RelabelConfig`], read and validated
//! - `apply`: what each action does
//! - `pattern`: regexes with the short ways that most of them allow, and templates

mod apply;
mod config;
mod pattern;

pub use apply::{Verdict, apply, apply_to};
pub use config::{Action, RelabelConfig, RelabelError, RelabelFields, Scalar};
