//! What the metrics APIs answer from, over a store and a cluster of a test.

use std::sync::Arc;
use tidegauge_model::Clock;
use tidegauge_query::Engine;
use tidegauge_scraper::Cluster;
use tidegauge_server::config::HpaMetrics;
use tidegauge_server::kubeapi::{Adapter, Sources};
use tidegauge_tsdb::Db;

/// With no rules but those that come with the program.
pub(crate) fn sources(db: Arc<Db>, engine: Arc<Engine>, clock: Arc<dyn Clock>, cluster: Cluster) -> Sources {
    let own = HpaMetrics::default();
    let adapter = Adapter::open(db.clone(), engine.clone(), clock.clone(), None, own).expect("rules");
    Sources::new(db, engine, clock, cluster, adapter)
}
