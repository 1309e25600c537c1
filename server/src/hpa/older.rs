//! Specs of autoscaling/v1 and v2beta1, turned into those of v2.

use super::manifest::{Amount, Identifier, MetricV2, NamedV2, RawSelector, RawTarget, Reference, ResourceV2, Spec};
use serde::Deserialize;

/// autoscaling/v1: cpu alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SpecV1 {
    scale_target_ref: Reference,
    min_replicas: Option<i32>,
    max_replicas: i32,
    #[serde(rename = "targetCPUUtilizationPercentage")]
    cpu: Option<i32>,
}

impl SpecV1 {
    pub(super) fn into_v2(self) -> Spec {
        let metrics = self.cpu.map(|percent| {
            let one = resource("cpu".to_owned(), None, percentage(percent));
            vec![MetricV2 {
                resource: Some(one),
                ..empty("Resource")
            }]
        });
        Spec::new(self.scale_target_ref, self.min_replicas, self.max_replicas, metrics)
    }
}

/// autoscaling/v2beta1: targets beside the names, no behaviour.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SpecV2beta1 {
    scale_target_ref: Reference,
    min_replicas: Option<i32>,
    max_replicas: i32,
    metrics: Option<Vec<MetricV2beta1>>,
}

impl SpecV2beta1 {
    pub(super) fn into_v2(self) -> Result<Spec, String> {
        let metrics = self
            .metrics
            .map(|metrics| metrics.into_iter().map(MetricV2beta1::into_v2).collect());
        let metrics: Option<Vec<MetricV2>> = metrics.transpose()?;
        Ok(Spec::new(
            self.scale_target_ref,
            self.min_replicas,
            self.max_replicas,
            metrics,
        ))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetricV2beta1 {
    #[serde(rename = "type")]
    kind: String,
    resource: Option<Resource>,
    container_resource: Option<Resource>,
    pods: Option<Pods>,
    object: Option<Object>,
    external: Option<External>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resource {
    name: String,
    container: Option<String>,
    target_average_utilization: Option<i32>,
    target_average_value: Option<Amount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pods {
    metric_name: String,
    target_average_value: Amount,
    selector: Option<RawSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Object {
    target: Reference,
    metric_name: String,
    target_value: Option<Amount>,
    selector: Option<RawSelector>,
    average_value: Option<Amount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct External {
    metric_name: String,
    metric_selector: Option<RawSelector>,
    target_value: Option<Amount>,
    target_average_value: Option<Amount>,
}

impl MetricV2beta1 {
    fn into_v2(self) -> Result<MetricV2, String> {
        let resources = |one: Resource| {
            let target = match (one.target_average_utilization, one.target_average_value) {
                (Some(percent), None) => percentage(percent),
                (None, Some(average)) => amount(None, Some(average)),
                _ => {
                    return Err(format!(
                        "resource {}: one of targetAverageUtilization and targetAverageValue is needed",
                        one.name
                    ));
                }
            };
            Ok(resource(one.name, one.container, target))
        };
        Ok(MetricV2 {
            resource: self.resource.map(resources).transpose()?,
            container_resource: self.container_resource.map(resources).transpose()?,
            pods: self.pods.map(|one| {
                let target = amount(None, Some(one.target_average_value));
                named(one.metric_name, one.selector, None, target)
            }),
            object: self.object.map(|one| {
                // Its value is there even where the average counts, and is zero then or means nothing.
                let target = match one.average_value {
                    Some(average) => amount(None, Some(average)),
                    None => amount(one.target_value, None),
                };
                named(one.metric_name, one.selector, Some(one.target), target)
            }),
            external: self.external.map(|one| {
                let target = match (one.target_value, one.target_average_value) {
                    (value @ Some(_), None) => amount(value, None),
                    (value, average) => RawTarget {
                        value,
                        ..amount(None, average)
                    },
                };
                named(one.metric_name, one.metric_selector, None, target)
            }),
            ..empty(&self.kind)
        })
    }
}

fn empty(kind: &str) -> MetricV2 {
    MetricV2 {
        kind: kind.to_owned(),
        resource: None,
        container_resource: None,
        pods: None,
        object: None,
        external: None,
    }
}

fn resource(name: String, container: Option<String>, target: RawTarget) -> ResourceV2 {
    ResourceV2 {
        name,
        container,
        target,
    }
}

fn named(name: String, selector: Option<RawSelector>, object: Option<Reference>, target: RawTarget) -> NamedV2 {
    NamedV2 {
        metric: Identifier { name, selector },
        described_object: object,
        target,
    }
}

fn percentage(percent: i32) -> RawTarget {
    RawTarget {
        kind: "Utilization".to_owned(),
        value: None,
        average_value: None,
        average_utilization: Some(percent),
    }
}

fn amount(value: Option<Amount>, average_value: Option<Amount>) -> RawTarget {
    let kind = if value.is_some() { "Value" } else { "AverageValue" };
    RawTarget {
        kind: kind.to_owned(),
        value,
        average_value,
        average_utilization: None,
    }
}
