//! Which resource a kind is, as the API server says; remembered for a while.

use super::scale::{Resource, no_match};
use crate::hpa::spec::ObjectRef;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tidegauge_scraper::{Call, Cluster};

/// How long a kind that was found is believed.
const FOUND: Duration = Duration::from_secs(600);
/// How long one that was not found is not asked for again.
const MISSED: Duration = Duration::from_secs(60);
/// The most kinds that are remembered; beyond it all are asked for again.
const MAX_KINDS: usize = 256;

type Known = (Instant, Result<Resource, String>);

/// What is known of kinds, by version and kind.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<HashMap<(String, String), Known>>);

impl Kinds {
    /// The resource of what an autoscaler scales.
    ///
    /// # Errors
    /// If there is none with a scale, or the API server does not say.
    pub(super) async fn resource(&self, cluster: &Cluster, target: &ObjectRef) -> Result<Resource, String> {
        if let Some(known) = Resource::known(target) {
            return Ok(known);
        }
        let key = (target.api_version.clone(), target.kind.clone());
        if let Some((until, found)) = self.0.lock().get(&key)
            && *until > Instant::now()
        {
            return found.clone();
        }
        let found = discover(cluster, target).await;
        let keep = if found.is_ok() { FOUND } else { MISSED };
        let mut known = self.0.lock();
        if known.len() >= MAX_KINDS {
            known.clear();
        }
        if let Some(until) = Instant::now().checked_add(keep) {
            known.insert(key, (until, found.clone()));
        }
        found
    }
}

async fn discover(cluster: &Cluster, target: &ObjectRef) -> Result<Resource, String> {
    let path = Resource::list_path(target).ok_or_else(|| no_match(target))?;
    let reply = cluster
        .call(Call::get(path.as_str()))
        .await
        .map_err(|e| e.to_string())?;
    match reply.status {
        200 => Resource::listed(target, &reply.body),
        404 => Err(no_match(target)),
        status => Err(format!("cannot get {path}: the API server answers {status}")),
    }
}
