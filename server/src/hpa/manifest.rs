//! Manifests of autoscalers: YAML or JSON, one or several documents, lists as the API gives them.
//!
//! autoscaling/v2 is read as it is, v2beta2 is the same under another name, v1 and v2beta1 say the same in other words as
//! far as they can say it. Whatever else stands in a file is refused by name.

use super::older::{SpecV1, SpecV2beta1};
use super::quantity::Quantity;
use super::spec::{
    Behavior, Hpa, LabelSelector, Metric, MetricId, ObjectRef, Operator, Policy, PolicyKind, Requirement, Rules,
    Select, Source, Target,
};
use serde::Deserialize;
use serde_yaml_ng::Value;
use std::collections::BTreeMap;

/// A manifest larger than this is none that anybody wrote.
pub const MAX_BYTES: usize = 1 << 20;
/// The longest that a policy may look back, in seconds; the API server's bound.
const MAX_PERIOD_SECONDS: i32 = 1800;
/// The longest that a recommendation may hold, in seconds; the API server's bound.
const MAX_WINDOW_SECONDS: i32 = 3600;
/// What v1 keeps of later versions in annotations begins with this.
const KEPT_IN_ANNOTATIONS: &str = "autoscaling.alpha.kubernetes.io/";

/// A manifest that is no autoscaler, or not one that Kubernetes would take.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_BYTES`].
    #[error("the manifest has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Neither YAML nor JSON.
    #[error("document {document} is not YAML")]
    Syntax {
        /// Which, from 1.
        document: usize,
        /// What is wrong with it.
        source: serde_yaml_ng::Error,
    },
    /// Something else.
    #[error("document {document} is {what}, not a HorizontalPodAutoscaler")]
    Kind {
        /// Which, from 1.
        document: usize,
        /// What it is.
        what: String,
    },
    /// Of a version that is not known.
    #[error("{name} is of {version}: known are autoscaling/v2, v2beta2, v2beta1 and v1")]
    Version {
        /// Which.
        name: String,
        /// Its version.
        version: String,
    },
    /// It does not say what an autoscaler must say, or says too much.
    #[error("{name}: {why}")]
    Invalid {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is nothing in it.
    #[error("there is no HorizontalPodAutoscaler in it")]
    Empty,
}

/// Reads all autoscalers of a text; at least one.
///
/// # Errors
/// [`ManifestError`] names the document or the autoscaler, and what is wrong with it.
pub fn read(text: &str) -> Result<Vec<Hpa>, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge);
    }
    let mut found = Vec::new();
    for (no, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let document_no = no + 1;
        let value = Value::deserialize(document).map_err(|source| ManifestError::Syntax {
            document: document_no,
            source,
        })?;
        if !value.is_null() {
            add(&mut found, value, None, document_no)?;
        }
    }
    if found.is_empty() {
        return Err(ManifestError::Empty);
    }
    Ok(found)
}

/// Reads one autoscaler as the API server gives it in autoscaling/v2, whether or not it says what it is.
///
/// # Errors
/// As [`read`].
pub fn read_object(json: &str) -> Result<Hpa, ManifestError> {
    if json.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge);
    }
    let value = serde_json::from_str::<Value>(json).map_err(|error| ManifestError::Syntax {
        document: 1,
        source: serde::de::Error::custom(error),
    })?;
    hpa(value, "autoscaling/v2")
}

/// Adds what an object is: an autoscaler, or a list of them. What is in a list need not say what it is.
fn add(found: &mut Vec<Hpa>, value: Value, listed: Option<&str>, document: usize) -> Result<(), ManifestError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let (kind, version) = (text("kind"), text("apiVersion"));
    let is_list = listed.is_none()
        && kind
            .as_deref()
            .is_some_and(|k| k == "List" || k == "HorizontalPodAutoscalerList");
    if is_list {
        let inherited = version.as_deref().filter(|v| v.starts_with("autoscaling/"));
        let Value::Mapping(mut list) = value else {
            return Ok(());
        };
        let Some(Value::Sequence(items)) = list.remove("items") else {
            return Ok(());
        };
        return items
            .into_iter()
            .try_for_each(|item| add(found, item, Some(inherited.unwrap_or_default()), document));
    }
    let is_hpa = match &kind {
        Some(kind) => kind == "HorizontalPodAutoscaler",
        None => listed.is_some_and(|version| !version.is_empty()),
    };
    if !is_hpa {
        let what = match (kind, version) {
            (Some(kind), Some(version)) => format!("a {kind} of {version}"),
            (Some(kind), None) => format!("a {kind}"),
            (None, _) => "without a kind".to_owned(),
        };
        return Err(ManifestError::Kind { document, what });
    }
    let version = version.or(listed.map(str::to_owned)).unwrap_or_default();
    found.push(hpa(value, &version)?);
    Ok(())
}

