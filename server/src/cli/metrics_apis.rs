//! The flags of `serve` for the Kubernetes metrics APIs.

use crate::kubeapi;
use crate::kubeapi::serving::{Given, Group, Options, Service};
use clap::Args;
use std::path::PathBuf;

/// How a cluster is reached, and how it asks for metrics.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kubernetes metrics APIs")]
pub(super) struct MetricsApis {
    /// kubeconfig that names the cluster whose metrics APIs are served here [default: the cluster of this process's pod]
    #[arg(long = "kubernetes.kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Address on which the cluster's API server asks for metrics, over TLS: `kubectl top` and HorizontalPodAutoscalers are
    /// answered from what is scraped. Off unless given
    #[arg(long = "kubernetes.api.listen-address", value_name = "HOST:PORT")]
    api_listen: Option<String>,
    /// Groups that are served: metrics (metrics.k8s.io), custom (custom.metrics.k8s.io), external (external.metrics.k8s.io)
    #[arg(
        long = "kubernetes.api.groups",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "metrics,custom,external"
    )]
    api_groups: Vec<Group>,
    /// Service that leads to this address [default: tidegauge-metrics-api in the namespace of this process's pod]
    #[arg(long = "kubernetes.api.service", value_name = "NAMESPACE/NAME")]
    api_service: Option<Service>,
    /// Keep the APIService objects of the cluster in step, and what it is to trust with them; one that leads to another
    /// Service is left alone
    #[arg(long = "kubernetes.api.register")]
    api_register: bool,
    /// Certificate to show, with those between it and its authority; read again when it changes [default: certificates are
    /// made, and replaced in time]
    #[arg(long = "kubernetes.api.tls-cert-file", value_name = "FILE", requires = "api_key")]
    api_cert: Option<PathBuf>,
    /// Its private key
    #[arg(
        long = "kubernetes.api.tls-private-key-file",
        value_name = "FILE",
        requires = "api_cert"
    )]
    api_key: Option<PathBuf>,
    /// Certificates that the cluster is to trust, for --kubernetes.api.register [default: somebody else tells it]
    #[arg(long = "kubernetes.api.tls-ca-file", value_name = "FILE", requires = "api_cert")]
    api_ca: Option<PathBuf>,
    /// Most connections at a time on this address
    #[arg(long = "kubernetes.api.max-connections", value_name = "N", default_value_t = 128)]
    api_max_connections: usize,
    /// Most answers that are remembered, for ten seconds, of questions to the cluster about callers: as many of whose token
    /// one is as of what they may
    #[arg(long = "kubernetes.api.max-reviews", value_name = "N", default_value_t = 4096)]
    api_max_reviews: usize,
}

impl MetricsApis {
    pub(super) fn into_options(self) -> kubeapi::Options {
        let given = match (self.api_cert, self.api_key) {
            (Some(cert), Some(key)) => Some(Given {
                cert,
                key,
                ca: self.api_ca,
            }),
            _ => None,
        };
        let mut groups = self.api_groups;
        groups.sort();
        groups.dedup();
        kubeapi::Options {
            kubeconfig: self.kubeconfig,
            serving: self.api_listen.map(|listen| Options {
                listen,
                groups,
                service: self.api_service,
                given,
                register: self.api_register,
                max_connections: self.api_max_connections,
                max_reviews: self.api_max_reviews,
            }),
        }
    }
}
