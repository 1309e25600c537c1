//! The Kubernetes metrics APIs: what `kubectl top` and the HorizontalPodAutoscaler ask.

pub mod selector;
pub mod serving;
pub mod sources;
pub mod status;

pub use selector::Selector;
pub use sources::Sources;
pub use status::Failure;

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
        )))
    }
}
