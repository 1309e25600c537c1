//! What goes on with a Kubernetes cluster beside discovery: the metrics APIs that it asks, the autoscalers that are looked at.

use super::AppOptions;
use crate::api::Registry;
use crate::hpa::live::{Autoscalers, Watcher};
use crate::kubeapi::{Adapter, Sources, serving::Serving};
use anyhow::anyhow;
use std::sync::Arc;
use tidegauge_model::Clock;
use tidegauge_query::Engine;
use tidegauge_scraper::Manager;
use tidegauge_tsdb::Db;
use tokio_util::sync::CancellationToken;

/// What is answered from.
pub(super) struct Parts<'a> {
    pub(super) db: &'a Arc<Db>,
    pub(super) engine: &'a Arc<Engine>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) scraper: &'a Manager,
    pub(super) adapter: &'a Arc<Adapter>,
}

impl Parts<'_> {
    /// Begins with the cluster, if there is anything to do with one.
    pub(super) fn start(
        self,
        options: &AppOptions,
        registry: &mut Registry,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<(Option<Serving>, Autoscalers)> {
        let apis = &options.metrics_apis;
        let has_cluster = options.presets.kubernetes || apis.kubeconfig.is_some() || apis.serving.is_some();
        if !has_cluster || (apis.serving.is_none() && options.autoscalers.is_none()) {
            return Ok((None, Autoscalers::default()));
        }
        let sources = apis.sources(self.db, self.engine, self.clock, self.scraper, self.adapter);
        let serving = serve(options, &sources, registry).map_err(|why| anyhow!(why))?;
        Ok((serving, watch(options, sources, registry, shutdown)))
    }
}

/// The metrics APIs, if they are to be served.
fn serve(
    options: &AppOptions,
    sources: &Result<Arc<Sources>, String>,
    registry: &mut Registry,
) -> Result<Option<Serving>, String> {
    let Some(apis) = &options.metrics_apis.serving else {
        return Ok(None);
    };
    let sources = sources.as_ref().map_err(Clone::clone)?;
    let serving = Serving::open(apis, sources, &options.data_dir, options.max_url_bytes)?;
    registry.add(serving.listings());
    Ok(Some(serving))
}

/// The autoscalers of the cluster, looked at until shutdown.
fn watch(
    options: &AppOptions,
    sources: Result<Arc<Sources>, String>,
    registry: &mut Registry,
    shutdown: &CancellationToken,
) -> Autoscalers {
    let Some(wanted) = options.autoscalers.clone() else {
        return Autoscalers::default();
    };
    match sources {
        Ok(sources) => {
            let watcher = Watcher::new(sources, wanted);
            let autoscalers = watcher.autoscalers();
            let board = autoscalers.board.clone();
            registry.add(move || board.list());
            tokio::spawn(watcher.run(shutdown.clone()));
            autoscalers
        }
        // What is scraped does not depend on it.
        Err(problem) => {
            tracing::warn!(problem, "autoscalers are not looked at");
            let autoscalers = Autoscalers::default();
            autoscalers.board.set_problems(vec![problem]);
            autoscalers
        }
    }
}
