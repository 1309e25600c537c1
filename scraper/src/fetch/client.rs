//! The HTTP client of the configuration: authentication, TLS, proxy, redirects, extra headers.
//!
//! Scrapes and discovery call through it; each bounds the body it reads and the time it waits.
//!
//! There are two clients inside. The plain one loads no certificates, as most targets speak plain HTTP inside a
//! cluster; the other is made when TLS is first needed, and made again when one of its certificate files changes.

use super::connect::Connector;
use super::oauth2::TokenSource;
use super::proxy::{Protocol, Proxies};
use super::secrets::{self, SecretText, basic};
use super::tls;
use crate::config::{HttpConfig, Secret};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use url::Url;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The call failed. `verb` is the method as a word.
    #[error("{verb} \"{url}\": {problem}")]
    Call { verb: String, url: String, problem: String },
    /// `what` the file holds.
    #[error("unable to read {what}: unable to read file {}: {problem}", path.display())]
    File {
        what: String,
        path: PathBuf,
        problem: String,
    },
    /// What in the configuration cannot be obeyed.
    #[error("{0}")]
    Setup(String),
}

/// As upstream's HTTP library writes a status.
pub(crate) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Redirects followed, as many as upstream's HTTP library does.
const MAX_REDIRECTS: usize = 10;
/// How long an unused connection is kept, at least.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Unused connections to one server.
const IDLE_PER_SERVER: usize = 2;
/// A connection of HTTP/2 that is silent for so long is asked for a sign of life, as upstream does.
const PING_AFTER: Duration = Duration::from_secs(60);
/// How long it may take to give one.
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// What the caller of a client decides.
#[derive(Debug, Clone)]
pub(crate) struct ClientOptions {
    /// The header `User-Agent`.
    pub(crate) user_agent: String,
    /// How often the same server is called: connections are kept for longer.
    pub(crate) call_interval: Duration,
}

/// A question. Authentication and configured headers are added when it is sent.
#[derive(Clone)]
pub(crate) struct HttpRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

/// Headers and body may be what asks for a token: they are not shown.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &shown(&self.url))
            .finish_non_exhaustive()
    }
}

impl HttpRequest {
    /// A GET.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub(crate) fn get(url: &str) -> Result<Self, HttpError> {
        let url = Url::parse(url).map_err(|problem| HttpError::Call {
            verb: verb(&Method::GET),
            url: url.to_owned(),
            problem: problem.to_string(),
        })?;
        Ok(Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: None,
        })
    }
}

/// An answer whose head has come; the body comes by [`HttpResponse::chunk`].
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    verb: String,
    url: String,
}

impl HttpResponse {
    /// How long the body is, if the server said so.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next piece of the body, or nothing at its end.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|problem| HttpError::Call {
                verb: self.verb.clone(),
                url: self.url.clone(),
                problem: chain(&problem),
            })?;
            // What is not data are trailers.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

type Caller = Client<Connector, Full<Bytes>>;

/// Calls servers as a section of the configuration says.
pub(crate) struct HttpClient {
    http: HttpConfig,
    proxies: Arc<Proxies>,
    plain: Caller,
    tls: Mutex<Option<TlsCaller>>,
    user_agent: HeaderValue,
    /// `http_headers`, those that are no secrets.
    headers: HeaderMap,
    secrets: Vec<(HeaderName, SecretText)>,
    tokens: Option<Box<TokenSource>>,
    idle_timeout: Duration,
}

/// The client with TLS, and what the files were that it was made of.
#[derive(Debug)]
struct TlsCaller {
    caller: Caller,
    stamps: tls::Stamps,
}

