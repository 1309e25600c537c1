//! `/api/v1` and what lies beside it, as clients of Prometheus know it.

mod exposition;
mod router;
mod state;

pub use exposition::{Listing, Registry};
pub use router::router;
pub use state::{ApiLimits, ApiState, BuildInfo, ConfigView, LastReload, Lifecycle, Readiness, ReloadReply};
