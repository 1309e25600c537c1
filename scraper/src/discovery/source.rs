//! A section of the configuration that says where targets come from, and the provider it makes.

use super::dns::DnsDiscovery;
use super::file::FileDiscovery;
use super::http::HttpDiscovery;
#[cfg(feature = "kubernetes")]
use super::kubernetes::{Hub, KubernetesDiscovery};
use super::{Discover, DiscoveryOptions, Report, Room};
#[cfg(feature = "kubernetes")]
use crate::config::KubernetesSdConfig;
use crate::config::{DnsSdConfig, FileSdConfig, HttpSdConfig, ScrapeConfig};
use crate::manager::ScrapeOptions;
use crate::metrics::Metrics;
use std::sync::Arc;
use tidegauge_model::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What every provider may use.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) options: DiscoveryOptions,
    /// What `User-Agent` says.
    pub(crate) user_agent: String,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What all that is found may take.
    pub(crate) room: Room,
    /// The watches that sections share.
    #[cfg(feature = "kubernetes")]
    pub(crate) kubernetes: Arc<Hub>,
}

impl Context {
    /// What providers have in common runs as `tasks` until `shutdown`.
    #[cfg_attr(
        not(feature = "kubernetes"),
        expect(unused_variables, reason = "only watches have tasks of their own")
    )]
    pub(crate) fn new(
        options: &ScrapeOptions,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn Clock>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        Self {
            options: options.discovery.clone(),
            user_agent: options.user_agent.clone(),
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            room: Room::new(
                options.discovery.max_targets,
                options.discovery.max_groups_bytes,
                metrics,
            ),
            #[cfg(feature = "kubernetes")]
            kubernetes: Hub::new(options, metrics, tasks, shutdown),
        }
    }
}

/// One section. Two that are equal make providers that find the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SourceConfig {
    File(FileSdConfig),
    Http(Box<HttpSdConfig>),
    Dns(DnsSdConfig),
    #[cfg(feature = "kubernetes")]
    Kubernetes(Box<KubernetesSdConfig>),
}

impl SourceConfig {
    /// The sections of a job, `static_configs` apart.
    pub(crate) fn of(job: &ScrapeConfig) -> Vec<Self> {
        let files = job.file_sd_configs.iter().cloned().map(Self::File);
        let urls = job.http_sd_configs.iter().cloned().map(Box::new).map(Self::Http);
        let names = job.dns_sd_configs.iter().cloned().map(Self::Dns);
        let all = files.chain(urls).chain(names);
        #[cfg(feature = "kubernetes")]
        let all = all.chain(
            job.kubernetes_sd_configs
                .iter()
                .cloned()
                .map(Box::new)
                .map(Self::Kubernetes),
        );
        all.collect()
    }

    /// The kind of discovery, as metrics name it.
    pub(crate) fn mechanism(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Dns(_) => "dns",
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    /// What it reads, for people; without secrets.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::File(config) => config.files.join(", "),
            Self::Http(config) => super::http::shown(&config.url),
            Self::Dns(config) => config.names.join(", "),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(config) => super::kubernetes::place(config),
        }
    }

    /// The provider of this section.
    ///
    /// # Errors
    /// What in the section cannot be obeyed.
    pub(crate) fn provider(&self, context: &Context, report: Report) -> Result<Box<dyn Discover>, String> {
        Ok(match self {
            Self::File(config) => Box::new(FileDiscovery::new(config, context, report)),
            Self::Http(config) => Box::new(HttpDiscovery::new(config, context, report)?),
            Self::Dns(config) => Box::new(DnsDiscovery::new(config, context, report)),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(config) => Box::new(KubernetesDiscovery::new(config, &context.kubernetes, report)),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tidegauge_model::Timestamp;
    use tidegauge_model::testing::HandClock;

    /// A context for tests of providers.
    pub(in crate::discovery) fn context() -> Context {
        let options = ScrapeOptions {
            user_agent: "test".to_owned(),
            ..ScrapeOptions::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(HandClock::at(Timestamp::from_millis(0)));
        Context::new(
            &options,
            &Arc::default(),
            &clock,
            &TaskTracker::new(),
            &CancellationToken::new(),
        )
    }
}
