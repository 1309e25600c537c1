//! Which path goes to which handler.

use super::shared::Shared;
use super::{admin, autoscalers, explain, hpa, lifecycle, profile, query, rules, series, status, targets};
use crate::http::{compress, cors, edge};
use crate::{remote, ui};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
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
        .api(shared)
        .merge(at.compressed())
        .merge(at.plain(shared))
        .fallback(elsewhere)
        .layer(from_fn_with_state(edge.clone(), edge::guard))
        .layer(DefaultBodyLimit::disable());
    if !edge.prefix.is_empty() {
        router = router.route("/", any(ui::to_prefix));
    }
    router.with_state(shared.clone())
}

/// A path below the prefix: by which methods it is asked, in the words of the header `Allow`, and what answers.
struct Route {
    path: &'static str,
    allow: &'static str,
    answer: MethodRouter<Shared>,
}

/// Every path below the prefix, with the methods it is asked by. `{name}` in a path stands for one segment.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    let tables = [api(), large(), short(Receiver::On)];
    let routes = tables.into_iter().flatten();
    routes.map(|route| (route.path, route.allow)).collect()
}

/// Whether remote write is taken.
#[derive(Clone, Copy)]
enum Receiver {
    On,
    Off,
}

/// Puts routes below the prefix.
struct Paths<'a>(&'a str);

impl Paths<'_> {
    fn add(&self, routes: Vec<Route>) -> Router<Shared> {
        routes.into_iter().fold(Router::new(), |router, route| {
            router.route(&format!("{}{}", self.0, route.path), route.answer)
        })
    }

    /// What upstream wraps with its cross-origin headers.
    fn api(&self, shared: &Shared) -> Router<Shared> {
        self.add(api())
            .layer(compress::layer())
            .route_layer(from_fn_with_state(shared.api.cors_origin.clone(), cors::add))
    }

    /// Large texts for people and scrapers.
    fn compressed(&self) -> Router<Shared> {
        let mut router = self.add(large());
        if !self.0.is_empty() {
            router = router.route(self.0, any(ui::to_prefix));
        }
        router.layer(compress::layer())
    }

    /// Short answers, sent as they are.
    fn plain(&self, shared: &Shared) -> Router<Shared> {
        self.add(short(match shared.api.remote_write_receiver {
            true => Receiver::On,
            false => Receiver::Off,
        }))
    }
}

fn api() -> Vec<Route> {
    vec![
        get_post("/api/v1/query", query::instant),
        get_post("/api/v1/query_range", query::range),
        get_post("/api/v1/query_exemplars", query::exemplars),
        get_post("/api/v1/format_query", query::format),
        get_post("/api/v1/parse_query", query::tree),
        get_post("/api/v1/explain", explain::explain),
        get("/api/v1/hpa", autoscalers::list),
        get("/api/v1/hpa/{namespace}/{name}/explain", autoscalers::explain),
        get_post("/api/v1/hpa/explain", autoscalers::explain_manifest),
        post("/api/v1/hpa/backtest", hpa::backtest),
        get("/api/v1/hpa/metrics", hpa::metrics),
        get_post("/api/v1/series", series::series),
        get_post("/api/v1/labels", series::names),
        get("/api/v1/label/{name}/values", series::values),
        get("/api/v1/scrape_pools", targets::pools),
        get("/api/v1/targets", targets::targets),
        get("/api/v1/targets/metadata", targets::target_metadata),
        get("/api/v1/targets/relabel_steps", targets::relabel_steps),
        get("/api/v1/metadata", targets::metadata),
        get("/api/v1/rules", rules::rules),
        get("/api/v1/alerts", rules::alerts),
        get("/api/v1/alertmanagers", rules::alertmanagers),
        get("/api/v1/notifications", rules::notifications),
        get("/api/v1/status/config", status::config),
        get("/api/v1/status/flags", status::flags),
        get("/api/v1/status/runtimeinfo", status::runtime_info),
        get("/api/v1/status/buildinfo", status::build_info),
        get("/api/v1/status/discovery", targets::discovery),
        get("/api/v1/status/tsdb", status::tsdb),
        get("/api/v1/status/walreplay", status::wal_replay),
        post_put("/api/v1/admin/tsdb/delete_series", admin::delete_series),
        post_put("/api/v1/admin/tsdb/clean_tombstones", admin::clean_tombstones),
        post_put("/api/v1/admin/tsdb/snapshot", admin::snapshot),
    ]
}

