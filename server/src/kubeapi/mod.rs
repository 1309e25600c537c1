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
use tidegauge_model::Clock;
use tidegauge_query::Engine;
use tidegauge_scraper::{ClusterAt, Manager};
use tidegauge_tsdb::Db;

/// What the command line says of the metrics APIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The kubeconfig that leads to the cluster; `None`: that of this process's pod.
    pub kubeconfig: Option<PathBuf>,
    /// The listener; `None`: there is none.
    pub serving: Option<serving::Options>,
}

impl Options {
    /// What the APIs answer from. To be called within a tokio runtime; blocks on a kubeconfig.
    ///
    /// # Errors
    /// If there is no cluster, in a sentence that says how to name one.
    pub fn sources(
        &self,
        store: &Arc<Db>,
        engine: &Arc<Engine>,
        clock: &Arc<dyn Clock>,
        scraper: &Manager,
        adapter: &Arc<Adapter>,
    ) -> Result<Arc<Sources>, String> {
        let at = match &self.kubeconfig {
            Some(path) => ClusterAt::Kubeconfig(path.clone()),
            None => ClusterAt::InCluster,
        };
        let cluster = scraper.cluster(at).map_err(|why| {
            format!("the Kubernetes metrics APIs need a cluster: that of a pod, or --kubernetes.kubeconfig: {why}")
        })?;
        Ok(Arc::new(Sources::new(
            store.clone(),
            engine.clone(),
            clock.clone(),
            cluster,
            adapter.clone(),
        )))
    }
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
