//! The PromQL for what an autoscaler looks at, by the names that kubelets and kube-state-metrics give.

use super::Options;
use crate::hpa::spec::{Hpa, LabelSelector, Metric, Operator, Source, Target};
use std::fmt::Write as _;

/// The queries for one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queries {
    /// The total over all pods, or the value.
    pub(super) total: String,
    /// How many pods have a value; for metrics of pods, unless the query is given.
    pub(super) count: Option<String>,
    /// What one pod requests on average; for utilization, unless the amount is given.
    pub(super) request: Option<String>,
}

/// How many replicas there were: as kube-state-metrics says, and as many as used memory.
pub(super) fn replicas(hpa: &Hpa, options: &Options) -> Result<Vec<String>, String> {
    if let Some(query) = &options.replicas_query {
        return Ok(vec![query.clone()]);
    }
    let (namespace, name) = (quoted(&hpa.namespace), quoted(&hpa.target.name));
    let told = match hpa.target.kind.as_str() {
        "Deployment" => Some(("kube_deployment_spec_replicas", "deployment")),
        "StatefulSet" => Some(("kube_statefulset_replicas", "statefulset")),
        "ReplicaSet" => Some(("kube_replicaset_spec_replicas", "replicaset")),
        _ => None,
    };
    let told = told.map(|(metric, label)| format!("max({metric}{{namespace={namespace},{label}={name}}})"));
    let pods = pods(hpa, options).map(|pods| {
        format!(
            "count(count by (pod) (container_memory_working_set_bytes{{{pods},container!=\"\",container!=\"POD\"}}))"
        )
    });
    match (told, pods) {
        (Some(told), Ok(pods)) => Ok(vec![told, pods]),
        (Some(told), Err(_)) => Ok(vec![told]),
        (None, pods) => Ok(vec![pods?]),
    }
}

/// The queries for a metric.
pub(super) fn metric(hpa: &Hpa, metric: &Metric, options: &Options) -> Result<Queries, String> {
    let utilization = matches!(metric.target, Target::Utilization(_));
    let given = options.metric_queries.get(metric.name()).cloned();
    let fixed = options.requests.contains_key(metric.name());
    match &metric.source {
        Source::Resource { name } => resource(hpa, name, None, options, given, utilization && !fixed),
        Source::ContainerResource { name, container } => {
            resource(hpa, name, Some(container), options, given, utilization && !fixed)
        }
        Source::Pods { metric } => {
            if let Some(total) = given {
                return Ok(alone(total));
            }
            let mut within = format!("__name__={},{}", quoted(&metric.name), pods(hpa, options)?);
            matchers(metric.selector.as_ref(), &mut within);
            Ok(Queries {
                total: format!("sum({{{within}}})"),
                count: Some(format!("count(count by (pod) ({{{within}}}))")),
                request: None,
            })
        }
        Source::Object { metric, object } => {
            let mut within = format!("__name__={},namespace={}", quoted(&metric.name), quoted(&hpa.namespace));
            // A namespace is its own.
            if object.kind != "Namespace" {
                let _ = write!(within, ",{}={}", object.kind.to_lowercase(), quoted(&object.name));
            }
            matchers(metric.selector.as_ref(), &mut within);
            Ok(alone(given.unwrap_or_else(|| format!("{{{within}}}"))))
        }
        Source::External { metric } => {
            let mut within = format!("__name__={}", quoted(&metric.name));
            matchers(metric.selector.as_ref(), &mut within);
            Ok(alone(given.unwrap_or_else(|| format!("sum({{{within}}})"))))
        }
    }
}

fn alone(total: String) -> Queries {
    Queries {
        total,
        count: None,
        request: None,
    }
}

fn resource(
    hpa: &Hpa,
    name: &str,
    container: Option<&str>,
    options: &Options,
    given: Option<String>,
    needs_request: bool,
) -> Result<Queries, String> {
    let container = match container {
        Some(name) => format!("container={}", quoted(name)),
        // What a pod's group and its pause container use is in no container's account.
        None => "container!=\"\",container!=\"POD\"".to_owned(),
    };
    let request = match needs_request {
        false => None,
        true => {
            let requests = format!(
                "kube_pod_container_resource_requests{{{},{container},resource={}}}",
                pods(hpa, options)?,
                quoted(name)
            );
            Some(format!(
                "sum(max by (pod, container) ({requests})) / count(count by (pod) ({requests}))"
            ))
        }
    };
    if let Some(total) = given {
        return Ok(Queries {
            request,
            ..alone(total)
        });
    }
    let within = format!("{},{container}", pods(hpa, options)?);
    let each = match name {
        "cpu" => {
            let window = match options.rate_window_ms {
                ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
                ms => format!("{ms}ms"),
            };
            format!("rate(container_cpu_usage_seconds_total{{{within}}}[{window}])")
        }
        "memory" => format!("container_memory_working_set_bytes{{{within}}}"),
        other => {
            return Err(format!(
                "it is not known which series have the resource {other}: give a query for it"
            ));
        }
    };
    Ok(Queries {
        // Two jobs may scrape the same container.
        total: format!("sum(max by (pod, container) ({each}))"),
        count: Some(format!("count(count by (pod) ({each}))")),
        request,
    })
}

