//! `/api/v1` and what lies beside it, as clients of Prometheus know it.
//!
//! ```text
//!   request -> front, router -> params (typed) -> shared.read_for (a place; blocks) -> engine or store
//!                                     |                                                   |
//!                                     '------------> error -> status and errorType        render -> JSON in pieces
//! ```
//!
//! Start-up fills an [`ApiState`]; a [`Front`] is made of it, and answers what [`crate::http::serve`] reads.

mod admin;
mod autoscalers;
mod error;
mod explain;
mod exposition;
mod front;
mod hpa;
mod json;
mod lifecycle;
mod number;
mod pace;
mod params;
mod process;
mod profile;
mod query;
mod render;
mod router;
mod rules;
mod series;
mod shared;
mod state;
mod status;
mod targets;
mod tree;
mod upstream;
mod values;

pub use crate::remote::{ProtoMessage, UnknownMessage};
pub(crate) use error::{internal_error, starting};
pub use exposition::{Listing, Registry};
pub use front::Front;
pub use router::routes;
pub(crate) use shared::Shared;
pub use state::{ApiLimits, ApiState, BuildInfo, ConfigView, LastReload, Lifecycle, Readiness, ReloadReply};
pub(crate) use status::replay_state;
#[cfg(feature = "kubernetes")]
pub(crate) use status::rfc3339;
pub(crate) use values::parse_time;
