//! A target's own line: its connection, and the request that is sent over it each time.
//!
//! It is taken wherever nothing but plain HTTP/1.1 is needed; [`Link::get`] says where it is not.

use super::client::call_failed;
use super::wire::{Host, Wire, WireError};
use super::{Encoding, FetchError, Fetched, JobClient};
use crate::target::Target;
use http::{HeaderMap, StatusCode, header};
use std::fmt;
use url::Url;

/// A target's connection and what is sent over it. One for each loop: it does not outlive a change of the job.
#[derive(Default)]
pub(crate) struct Link {
    wire: Wire,
    route: Route,
    /// The request as it was sent last; empty if the next one must be made anew.
    request: Vec<u8>,
    /// Whether the target is on this machine, where sending bytes costs less than packing them does the target.
    nearby: bool,
}

/// How a target is reached.
#[derive(Default)]
enum Route {
    #[default]
    Unknown,
    Direct(Url, Host),
    /// By the general client.
    General,
}

/// The request and the URL hold what authenticates us: neither is shown.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = match &self.route {
            Route::Unknown => "unknown",
            Route::Direct(..) => "direct",
            Route::General => "general",
        };
        f.debug_struct("Link")
            .field("wire", &self.wire)
            .field("route", &route)
            .field("nearby", &self.nearby)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Gets a body; `None` if the general client is to do it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(super) async fn get(
        &mut self,
        job: &JobClient,
        target: &Target,
        buffer: &impl Fn() -> Vec<u8>,
    ) -> Result<Option<Fetched>, FetchError> {
        if matches!(self.route, Route::Unknown) {
            self.find_route(job, target);
        }
        let Route::Direct(url, host) = &self.route else {
            return Ok(None);
        };
        if self.request.is_empty() {
            let compressed = job.compressed && (!self.nearby || job.compressed_nearby);
            let headers = job.negotiation(target.timeout, compressed);
            self.request = request(url, &job.http.headers(url, &headers).await?);
        }
        let failed = |problem| match problem {
            WireError::TooLong => FetchError::TooLong,
            WireError::Memory(problem) => FetchError::Memory(problem),
            other => FetchError::Http(call_failed(url, other.to_string())),
        };
        let called = self.wire.call(host, &self.request, buffer).await;
        if !job.http.has_fixed_headers() {
            self.request.clear();
        }
        let response = called.map_err(failed)?;
        let head = &response.head;
        if head.location && matches!(head.status, 301 | 302 | 303 | 307 | 308) && job.http.follows_redirects() {
            // Who redirects once does it each time.
            self.route = Route::General;
            return Ok(None);
        }
        let nearby = self.wire.is_nearby();
        if nearby != self.nearby {
            self.nearby = nearby;
            self.request.clear();
        }
        let (status, content_type) = (head.status, head.content_type.clone());
        if status != 200 {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Err(FetchError::Status(status));
        }
        let encoding = Encoding::of(head.content_encoding.as_deref())?;
        let mut lease = job.bodies.lease(0)?;
        let body = self.wire.body(response, job.limit_bytes, &mut lease).await;
        let (raw, start) = body.map_err(failed)?;
        Ok(Some(Fetched {
            content_type,
            encoding,
            raw,
            start,
            lease,
        }))
    }

    fn find_route(&mut self, job: &JobClient, target: &Target) {
        let direct = || {
            let url = Url::parse(&target.url).ok().filter(|url| job.http.is_direct(url))?;
            let host = Host {
                name: url.host_str()?.to_owned(),
                port: url.port_or_known_default()?,
            };
            Some((url, host))
        };
        self.route = match direct() {
            Some((url, host)) => {
                self.nearby = host.is_loopback();
                Route::Direct(url, host)
            }
            None => Route::General,
        };
    }
}

/// A request as it is written.
fn request(url: &Url, headers: &HeaderMap) -> Vec<u8> {
    let (authority, path) = split(url);
    let mut request = Vec::with_capacity(512);
    let mut line = |parts: [&[u8]; 3]| {
        for part in parts {
            request.extend_from_slice(part);
        }
        request.extend_from_slice(b"\r\n");
    };
    line([b"GET ", path.as_bytes(), b" HTTP/1.1"]);
    if !headers.contains_key(header::HOST) {
        line([b"host: ", authority.as_bytes(), b""]);
    }
    for (name, value) in headers {
        line([name.as_str().as_bytes(), b": ", value.as_bytes()]);
    }
    line([b"", b"", b""]);
    request
}

/// The authority of a URL, and its path with the query.
fn split(url: &Url) -> (String, String) {
    let mut authority = url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = url.port() {
        authority.push_str(&format!(":{port}"));
    }
    let mut path = url.path().to_owned();
    if let Some(query) = url.query() {
        path.push('?');
        path.push_str(query);
    }
    (authority, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line_and_headers() {
        let headers = HeaderMap::from_iter([(header::ACCEPT, "text/plain".parse().unwrap())]);
        for (url, line, host) in [
            ("http://a.b:80/metrics", "/metrics", "a.b"),
            ("http://[::1]:9100/m?x=y%20z&x=#f", "/m?x=y%20z&x=", "[::1]:9100"),
            ("http://h", "/", "h"),
        ] {
            let expected = format!("GET {line} HTTP/1.1\r\nhost: {host}\r\naccept: text/plain\r\n\r\n");
            assert_eq!(
                String::from_utf8(request(&url.parse().unwrap(), &headers)).unwrap(),
                expected
            );
        }
        let own = HeaderMap::from_iter([(header::HOST, "other".parse().unwrap())]);
        let text = String::from_utf8(request(&"http://h/".parse().unwrap(), &own)).unwrap();
        assert_eq!(text, "GET / HTTP/1.1\r\nhost: other\r\n\r\n");
    }

    #[test]
    fn a_link_does_not_show_what_it_sends() {
        let url: Url = "http://user:hunter2@h/".parse().unwrap();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer hunter2".parse().unwrap())]);
        let link = Link {
            request: request(&url, &headers),
            route: Route::Direct(
                url,
                Host {
                    name: "h".to_owned(),
                    port: 80,
                },
            ),
            ..Link::default()
        };
        let shown = format!("{link:?}");
        let bytes = format!("{:?}", b"hunter2");
        for form in ["hunter2", bytes.trim_matches(['[', ']'])] {
            assert!(!shown.contains(form), "{shown}");
        }
        assert!(shown.contains("direct"), "{shown}");
    }
}
