//! One GET of a target: negotiation, body limit, deadline; and the HTTP client below it.
//!
//! ```text
//!                         .---------> [ Link ]: a target's own connection, plain HTTP/1.1
//!   scrape_loop --> [ JobClient ] --.
//!                                   +--> [ HttpClient ] --> TLS, proxy, redirects, secrets, http_headers
//!   discovery ----------------------'
//! ```
//!
//! What comes is kept as it comes, bounded; inflating it is work for the processor and therefore part of the appending
//! that follows.

mod chunked;
mod client;
mod connect;
mod inflate;
mod link;
mod oauth2;
mod proxy;
mod secrets;
mod tls;
mod trust;
mod unpack;
mod wire;

pub(crate) use client::{ClientOptions, HttpClient, HttpError, HttpRequest, HttpResponse, status_text};
pub(crate) use inflate::{InflateError, Inflater};
pub(crate) use link::Link;
pub(crate) use unpack::{Encoding, Unpacker};

use crate::config::ScrapeConfig;
use crate::manager::ScrapeOptions;
use crate::parse::accept_header;
use crate::target::Target;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::time::Duration;
use tidegauge_model::{Lease, Meter, OverBudget};

/// Why no body came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("server returned HTTP status {}", client::status_text(*.0))]
    Status(StatusCode),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("Get \"{0}\": context deadline exceeded")]
    Deadline(String),
    #[error("body size limit exceeded")]
    TooLong,
    #[error("unsupported content encoding {0:?}")]
    Encoding(String),
    #[error(transparent)]
    Memory(#[from] OverBudget),
}

/// A body as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) content_type: Option<String>,
    pub(crate) encoding: Encoding,
    /// What came, its head among it.
    pub(crate) raw: Vec<u8>,
    /// Where the body begins in it.
    pub(crate) start: usize,
    /// What the body in flight takes of the share for bodies.
    pub(crate) lease: Lease,
}

impl Fetched {
    /// The body, packed as it came.
    pub(crate) fn body(&self) -> &[u8] {
        self.raw.get(self.start..).unwrap_or_default()
    }
}

/// Calls the targets of one job.
#[derive(Debug)]
pub(crate) struct JobClient {
    http: HttpClient,
    /// Of every request.
    headers: HeaderMap,
    /// Whether bodies are asked for compressed.
    compressed: bool,
    /// Whether targets on this machine are, too.
    compressed_nearby: bool,
    limit_bytes: usize,
    bodies: Meter,
}

impl JobClient {
    /// A client for a job.
    ///
    /// # Errors
    /// What in the configuration cannot be obeyed. Files are not read yet: they may come later.
    pub(crate) fn new(config: &ScrapeConfig, options: &ScrapeOptions) -> Result<Self, String> {
        let client = ClientOptions {
            user_agent: options.user_agent.clone(),
            call_interval: config.scrape_interval.get(),
        };
        let limit = match config.body_size_limit.bytes() {
            0 => options.max_body_bytes,
            limit => limit,
        };
        Ok(Self {
            http: HttpClient::new(config.http(), &client)?,
            headers: HeaderMap::from_iter([(header::ACCEPT, client::header_value(&accept(config))?)]),
            compressed: config.enable_compression,
            compressed_nearby: options.compressed_nearby,
            limit_bytes: usize::try_from(limit).unwrap_or(usize::MAX),
            bodies: options.bodies.clone(),
        })
    }

