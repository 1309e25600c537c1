//! Which path goes to which handler.

use super::shared::Shared;
use super::{admin, explain, lifecycle, profile, query, rules, series, status, targets};
use crate::http::{compress, cors, edge};
use crate::{remote, ui};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, any, on};

/// What the edge needs to know.
pub(super) fn edge(shared: &Shared) -> edge::Edge {
    edge::Edge {
        metrics: shared.http.clone(),
        uri_bytes: shared.api.limits.uri_bytes,
        prefix: shared.api.external_url.path().trim_end_matches('/').into(),
    }
}

/// All routes, below the path of the external URL, with the edge around them.
pub(super) fn router(shared: &Shared, edge: &edge::Edge) -> Router {
    let at = Paths(&edge.prefix);
    let mut router = at
        .api()
        .merge(at.compressed())
        .merge(at.plain(shared))
        .fallback(not_found)
        .layer(from_fn_with_state(edge.clone(), edge::guard))
        .layer(DefaultBodyLimit::disable());
    if !edge.prefix.is_empty() {
        router = router.route("/", any(ui::to_prefix));
    }
    router.with_state(shared.clone())
}

/// Makes paths below the prefix.
struct Paths<'a>(&'a str);

impl Paths<'_> {
    fn add(&self, router: Router<Shared>, path: &str, methods: MethodRouter<Shared>) -> Router<Shared> {
        router.route(&format!("{}{path}", self.0), methods)
    }

    /// What upstream wraps with its cross-origin headers.
    fn api(&self) -> Router<Shared> {
        let routes = [
            ("query", get_post(query::instant)),
            ("query_range", get_post(query::range)),
            ("query_exemplars", get_post(query::exemplars)),
            ("format_query", get_post(query::format)),
            ("parse_query", get_post(query::tree)),
            ("explain", get_post(explain::explain)),
            ("series", get_post(series::series)),
            ("labels", get_post(series::names)),
            ("label/{name}/values", get(series::values)),
            ("scrape_pools", get(targets::pools)),
            ("targets", get(targets::targets)),
            ("targets/metadata", get(targets::target_metadata)),
            ("targets/relabel_steps", get(targets::relabel_steps)),
            ("metadata", get(targets::metadata)),
            ("rules", get(rules::rules)),
            ("alerts", get(rules::alerts)),
            ("alertmanagers", get(rules::alertmanagers)),
            ("notifications", get(rules::notifications)),
            ("status/config", get(status::config)),
            ("status/flags", get(status::flags)),
            ("status/runtimeinfo", get(status::runtime_info)),
            ("status/buildinfo", get(status::build_info)),
            ("status/discovery", get(targets::discovery)),
            ("status/tsdb", get(status::tsdb)),
            ("status/walreplay", get(status::wal_replay)),
            ("admin/tsdb/delete_series", post_put(admin::delete_series)),
            ("admin/tsdb/clean_tombstones", post_put(admin::clean_tombstones)),
            ("admin/tsdb/snapshot", post_put(admin::snapshot)),
        ];
        routes
            .into_iter()
            .fold(Router::new(), |router, (path, methods)| {
                self.add(router, &format!("/api/v1/{path}"), methods)
            })
            .layer(compress::layer())
            .route_layer(from_fn(cors::add))
    }

    /// Large texts for people and scrapers.
    fn compressed(&self) -> Router<Shared> {
        let mut router = self.add(Router::new(), "/metrics", get(lifecycle::metrics));
        for (path, methods) in ui::routes() {
            router = self.add(router, path, methods);
        }
        if !self.0.is_empty() {
            router = router.route(self.0, any(ui::to_prefix));
        }
        router.layer(compress::layer())
    }

    /// Short answers, sent as they are.
    fn plain(&self, shared: &Shared) -> Router<Shared> {
        let mut router = Router::new();
        for (path, methods) in [
            ("/-/healthy", get(lifecycle::healthy)),
            ("/-/ready", get(lifecycle::ready)),
            ("/-/reload", any(lifecycle::reload)),
            ("/-/quit", any(lifecycle::quit)),
            ("/debug/pprof/profile", get(profile::cpu)),
            ("/debug/pprof/heap", get(profile::heap)),
        ] {
            router = self.add(router, path, methods);
        }
        let write = match shared.api.remote_write_receiver {
            true => on(MethodFilter::POST, remote::write),
            false => on(MethodFilter::POST, remote_write_is_off),
        };
        let write = write
            .on(MethodFilter::OPTIONS, || async { StatusCode::NO_CONTENT })
            .fallback(|| not_allowed("OPTIONS, POST"));
        self.add(router, "/api/v1/write", write)
    }
}

fn get<H: Handler<T, Shared>, T: 'static>(handler: H) -> MethodRouter<Shared> {
    methods(MethodFilter::GET, handler, "GET, OPTIONS")
}

fn get_post<H: Handler<T, Shared>, T: 'static>(handler: H) -> MethodRouter<Shared> {
    methods(MethodFilter::GET.or(MethodFilter::POST), handler, "GET, OPTIONS, POST")
}

fn post_put<H: Handler<T, Shared>, T: 'static>(handler: H) -> MethodRouter<Shared> {
    methods(MethodFilter::POST.or(MethodFilter::PUT), handler, "OPTIONS, POST, PUT")
}

fn methods<H: Handler<T, Shared>, T: 'static>(
    filter: MethodFilter,
    handler: H,
    allow: &'static str,
) -> MethodRouter<Shared> {
    on(filter, handler)
        .on(MethodFilter::OPTIONS, || async { StatusCode::NO_CONTENT })
        .fallback(move || not_allowed(allow))
}

async fn not_allowed(allow: &'static str) -> Response {
    let mut response = edge::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

async fn remote_write_is_off() -> Response {
    edge::text(
        StatusCode::NOT_FOUND,
        "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n",
    )
}

async fn not_found() -> Response {
    edge::text(StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}
