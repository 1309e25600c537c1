//! An API server for others than discovery: single calls, and watches that are shared with it.

use super::changes::Changes;
use super::hub::{Hub, Listening};
use super::kind::Kind;
use super::object::{Document, Key, Node, Object, Pod};
use super::server::{Server, ServerConfig};
use super::watch::{Progress, WatchSpec};
use crate::fetch::HttpError;
use bytes::Bytes;
use http::Method;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The time of a whole call.
const CALL: Duration = Duration::from_secs(10);
/// The most that is read of an answer.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Where an API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterAt {
    /// That of the pod this process is in, by its service account.
    InCluster,
    /// What a kubeconfig says.
    Kubeconfig(PathBuf),
}

/// An API server. Clones are the same.
#[derive(Debug, Clone)]
pub struct Cluster {
    hub: Arc<Hub>,
    server: Arc<Server>,
}

/// What is asked of an API server.
#[derive(Debug, Clone)]
pub struct Call {
    /// How.
    pub method: Method,
    /// The path, with a query if there is one.
    pub path: String,
    /// What is sent, and its type.
    pub body: Option<(&'static str, Bytes)>,
}

impl Call {
    /// A question without a body.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: None,
        }
    }

    /// A JSON object that is to be made.
    pub fn post(path: impl Into<String>, json: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            path: path.into(),
            body: Some(("application/json", json.into())),
        }
    }
}

/// What an API server answers, whatever the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The number of the status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Why an API server does not answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It cannot be called.
    #[error("{0}")]
    Call(String),
    /// It takes too long.
    #[error("the API server did not answer within {} s", CALL.as_secs())]
    Deadline,
    /// It says too much.
    #[error("the API server's answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
}

impl From<HttpError> for CallError {
    fn from(problem: HttpError) -> Self {
        Self::Call(problem.to_string())
    }
}

impl Cluster {
    /// Blocks on a kubeconfig.
    pub(crate) fn new(hub: &Arc<Hub>, at: ClusterAt) -> Result<Self, String> {
        let config = match at {
            ClusterAt::InCluster => ServerConfig::InCluster,
            ClusterAt::Kubeconfig(path) => ServerConfig::Kubeconfig(path),
        };
        Ok(Self {
            hub: Arc::clone(hub),
            server: hub.server(config)?,
        })
    }

    /// The namespace of the pod this process is in.
    ///
    /// # Errors
    /// If it is in none.
    pub fn own_namespace(&self) -> Result<String, String> {
        self.hub.options.in_cluster.namespace()
    }

    /// Calls the API server.
    ///
    /// # Errors
    /// [`CallError`]. An answer with a status that tells of an error is none.
    pub async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let whole = async {
            let mut response = self.server.send(call.method, &call.path, call.body).await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                    return Err(CallError::TooLong);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Reply {
                status: response.status.as_u16(),
                body: body.into(),
            })
        };
        tokio::time::timeout(CALL, whole)
            .await
            .map_err(|_| CallError::Deadline)?
    }

    /// The pods of a namespace, or of all. To be called within a tokio runtime, as all that watches.
    pub fn pods(&self, namespace: Option<&str>) -> Watching<Pod> {
        self.watch(Kind::Pod, namespace, None, |object| match object {
            Object::Pod(pod) => Some(pod),
            _ => None,
        })
    }

    /// The nodes.
    pub fn nodes(&self) -> Watching<Node> {
        self.watch(Kind::Node, None, None, |object| match object {
            Object::Node(node) => Some(node),
            _ => None,
        })
    }

    /// The autoscalers of all namespaces.
    pub fn autoscalers(&self) -> Watching<Document> {
        self.watch(Kind::HorizontalPodAutoscaler, None, None, document)
    }

    /// One ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Watching<Document> {
        let field = format!("metadata.name={name}");
        self.watch(Kind::ConfigMap, Some(namespace), Some(field), document)
    }

    fn watch<T>(&self, kind: Kind, namespace: Option<&str>, field: Option<String>, of: Of<T>) -> Watching<T> {
        let spec = WatchSpec {
            kind,
            namespace: namespace.map(str::to_owned),
            label_selector: None,
            field_selector: field,
        };
        let changes = Arc::new(Changes::without_names());
        Watching {
            listening: self.hub.listen(&self.server, spec, &changes),
            changes,
            of,
        }
    }
}

/// An object as what it is, if it is that.
type Of<T> = fn(&Object) -> Option<&T>;

fn document(object: &Object) -> Option<&Document> {
    match object {
        Object::HorizontalPodAutoscaler(document) | Object::ConfigMap(document) => Some(document),
        _ => None,
    }
}

/// The objects of one kind as they are now: kept equal to what the API server has as long as this is held.
#[derive(Debug)]
pub struct Watching<T> {
    listening: Listening,
    changes: Arc<Changes>,
    of: Of<T>,
}

impl<T> Watching<T> {
    /// Whether all objects are known: before that, and where the API server refuses, some or all are missing.
    pub fn is_complete(&self) -> bool {
        self.listening.watch.progress() == Progress::Known
    }

    /// Why the last list or watch failed, if it did: which right is missing, if one is.
    pub fn problem(&self) -> Option<String> {
        self.listening.watch.problem()
    }

    /// Looks at an object; nodes have no namespace.
    pub fn look<R>(&self, namespace: &str, name: &str, look: impl FnOnce(&T) -> R) -> Option<R> {
        let key = Key {
            namespace: namespace.into(),
            name: name.into(),
        };
        let object = self.listening.watch.get(&key)?;
        (self.of)(&object).map(look)
    }

    /// Shows all objects, in no order. Nothing changes meanwhile, so what is shown is not to be thought about for long.
    pub fn each(&self, mut show: impl FnMut(&T)) {
        self.listening.watch.each(|object| {
            if let Some(object) = (self.of)(object) {
                show(object);
            }
        });
    }

    /// Waits until something is another than at the last call. For one caller.
    pub async fn changed(&self) {
        self.changes.wait().await;
    }
}
