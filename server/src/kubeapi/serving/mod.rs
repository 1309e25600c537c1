//! The listener that Kubernetes asks for metrics: an API server of the aggregation layer.
//!
//! ```text
//!   kubectl, autoscaler -> API server's aggregator --TLS--> listener -> front -> routes of the groups
//!                                                              |          |
//!                 certificates (made here, or files) ----------'          |-- trusted  (ConfigMap: whose certificates)
//!                        '-> register (APIService objects)                '-- reviews  (whose token, may they)
//! ```
//!
//! Nothing here knows what a metric is: the groups are put in by [`super::routes`].

mod aggregated;
mod attributes;
mod certificates;
mod discovery;
mod front;
mod groups;
mod metrics;
mod openapi;
mod own;
mod pair;
mod register;
mod remembered;
mod reviews;
mod trust;
mod trusted;
mod user;

pub use certificates::Given;
pub use discovery::Ready;
pub use groups::Group;
pub use register::{Service, manifests};

use super::sources::Sources;
use crate::api::Listing;
use crate::http::{self, ServeOptions};
use axum::body::Bytes;
use certificates::{Certificates, Source};
use front::Front;
use futures_util::future::BoxFuture;
use metrics::Metrics;
use own::Own;
use register::Registrar;
use reviews::{Reviewer, Reviews};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_scraper::{Call, Cluster, Document, Watching};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trust::{NAME, NAMESPACE, Trust};
use trusted::Trusted;

/// The folder of the data directory with the certificates that are made here.
const FOLDER: &str = "kubernetes-api";

/// What the command line says of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where it listens, as `host:port`.
    pub listen: String,
    /// The groups that are served.
    pub groups: Vec<Group>,
    /// The Service that leads here; `None`: the usual one in the pod's own namespace.
    pub service: Option<Service>,
    /// Files with the certificate; `None`: one is made.
    pub given: Option<Given>,
    /// Whether the cluster is told of the groups.
    pub register: bool,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most answers of reviews, of either kind, that are remembered.
    pub max_reviews: usize,
}

/// The file with the certificates of the authorities that are made here.
pub fn bundle_file(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(own::BUNDLE)
}

/// The listener, ready to serve.
#[derive(Debug)]
pub struct Serving {
    front: Front,
    parts: Parts,
    map: Watching<Document>,
    registrar: Option<Registrar>,
    max_connections: usize,
}

/// What `/metrics` tells of, too.
#[derive(Debug, Clone)]
struct Parts {
    metrics: Arc<Metrics>,
    reviews: Arc<Reviews>,
    certificates: Arc<Certificates>,
    trusted: Arc<Trusted>,
    registered: Arc<register::Registered>,
}

impl Serving {
    /// Makes or reads certificates and begins to watch whom to believe. Blocks on files.
    ///
    /// # Errors
    /// What kept it from that, in a sentence.
    pub fn open(options: &Options, sources: &Arc<Sources>, data_dir: &Path, uri_bytes: usize) -> Result<Self, String> {
        let trusted = Arc::<Trusted>::default();
        let service = Service::or_default(options.service.as_ref(), &sources.cluster, options.register)?;
        let source = match &options.given {
            Some(given) => Source::Given(given.clone()),
            None => {
                let dir = data_dir.join(FOLDER);
                let own = Own::open(dir.clone(), service.names());
                Source::Own(own.map_err(|e| format!("cannot use the folder {}: {e}", dir.display()))?)
            }
        };
        let certificates = Certificates::open(source, &trusted, sources.clock.clone())?;
        let asks = Box::new(sources.cluster.clone());
        let parts = Parts {
            metrics: Arc::default(),
            reviews: Arc::new(Reviews::new(asks, options.max_reviews)?),
            certificates: Arc::clone(&certificates),
            registered: Arc::default(),
            trusted: Arc::clone(&trusted),
        };
        let routes = super::routes(sources, &options.groups);
        let ready = readiness(sources, &trusted, &options.groups);
        let routes = discovery::routes(&options.groups, ready, routes).fallback(discovery::elsewhere);
        let front = Front::new(
            trusted,
            Arc::clone(&parts.reviews),
            sources.clock.clone(),
            Arc::clone(&parts.metrics),
            uri_bytes,
            routes,
        )?;
        let registrar = options.register.then(|| Registrar {
            cluster: sources.cluster.clone(),
            service,
            groups: options.groups.clone(),
            certificates,
            registered: Arc::clone(&parts.registered),
        });
        Ok(Self {
            front,
            parts,
            map: sources.cluster.config_map(NAMESPACE, NAME),
            registrar,
            max_connections: options.max_connections.max(1),
        })
    }