fn large() -> Vec<Route> {
    let mut routes = vec![beside(
        "/metrics",
        MethodFilter::GET,
        lifecycle::metrics,
        "GET, OPTIONS",
    )];
    routes.extend(ui::routes().map(|(path, answer)| Route {
        path,
        allow: "GET",
        answer,
    }));
    routes
}

fn short(receiver: Receiver) -> Vec<Route> {
    let (get, health) = (MethodFilter::GET, "GET, HEAD, OPTIONS");
    let changes = get.or(MethodFilter::POST).or(MethodFilter::PUT);
    let change = "GET, OPTIONS, POST, PUT";
    vec![
        beside("/-/healthy", get, lifecycle::healthy, health),
        beside("/-/ready", get, lifecycle::ready, health),
        beside("/-/reload", changes, lifecycle::reload, change),
        beside("/-/quit", changes, lifecycle::quit, change),
        beside("/version", get, status::version, "GET, OPTIONS"),
        beside("/debug/pprof/profile", get, profile::cpu, "GET, OPTIONS"),
        beside("/debug/pprof/heap", get, profile::heap, "GET, OPTIONS"),
        match receiver {
            Receiver::On => write(remote::write),
            Receiver::Off => write(remote_write_is_off),
        },
    ]
}

fn get<H: Handler<T, Shared>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(path, MethodFilter::GET, handler, "GET, OPTIONS")
}

fn write<H: Handler<T, Shared>, T: 'static>(handler: H) -> Route {
    let allow = "OPTIONS, POST";
    let answer = on(MethodFilter::POST, handler)
        .on(MethodFilter::OPTIONS, may_ask)
        .fallback(move || not_allowed(allow));
    Route {
        path: "/api/v1/write",
        allow,
        answer,
    }
}

fn post<H: Handler<T, Shared>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(path, MethodFilter::POST, handler, "OPTIONS, POST")
}

fn get_post<H: Handler<T, Shared>, T: 'static>(path: &'static str, handler: H) -> Route {
    let either = MethodFilter::GET.or(MethodFilter::POST);
    route(path, either, handler, "GET, OPTIONS, POST")
}

fn post_put<H: Handler<T, Shared>, T: 'static>(path: &'static str, handler: H) -> Route {
    let either = MethodFilter::POST.or(MethodFilter::PUT);
    route(path, either, handler, "OPTIONS, POST, PUT")
}

fn route<H: Handler<T, Shared>, T: 'static>(
    path: &'static str,
    filter: MethodFilter,
    handler: H,
    allow: &'static str,
) -> Route {
    let answer = on(filter, handler)
        .on(MethodFilter::OPTIONS, || async { StatusCode::NO_CONTENT })
        // Else it would go where GET goes.
        .on(MethodFilter::HEAD, move || not_allowed(allow))
        .fallback(move || not_allowed(allow));
    Route { path, allow, answer }
}

/// The same beside `/api/v1`, where OPTIONS only tells what there is. HEAD goes where GET goes if `allow` names it.
fn beside<H: Handler<T, Shared>, T: 'static>(
    path: &'static str,
    filter: MethodFilter,
    handler: H,
    allow: &'static str,
) -> Route {
    let methods = on(filter, handler)
        .on(MethodFilter::OPTIONS, move || async move { [(header::ALLOW, allow)] })
        .fallback(move || not_allowed(allow));
    let answer = match allow.contains("HEAD") {
        true => methods,
        false => methods.on(MethodFilter::HEAD, move || not_allowed(allow)),
    };
    Route { path, allow, answer }
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

/// A browser asks beforehand, for whatever there may be below `/api/v1`.
async fn may_ask(State(shared): State<Shared>, request: Request) -> Response {
    let answer = |_| async { StatusCode::NO_CONTENT.into_response() };
    cors::around(&shared.api.cors_origin, request, answer).await
}

/// What no route leads to.
async fn elsewhere(shared: State<Shared>, request: Request) -> Response {
    let prefix = shared.api.external_url.path().trim_end_matches('/');
    let below = request.uri().path().strip_prefix(prefix);
    let in_api = below.is_some_and(|path| path.starts_with("/api/v1/"));
    if in_api && request.method() == Method::OPTIONS {
        return may_ask(shared, request).await;
    }
    edge::text(StatusCode::NOT_FOUND, "404 page not found\n")
}
