//! Targets in Kubernetes clusters (`kubernetes_sd_configs`).
//!
//! ```text
//!   API server --list, watch--> [ follow ] --objects--> [ watch: store ] --which changed--> [ discovery ] --groups-->
//!                  ^  one task per watch                   shared by all                    one per section
//!                  |                                      that want the same
//!              [ server ]: in-cluster, kubeconfig or URL       ^
//!                                                           [ hub ] owns the watches, lends them to [ cluster ]
//! ```
//!
//! A **watch** is one collection: a kind of objects, in one namespace or all, with one selector, at one server. It is
//! shared by every section and job that wants it. Its **store** holds of each object only what labels and targets
//! need. A **section** listens to the watches of its role (`endpointslice`: slices, services, pods and perhaps nodes)
//! and makes the groups of those objects again that changed or show something of what changed: [`role`] has a file
//! for each role. A flood of changes to one object is one change.
//!
//! What breaks: a server that is away, or refuses, leaves the targets as they are; the log says which verb and
//! resource, and which right is missing; other watches go on. A section waits with its first targets until each of
//! its watches knows all of its objects or has been refused.
//!
//! Requests, events and statuses are kube-core's, kubeconfigs kube-client's; `docs/decisions/0015` says why the loop is
//! our own.

mod backoff;
mod changes;
mod cluster;
mod discovery;
mod failure;
mod follow;
mod hub;
mod intern;
mod kind;
mod kubeconfig;
mod labels;
mod metrics;
mod object;
mod role;
mod server;
mod split;
mod store;
mod watch;

pub use cluster::{Call, CallError, Cluster, ClusterAt, Reply, Watching};
pub(crate) use discovery::{KubernetesDiscovery, place};
pub(crate) use hub::Hub;
pub use hub::KubernetesOptions;
#[cfg(test)]
use kind::Kind;
pub(crate) use metrics::KubernetesMetrics;
pub use object::{Container, Document, Meta, Node, Pairs, Pod, Requests};
pub use server::InCluster;

/// What in a kubeconfig cannot be obeyed, as a section that names it would tell. Blocks.
///
/// # Errors
/// In words, without secrets.
pub fn check_kubeconfig(path: &std::path::Path) -> Result<(), String> {
    kubeconfig::access(path).map(drop)
}

#[cfg(test)]
mod tests;
