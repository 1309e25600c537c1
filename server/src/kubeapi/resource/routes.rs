//! The paths of the group.

use super::accept::Many;
use super::gather::{Reading, Scope};
use super::objects::{Objects, problem};
use super::question::{Fields, Question};
use super::usage::{self, NodeUsage, PodUsage};
use super::wire::{Answer, Item, Kind, Used};
use super::{GROUP, read};
use crate::kubeapi::{Failure, Selector, Sources};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegauge_model::{Cancel, SelectError};
use tokio::sync::Semaphore;

/// Questions that are answered at a time; further ones wait.
const MAX_READS: usize = 4;

/// What there is in the group.
const RESOURCES: &str = r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"metrics.k8s.io/v1beta1","resources":[{"name":"nodes","singularName":"","namespaced":false,"kind":"NodeMetrics","verbs":["get","list"]},{"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]}]}"#;

/// The routes of `metrics.k8s.io/v1beta1`. Who asks has been let in already.
pub fn routes(sources: Arc<Sources>) -> Router {
    let api = Arc::new(Api {
        sources,
        places: Arc::new(Semaphore::new(MAX_READS)),
        told_of_pods: AtomicBool::new(false),
        told_of_nodes: AtomicBool::new(false),
    });
    let group = Router::new()
        .route("/", get(resources))
        .route("/nodes", get(list_nodes))
        .route("/nodes/{name}", get(get_node))
        .route("/pods", get(list_all_pods))
        .route("/namespaces/{namespace}/pods", get(list_pods))
        .route("/namespaces/{namespace}/pods/{name}", get(get_pod))
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .with_state(api);
    Router::new().nest("/apis/metrics.k8s.io/v1beta1", group)
}

/// What the handlers share.
struct Api {
    sources: Arc<Sources>,
    places: Arc<Semaphore>,
    /// Whether the log has it that there are no pods to choose by.
    told_of_pods: AtomicBool,
    /// The same of nodes.
    told_of_nodes: AtomicBool,
}

/// Raises the flag when the handler ends: nobody waits any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Api {
    /// Runs a question to the store on a blocking thread, once there is a place.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reading<'_>) -> Result<T, SelectError> + Send + 'static,
    ) -> Result<T, Failure> {
        let cancel = Cancel::new();
        let _cancel_on_drop = CancelOnDrop(cancel.clone());
        let stopping = || Failure::unavailable("the server is stopping");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| stopping())?;
        let sources = Arc::clone(&self.sources);
        let task = tokio::task::spawn_blocking(move || {
            let result = read(&sources, cancel, question);
            drop(place);
            result
        });
        match task.await {
            Ok(result) => result.map_err(|error| failure(&error)),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(stopping()),
        }
    }

    /// Tells in the log, once each time, that objects are served as samples name them.
    fn note(&self, resource: &str, problem: Option<String>) {
        let told = match resource {
            "pods" => &self.told_of_pods,
            _ => &self.told_of_nodes,
        };
        match problem {
            Some(problem) if !told.swap(true, Ordering::Relaxed) => tracing::warn!(
                %problem,
                "metrics.k8s.io lists {resource} by their samples alone: without labels, and for some minutes after they are gone"
            ),
            Some(_) => {}
            None => told.store(false, Ordering::Relaxed),
        }
    }

    fn note_pods(&self) {
        self.note("pods", problem(&self.sources.pods, "pods"));
    }

    fn note_nodes(&self) {
        self.note("nodes", problem(&self.sources.nodes, "nodes"));
    }

    /// How a question is to be answered, if it can be.
    fn answer(&self, kind: Kind, many: Many, question: &Question) -> Result<Answer, Failure> {
        if question.watch {
            return Err(Failure::unsupported("watch", GROUP, kind.resource()));
        }
        Ok(Answer {
            kind,
            now: self.sources.clock.now(),
            form: question.form(many),
            row_object: question.row_object()?,
        })
    }
}

type Shared = State<Arc<Api>>;

async fn resources() -> Response {
    json(Ok(RESOURCES.into()))
}

async fn list_all_pods(State(api): Shared, question: Question) -> Result<Response, Failure> {
    pods(&api, None, &question).await
}

async fn list_pods(
    State(api): Shared,
    path: Result<Path<String>, PathRejection>,
    question: Question,
) -> Result<Response, Failure> {
    pods(&api, Some(named(path)?), &question).await
}

