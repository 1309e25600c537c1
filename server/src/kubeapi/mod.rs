//! The Kubernetes metrics APIs: what `kubectl top` and the HorizontalPodAutoscaler ask.

mod adapter;
pub mod custom;
pub mod external;
pub mod resource;
pub mod selector;
pub mod serving;
pub mod sources;
pub mod status;

pub use adapter::{Adapter, Loaded, check_rules};
pub use selector::Selector;
pub use sources::Sources;
pub use status::Failure;

use axum::Router;
use serving::{Group, Ready};
use std::path::PathBuf;
use std::sync::Arc;

/// What the command line says of the metrics APIs and of those who ask for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// The kubeconfig that leads to the cluster; `None`: that of this process's pod.
    pub kubeconfig: Option<PathBuf>,
    /// The listener; `None`: there is none.
    pub serving: Option<serving::Options>,
    /// The file with rules for metrics, as prometheus-adapter has it.
    pub adapter_config: Option<PathBuf>,
    /// How the cluster's autoscalers are looked at; `None`: not at all.
    pub autoscalers: Option<crate::hpa::live::Options>,
}

/// What answers for these groups.
pub fn routes(sources: &Arc<Sources>, groups: &[Group]) -> Router {
    let mut routes = Router::new();
    for group in groups {
        routes = match group {
            Group::Metrics => routes.merge(resource::routes(Arc::clone(sources))),
            Group::Custom => routes.merge(custom::routes(Arc::clone(sources))),
            Group::External => routes.merge(external::routes(Arc::clone(sources))),
        };
    }
    routes
}

/// What keeps these groups from answering as they should. Blocks on the store.
fn readiness(sources: &Sources, groups: &[Group]) -> Vec<Ready> {
    let problems = |group: Group| match group {
        Group::Metrics => resource::problems(sources),
        Group::Custom | Group::External => Vec::new(),
    };
    let ready = |group: &Group| {
        let problems = problems(*group);
        let all = if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        };
        (group.name(), all)
    };
    groups.iter().map(ready).collect()
}
