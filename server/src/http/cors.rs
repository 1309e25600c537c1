//! Cross-origin headers as upstream sends them by `--web.cors.origin`.

use crate::quoted::quoted;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::str::FromStr;
use std::sync::Arc;
use tidegauge_model::{MatchOp, Matcher};

const ALLOWED: [(HeaderName, &str); 3] = [
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Accept, Authorization, Content-Type, Origin",
    ),
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
];

/// Whose pages a browser lets read what the API answers: origins that match a regex as a whole.
#[derive(Debug, Clone)]
pub struct CorsOrigin(Arc<Matcher>);

impl CorsOrigin {
    fn allows(&self, origin: &HeaderValue) -> bool {
        std::str::from_utf8(origin.as_bytes()).is_ok_and(|origin| self.0.matches(origin))
    }
}

impl FromStr for CorsOrigin {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        Matcher::new(MatchOp::Regex, "origin", pattern)
            .map(|matcher| Self(Arc::new(matcher)))
            .map_err(|why| format!("could not compile CORS regex string {}: {why}", quoted(pattern)))
    }
}

/// [`around`] what a router comes to next.
pub(crate) async fn add(State(allowed): State<CorsOrigin>, request: Request, next: Next) -> Response {
    around(&allowed, request, |request| next.run(request)).await
}

/// Adds the headers to answers of the API; not to 405s, which upstream's router gives before it comes to this.
pub(crate) async fn around<F: Future<Output = Response>>(
    allowed: &CorsOrigin,
    request: Request,
    run: impl FnOnce(Request) -> F,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = run(request).await;
    let status = response.status();
    let headers = response.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.remove(header::VARY);
        return response;
    }
    // Only the origin, not the encoding: exactly what clients of upstream see.
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin.filter(|origin| !origin.is_empty()) {
        for (name, value) in ALLOWED {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if allowed.allows(&origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_if_all_of_it_matches() {
        for (pattern, origin, allowed) in [
            (".*", &b"http://page.example"[..], true),
            (r"https?://(a|b)\.example", b"http://a.example", true),
            (r"https?://(a|b)\.example", b"https://b.example", true),
            (r"https?://(a|b)\.example", b"https://b.example.evil", false),
            (r"https?://(a|b)\.example", b"https://x.b.example", false),
            ("http://a.example|http://b.example", b"http://b.example", true),
            ("http://a.example|http://b.example", b"x http://b.example", false),
            (".*", b"\xff", false),
            ("", b"http://page.example", false),
        ] {
            let pattern: CorsOrigin = pattern.parse().unwrap();
            let origin = HeaderValue::from_bytes(origin).unwrap();
            assert_eq!(pattern.allows(&origin), allowed, "{pattern:?} {origin:?}");
        }
    }

    #[test]
    fn what_is_no_regex_is_refused() {
        let told = "a(".parse::<CorsOrigin>().unwrap_err();
        assert!(
            told.starts_with("could not compile CORS regex string \"a(\": error parsing regexp"),
            "{told}"
        );
    }
}
