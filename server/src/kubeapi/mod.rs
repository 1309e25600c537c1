//! The Kubernetes metrics APIs: what `kubectl top` and the HorizontalPodAutoscaler ask.

mod adapter;
pub mod custom;
pub mod external;
pub mod resource;
pub mod selector;
pub mod sources;
pub mod status;

pub use adapter::{Adapter, Loaded, check_rules};
pub use selector::Selector;
pub use sources::Sources;
pub use status::Failure;
