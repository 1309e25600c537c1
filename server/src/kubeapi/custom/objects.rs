//! The names of objects by their labels.

use super::super::adapter::Resource;
use super::super::{Failure, Selector, Sources};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegauge_scraper::Call;

/// How old a list of objects may be that are not watched.
const LIST_AGE: Duration = Duration::from_secs(10);
/// More lists are not kept, and none of more objects.
const MAX_LISTS: usize = 200;
const MAX_KEPT: usize = 1000;
/// Objects in one answer of the API server.
const PAGE: usize = 500;
/// More objects of one kind are not asked about.
const MAX_OBJECTS: usize = 10_000;

/// Lists of objects that are not watched, by their paths.
#[derive(Debug, Default)]
pub(crate) struct Lists(Mutex<HashMap<String, Listed>>);

/// When, and the names.
type Listed = (Instant, Arc<Vec<String>>);

impl Lists {
    fn get(&self, path: &str) -> Option<Arc<Vec<String>>> {
        let lists = self.0.lock();
        let (at, names) = lists.get(path)?;
        (at.elapsed() < LIST_AGE).then(|| Arc::clone(names))
    }

    fn put(&self, path: String, names: Arc<Vec<String>>) {
        let mut lists = self.0.lock();
        if lists.len() >= MAX_LISTS {
            lists.retain(|_, (at, _)| at.elapsed() < LIST_AGE);
        }
        if lists.len() < MAX_LISTS && names.len() <= MAX_KEPT {
            lists.insert(path, (Instant::now(), names));
        }
    }
}

/// The names of the objects that a selector meets, in order. Pods and nodes are watched, others are asked for.
pub(super) async fn names(
    sources: &Sources,
    resource: &Resource,
    namespace: Option<&str>,
    selector: &Selector,
) -> Result<Vec<String>, Failure> {
    if resource.is_core("pods") {
        return pods(sources, namespace, selector);
    }
    if resource.is_core("nodes") {
        return nodes(sources, selector);
    }
    let path = path(resource, namespace, selector);
    if let Some(names) = sources.lists.get(&path) {
        return Ok(names.to_vec());
    }
    let mut names = list(sources, &path).await?;
    names.sort_unstable();
    let names = Arc::new(names);
    sources.lists.put(path, Arc::clone(&names));
    Ok(names.to_vec())
}

fn pods(sources: &Sources, namespace: Option<&str>, selector: &Selector) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    sources.pods.each(|pod| {
        let meta = pod.meta();
        if namespace.is_none_or(|namespace| namespace == meta.namespace())
            && selector.matches(|label| meta.labels().get(label))
        {
            names.push(meta.name().to_owned());
        }
    });
    sorted(names, sources.pods.is_complete(), || sources.pods.problem(), "pods")
}

fn nodes(sources: &Sources, selector: &Selector) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    sources.nodes.each(|node| {
        let meta = node.meta();
        if selector.matches(|label| meta.labels().get(label)) {
            names.push(meta.name().to_owned());
        }
    });
    sorted(names, sources.nodes.is_complete(), || sources.nodes.problem(), "nodes")
}

/// What a watch shows, unless it shows nothing because it does not know yet.
fn sorted(
    mut names: Vec<String>,
    complete: bool,
    problem: impl Fn() -> Option<String>,
    what: &str,
) -> Result<Vec<String>, Failure> {
    if !complete {
        let why = problem().unwrap_or_else(|| "the first list is on its way".to_owned());
        return Err(Failure::unavailable(format!(
            "the {what} of the cluster are not known: {why}"
        )));
    }
    names.sort_unstable();
    Ok(names)
}

/// The path of a list.
fn path(resource: &Resource, namespace: Option<&str>, selector: &Selector) -> String {
    let group = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let within = match namespace.filter(|_| resource.namespaced) {
        Some(namespace) => format!("/namespaces/{}", utf8_percent_encode(namespace, NON_ALPHANUMERIC)),
        None => String::new(),
    };
    let selector = selector.to_string();
    let selector = utf8_percent_encode(&selector, NON_ALPHANUMERIC);
    format!("{group}{within}/{}?labelSelector={selector}", resource.plural)
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Item>>,
}

#[derive(Deserialize, Default)]
struct ListMeta {
    #[serde(rename = "continue", default)]
    next: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

async fn list(sources: &Sources, path: &str) -> Result<Vec<String>, Failure> {
    let failed = |why: String| {
        let message = format!("Internal error occurred: unable to list matching resources: {why}");
        Failure::internal(message)
    };
    let mut names = Vec::new();
    let mut next = String::new();
    loop {
        let mut page = format!("{path}&limit={PAGE}");
        if !next.is_empty() {
            page.push_str("&continue=");
            page.extend(utf8_percent_encode(&next, NON_ALPHANUMERIC));
        }
        let reply = sources.cluster.call(Call::get(page)).await;
        let reply = reply.map_err(|error| failed(error.to_string()))?;
        if reply.status != 200 {
            return Err(failed(told(reply.status, &reply.body)));
        }
        let list: List = serde_json::from_slice(&reply.body).map_err(|error| failed(error.to_string()))?;
        names.extend(
            list.items
                .unwrap_or_default()
                .into_iter()
                .map(|item| item.metadata.name),
        );
        if names.len() > MAX_OBJECTS {
            return Err(failed(format!("there are more than {MAX_OBJECTS} of them")));
        }
        next = list.metadata.next;
        if next.is_empty() {
            return Ok(names);
        }
    }
}

/// What an API server says that refuses: which right is missing, above all.
fn told(status: u16, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    match serde_json::from_slice::<Status>(body) {
        Ok(told) => told.message,
        Err(_) => format!("the API server answered with status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::adapter::Resources;
    use super::*;

    #[test]
    fn lists_are_asked_for_by_their_paths() {
        let resources = Resources::default();
        let selector = Selector::parse("app=web,tier in (a,b)").unwrap();
        for (kind, namespace, expected) in [
            (
                "deployments.apps",
                Some("shop"),
                "/apis/apps/v1/namespaces/shop/deployments?labelSelector=app%3Dweb%2Ctier%20in%20%28a%2Cb%29",
            ),
            (
                "services",
                Some("a/../b"),
                "/api/v1/namespaces/a%2F%2E%2E%2Fb/services?labelSelector=app%3Dweb%2Ctier%20in%20%28a%2Cb%29",
            ),
            (
                "namespaces",
                None,
                "/api/v1/namespaces?labelSelector=app%3Dweb%2Ctier%20in%20%28a%2Cb%29",
            ),
        ] {
            let kind = resources.find_qualified(kind).unwrap();
            assert_eq!(path(kind, namespace, &selector), expected);
        }
    }
}
