//! Tells the cluster where the groups are answered: its `APIService` objects, and whom it is to believe there.
//!
//! An object that leads to another Service is somebody else's and stays as it is: a group has one owner in a cluster, and
//! who that is, is decided by people.

use super::certificates::Certificates;
use super::groups::Group;
use crate::api::Listing;
use axum::http::Method;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::MetricKind;
use tidegauge_scraper::{Call, Cluster};

/// How often the objects are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Who applies the fields.
const MANAGER: &str = "tidegauge";
const NAME: &str = "tidegauge-metrics-api";
const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// The Service that leads to the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let inner = name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            inner && !name.is_empty() && name.len() <= 63 && !name.starts_with('-') && !name.ends_with('-')
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err("NAMESPACE/NAME is expected, both of small letters, digits and dashes".to_owned()),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Service {
    /// The usual one of a namespace.
    pub fn usual(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: NAME.to_owned(),
        }
    }

    /// The given one, or the usual one in the namespace of this process's pod.
    pub(super) fn or_default(given: Option<&Self>, cluster: &Cluster, needed: bool) -> Result<Self, String> {
        match (given, cluster.own_namespace()) {
            (Some(given), _) => Ok(given.clone()),
            (None, Ok(namespace)) => Ok(Self::usual(&namespace)),
            (None, Err(why)) if needed => Err(format!(
                "--kubernetes.api.register outside of a pod needs --kubernetes.api.service ({why})"
            )),
            // Where deploy/ puts it.
            (None, Err(_)) => Ok(Self::usual("tidegauge")),
        }
    }

    /// What the certificate is for.
    pub(super) fn names(&self) -> Vec<String> {
        let Self { namespace, name } = self;
        vec![
            // By this one the aggregator asks.
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}"),
            name.clone(),
            "localhost".to_owned(),
        ]
    }
}

/// The objects for these groups, in the order in which they are told. `bundle` is what callers are to trust, in PEM.
pub fn manifests(service: &Service, groups: &[Group], bundle: Option<&str>) -> Vec<Value> {
    let versions = groups.iter().flat_map(|group| {
        let versions = group.versions().iter().rev().enumerate();
        versions.map(|(place, version)| (*group, *version, 100 * (place + 1)))
    });
    let object = |(group, version, priority): (Group, &str, usize)| {
        let mut spec = json!({
            "group": group.name(),
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": priority,
            "service": {"namespace": service.namespace, "name": service.name, "port": 443},
        });
        if let Some(bundle) = bundle {
            spec["caBundle"] = BASE64_STANDARD.encode(bundle).into();
        }
        json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {
                "name": format!("{version}.{}", group.name()),
                "labels": {"app.kubernetes.io/name": "tidegauge"},
            },
            "spec": spec,
        })
    };
    versions.map(object).collect()
}

/// Keeps the objects in step.
#[derive(Debug)]
pub(super) struct Registrar {
    pub(super) cluster: Cluster,
    pub(super) service: Service,
    pub(super) groups: Vec<Group>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) registered: Arc<Registered>,
}

/// How it stands with each object: what is wrong, if anything is.
#[derive(Debug, Default)]
pub(super) struct Registered(Mutex<BTreeMap<String, Option<String>>>);

impl Registered {
    /// Notes how it went, and tells what is new.
    fn note(&self, name: &str, done: Result<Done, String>) {
        let mut all = self.0.lock();
        let before = all.get(name);
        match &done {
            Ok(Done::Applied) => {
                tracing::info!(apiservice = name, "told the cluster that its metrics are answered here");
            }
            Err(why) if before != Some(&Some(why.clone())) => {
                tracing::warn!(
                    apiservice = name,
                    why,
                    "the cluster is not told that these metrics are answered here"
                );
            }
            Ok(Done::Same) | Err(_) => {}
        }
        all.insert(name.to_owned(), done.err());
    }

    /// For `/metrics`.
    pub(super) fn list(&self) -> Vec<Listing> {
        let all = self.0.lock();
        let rows = all.iter().map(|(name, problem)| {
            let labels = vec![("apiservice", name.clone())];
            (labels, f64::from(u8::from(problem.is_none())))
        });
        vec![(
            "tidegauge_kubernetes_api_registered",
            "Whether an APIService object leads to this process's Service, as --kubernetes.api.register wants it.",
            MetricKind::Gauge,
            rows.collect(),
        )]
    }
}

/// What was done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Applied,
    /// Nothing: it is as it should be.
    Same,
}