/// The section holds URLs with passwords in them: it is not shown.
impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("proxies", &self.proxies)
            .field("secrets", &self.secrets)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client for a section.
    ///
    /// # Errors
    /// What in the configuration cannot be obeyed. Files are not read yet: they may come later.
    pub(crate) fn new(http: HttpConfig, options: &ClientOptions) -> Result<Self, String> {
        let idle_timeout = IDLE_TIMEOUT.max(options.call_interval * 2);
        let proxies = Arc::new(Proxies::new(&http.proxy, &|name| std::env::var(name).ok())?);
        let tokens = http
            .oauth2
            .as_ref()
            .map(|oauth2| TokenSource::new(oauth2, options).map(Box::new));
        Ok(Self {
            user_agent: header_value(&options.user_agent)?,
            headers: fixed_headers(&http)?,
            secrets: secrets::of(&http)?,
            tokens: tokens.transpose()?,
            plain: caller(Connector::new(Arc::clone(&proxies), None), idle_timeout),
            tls: Mutex::new(None),
            proxies,
            http,
            idle_timeout,
        })
    }

    /// Whether a URL can be called without this client's TLS and proxies.
    pub(crate) fn is_direct(&self, url: &Url) -> bool {
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
        url.scheme() == "http" && self.proxies.find(false, host, port.unwrap_or(80)).is_none()
    }

    /// Whether redirects are followed.
    pub(crate) fn follows_redirects(&self) -> bool {
        self.http.follow_redirects
    }

    /// Whether all requests carry the same headers.
    pub(crate) fn has_fixed_headers(&self) -> bool {
        self.secrets.is_empty() && self.tokens.is_none()
    }

    /// The headers of a request to the server called, those given among them.
    ///
    /// # Errors
    /// [`HttpError`].
    pub(crate) async fn headers(&self, url: &Url, given: &HeaderMap) -> Result<HeaderMap, HttpError> {
        let call = |problem| call_failed(url, problem);
        let secret = self.secret_headers(url, given).await;
        let mut all = self.open_headers(given);
        for (name, value) in secret.map_err(|problem| problem.during(call))? {
            all.append(name, value);
        }
        Ok(all)
    }

    fn open_headers(&self, given: &HeaderMap) -> HeaderMap {
        let mut all = given.clone();
        for (name, value) in &self.headers {
            all.append(name, value.clone());
        }
        all.entry(header::USER_AGENT).or_insert_with(|| self.user_agent.clone());
        all
    }

    /// Sends a request, follows redirects if told to, and gives the answer, whatever its status.
    ///
    /// # Errors
    /// [`HttpError`].
    pub(crate) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let verb = verb(&request.method);
        let called = shown(&request.url);
        let call = |problem: String| HttpError::Call {
            verb: verb.clone(),
            url: called.clone(),
            problem,
        };
        let HttpRequest {
            mut method,
            url: first,
            headers,
            mut body,
        } = request;
        let secret_headers = self
            .secret_headers(&first, &headers)
            .await
            .map_err(|problem| problem.during(call))?;
        let mut at = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut all = self.open_headers(&headers);
            if trusted(&first, &at) {
                for (name, value) in &secret_headers {
                    all.append(name, value.clone());
                }
            }
            let client = self
                .caller_for(&at, &mut all)
                .await
                .map_err(|problem| problem.during(call))?;
            let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri(&at).ok_or_else(|| call("not a URL that can be called".to_owned()))?;
            *request.headers_mut() = all;
            let response = client
                .request(request)
                .await
                .map_err(|problem| call(failure(&problem)))?;
            let Some(next) = self
                .redirect(&at, response.status(), response.headers())
                .map_err(call)?
            else {
                let (head, body) = response.into_parts();
                return Ok(HttpResponse {
                    status: head.status,
                    headers: head.headers,
                    body,
                    verb,
                    url: called,
                });
            };
            at = next;
            // As browsers do, and upstream's HTTP library: only 307 and 308 repeat what was sent.
            if !matches!(response.status().as_u16(), 307 | 308) && !matches!(method, Method::GET | Method::HEAD) {
                method = Method::GET;
                body = None;
            }
        }
        Err(call(format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    /// Where a response sends us, if it does and we follow.
    fn redirect(&self, from: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Option<Url>, String> {
        let follows = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = headers.get(header::LOCATION);
        let (true, true, Some(location)) = (self.http.follow_redirects, follows, location) else {
            return Ok(None);
        };
        let location = String::from_utf8_lossy(location.as_bytes());
        let next = from
            .join(&location)
            .map_err(|problem| format!("redirect to {location:?}: {problem}"))?;
        match next.scheme() {
            "http" | "https" => Ok(Some(next)),
            other => Err(format!("redirect to {location:?}: unsupported scheme {other:?}")),
        }
    }

    /// The headers that are for the server called alone. Where `given` says who calls, the section does not.
    async fn secret_headers(&self, url: &Url, given: &HeaderMap) -> Result<Vec<(HeaderName, HeaderValue)>, HttpError> {
        let mut headers = Vec::with_capacity(self.secrets.len() + 1);
        for (name, secret) in &self.secrets {
            if name == header::AUTHORIZATION && given.contains_key(name) {
                continue;
            }
            headers.push((name.clone(), sensitive(name, &secret.read(name).await?)?));
        }
        let known =
            given.contains_key(header::AUTHORIZATION) || headers.iter().any(|(name, _)| name == header::AUTHORIZATION);
        if let Some(tokens) = &self.tokens
            && !known
        {
            headers.push((header::AUTHORIZATION, tokens.header().await?));
        } else if !known && (!url.username().is_empty() || url.password().is_some()) {
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let text = basic(&decode(url.username()), &decode(url.password().unwrap_or_default()));
            headers.push((header::AUTHORIZATION, sensitive(&header::AUTHORIZATION, &text)?));
        }
        Ok(headers)
    }

    /// The client for a URL. A proxy that is to be told who calls gets its header.
    async fn caller_for(&self, url: &Url, headers: &mut HeaderMap) -> Result<Caller, HttpError> {
        let https = url.scheme() == "https";
        let (host, port) = (
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or(80),
        );
        let proxy = self.proxies.find(https, host, port);
        if let Some(proxy) = proxy
            && !https
            && proxy.protocol != Protocol::Socks5
            && let Some(authorization) = &proxy.authorization
        {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        if !https && proxy.is_none_or(|proxy| proxy.protocol != Protocol::Https) {
            return Ok(self.plain.clone());
        }
        let mut tls = self.tls.lock().await;
        if let Some(made) = &*tls
            && secrets::unchanged(&made.stamps).await
        {
            return Ok(made.caller.clone());
        }
        let (section, http2) = (self.http.tls_config.clone(), self.http.enable_http2);
        // Reads files, once the system's certificates as well: some milliseconds.
        let (made, stamps) = tokio::task::spawn_blocking(move || tls::set_up(section.as_ref(), http2))
            .await
            .map_err(|problem| HttpError::Setup(problem.to_string()))??;
        let caller = caller(Connector::new(Arc::clone(&self.proxies), Some(made)), self.idle_timeout);
        *tls = Some(TlsCaller {
            caller: caller.clone(),
            stamps,
        });
        Ok(caller)
    }
}

impl HttpError {
    /// What went wrong before a request could be sent, as something that went wrong with it.
    fn during(self, call: impl Fn(String) -> Self) -> Self {
        call(self.to_string())
    }
}

fn caller(connector: Connector, idle_timeout: Duration) -> Caller {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(idle_timeout)
        .pool_max_idle_per_host(IDLE_PER_SERVER)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector)
}

/// Whether secrets for one server may be told to another that it sends us to: to the same host, and not in the open
/// what was to be hidden.
fn trusted(first: &Url, at: &Url) -> bool {
    at.host_str() == first.host_str() && (at.scheme() == "https" || first.scheme() != "https")
}

/// A URL as a request names it: without user, password and fragment.
fn uri(url: &Url) -> Option<Uri> {
    let mut url = url.clone();
    // Refused only for URLs that cannot have them.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    url.as_str().parse().ok()
}

fn sensitive(name: &HeaderName, text: &Secret) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(text.expose()).map_err(|_| {
        HttpError::Setup(format!(
            "the value of header {name} holds characters that are not allowed"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A method as upstream's HTTP library begins an error: `Get`, `Post`.
fn verb(method: &Method) -> String {
    let (first, rest) = method.as_str().split_at_checked(1).unwrap_or((method.as_str(), ""));
    format!("{first}{}", rest.to_ascii_lowercase())
}

/// That a GET of a URL failed.
pub(super) fn call_failed(url: &Url, problem: String) -> HttpError {
    HttpError::Call {
        verb: verb(&Method::GET),
        url: shown(url),
        problem,
    }
}

/// A URL without the password in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Refused only for URLs that cannot have a password.
        let _ = url.set_password(Some("***"));
    }
    url.into()
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| format!("{text:?} cannot be sent as a header"))
}

fn fixed_headers(http: &HttpConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in &http.http_headers {
        let name: HeaderName = name
            .parse()
            .map_err(|_| format!("{name:?} is not the name of a header"))?;
        for text in &values.values {
            headers.append(&name, header_value(text)?);
        }
    }
    Ok(headers)
}

/// Why a call failed, in one line: its causes without the wrapping.
fn failure(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => chain(cause),
        None => error.to_string(),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some repeat their cause themselves.
        if !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}
