//! Where targets come from: sources that send whole target groups on a bounded channel.
//!
//! ```text
//!   fixed (static_configs) ----------------------------.
//!   file  (file_sd_configs) --.                        |
//!   http  (http_sd_configs) --+--> Update --> [ found ]-+--> groups, keyed by (provider, source) --> pool --> targets
//!   dns   (dns_sd_configs)  --+                          at once, then at most every few seconds
//!   kubernetes (kubernetes_sd_configs) --'
//!        \-- each tells its [ report ] how it fares: counted, logged once, shown
//! ```
//!
//! A group replaces the one with the same source; a group without targets removes it. A provider that cannot read its
//! source keeps quiet, so that what it sent last stays. Each sends its first update as soon as it knows its source,
//! even if that holds nothing: until then nobody can tell whether its targets are gone or yet to come.
//!
//! A provider is made of its section of the configuration ([`SourceConfig`]). Where a reload leaves a section as it
//! is, its provider goes on.

mod counts;
mod dns;
mod file;
mod fixed;
mod found;
mod glob;
mod groups;
mod http;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
mod once;
mod report;
mod room;
mod source;
mod watch;

pub(crate) use counts::Counts;
pub(crate) use fixed::fixed_groups;
pub(crate) use found::{Found, Started, Taken};
pub use glob::expand as files_named;
pub use once::{Discovered, Outcome, discover_once};
pub use report::ProviderStatus;
pub(crate) use report::Report;
pub(crate) use room::Room;
pub(crate) use source::{Context, SourceConfig};

use crate::metrics::Metrics;
use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::Labels;
use tokio::sync::mpsc;

/// Limits and choices of discovery that are not in the file's sections.
#[derive(Debug, Clone)]
pub struct DiscoveryOptions {
    /// After a change of a job's targets, how long the next one waits. What providers send meanwhile is taken together.
    pub sync_interval: Duration,
    /// The longest answer of a URL, and the longest file.
    pub max_answer_bytes: usize,
    /// The most targets in all groups of all jobs, `static_configs` apart.
    pub max_targets: u64,
    /// The most bytes that all these groups take.
    pub max_groups_bytes: u64,
    /// How long after something was left out for want of room it is looked whether there is room again.
    pub room_interval: Duration,
    /// DNS servers to ask in order, instead of those that `resolv_conf` names.
    pub dns_servers: Vec<SocketAddr>,
    /// Names the DNS servers, the domains that are searched, and from how many dots on a name is tried as it is.
    pub resolv_conf: PathBuf,
    /// How long one DNS server is waited for.
    pub dns_timeout: Duration,
    /// Of Kubernetes clusters.
    #[cfg(feature = "kubernetes")]
    pub kubernetes: kubernetes::KubernetesOptions,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(5),
            max_answer_bytes: 64 << 20,
            max_targets: 100_000,
            max_groups_bytes: 64 << 20,
            room_interval: Duration::from_secs(30),
            dns_servers: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            dns_timeout: Duration::from_secs(2),
            #[cfg(feature = "kubernetes")]
            kubernetes: kubernetes::KubernetesOptions::default(),
        }
    }
}

/// Targets that one source names together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetGroup {
    /// What tells this group from others of its provider: a file's name and the place in it, a pod's name.
    pub(crate) source: String,
    /// Each target's own labels; `__address__` among them.
    pub(crate) targets: Vec<Labels>,
    /// Labels of all of them, which a target's own win over.
    pub(crate) labels: Labels,
}

impl TargetGroup {
    /// What removes a group.
    pub(crate) fn empty(source: String) -> Self {
        Self {
            source,
            targets: Vec::new(),
            labels: Labels::empty(),
        }
    }
}

/// Sends groups as they change. Bounded: a pool that is busy lets its providers wait.
pub(crate) type GroupSender = mpsc::Sender<Update>;

/// Updates that may wait for a pool; a provider waits when there are more.
pub(crate) const UPDATES_WAITING: usize = 16;

/// Groups that changed, from one provider of a job.
#[derive(Debug)]
pub(crate) struct Update {
    /// Which provider of the job.
    pub(crate) provider: usize,
    /// Its groups that changed, whole.
    pub(crate) groups: Vec<TargetGroup>,
}

/// A provider of targets. `run` ends when the receiver is gone; it is dropped at any await point to be stopped.
pub(crate) trait Discover: Debug + Send {
    /// Finds targets and sends them, over and over. `provider` is to be repeated in each update.
    fn run(
        self: Box<Self>,
        provider: usize,
        to: GroupSender,
        metrics: Arc<Metrics>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
