//! The way of the reads that dashboards send: straight to their handlers.
//!
//! ```text
//!   listener -> front -+-> edge -> cross-origin -> compression -> handler       known by path and method alone
//!                      `-> router -> the same, in boxes                         all else
//! ```
//!
//! A router clones and boxes each layer around each route for each request. That is nothing beside most work, but as
//! much as a small query takes when nothing of it is in the processor's caches. What is answered is the same.

use super::{query, router, series, shared::Shared, state::ApiState};
use crate::http::{compress, cors, edge};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tower::ServiceExt;

/// All that answers requests.
#[derive(Debug)]
pub struct Front {
    shared: Shared,
    edge: edge::Edge,
    router: Router,
}

/// A read that many ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Instant,
    Range,
    Series,
    Names,
    Values,
}

impl Read {
    /// The read that a method and a path below the prefix stand for.
    fn of(method: &Method, path: &str) -> Option<Self> {
        let path = path.strip_prefix("/api/v1/")?;
        let read = match path {
            "query" => Self::Instant,
            "query_range" => Self::Range,
            "series" => Self::Series,
            "labels" => Self::Names,
            _ => {
                let name = path.strip_prefix("label/")?.strip_suffix("/values")?;
                if name.is_empty() || name.contains('/') || method != Method::GET {
                    return None;
                }
                Self::Values
            }
        };
        matches!(*method, Method::GET | Method::POST).then_some(read)
    }

    /// What it is counted as: its route.
    fn route(self) -> &'static str {
        match self {
            Self::Instant => "/api/v1/query",
            Self::Range => "/api/v1/query_range",
            Self::Series => "/api/v1/series",
            Self::Names => "/api/v1/labels",
            Self::Values => "/api/v1/label/{name}/values",
        }
    }

    async fn answer(self, shared: Shared, request: Request) -> Response {
        let shared = State(shared);
        let answer = match self {
            Self::Instant => query::instant(shared, request).await,
            Self::Range => query::range(shared, request).await,
            Self::Series => series::series(shared, request).await,
            Self::Names => series::names(shared, request).await,
            Self::Values => series::values(shared, request).await,
        };
        answer.into_response()
    }
}

impl Front {
    /// Answers all routes, below the path of the external URL.
    pub fn new(state: Arc<ApiState>) -> Self {
        let shared = Shared::new(state);
        let edge = router::edge(&shared);
        Self {
            router: router::router(&shared, &edge),
            shared,
            edge,
        }
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path().strip_prefix(&*self.edge.prefix);
        match path.and_then(|path| Read::of(request.method(), path)) {
            Some(read) => self.read(read, request).await,
            None => self.route(request).await,
        }
    }

    async fn read(&self, read: Read, request: Request) -> Response {
        let shared = self.shared.clone();
        let plain = move |request| read.answer(shared, request);
        let compressed = |request| compress::around(request, plain);
        let open = |request| cors::around(&self.shared.api.cors_origin, request, compressed);
        edge::around(&self.edge, read.route(), request, open).await
    }

    /// Answers a request by the router alone, as [`Front::answer`] does sooner.
    pub async fn route(&self, request: Request) -> Response {
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