    /// For `/metrics`.
    pub fn listings(&self) -> impl Fn() -> Vec<Listing> + Send + Sync + 'static {
        let parts = self.parts.clone();
        move || {
            let mut listings = parts.metrics.list();
            listings.extend(parts.reviews.list());
            listings.extend(parts.certificates.list());
            listings.extend(parts.registered.list());
            listings
        }
    }

    /// Serves until `stop` is cancelled; the number of connections and TLS are its own, the other bounds those given.
    ///
    /// # Errors
    /// If the listener is unusable.
    pub async fn serve(self, listener: TcpListener, options: ServeOptions, stop: CancellationToken) -> io::Result<()> {
        let options = ServeOptions {
            max_connections: self.max_connections,
            secure: Some(self.parts.certificates.clone()),
            ..options
        };
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "serving the Kubernetes metrics APIs");
        }
        let register = async {
            match self.registrar {
                Some(registrar) => registrar.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            served = http::serve(listener, self.front, options, stop) => served,
            () = follow(&self.map, &self.parts.trusted) => Ok(()),
            () = register => Ok(()),
        }
    }
}

/// Believes whom the cluster says, for ever.
async fn follow(map: &Watching<Document>, trusted: &Trusted) {
    let mut seen = None;
    loop {
        let found = match map.look(NAMESPACE, NAME, |map| map.json().to_owned()) {
            Some(json) => Ok(json),
            None if map.is_complete() => Err(format!("there is no ConfigMap {NAME:?} in namespace {NAMESPACE:?}")),
            None => Err(map.problem().unwrap_or_else(|| "it has not been read yet".to_owned())),
        };
        if seen.as_ref() != Some(&found) {
            believe(trusted, &found);
            seen = Some(found);
        }
        map.changed().await;
    }
}

fn believe(trusted: &Trusted, found: &Result<String, String>) {
    match found.as_ref().map(|json| Trust::read(json)) {
        Ok(Ok(trust)) => {
            if trust.is_nobody() {
                tracing::warn!("the cluster names no authority for certificates: tokens alone are believed");
            }
            trusted.set(Ok(trust));
        }
        Ok(Err(why)) if trusted.now().is_ok() => {
            tracing::error!(
                why,
                "the ConfigMap {NAME:?} cannot be used; whom it named before is believed"
            );
        }
        Ok(Err(why)) => {
            tracing::error!(why, "the ConfigMap {NAME:?} cannot be used: no certificate is believed");
            trusted.set(Err(why));
        }
        Err(why) => {
            tracing::debug!(why, "the ConfigMap {NAME:?} is not known");
            trusted.set(Err(why.clone()));
        }
    }
}

/// What has to be known before anything can be answered well.
fn readiness(sources: &Arc<Sources>, trusted: &Arc<Trusted>, groups: &[Group]) -> discovery::Readiness {
    let (sources, trusted, groups) = (Arc::clone(sources), Arc::clone(trusted), groups.to_vec());
    Arc::new(move || {
        let trust = trusted.now().map(drop).map_err(|why| why.to_string());
        let mut all = vec![("authentication", trust)];
        all.extend(super::readiness(&sources, &groups));
        all
    })
}

impl Reviewer for Cluster {
    fn create(&self, path: &'static str, body: Bytes) -> BoxFuture<'_, Result<(u16, Bytes), String>> {
        Box::pin(async move {
            let reply = self.call(Call::post(path, body)).await;
            reply.map(|reply| (reply.status, reply.body)).map_err(|e| e.to_string())
        })
    }
}
