//! What the metrics APIs answer from.

use super::adapter::Adapter;
use super::custom::Lists;
use std::sync::Arc;
use tidegauge_model::Clock;
use tidegauge_query::Engine;
use tidegauge_scraper::{Cluster, Node, Pod, Watching};
use tidegauge_tsdb::Db;

/// Samples, and what the API server says of the objects that they are about.
pub struct Sources {
    /// The samples.
    pub store: Arc<Db>,
    /// Evaluates expressions over them.
    pub engine: Arc<Engine>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The API server.
    pub cluster: Cluster,
    /// The pods of all namespaces.
    pub pods: Watching<Pod>,
    /// The nodes.
    pub nodes: Watching<Node>,
    /// What makes custom and external metrics of the samples.
    pub(super) adapter: Arc<Adapter>,
    /// Objects that are not watched.
    pub(super) lists: Lists,
}

impl Sources {
    /// Begins to watch pods and nodes. To be called within a tokio runtime.
    pub fn new(
        store: Arc<Db>,
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        cluster: Cluster,
        adapter: Arc<Adapter>,
    ) -> Self {
        Self {
            store,
            engine,
            clock,
            pods: cluster.pods(None),
            nodes: cluster.nodes(),
            cluster,
            adapter,
            lists: Lists::default(),
        }
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