/// The matchers for the pods of the scaled object, by how their names are made.
fn pods(hpa: &Hpa, options: &Options) -> Result<String, String> {
    let name = escaped(&hpa.target.name);
    let pattern = match (&options.pods, hpa.target.kind.as_str()) {
        (Some(pattern), _) => pattern.clone(),
        (None, "Deployment") => format!("{name}-[a-z0-9]+-[a-z0-9]+"),
        (None, "ReplicaSet") => format!("{name}-[a-z0-9]+"),
        (None, "StatefulSet") => format!("{name}-[0-9]+"),
        (None, kind) => {
            return Err(format!(
                "it is not known how the pods of a {kind} are named: give a regular expression for them"
            ));
        }
    };
    Ok(format!(
        "namespace={},pod=~{}",
        quoted(&hpa.namespace),
        quoted(&pattern)
    ))
}

/// Adds the matchers that a selector stands for.
fn matchers(selector: Option<&LabelSelector>, out: &mut String) {
    let Some(selector) = selector else { return };
    for (label, value) in &selector.labels {
        let _ = write!(out, ",{}={}", label_name(label), quoted(value));
    }
    for one in &selector.expressions {
        let any: Vec<String> = one.values.iter().map(|value| escaped(value)).collect();
        let any = quoted(&any.join("|"));
        let label = label_name(&one.key);
        let _ = match one.operator {
            Operator::In => write!(out, ",{label}=~{any}"),
            Operator::NotIn => write!(out, ",{label}!~{any}"),
            Operator::Exists => write!(out, ",{label}!=\"\""),
            Operator::DoesNotExist => write!(out, ",{label}=\"\""),
        };
    }
}

/// Quoted where it is no plain name.
fn label_name(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if plain { name.to_owned() } else { quoted(name) }
}

/// A string literal of PromQL.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

/// A regular expression for just this text.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '-' | '_' | '/') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpa::tests::hpa;
    use tidegauge_model::Timestamp;

    #[test]
    fn each_kind_of_metric_has_its_query() {
        let hpa = hpa(
            "{scaleTargetRef: {kind: Deployment, name: web.x}, maxReplicas: 9, metrics: [
            {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}},
            {type: ContainerResource, containerResource: {name: memory, container: app, target: {type: AverageValue, averageValue: 1Gi}}},
            {type: Pods, pods: {metric: {name: rps, selector: {matchLabels: {a.b/c: 'x\"'}}}, target: {type: AverageValue, averageValue: 1}}},
            {type: Object, object: {metric: {name: hits}, describedObject: {kind: Ingress, name: main}, target: {type: Value, value: 1}}},
            {type: External, external: {metric: {name: q, selector: {matchExpressions: [{key: k, operator: In, values: [a.1, b]},
              {key: l, operator: Exists}]}}, target: {type: Value, value: 1}}}]}",
        );
        let options = Options::new(Timestamp::from_millis(0), Timestamp::from_millis(0));
        let all: Vec<Queries> = hpa.metrics.iter().map(|m| metric(&hpa, m, &options).unwrap()).collect();
        let pods = r#"namespace="default",pod=~"web\\.x-[a-z0-9]+-[a-z0-9]+""#;
        let cpu = format!(r#"rate(container_cpu_usage_seconds_total{{{pods},container!="",container!="POD"}}[120s])"#);
        assert_eq!(all[0].total, format!("sum(max by (pod, container) ({cpu}))"));
        assert_eq!(
            all[0].count.as_deref(),
            Some(format!("count(count by (pod) ({cpu}))").as_str())
        );
        assert!(all[0].request.as_deref().unwrap().contains(r#"resource="cpu"}"#));
        assert_eq!(
            all[1].total,
            format!(r#"sum(max by (pod, container) (container_memory_working_set_bytes{{{pods},container="app"}}))"#)
        );
        assert_eq!(all[1].request, None);
        assert_eq!(all[2].total, format!(r#"sum({{__name__="rps",{pods},"a.b/c"="x\""}})"#));
        assert_eq!(all[3].total, r#"{__name__="hits",namespace="default",ingress="main"}"#);
        assert_eq!(all[4].total, r#"sum({__name__="q",k=~"a\\.1|b",l!=""})"#);
        let asked = all
            .iter()
            .flat_map(|q| [Some(&q.total), q.count.as_ref(), q.request.as_ref()])
            .flatten();
        for query in asked.chain(&replicas(&hpa, &options).unwrap()) {
            tidegauge_query::parse(query, &tidegauge_query::ParseOptions::default()).expect(query);
        }
    }

    #[test]
    fn what_is_given_is_asked_instead() {
        let hpa = hpa("{scaleTargetRef: {kind: Rollout, name: web}, maxReplicas: 9, metrics: [
            {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}");
        let mut options = Options::new(Timestamp::from_millis(0), Timestamp::from_millis(0));
        let error = metric(&hpa, &hpa.metrics[0], &options).unwrap_err();
        assert!(error.contains("pods of a Rollout"), "{error}");
        options.metric_queries.insert("cpu".to_owned(), "vector(1)".to_owned());
        options.requests.insert("cpu".to_owned(), "200m".parse().unwrap());
        assert_eq!(
            metric(&hpa, &hpa.metrics[0], &options).unwrap(),
            alone("vector(1)".to_owned())
        );
        assert!(replicas(&hpa, &options).is_err());
        options.pods = Some("web-.*".to_owned());
        assert_eq!(replicas(&hpa, &options).unwrap().len(), 1);
    }
}