impl Registrar {
    /// Looks at the objects again and again.
    pub(super) async fn run(self) {
        loop {
            let bundle = self.certificates.current().await.bundle.clone();
            for wanted in manifests(&self.service, &self.groups, bundle.as_deref()) {
                let name = text(&wanted["metadata"]["name"]).to_owned();
                self.registered.note(&name, self.keep(&name, wanted).await);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes an object what it should be, unless it is somebody else's.
    async fn keep(&self, name: &str, wanted: Value) -> Result<Done, String> {
        let reply = self
            .call(Call::get(format!("{PATH}/{name}")), "get", name, &[200, 404])
            .await?;
        let there = (reply.0 == 200).then_some(reply.1);
        let Some(apply) = change(&self.service, there.as_ref(), wanted)? else {
            return Ok(Done::Same);
        };
        let force = there.is_some();
        let call = Call {
            method: Method::PATCH,
            path: format!("{PATH}/{name}?fieldManager={MANAGER}&force={force}"),
            body: Some(("application/apply-patch+yaml", apply.to_string().into())),
        };
        self.call(call, "patch", name, &[200, 201]).await?;
        Ok(Done::Applied)
    }

    async fn call(&self, call: Call, verb: &str, name: &str, good: &[u16]) -> Result<(u16, Value), String> {
        let reply = self
            .cluster
            .call(call)
            .await
            .map_err(|e| format!("cannot {verb} it: {e}"))?;
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if good.contains(&reply.status) {
            return Ok((reply.status, body));
        }
        let told: String = text(&body["message"]).chars().take(300).collect();
        let mut why = format!("cannot {verb} it: the API server answered {}: {told}", reply.status);
        if matches!(reply.status, 401 | 403) {
            why.push_str(&format!(
                "; a ClusterRole bound to us must allow the verbs \"get\", \"create\" and \"patch\" on the resource \
                 \"apiservices\" of the API group \"apiregistration.k8s.io\" ({name})"
            ));
        }
        Err(why)
    }
}

/// What is to be applied, if anything is.
fn change(service: &Service, there: Option<&Value>, mut wanted: Value) -> Result<Option<Value>, String> {
    let Some(there) = there else {
        return Ok(Some(wanted));
    };
    let (has, wants) = (&there["spec"], &wanted["spec"]);
    let leads = &has["service"];
    if (&leads["namespace"], &leads["name"]) != (&wants["service"]["namespace"], &wants["service"]["name"]) {
        let to = match leads {
            Value::Null => "the API server itself".to_owned(),
            leads => format!("the Service {}/{}", text(&leads["namespace"]), text(&leads["name"])),
        };
        return Err(format!(
            "it leads to {to}, which answers for the group; to have {service} answer, delete the APIService, or leave the \
             group out of --kubernetes.api.groups"
        ));
    }
    let insecure = has["insecureSkipTLSVerify"] == true && !wants["caBundle"].is_null();
    let wants_more = wants
        .as_object()
        .is_some_and(|wants| wants.iter().any(|(key, value)| has[key] != *value));
    if !insecure && !wants_more {
        return Ok(None);
    }
    if insecure {
        wanted["spec"]["insecureSkipTLSVerify"] = false.into();
    }
    // Whoever changes it meanwhile makes this fail, and it is looked at again.
    wanted["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
    Ok(Some(wanted))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        "monitoring/tidegauge".parse().unwrap()
    }

    fn of_metrics(bundle: Option<&str>) -> Value {
        manifests(&service(), &[Group::Metrics], bundle).remove(0)
    }

    #[test]
    fn a_service_is_named_by_namespace_and_name() {
        assert_eq!(service().to_string(), "monitoring/tidegauge");
        assert!(service().names().contains(&"tidegauge.monitoring.svc".to_owned()));
        for bad in ["", "a", "a/", "/b", "a/b/c", "A/b", "a/-b", "a/b."] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
    }

    #[test]
    fn there_is_an_object_for_each_version_and_the_preferred_one_comes_first() {
        let all = manifests(&service(), &Group::ALL, Some("PEM"));
        let told: Vec<(&str, u64)> = all
            .iter()
            .map(|one| {
                (
                    text(&one["metadata"]["name"]),
                    one["spec"]["versionPriority"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("v1beta1.metrics.k8s.io", 100),
                ("v1beta1.custom.metrics.k8s.io", 100),
                ("v1beta2.custom.metrics.k8s.io", 200),
                ("v1beta1.external.metrics.k8s.io", 100),
            ]
        );
        assert_eq!(all[0]["spec"]["caBundle"], "UEVN");
        assert!(of_metrics(None)["spec"]["caBundle"].is_null());
    }

    #[test]
    fn an_object_is_changed_only_if_it_is_ours_and_another() {
        let wanted = of_metrics(Some("PEM"));
        let change = |there: Option<&Value>| change(&service(), there, wanted.clone());
        assert_eq!(change(None), Ok(Some(wanted.clone())));
        let mut there = wanted.clone();
        there["metadata"]["resourceVersion"] = "7".into();
        there["spec"]["further"] = 1.into();
        assert_eq!(change(Some(&there)), Ok(None));
        there["spec"]["caBundle"] = "b2xk".into();
        let applied = change(Some(&there)).unwrap().unwrap();
        assert_eq!(
            (&applied["metadata"]["resourceVersion"], &applied["spec"]),
            (&"7".into(), &wanted["spec"])
        );
        there["spec"]["caBundle"] = Value::Null;
        there["spec"]["insecureSkipTLSVerify"] = true.into();
        assert_eq!(
            change(Some(&there)).unwrap().unwrap()["spec"]["insecureSkipTLSVerify"],
            false
        );
        there["spec"]["service"]["name"] = "metrics-server".into();
        let why = change(Some(&there)).unwrap_err();
        assert!(why.contains("leads to the Service monitoring/metrics-server"), "{why}");
        there["spec"]["service"] = Value::Null;
        assert!(change(Some(&there)).unwrap_err().contains("the API server itself"));
    }
}
