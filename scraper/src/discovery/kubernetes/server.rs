//! An API server: where it is, who we are there, and one call of it.
//!
//! Calls go through the HTTP client of the configuration, so that TLS, proxies and files that rotate are one
//! implementation: a service account's token and a kubeconfig's are files that are read again when they change.

use super::failure::{Failure, Question, retry_after_header};
use super::kubeconfig;
use crate::config::{Authorization, HttpConfig, KubernetesSdConfig, TlsConfig};
use crate::fetch::{ClientOptions, HttpClient, HttpError, HttpRequest, HttpResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use url::Url;

/// The most that is read of an answer that is no success.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Where the API server is and who we are there, as the configuration says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ServerConfig {
    /// A pod's own cluster, by its service account.
    InCluster,
    /// What a kubeconfig says.
    Kubeconfig(PathBuf),
    /// This URL.
    Url(String, Box<HttpConfig>),
}

impl ServerConfig {
    pub(super) fn of(config: &KubernetesSdConfig) -> Self {
        match (&config.kubeconfig_file, config.api_server.as_str()) {
            (Some(path), _) => Self::Kubeconfig(path.clone()),
            (None, "") => Self::InCluster,
            (None, url) => Self::Url(url.to_owned(), Box::new(config.http())),
        }
    }
}

/// What a pod is told of its own cluster.
#[derive(Debug, Clone)]
pub struct InCluster {
    /// The folder with `token`, `ca.crt` and `namespace`.
    pub service_account: PathBuf,
    /// The API server's host; `None` outside of clusters.
    pub host: Option<String>,
    /// The API server's port.
    pub port: String,
}

impl Default for InCluster {
    /// What the environment says.
    fn default() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            service_account: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount"),
            host: variable("KUBERNETES_SERVICE_HOST"),
            port: variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned()),
        }
    }
}

impl InCluster {
    fn access(&self) -> Result<Access, String> {
        let Some(host) = &self.host else {
            return Err(
                "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be \
                 defined (is api_server or kubeconfig_file missing?)"
                    .to_owned(),
            );
        };
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        Ok(Access {
            url: format!("https://{host}:{}", self.port),
            http: HttpConfig {
                authorization: Some(Authorization {
                    credentials_file: Some(self.service_account.join("token")),
                    ..Authorization::default()
                }),
                tls_config: Some(TlsConfig {
                    ca_file: Some(self.service_account.join("ca.crt")),
                    ..TlsConfig::default()
                }),
                follow_redirects: true,
                enable_http2: true,
                ..HttpConfig::default()
            },
            headers: HeaderMap::new(),
        })
    }

    /// The pod's own namespace.
    pub(super) fn namespace(&self) -> Result<String, String> {
        let path = self.service_account.join("namespace");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(problem) => Err(format!("unable to read {}: {problem}", path.display())),
        }
    }
}

/// How to call an API server.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) url: String,
    pub(super) http: HttpConfig,
    /// Sent with every request.
    pub(super) headers: HeaderMap,
}

/// An API server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: ServerConfig,
    user_agent: String,
    /// Made anew when the kubeconfig changes. Held while it is looked at, not while a call runs.
    connection: Mutex<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    url: Url,
    client: HttpClient,
    headers: HeaderMap,
    /// What the kubeconfig was.
    stamp: Option<(SystemTime, u64)>,
}

impl Server {
    /// Blocks on a kubeconfig.
    ///
    /// # Errors
    /// What in the configuration cannot be obeyed.
    pub(super) fn new(config: ServerConfig, in_cluster: &InCluster, user_agent: &str) -> Result<Self, String> {
        let (access, stamp) = match &config {
            ServerConfig::InCluster => (in_cluster.access()?, None),
            ServerConfig::Kubeconfig(path) => {
                // The stamp comes first: a change in between is then seen as one.
                let stamp = stamp(path);
                (kubeconfig::access(path)?, stamp)
            }
            ServerConfig::Url(url, http) => (
                Access {
                    url: url.clone(),
                    http: (**http).clone(),
                    headers: HeaderMap::new(),
                },
                None,
            ),
        };
        Ok(Self {
            connection: Mutex::new(Arc::new(Connection::new(access, stamp, user_agent)?)),
            config,
            user_agent: user_agent.to_owned(),
        })
    }

    /// Gets a path with its query; a success, whose body is still to come.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn get(
        &self,
        question: Question<'_>,
        target: &str,
        silence: Duration,
    ) -> Result<HttpResponse, Failure> {
        let answer = tokio::time::timeout(silence, self.send(Method::GET, target, None)).await;
        let mut response = answer
            .map_err(|_| Failure::Stalled(silence))?
            .map_err(|problem| Failure::Call(format!("cannot {question}: {problem}")))?;
        if response.status.is_success() {
            return Ok(response);
        }
        let after = response.headers.get(header::RETRY_AFTER);
        let after = after.and_then(|value| retry_after_header(value.to_str().ok()?));
        let mut body = Vec::new();
        // What cannot be read of it does not change what the status says.
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(silence, response.chunk()).await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ERROR_BYTES {
                break;
            }
        }
        Err(Failure::of_answer(question, response.status.as_u16(), &body, after))
    }

    /// Sends a request; its answer, whatever the status, whose body is still to come. A body goes with its type.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn send(
        &self,
        method: Method,
        target: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<HttpResponse, HttpError> {
        let connection = self.connection().await;
        let base = connection.url.as_str().trim_end_matches('/');
        // kube begins a query with a separator.
        let target = target.replacen("?&", "?", 1);
        let mut request = HttpRequest::get(&format!("{base}{target}")).map_err(without_query)?;
        request.method = method;
        request.headers.extend(connection.headers.clone());
        if let Some((kind, body)) = body {
            request
                .headers
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            request.body = Some(body);
        }
        connection.client.send(request).await.map_err(without_query)
    }

    /// How to call it now.
    async fn connection(&self) -> Arc<Connection> {
        let mut connection = self.connection.lock().await;
        if let ServerConfig::Kubeconfig(path) = &self.config
            && let Some(now) = stamp(path)
            && Some(now) != connection.stamp
        {
            match kubeconfig::access(path).and_then(|access| Connection::new(access, Some(now), &self.user_agent)) {
                Ok(made) => *connection = Arc::new(made),
                Err(problem) => {
                    tracing::error!(%problem, "cannot use the changed kubeconfig: going on with the old one");
                }
            }
        }
        Arc::clone(&connection)
    }
}

/// A question's parameters say nothing to people, and one of them is of chance: the same problem would be told again.
fn without_query(problem: HttpError) -> HttpError {
    match problem {
        HttpError::Call { verb, url, problem } => HttpError::Call {
            url: url.split('?').next().unwrap_or_default().to_owned(),
            verb,
            problem,
        },
        other => other,
    }
}

impl Connection {
    fn new(access: Access, stamp: Option<(SystemTime, u64)>, user_agent: &str) -> Result<Self, String> {
        // Not told itself: a password may stand in it.
        let url = Url::parse(&access.url).map_err(|problem| format!("the API server's URL: {problem}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the API server's URL: the scheme must be http or https".to_owned());
        }
        let options = ClientOptions {
            user_agent: user_agent.to_owned(),
            call_interval: Duration::from_secs(300),
        };
        let mut headers = access.headers;
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Self {
            client: HttpClient::new(access.http, &options)?,
            url,
            headers,
            stamp,
        })
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
