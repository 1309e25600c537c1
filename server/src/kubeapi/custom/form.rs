//! The JSON of lists and values.

use super::super::adapter::{Known, Resource};
use super::super::resource::time;
use super::super::selector::{Selector, Test};
use super::Value;
use crate::hpa::quantity::{Format, Quantity};
use serde::{Serialize, Serializer};
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// The two forms of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1Beta1,
    V1Beta2,
}

impl Version {
    fn of_group(self) -> &'static str {
        match self {
            Self::V1Beta1 => "custom.metrics.k8s.io/v1beta1",
            Self::V1Beta2 => "custom.metrics.k8s.io/v1beta2",
        }
    }
}

/// Thousandths as a quantity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantified(pub(crate) i64);

impl Serialize for Quantified {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Quantity::from_milli(self.0, Format::Decimal))
    }
}

/// Which metrics there are.
pub(super) fn resources(version: Version, known: &Known) -> serde_json::Value {
    let entries: Vec<serde_json::Value> = known
        .custom
        .iter()
        .map(|((kind, name), metric)| {
            let namespaced = metric.resource.as_ref().is_none_or(|one| one.namespaced);
            entry(&format!("{kind}/{name}"), namespaced, "MetricValueList")
        })
        .collect();
    resource_list(version.of_group(), &entries)
}

/// A line of such a list.
pub(crate) fn entry(name: &str, namespaced: bool, kind: &str) -> serde_json::Value {
    json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get"]})
}

/// An APIResourceList.
pub(crate) fn resource_list(group_version: &str, entries: &[serde_json::Value]) -> serde_json::Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries})
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Map<String, serde_json::Value>,
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    described_object: Described<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<Identity<'a>>,
    timestamp: String,
    /// Of v1beta1, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<i64>,
    /// Of v1beta2.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<i64>,
    value: Quantified,
    /// Of v1beta1, where it is there without a value, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<&'a Option<LabelSelector>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    name: &'a str,
    api_version: &'a str,
}

#[derive(Serialize)]
struct Identity<'a> {
    name: &'a str,
    selector: &'a Option<LabelSelector>,
}

/// A selector as objects hold it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LabelSelector {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Serialize)]
struct Expression {
    key: String,
    operator: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

impl LabelSelector {
    fn of(selector: &Selector) -> Option<Self> {
        if selector.is_everything() {
            return None;
        }
        let mut all = Self {
            match_labels: BTreeMap::new(),
            match_expressions: Vec::new(),
        };
        for one in selector.requirements() {
            let (operator, values) = match &one.test {
                Test::In(values) => {
                    if let [value] = values.as_slice()
                        && !all.match_labels.contains_key(&one.key)
                    {
                        all.match_labels.insert(one.key.clone(), value.clone());
                        continue;
                    }
                    ("In", values.clone())
                }
                Test::NotIn(values) => ("NotIn", values.clone()),
                Test::Exists => ("Exists", Vec::new()),
                Test::Missing => ("DoesNotExist", Vec::new()),
                // No series are selected by these, so that there is no value to go with them.
                Test::Greater(_) | Test::Less(_) => continue,
            };
            all.match_expressions.push(Expression {
                key: one.key.clone(),
                operator,
                values,
            });
        }
        Some(all)
    }
}

/// The values of objects of one kind.
pub(super) fn list(
    version: Version,
    resource: &Resource,
    namespace: Option<&str>,
    metric: &str,
    selector: &Selector,
    values: &[Value],
) -> Vec<u8> {
    let selector = LabelSelector::of(selector);
    let api_version = resource.api_version();
    let items = values.iter().map(|value| {
        let window = value.window_ms.map(|window| window / 1000);
        let (v1, v2) = match version {
            Version::V1Beta1 => (true, false),
            Version::V1Beta2 => (false, true),
        };
        Item {
            described_object: Described {
                kind: &resource.kind,
                namespace,
                name: &value.object,
                api_version: &api_version,
            },
            metric_name: v1.then_some(metric),
            metric: v2.then_some(Identity {
                name: metric,
                selector: &selector,
            }),
            timestamp: time(value.at),
            window: window.filter(|_| v1),
            window_seconds: window.filter(|_| v2),
            value: Quantified(value.milli),
            selector: v1.then_some(&selector),
        }
    });
    let list = List {
        kind: "MetricValueList",
        api_version: version.of_group(),
        metadata: Map::new(),
        items: items.collect(),
    };
    serde_json::to_vec(&list).unwrap_or_default()
}
