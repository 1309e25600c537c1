//! The Kubernetes metrics APIs: what `kubectl top` and the HorizontalPodAutoscaler ask.

pub mod resource;
pub mod selector;
pub mod sources;
pub mod status;

pub use selector::Selector;
pub use sources::Sources;
pub use status::Failure;
