//! What tells callers what is served, and whether it is: `/apis`, the groups, `/version`, `/healthz` and its kin.
//!
//! The resources of a group's version are told by whoever answers for them.

use super::aggregated;
use super::attributes::{Attributes, Path};
use super::groups::Group;
use super::openapi;
use crate::kubeapi::status::Failure;
use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Whether a part is ready: its name, and why it is not.
pub type Ready = (&'static str, Result<(), String>);
/// Looks whether all parts are ready. Blocks on the store.
pub(super) type Readiness = Arc<dyn Fn() -> Vec<Ready> + Send + Sync>;

/// Whether anybody may ask, whoever they are: probes show nothing.
pub(super) fn is_open(path: &Path) -> bool {
    matches!(path.segments().as_slice(), ["healthz" | "livez" | "readyz"])
}

/// Whether everyone may ask who has shown who they are: what the role `system:discovery` grants to all of them.
pub(super) fn is_for_everyone(path: &Path, wanted: &Attributes) -> bool {
    matches!(wanted, Attributes::Path { verb, .. } if verb == "get")
        && matches!(
            path.segments().as_slice(),
            ["api" | "apis" | "openapi", ..] | ["version"]
        )
}

/// The routes, for these groups, beside those that answer for them.
pub(super) fn routes(groups: &[Group], ready: Readiness, of_groups: Router) -> Router {
    let list = json!({
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": groups.iter().map(|group| of(*group)).collect::<Vec<_>>(),
    });
    let (all, told) = (groups.to_vec(), of_groups.clone());
    let apis = async move |headers: HeaderMap| match aggregated::wanted(&headers) {
        Some(version) => aggregated::document(&all, &told, version).await,
        None => Json(list).into_response(),
    };
    let mut router = of_groups
        .merge(openapi::routes(groups))
        .route("/apis", get(apis))
        .route("/version", get(async || Json(version())))
        .route("/healthz", get(async || "ok"))
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz).with_state(ready));
    for group in groups {
        let mut told = of(*group);
        told["kind"] = "APIGroup".into();
        told["apiVersion"] = "v1".into();
        router = router.route(&format!("/apis/{}", group.name()), get(async move || Json(told)));
    }
    router
}

/// What is answered elsewhere.
pub(super) async fn elsewhere() -> Failure {
    Failure::no_path()
}

fn of(group: Group) -> Value {
    let name = group.name();
    let told = |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = group.versions().iter().map(told).collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn version() -> Value {
    let build = crate::api::BuildInfo::default();
    json!({
        "major": env!("CARGO_PKG_VERSION_MAJOR"),
        "minor": env!("CARGO_PKG_VERSION_MINOR"),
        "gitVersion": format!("v{}", build.product_version),
        "gitCommit": build.revision,
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": build.compiler,
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// As API servers tell it: all checks with `verbose` or if one fails.
async fn readyz(State(ready): State<Readiness>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let checks = match tokio::task::spawn_blocking(move || ready()).await {
        Ok(checks) => checks,
        Err(error) => vec![("checks", Err(error.to_string()))],
    };
    let failed = checks.iter().any(|(_, check)| check.is_err());
    if !failed && !asked.contains_key("verbose") {
        return "ok".into_response();
    }
    let mut text = String::new();
    for (name, check) in &checks {
        match check {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(why) => text.push_str(&format!("[-]{name} failed: {why}\n")),
        }
    }
    let (status, last) = match failed {
        true => (StatusCode::SERVICE_UNAVAILABLE, "readyz check failed\n"),
        false => (StatusCode::OK, "readyz check passed\n"),
    };
    (status, text + last).into_response()
}
