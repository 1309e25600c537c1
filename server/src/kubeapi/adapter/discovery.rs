//! The kinds of objects as the API server knows them.

use super::resource::Resource;
use serde::Deserialize;
use tidegauge_scraper::{Call, Cluster};

/// Groups whose kinds are not objects, and that may well be asked of ourselves.
const METRICS: &str = "metrics.k8s.io";
/// More groups are not asked about.
const MAX_GROUPS: usize = 500;

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    preferred_version: Version,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Kinds {
    resources: Vec<Kind>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    name: String,
    #[serde(default)]
    singular_name: String,
    namespaced: bool,
    kind: String,
}

/// Asks for the kinds of all groups. One group that does not answer is passed over: its server may be down.
///
/// # Errors
/// If the API server does not answer, in its words.
pub(super) async fn kinds(cluster: &Cluster) -> Result<Vec<Resource>, String> {
    let mut found = of_group(cluster, "", "v1").await?;
    let groups: Groups = ask(cluster, "/apis").await?;
    for group in groups.groups.into_iter().take(MAX_GROUPS) {
        if group.name.ends_with(METRICS) {
            continue;
        }
        match of_group(cluster, &group.name, &group.preferred_version.version).await {
            Ok(kinds) => found.extend(kinds),
            Err(problem) => tracing::debug!(group = group.name, problem, "the kinds of this group are not known"),
        }
    }
    Ok(found)
}

async fn of_group(cluster: &Cluster, group: &str, version: &str) -> Result<Vec<Resource>, String> {
    let path = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let kinds: Kinds = ask(cluster, &path).await?;
    // A name with a slash is a part of an object.
    let kinds = kinds.resources.into_iter().filter(|kind| !kind.name.contains('/'));
    let resources = kinds.map(|kind| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        singular: match kind.singular_name.is_empty() {
            true => kind.kind.to_lowercase(),
            false => kind.singular_name,
        },
        plural: kind.name,
        kind: kind.kind,
        namespaced: kind.namespaced,
    });
    Ok(resources.collect())
}

async fn ask<T: serde::de::DeserializeOwned>(cluster: &Cluster, path: &str) -> Result<T, String> {
    let reply = cluster.call(Call::get(path)).await.map_err(|error| error.to_string())?;
    if reply.status != 200 {
        return Err(format!("GET {path} was answered with status {}", reply.status));
    }
    serde_json::from_slice(&reply.body).map_err(|error| format!("GET {path}: {error}"))
}
