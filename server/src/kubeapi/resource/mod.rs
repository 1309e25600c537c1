//! `metrics.k8s.io`: what `kubectl top` and autoscalers ask for, out of the samples that are stored.
//!
//! ```text
//!   store ── gather ──> tracks ── usage ──> pods and nodes ─┐
//!            ends of    one for each        the best track  ├─ routes ──> JSON: objects, tables, metadata
//!            series     source              of each         │             (accept, wire)
//!   API server ── objects ──> who is there, labels ─────────┘
//! ```
//!
//! The numbers are those of metrics-server: differences of the last two samples by their own times, not rates of PromQL.
//! A process that has just started knows them from the disk.

mod accept;
mod gather;
mod objects;
mod question;
mod routes;
mod track;
mod usage;
mod wire;

pub use routes::routes;
pub use usage::{ContainerUsage, NodeUsage, PodUsage};
pub(super) use wire::time;

use super::Sources;
use gather::{Reading, Scope, is_anything_told, range};
use objects::Objects;
use tidegauge_model::{Cancel, Queryable, ReadContext, SelectError};

/// The group's name.
pub const GROUP: &str = "metrics.k8s.io";
/// The one version that is served.
pub const VERSION: &str = "v1beta1";

/// What the pods of a namespace, or of all, use now: those that the API server knows, as far as it has said, and that are
/// `wanted` by namespace and name. Blocks on the store.
///
/// # Errors
/// Those of the store.
pub fn pods(
    sources: &Sources,
    namespace: Option<&str>,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<Vec<PodUsage>, SelectError> {
    let known = Objects::wanted(&sources.pods, namespace, &wanted);
    let names = known.few();
    let scope = Scope {
        namespace,
        names: names.as_deref(),
    };
    let wanted = |namespace: &str, name: &str| known.has(namespace, name) && wanted(namespace, name);
    read(sources, Cancel::new(), |reading| usage::pods(reading, scope, &wanted))
}

/// What keeps the group from answering as it should, in sentences: for who looks whether it is ready. Blocks on the
/// store.
pub fn problems(sources: &Sources) -> Vec<String> {
    let mut problems = Vec::new();
    match read(sources, Cancel::new(), is_anything_told) {
        Ok(true) => {}
        Ok(false) => problems.push(format!(
            "no recent samples of containers or nodes: nothing scrapes the kubelets' /metrics/resource or \
             /metrics/cadvisor, or their first scrape is still to come (look-back: {} s)",
            sources.engine.options().lookback_ms / 1000
        )),
        Err(error) => problems.push(format!("samples cannot be read: {error}")),
    }
    problems.extend(objects::problem(&sources.pods, "pods"));
    problems.extend(objects::problem(&sources.nodes, "nodes"));
    problems
}

/// Reads what is stored up to now.
fn read<T>(
    sources: &Sources,
    cancel: Cancel,
    read: impl FnOnce(&Reading<'_>) -> Result<T, SelectError>,
) -> Result<T, SelectError> {
    let options = sources.engine.options();
    let at = sources.clock.now();
    let querier = sources.store.querier(range(at, options.lookback_ms))?;
    let cx = ReadContext {
        cancel,
        meter: options.memory.clone(),
    };
    read(&Reading {
        querier: &*querier,
        at,
        lookback_ms: options.lookback_ms,
        cx: &cx,
    })
}