/// `None` is all namespaces.
async fn pods(api: &Api, namespace: Option<String>, question: &Question) -> Result<Response, Failure> {
    let (labels, fields) = chosen(question)?;
    let answer = api.answer(Kind::Pods, Many::List, question)?;
    api.note_pods();
    let namespace = namespace.or_else(|| fields.namespace().map(str::to_owned));
    let objects = Objects::of(&api.sources.pods, "pods", namespace.as_deref(), &labels)?;
    let body = api.read(move |reading| {
        let names = objects.few();
        let scope = Scope {
            namespace: namespace.as_deref(),
            names: names.as_deref(),
        };
        let wanted = |namespace: &str, name: &str| objects.has(namespace, name) && fields.match_names(namespace, name);
        let found = usage::pods(reading, scope, &wanted)?;
        let items: Vec<Item<'_>> = found.iter().map(|pod| pod_item(pod, &objects)).collect();
        Ok(answer.list(&items))
    });
    Ok(json(body.await?))
}

async fn get_pod(
    State(api): Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    question: Question,
) -> Result<Response, Failure> {
    let (namespace, name) = named(path)?;
    let answer = api.answer(Kind::Pods, Many::One, &question)?;
    api.note_pods();
    let missing = Failure::no_object(GROUP, "podmetrics", &format!("{namespace}/{name}"));
    let objects = Objects::one(&api.sources.pods, &namespace, &name);
    let body = api.read(move |reading| {
        let scope = Scope {
            namespace: Some(&namespace),
            names: Some(&[&name]),
        };
        let found = usage::pods(reading, scope, &|namespace, name| objects.has(namespace, name))?;
        Ok(found.first().map(|pod| answer.one(&pod_item(pod, &objects))))
    });
    Ok(json(body.await?.ok_or(missing)?))
}

async fn list_nodes(State(api): Shared, question: Question) -> Result<Response, Failure> {
    let (labels, fields) = chosen(&question)?;
    let answer = api.answer(Kind::Nodes, Many::List, &question)?;
    api.note_nodes();
    let objects = Objects::of(&api.sources.nodes, "nodes", None, &labels)?;
    let body = api.read(move |reading| {
        let mut found = usage::nodes(reading)?;
        found.retain(|node| objects.has("", &node.name) && fields.match_names("", &node.name));
        let items: Vec<Item<'_>> = found.iter().map(|node| node_item(node, &objects)).collect();
        Ok(answer.list(&items))
    });
    Ok(json(body.await?))
}

async fn get_node(
    State(api): Shared,
    path: Result<Path<String>, PathRejection>,
    question: Question,
) -> Result<Response, Failure> {
    let name = named(path)?;
    let answer = api.answer(Kind::Nodes, Many::One, &question)?;
    api.note_nodes();
    let missing = Failure::no_object(GROUP, "nodemetrics", &name);
    let objects = Objects::one(&api.sources.nodes, "", &name);
    let body = api.read(move |reading| {
        let found = usage::nodes(reading)?;
        let node = found
            .iter()
            .find(|node| node.name == name && objects.has("", &node.name));
        Ok(node.map(|node| answer.one(&node_item(node, &objects))))
    });
    Ok(json(body.await?.ok_or(missing)?))
}

/// Which of a list are meant.
fn chosen(question: &Question) -> Result<(Selector, Fields), Failure> {
    Ok((question.labels()?, question.fields()?))
}

fn pod_item<'a>(pod: &'a PodUsage, objects: &'a Objects) -> Item<'a> {
    Item {
        used: Used::Pod(pod),
        labels: objects.labels(&pod.namespace, &pod.name),
    }
}

fn node_item<'a>(node: &'a NodeUsage, objects: &'a Objects) -> Item<'a> {
    Item {
        used: Used::Node(node),
        labels: objects.labels("", &node.name),
    }
}

/// The names in a path, decoded.
fn named<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Failure> {
    path.map(|Path(names)| names)
        .map_err(|error| Failure::bad_request(error.body_text()))
}

fn json(body: serde_json::Result<Vec<u8>>) -> Response {
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => Failure::internal(error.to_string()).into_response(),
    }
}

fn failure(error: &SelectError) -> Failure {
    match error {
        SelectError::Memory(_) | SelectError::Cancelled => Failure::unavailable(error.to_string()),
        SelectError::Corrupt { .. } | SelectError::Io { .. } => Failure::internal(error.to_string()),
    }
}
