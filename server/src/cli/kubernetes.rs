//! `tidegauge kubernetes`: what a cluster is given to know of the metrics APIs.

use super::print;
use crate::kubeapi::serving::{Group, Service, bundle_file, manifests};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What can be given to a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Kubernetes {
    /// Print the APIService objects that lead to a server, for clusters that are told of everything by files
    #[command(
        name = "apiservices",
        after_help = "Examples:\n  \
        kubectl exec -n tidegauge tidegauge-0 -- tidegauge kubernetes apiservices /var/lib/tidegauge > apiservices.yaml\n  \
        tidegauge kubernetes apiservices --ca-file=ca.crt --groups=metrics | kubectl apply -f -\n\n\
        With --kubernetes.api.register the server keeps the objects in step by itself."
    )]
    ApiServices(ApiServices),
}

/// Arguments of `apiservices`.
#[derive(Debug, Args)]
pub(crate) struct ApiServices {
    /// Data directory of a server that has made certificates for its metrics APIs
    #[arg(value_name = "DIR", default_value = "data/", conflicts_with = "ca")]
    dir: PathBuf,
    /// Certificates that the cluster is to trust with the server's, in PEM, instead of those of a data directory
    #[arg(long = "ca-file", id = "ca", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Service that leads to the server
    #[arg(long, value_name = "NAMESPACE/NAME", default_value_t = Service::usual("tidegauge"))]
    service: Service,
    /// Groups that it answers for
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "metrics,custom,external"
    )]
    groups: Vec<Group>,
}

impl Kubernetes {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::ApiServices(services) => services.run(),
        }
    }
}

impl ApiServices {
    fn run(mut self) -> anyhow::Result<()> {
        let path = self.ca.unwrap_or_else(|| bundle_file(&self.dir));
        let bundle = std::fs::read_to_string(&path).with_context(|| {
            let path = path.display();
            format!("cannot read {path}, which a server writes at its first start with --kubernetes.api.listen-address")
        })?;
        if !bundle.contains("BEGIN CERTIFICATE") || bundle.contains("PRIVATE KEY") {
            bail!("{} holds something else than certificates in PEM", path.display());
        }
        self.groups.sort();
        self.groups.dedup();
        for object in manifests(&self.service, &self.groups, Some(&bundle)) {
            print(format_args!("---\n{}", serde_yaml_ng::to_string(&object)?));
        }
        Ok(())
    }
}
