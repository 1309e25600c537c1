//! What this process is to a Kubernetes cluster beside scraping it: metrics for autoscalers, the listener that asks for
//! them, and the looks at the autoscalers themselves.

use super::AppOptions;
use crate::api::Registry;
use crate::config::Config;
use crate::hpa::live::{self, Autoscalers, Watcher};
use crate::kubeapi::serving::Serving;
use crate::kubeapi::{Adapter, Sources};
use anyhow::anyhow;
use std::sync::Arc;
use tidegauge_model::Clock;
use tidegauge_query::Engine;
use tidegauge_scraper::{ClusterAt, Manager};
use tidegauge_tsdb::Db;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// All of it.
pub(super) struct Kubernetes {
    /// Needs no cluster: its rules can be tried without one.
    pub(super) adapter: Arc<Adapter>,
    /// `None` unless it is asked for.
    pub(super) serving: Option<Serving>,
    /// Nobody looks unless there is a cluster.
    pub(super) autoscalers: Autoscalers,
    /// Looks at them, until shutdown.
    pub(super) looks: JoinSet<()>,
}

impl Kubernetes {
    /// Opens what the options ask for. Looks at autoscalers begin at once, and end at shutdown.
    ///
    /// # Errors
    /// What keeps the listener or the rules from being as they are wanted. Autoscalers that cannot be seen are told of where
    /// they would be shown.
    pub(super) fn open(
        options: &AppOptions,
        config: &Config,
        (db, engine, clock, scraper): (&Arc<Db>, &Arc<Engine>, &Arc<dyn Clock>, &Manager),
        registry: &mut Registry,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let wanted = &options.kubernetes;
        let rules = wanted.adapter_config.clone();
        let adapter = Adapter::open(
            db.clone(),
            engine.clone(),
            clock.clone(),
            rules,
            config.hpa_metrics().clone(),
        );
        let adapter = adapter.map_err(|problem| anyhow!(problem))?;
        let listed = adapter.clone();
        registry.add(move || listed.list());
        let mut kubernetes = Self {
            adapter,
            serving: None,
            autoscalers: Autoscalers::default(),
            looks: JoinSet::new(),
        };
        let has_cluster = config.has_cluster() || wanted.kubeconfig.is_some() || wanted.serving.is_some();
        if !has_cluster || (wanted.serving.is_none() && wanted.autoscalers.is_none()) {
            return Ok(kubernetes);
        }
        let at = match &wanted.kubeconfig {
            Some(path) => ClusterAt::Kubeconfig(path.clone()),
            None => ClusterAt::InCluster,
        };
        let sources = scraper.cluster(at).map(|cluster| {
            let adapter = kubernetes.adapter.clone();
            Arc::new(Sources::new(
                db.clone(),
                engine.clone(),
                clock.clone(),
                cluster,
                adapter,
            ))
        });
        kubernetes.serving = serving(options, &sources, registry)?;
        if let Some(wanted) = wanted.autoscalers.clone() {
            kubernetes.watch(sources, wanted, registry, shutdown);
        }
        Ok(kubernetes)
    }

    /// Begins to look at the autoscalers of the cluster.
    fn watch(
        &mut self,
        sources: Result<Arc<Sources>, String>,
        wanted: live::Options,
        registry: &mut Registry,
        shutdown: &CancellationToken,
    ) {
        match sources {
            Ok(sources) => {
                let watcher = Watcher::new(sources, wanted);
                self.autoscalers = watcher.autoscalers();
                let board = self.autoscalers.board.clone();
                registry.add(move || board.list());
                self.looks.spawn(watcher.run(shutdown.clone()));
            }
            // What is scraped does not depend on it.
            Err(problem) => {
                tracing::warn!(problem, "autoscalers are not looked at");
                self.autoscalers.board.set_problems(vec![problem]);
            }
        }
    }
}

/// The metrics APIs, if they are to be served.
fn serving(
    options: &AppOptions,
    sources: &Result<Arc<Sources>, String>,
    registry: &mut Registry,
) -> anyhow::Result<Option<Serving>> {
    let Some(apis) = &options.kubernetes.serving else {
        return Ok(None);
    };
    let sources = sources.as_ref().map_err(|why| {
        anyhow!("the Kubernetes metrics APIs need a cluster: that of a pod, or --kubernetes.kubeconfig: {why}")
    })?;
    let serving = Serving::open(apis, sources, &options.data_dir, options.max_url_bytes).map_err(|why| anyhow!(why))?;
    registry.add(serving.listings());
    Ok(Some(serving))
}
