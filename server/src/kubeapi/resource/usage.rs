//! What pods and nodes use: a function of the store and a time.
//!
//! The rules are those of metrics-server, so that `kubectl top` and autoscalers see what they would see there.

use super::gather::{ContainerName, Reading, Scope};
use super::track::{Track, choose};
use tidegauge_model::{SelectError, Timestamp};

/// What a pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUsage {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was measured: the oldest of its containers' times.
    pub at: Timestamp,
    /// The time that the processor time of that container is an average over.
    pub window_ms: i64,
    /// All of its containers, by name.
    pub containers: Vec<ContainerUsage>,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Its name.
    pub name: String,
    /// Billionths of a core.
    pub cpu_nano: i64,
    /// The working set.
    pub memory_bytes: i64,
}

/// What a node uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUsage {
    /// Its name.
    pub name: String,
    /// When it was measured.
    pub at: Timestamp,
    /// The time that the processor time is an average over.
    pub window_ms: i64,
    /// Billionths of a core.
    pub cpu_nano: i64,
    /// The working set.
    pub memory_bytes: i64,
}

/// The pods that are wanted and of whose containers all is known, by namespace and name.
///
/// # Errors
/// Those of the store.
pub(crate) fn pods(
    reading: &Reading<'_>,
    scope: Scope<'_>,
    wanted: &dyn Fn(&str, &str) -> bool,
) -> Result<Vec<PodUsage>, SelectError> {
    let mut found = reading.containers(scope, wanted)?;
    let found = &mut found.list;
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let same_pod = |a: &ContainerName, b: &ContainerName| (&a.namespace, &a.pod) == (&b.namespace, &b.pod);
    Ok(found.chunk_by(|a, b| same_pod(&a.0, &b.0)).filter_map(pod).collect())
}

/// A pod out of what is told of its containers, in order of their names.
fn pod(tracks: &[(ContainerName, Track)]) -> Option<PodUsage> {
    let newest = tracks.iter().filter_map(|(_, track)| track.newest()).max()?;
    let mut containers = Vec::new();
    let mut oldest = None;
    for of_one in tracks.chunk_by(|a, b| a.0.container == b.0.container) {
        let (name, tracks) = (of_one.first(), of_one.iter().map(|(_, track)| track));
        let tracks: Vec<&Track> = tracks.filter(|track| !track.has_gone_by(newest)).collect();
        // An init container that is done, say; the others are the pod.
        if tracks.is_empty() {
            continue;
        }
        // A pod of which a part is not known would seem smaller than it is.
        let (usage, (name, _)) = (choose(&tracks)?, name?);
        if oldest.is_none_or(|(at, _)| usage.at < at) {
            oldest = Some((usage.at, usage.window_ms));
        }
        containers.push(ContainerUsage {
            name: name.container.clone(),
            cpu_nano: usage.cpu_nano,
            memory_bytes: usage.memory_bytes,
        });
    }
    let ((at, window_ms), (name, _)) = (oldest?, tracks.first()?);
    Some(PodUsage {
        namespace: name.namespace.clone(),
        name: name.pod.clone(),
        at,
        window_ms,
        containers,
    })
}

/// The nodes of which all is known, by name.
///
/// # Errors
/// Those of the store.
pub(crate) fn nodes(reading: &Reading<'_>) -> Result<Vec<NodeUsage>, SelectError> {
    let mut found = reading.nodes()?;
    let found = &mut found.list;
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let node = |of_one: &[(String, Track)]| {
        let tracks: Vec<&Track> = of_one.iter().map(|(_, track)| track).collect();
        let (usage, (name, _)) = (choose(&tracks)?, of_one.first()?);
        Some(NodeUsage {
            name: name.clone(),
            at: usage.at,
            window_ms: usage.window_ms,
            cpu_nano: usage.cpu_nano,
            memory_bytes: usage.memory_bytes,
        })
    };
    Ok(found.chunk_by(|a, b| a.0 == b.0).filter_map(node).collect())
}

#[cfg(test)]
mod tests;
