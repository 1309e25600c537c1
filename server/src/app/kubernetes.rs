//! What this process is to a Kubernetes cluster beside scraping it: metrics for autoscalers, the listener that asks for
//! them, and the looks at the autoscalers themselves.

use super::AppOptions;
use crate::api::Registry;
use crate::config::HpaMetrics;
use crate::hpa::live::{Autoscalers, Watcher};
use crate::kubeapi::serving::Serving;
use crate::kubeapi::{Adapter, Sources};
use anyhow::anyhow;
use std::sync::Arc;
use tidegauge_model::Clock;
use tidegauge_query::Engine;
use tidegauge_scraper::{ClusterAt, Manager};
use tidegauge_tsdb::Db;
use tokio_util::sync::CancellationToken;

/// All of it.
pub(super) struct Kubernetes {
    /// Needs no cluster: its rules can be tried without one.
    pub(super) adapter: Arc<Adapter>,
    /// `None` unless it is asked for.
    pub(super) serving: Option<Serving>,
    /// Nobody looks unless there is a cluster.
    pub(super) autoscalers: Autoscalers,
}

impl Kubernetes {
    /// Opens what the options ask for. Looks at autoscalers begin at once, and end at shutdown.
    ///
    /// # Errors
    /// What keeps the listener or the rules from being as they are wanted. Autoscalers that cannot be seen are told of where
    /// they would be shown.
    pub(super) fn open(
        options: &AppOptions,
        hpa_metrics: &HpaMetrics,
        (db, engine, clock, scraper): (&Arc<Db>, &Arc<Engine>, &Arc<dyn Clock>, &Manager),
        registry: &mut Registry,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let wanted = &options.kubernetes;
        let rules = wanted.adapter_config.clone();
        let adapter = Adapter::open(db.clone(), engine.clone(), clock.clone(), rules, hpa_metrics.clone());
        let adapter = adapter.map_err(|problem| anyhow!(problem))?;
        let listed = adapter.clone();
        registry.add(move || listed.list());

        let at = match &wanted.kubeconfig {
            Some(path) => ClusterAt::Kubeconfig(path.clone()),
            None => ClusterAt::InCluster,
        };
        let sources = || {
            let cluster = scraper.cluster(at)?;
            let (db, engine, clock) = (db.clone(), engine.clone(), clock.clone());
            Ok::<_, String>(Arc::new(Sources::new(db, engine, clock, cluster, adapter.clone())))
        };
        let looked_at = options.presets.kubernetes || wanted.kubeconfig.is_some() || wanted.serving.is_some();
        let watched = wanted.autoscalers.clone().filter(|_| looked_at);
        if wanted.serving.is_none() && watched.is_none() {
            return Ok(Self {
                adapter,
                serving: None,
                autoscalers: Autoscalers::default(),
            });
        }
        let sources = sources();
        let serving = match &wanted.serving {
            Some(apis) => {
                let opened = sources
                    .clone()
                    .map_err(|why| {
                        format!("the Kubernetes metrics APIs need a cluster: that of a pod, or --kubernetes.kubeconfig: {why}")
                    })
                    .and_then(|sources| Serving::open(apis, &sources, &options.data_dir, options.max_url_bytes));
                let serving = opened.map_err(|why| anyhow!(why))?;
                registry.add(serving.listings());
                Some(serving)
            }
            None => None,
        };
        let autoscalers = match (sources, watched) {
            (_, None) => Autoscalers::default(),
            (Ok(sources), Some(how)) => {
                let watcher = Watcher::new(sources, how);
                let autoscalers = watcher.autoscalers();
                let board = autoscalers.board.clone();
                registry.add(move || board.list());
                tokio::spawn(watcher.run(shutdown.clone()));
                autoscalers
            }
            (Err(problem), Some(_)) => {
                let autoscalers = Autoscalers::default();
                autoscalers.board.set_problems(vec![problem]);
                autoscalers
            }
        };
        Ok(Self {
            adapter,
            serving,
            autoscalers,
        })
    }
}
