//! The page: a few static files in the binary. It knows the server only through `/api/v1`, by relative addresses, so
//! that it works below any path prefix.

use crate::api::Shared;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

/// Nothing but our own files, no inline code, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: Asset = Asset {
    text: include_str!("ui/index.html"),
    kind: "text/html; charset=utf-8",
};

/// One file of the page.
#[derive(Clone, Copy)]
struct Asset {
    text: &'static str,
    kind: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Paths by which people know upstream's pages lead to ours, which reads from the path what to show.
const ROUTES: [(&str, Asset); 11] = [
    ("/", PAGE),
    ("/query", PAGE),
    ("/graph", PAGE),
    ("/targets", PAGE),
    (
        "/ui/style.css",
        Asset {
            text: include_str!("ui/style.css"),
            kind: "text/css; charset=utf-8",
        },
    ),
    (
        "/ui/main.js",
        Asset {
            text: include_str!("ui/main.js"),
            kind: SCRIPT,
        },
    ),
    (
        "/ui/api.js",
        Asset {
            text: include_str!("ui/api.js"),
            kind: SCRIPT,
        },
    ),
    (
        "/ui/query.js",
        Asset {
            text: include_str!("ui/query.js"),
            kind: SCRIPT,
        },
    ),
    (
        "/ui/graph.js",
        Asset {
            text: include_str!("ui/graph.js"),
            kind: SCRIPT,
        },
    ),
    (
        "/ui/targets.js",
        Asset {
            text: include_str!("ui/targets.js"),
            kind: SCRIPT,
        },
    ),
    (
        "/ui/icon.svg",
        Asset {
            text: include_str!("ui/icon.svg"),
            kind: "image/svg+xml",
        },
    ),
];

/// The files by path.
pub(crate) fn routes() -> impl Iterator<Item = (&'static str, MethodRouter<Shared>)> {
    ROUTES.into_iter().map(|(path, asset)| {
        (
            path,
            on(MethodFilter::GET, move || async move { asset.into_response() }),
        )
    })
}

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.text));
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, self.kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // The files change with the binary only, but a cache cannot know when that is.
            (header::CACHE_CONTROL, "no-cache"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// From the root, or the prefix without its slash, to the page.
pub(crate) async fn to_prefix(State(shared): State<Shared>) -> Response {
    let path = format!("{}/", shared.api.external_url.path().trim_end_matches('/'));
    match HeaderValue::from_str(&path) {
        Ok(location) => (StatusCode::FOUND, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