#[derive(Deserialize)]
struct Object<S> {
    #[serde(default)]
    metadata: Metadata,
    spec: S,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
}

/// Reads one autoscaler of a version.
fn hpa(value: Value, version: &str) -> Result<Hpa, ManifestError> {
    let metadata = value.get("metadata").cloned().unwrap_or_default();
    let metadata: Metadata = serde_yaml_ng::from_value(metadata).unwrap_or_default();
    let name = match metadata.name.as_str() {
        "" => "the HorizontalPodAutoscaler without a name",
        name => name,
    };
    let name = name.to_owned();
    let invalid = |why: String| ManifestError::Invalid {
        name: name.clone(),
        why,
    };
    let unread = |e: serde_yaml_ng::Error| invalid(e.to_string());
    let kept = metadata
        .annotations
        .keys()
        .find(|key| key.starts_with(KEPT_IN_ANNOTATIONS));
    let spec = match version {
        "autoscaling/v2" | "autoscaling/v2beta2" => {
            serde_yaml_ng::from_value::<Object<Spec>>(value).map(|o| (o.metadata, o.spec))
        }
        "autoscaling/v2beta1" => {
            let object = serde_yaml_ng::from_value::<Object<SpecV2beta1>>(value).map_err(unread)?;
            Ok((object.metadata, object.spec.into_v2().map_err(invalid)?))
        }
        "autoscaling/v1" => {
            if let Some(kept) = kept {
                return Err(invalid(format!(
                    "the annotation {kept} holds what autoscaling/v1 cannot say; write it as autoscaling/v2"
                )));
            }
            serde_yaml_ng::from_value::<Object<SpecV1>>(value).map(|o| (o.metadata, o.spec.into_v2()))
        }
        _ => {
            let version = match version {
                "" => "no apiVersion".to_owned(),
                version => version.to_owned(),
            };
            return Err(ManifestError::Version { name, version });
        }
    };
    let (metadata, spec) = spec.map_err(unread)?;
    checked(metadata, spec).map_err(invalid)
}

/// The spec of v2, and of what is read as v2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    scale_target_ref: Reference,
    min_replicas: Option<i32>,
    max_replicas: i32,
    metrics: Option<Vec<MetricV2>>,
    behavior: Option<RawBehavior>,
}

impl Spec {
    /// One without a behaviour.
    pub(super) fn new(target: Reference, min: Option<i32>, max: i32, metrics: Option<Vec<MetricV2>>) -> Self {
        Self {
            scale_target_ref: target,
            min_replicas: min,
            max_replicas: max,
            metrics,
            behavior: None,
        }
    }
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Reference {
    #[serde(default)]
    api_version: String,
    kind: String,
    name: String,
}

impl From<Reference> for ObjectRef {
    fn from(reference: Reference) -> Self {
        Self {
            api_version: reference.api_version,
            kind: reference.kind,
            name: reference.name,
        }
    }
}

/// A number, in quotes or not.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub(super) enum Amount {
    Text(String),
    Whole(i64),
    Float(f64),
}