    /// The longest body, inflated.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Gets a target's body within the time. `buffer` lends allocations to read into.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn get(
        &self,
        link: &mut Link,
        target: &Target,
        buffer: impl Fn() -> Vec<u8>,
    ) -> Result<Fetched, FetchError> {
        match tokio::time::timeout(target.timeout, self.get_unbounded(link, target, &buffer)).await {
            Ok(done) => done,
            Err(_) => Err(FetchError::Deadline(target.url.clone())),
        }
    }

    async fn get_unbounded(
        &self,
        link: &mut Link,
        target: &Target,
        buffer: &impl Fn() -> Vec<u8>,
    ) -> Result<Fetched, FetchError> {
        if let Some(fetched) = link.get(self, target, buffer).await? {
            return Ok(fetched);
        }
        let mut request = HttpRequest::get(&target.url)?;
        request.headers = self.negotiation(target.timeout, self.compressed);
        let response = self.http.send(request).await?;
        self.body(response, buffer()).await
    }

    /// The headers by which a target chooses how to answer, and when.
    fn negotiation(&self, timeout: Duration, compressed: bool) -> HeaderMap {
        let mut headers = self.headers.clone();
        let encoding = if compressed { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        if let Ok(seconds) = HeaderValue::from_str(&timeout.as_secs_f64().to_string()) {
            headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
        }
        headers
    }

    async fn body(&self, mut response: HttpResponse, mut raw: Vec<u8>) -> Result<Fetched, FetchError> {
        if response.status != StatusCode::OK {
            return Err(FetchError::Status(response.status));
        }
        if response
            .content_length()
            .is_some_and(|length| length >= self.limit_bytes as u64)
        {
            return Err(FetchError::TooLong);
        }
        let text = |name| {
            response
                .headers
                .get(name)
                .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        };
        let content_type = text(header::CONTENT_TYPE);
        let encoding = Encoding::of(text(header::CONTENT_ENCODING).as_deref())?;
        raw.clear();
        let mut lease = self.bodies.lease(raw.capacity() as u64)?;
        while let Some(chunk) = response.chunk().await? {
            if raw.len() + chunk.len() >= self.limit_bytes {
                return Err(FetchError::TooLong);
            }
            let before = raw.capacity();
            raw.reserve(chunk.len());
            lease.grow((raw.capacity() - before) as u64)?;
            raw.extend_from_slice(&chunk);
        }
        Ok(Fetched {
            content_type,
            encoding,
            raw,
            start: 0,
            lease,
        })
    }
}

/// The formats wanted, the most wanted first, and at last anything.
fn accept(config: &ScrapeConfig) -> String {
    accept_header(
        &config.scrape_protocols,
        config.metric_name_escaping_scheme.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GlobalConfig, finish};

    fn job(yaml: &str) -> ScrapeConfig {
        let job = serde_yaml_ng::from_str(yaml).unwrap();
        finish(vec![Some(job)], &GlobalConfig::absent()).unwrap().remove(0)
    }

    #[test]
    fn what_calls_does_not_show_its_secrets() {
        for keys in [
            "basic_auth: {username: u, password: hunter2}",
            "authorization: {credentials: hunter2}",
            "http_headers: {X-A: {secrets: [hunter2]}}",
            "proxy_url: 'http://u:hunter2@p:1', proxy_connect_header: {X-A: [hunter2]}",
            "tls_config: {cert: public, key: hunter2}",
            "oauth2: {client_id: u, client_secret: hunter2, token_url: 'http://u:hunter2@t/', \
             proxy_url: 'http://u:hunter2@p:1'}",
        ] {
            let job = job(&format!("{{job_name: a, {keys}}}"));
            let shown = format!("{:?}", JobClient::new(&job, &ScrapeOptions::default()).unwrap());
            assert!(!shown.contains("hunter2") && shown.contains("HttpClient"), "{shown}");
        }
        let mut request = HttpRequest::get("http://u:hunter2@h/").unwrap();
        request.body = Some("client_secret=hunter2".into());
        request
            .headers
            .insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer hunter2"));
        let shown = format!("{request:?}");
        assert!(!shown.contains("hunter2") && shown.contains("u:***@h"), "{shown}");
    }

    #[test]
    fn accept_asks_as_upstream_does() {
        assert_eq!(
            accept(&job("job_name: a")),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept(&job(
                "{job_name: a, scrape_protocols: [PrometheusProto, PrometheusText0.0.4]}"
            )),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
        );
    }
}