impl Amount {
    fn read(&self, what: &str) -> Result<Quantity, String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
        };
        text.parse().map_err(|e| format!("{what}: {e}"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MetricV2 {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) resource: Option<ResourceV2>,
    pub(super) container_resource: Option<ResourceV2>,
    pub(super) pods: Option<NamedV2>,
    pub(super) object: Option<NamedV2>,
    pub(super) external: Option<NamedV2>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResourceV2 {
    pub(super) name: String,
    pub(super) container: Option<String>,
    pub(super) target: RawTarget,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NamedV2 {
    pub(super) metric: Identifier,
    pub(super) described_object: Option<Reference>,
    pub(super) target: RawTarget,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identifier {
    pub(super) name: String,
    pub(super) selector: Option<RawSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawTarget {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: Option<Amount>,
    pub(super) average_value: Option<Amount>,
    pub(super) average_utilization: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSelector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<RawRequirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequirement {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawBehavior {
    scale_up: Option<RawRules>,
    scale_down: Option<RawRules>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRules {
    stabilization_window_seconds: Option<i32>,
    select_policy: Option<String>,
    policies: Option<Vec<RawPolicy>>,
    tolerance: Option<Amount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPolicy {
    #[serde(rename = "type")]
    kind: String,
    value: i32,
    period_seconds: i32,
}

/// Checks as the API server does, and fills in what is left out.
fn checked(metadata: Metadata, spec: Spec) -> Result<Hpa, String> {
    if metadata.name.is_empty() {
        return Err("metadata.name is missing".to_owned());
    }
    if spec.scale_target_ref.kind.is_empty() || spec.scale_target_ref.name.is_empty() {
        return Err("spec.scaleTargetRef needs a kind and a name".to_owned());
    }
    let metrics = match spec.metrics {
        Some(metrics) if !metrics.is_empty() => metrics.into_iter().map(metric).collect::<Result<_, _>>()?,
        _ => vec![Metric {
            source: Source::Resource { name: "cpu".to_owned() },
            target: Target::Utilization(80),
        }],
    };
    let hpa = Hpa {
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_owned()),
        name: metadata.name,
        target: spec.scale_target_ref.into(),
        min_replicas: spec.min_replicas.unwrap_or(1),
        max_replicas: spec.max_replicas,
        metrics,
        behavior: spec.behavior.map(behavior).transpose()?,
    };
    if hpa.max_replicas < 1 {
        return Err(format!("spec.maxReplicas: {} is below 1", hpa.max_replicas));
    }
    if hpa.min_replicas < 0 || (hpa.min_replicas == 0 && !hpa.can_leave_zero()) {
        return Err(format!(
            "spec.minReplicas: {} needs to be 1 or more, or 0 beside an Object or External metric",
            hpa.min_replicas
        ));
    }
    if hpa.min_replicas > hpa.max_replicas {
        return Err(format!(
            "spec.maxReplicas: {} is below minReplicas, {}",
            hpa.max_replicas, hpa.min_replicas
        ));
    }
    Ok(hpa)
}

fn metric(raw: MetricV2) -> Result<Metric, String> {
    let MetricV2 {
        kind,
        resource,
        container_resource,
        pods,
        object,
        external,
    } = raw;
    let filled = [
        resource.is_some(),
        container_resource.is_some(),
        pods.is_some(),
        object.is_some(),
        external.is_some(),
    ];
    if filled.into_iter().filter(|is| *is).count() > 1 {
        return Err(format!("a metric of type {kind} describes more than one source"));
    }
    let missing = || format!("a metric of type {kind} does not describe its source");
    let (source, raw) = match kind.as_str() {
        "Resource" => {
            let one = resource.ok_or_else(missing)?;
            if one.container.is_some() {
                return Err("resource.container: is of type ContainerResource".to_owned());
            }
            (Source::Resource { name: one.name }, one.target)
        }
        "ContainerResource" => {
            let one = container_resource.ok_or_else(missing)?;
            let container = one.container.ok_or("containerResource.container is missing")?;
            (
                Source::ContainerResource {
                    name: one.name,
                    container,
                },
                one.target,
            )
        }
        "Pods" => {
            let (metric, target, _) = named(pods.ok_or_else(missing)?)?;
            (Source::Pods { metric }, target)
        }
        "Object" => {
            let (metric, target, object) = named(object.ok_or_else(missing)?)?;
            let object = object.ok_or("object.describedObject is missing")?;
            (Source::Object { metric, object }, target)
        }
        "External" => {
            let (metric, target, _) = named(external.ok_or_else(missing)?)?;
            (Source::External { metric }, target)
        }
        other => return Err(format!("unknown metric source type {other:?}")),
    };
    let target = target(&source, &raw)?;
    Ok(Metric { source, target })
}

fn named(raw: NamedV2) -> Result<(MetricId, RawTarget, Option<ObjectRef>), String> {
    let selector = raw.metric.selector.map(selector).transpose()?;
    let metric = MetricId {
        name: raw.metric.name,
        selector,
    };
    if metric.name.is_empty() {
        return Err("a metric needs a name".to_owned());
    }
    Ok((metric, raw.target, raw.described_object.map(ObjectRef::from)))
}

/// The target that goes with a source, above zero. The controller looks at what is given rather than at the type.
fn target(source: &Source, raw: &RawTarget) -> Result<Target, String> {
    let above_zero = |amount: &Amount, what: &str| {
        let amount = amount.read(what)?;
        match amount.is_positive() {
            true => Ok(amount),
            false => Err(format!("{what}: {amount} is not above zero")),
        }
    };
    let is_resource = matches!(source, Source::Resource { .. } | Source::ContainerResource { .. });
    let (value, average, percent) = (&raw.value, &raw.average_value, raw.average_utilization);
    let given = [value.is_some(), average.is_some(), percent.is_some()];
    if given.into_iter().filter(|is| *is).count() > 1 {
        return Err("a target has one of value, averageValue and averageUtilization".to_owned());
    }
    match (raw.kind.as_str(), value, average, percent) {
        ("Utilization", None, None, Some(percent)) if is_resource => match percent {
            1.. => Ok(Target::Utilization(percent)),
            _ => Err(format!("target.averageUtilization: {percent} is not above zero")),
        },
        ("AverageValue", None, Some(average), None) => {
            above_zero(average, "target.averageValue").map(Target::AverageValue)
        }
        ("Value", Some(value), None, None) if matches!(source, Source::Object { .. } | Source::External { .. }) => {
            above_zero(value, "target.value").map(Target::Value)
        }
        (kind, ..) => Err(format!(
            "target of type {kind:?} does not fit: Resource and ContainerResource take Utilization with \
             averageUtilization or AverageValue with averageValue, Pods take AverageValue, Object and External take \
             AverageValue or Value with value"
        )),
    }
}

fn selector(raw: RawSelector) -> Result<LabelSelector, String> {
    let expressions = raw.match_expressions.into_iter().map(|raw| {
        let operator = match raw.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(format!("selector: unknown operator {other:?}")),
        };
        let wants_values = matches!(operator, Operator::In | Operator::NotIn);
        if wants_values == raw.values.is_empty() {
            return Err(format!("selector: the values of {:?} do not fit its operator", raw.key));
        }
        Ok(Requirement {
            key: raw.key,
            operator,
            values: raw.values,
        })
    });
    Ok(LabelSelector {
        labels: raw.match_labels,
        expressions: expressions.collect::<Result<_, _>>()?,
    })
}

fn behavior(raw: RawBehavior) -> Result<Behavior, String> {
    let rules = |raw: Option<RawRules>, name: &str, defaults: Rules| match raw {
        Some(raw) => rules(raw, defaults).map_err(|why| format!("behavior.{name}: {why}")),
        None => Ok(defaults),
    };
    Ok(Behavior {
        up: rules(raw.scale_up, "scaleUp", Rules::up())?,
        down: rules(raw.scale_down, "scaleDown", Rules::down())?,
    })
}

fn rules(raw: RawRules, defaults: Rules) -> Result<Rules, String> {
    if let Some(window) = raw.stabilization_window_seconds
        && !(0..=MAX_WINDOW_SECONDS).contains(&window)
    {
        return Err(format!(
            "stabilizationWindowSeconds: {window} is not within 0 and {MAX_WINDOW_SECONDS}"
        ));
    }
    let select = match raw.select_policy.as_deref() {
        None => defaults.select,
        Some("Max") => Select::Max,
        Some("Min") => Select::Min,
        Some("Disabled") => Select::Disabled,
        Some(other) => return Err(format!("selectPolicy: {other:?} is not one of Max, Min and Disabled")),
    };
    let policies = match raw.policies {
        None => defaults.policies,
        Some(policies) if policies.is_empty() => return Err("policies: at least one is needed".to_owned()),
        Some(policies) => policies.iter().map(policy).collect::<Result<_, _>>()?,
    };
    let tolerance = raw.tolerance.map(|amount| amount.read("tolerance")).transpose()?;
    if tolerance.is_some_and(Quantity::is_negative) {
        return Err("tolerance: is below zero".to_owned());
    }
    Ok(Rules {
        window_seconds: raw.stabilization_window_seconds.or(defaults.window_seconds),
        select,
        policies,
        tolerance: tolerance.map(Quantity::approximate),
    })
}

fn policy(raw: &RawPolicy) -> Result<Policy, String> {
    let kind = match raw.kind.as_str() {
        "Pods" => PolicyKind::Pods,
        "Percent" => PolicyKind::Percent,
        other => return Err(format!("policies: {other:?} is not one of Pods and Percent")),
    };
    if raw.value < 1 {
        return Err(format!("policies: a value of {} is not above zero", raw.value));
    }
    if !(1..=MAX_PERIOD_SECONDS).contains(&raw.period_seconds) {
        return Err(format!(
            "policies: periodSeconds: {} is not within 1 and {MAX_PERIOD_SECONDS}",
            raw.period_seconds
        ));
    }
    Ok(Policy {
        kind,
        value: raw.value,
        period_seconds: raw.period_seconds,
    })
}

#[cfg(test)]
mod tests;
