//! A decision as JSON: the same steps as the text has, each number under a name of its own.

use super::{Lack, Told, filled, format, not_counted, rule, time};
use crate::hpa::behavior::{Limited, Stabilized};
use crate::hpa::condition::Condition;
use crate::hpa::decide::{Decision, Path};
use crate::hpa::formula::{Proposal, Tolerance};
use crate::hpa::pods::Grouped;
use crate::hpa::quantity::{Format, Quantity};
use crate::hpa::spec::{Metric, Source};
use crate::hpa::usage::{By, Usage};
use serde_json::{Value, json};
use std::sync::Arc;

/// The decision.
pub fn decision(decision: &Decision, told: Told<'_>) -> Value {
    let metrics = told.hpa.metrics.iter().zip(&decision.metrics).enumerate();
    let metrics: Vec<Value> = metrics
        .map(|(no, (metric, proposal))| self::metric(no, metric, proposal, told))
        .collect();
    let mut all = json!({
        "at": time(decision.at),
        "currentReplicas": decision.current,
        "desiredReplicas": decision.desired,
        "reason": decision.reason,
        "path": path(&decision.path),
        "error": error(&decision.path),
        "metrics": metrics,
        "conditions": decision.conditions.iter().map(condition).collect::<Vec<_>>(),
    });
    if let (
        Path::Metrics {
            proposed,
            by,
            stabilized,
            limited,
            ..
        },
        Value::Object(all),
    ) = (&decision.path, &mut all)
    {
        all.insert("proposed".to_owned(), json!({"replicas": proposed, "byMetric": by}));
        all.insert("stabilized".to_owned(), self::stabilized(stabilized));
        all.insert("limited".to_owned(), self::limited(limited, told));
    }
    all
}

/// How it got there, in one word.
fn path(path: &Path) -> &'static str {
    match path {
        Path::Disabled => "disabled",
        Path::AboveMax => "aboveMaxReplicas",
        Path::BelowMin => "belowMinReplicas",
        Path::Failed { .. } => "failed",
        Path::Metrics { .. } => "metrics",
    }
}

/// What failed, whether or not it kept it from changing.
pub fn error(path: &Path) -> Option<&str> {
    match path {
        Path::Failed { error } => Some(error),
        Path::Metrics { error, .. } => error.as_deref(),
        Path::Disabled | Path::AboveMax | Path::BelowMin => None,
    }
}

fn metric(no: usize, metric: &Metric, proposal: &Proposal, told: Told<'_>) -> Value {
    let query = told.queries.get(no);
    let lacks = told.missing.get(no).map_or(&[][..], Vec::as_slice);
    let (trace, format) = (&proposal.trace, format(metric));
    let tolerance = Tolerance::of(told.hpa, told.settings);
    let error = proposal
        .outcome
        .as_ref()
        .err()
        .map(|error| json!({"reason": error.reason, "message": error.event}));
    json!({
        "name": metric.description(),
        "type": kind(&metric.source),
        "target": metric.target.to_string(),
        "query": query.filter(|query| !query.is_empty()),
        "pods": trace.pods.as_ref().map(|pods| self::pods(pods, told.pods, lacks)),
        "readyPods": trace.ready,
        "missing": lacks.iter().map(|lack| json!({"pod": &*lack.pod, "why": lack.why})).collect::<Vec<_>>(),
        "strangers": trace.strangers,
        "value": trace.first.as_ref().map(|first| usage(first, format)),
        "tolerance": {"down": tolerance.down, "up": tolerance.up},
        "withinTolerance": trace.first.map(|first| tolerance.has(first.ratio)),
        "assumed": trace.second.map(|_| filled(trace.filled)),
        "assumedValue": trace.second.as_ref().map(|second| usage(second, format)),
        "rule": proposal.outcome.is_ok().then(|| rule(trace.rule)),
        "replicas": proposal.outcome.as_ref().ok(),
        "error": error,
    })
}

/// The type of a metric's source, as the spec has it.
pub fn kind(source: &Source) -> &'static str {
    match source {
        Source::Resource { .. } => "Resource",
        Source::ContainerResource { .. } => "ContainerResource",
        Source::Pods { .. } => "Pods",
        Source::Object { .. } => "Object",
        Source::External { .. } => "External",
    }
}

fn pods(pods: &Grouped, names: &[Arc<str>], lacks: &[Lack]) -> Value {
    let others = not_counted(pods, names, lacks);
    let others = others.iter().map(|(name, why)| json!({"pod": name, "why": why}));
    json!({
        "matched": pods.places.len(),
        "counted": pods.counted,
        "missing": pods.missing,
        "unready": pods.unready,
        "ignored": pods.ignored,
        "notCounted": others.collect::<Vec<_>>(),
    })
}

/// What is used over what should be. Amounts are quantities as Kubernetes writes them.
fn usage(usage: &Usage, format: Format) -> Value {
    let amount = |milli| Quantity::from_milli(milli, format).to_string();
    let mut all = json!({"sum": amount(usage.sum), "ratio": usage.ratio});
    let more = match usage.by {
        By::Percent {
            requests,
            count,
            percent,
            target,
        } => json!({"requests": amount(requests), "count": count, "percent": percent, "targetPercent": target}),
        By::Average { count, average, target } => {
            json!({"count": count, "average": amount(average), "target": amount(target)})
        }
        By::Total { target } => json!({"target": amount(target)}),
        By::Shared {
            replicas,
            average,
            target,
        } => json!({"replicas": replicas, "average": amount(average), "target": amount(target)}),
    };
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    all
}

fn stabilized(stabilized: &Stabilized) -> Value {
    json!({
        "wanted": stabilized.desired,
        "replicas": stabilized.replicas,
        "lowest": stabilized.lowest,
        "highest": stabilized.highest,
        "upSeconds": stabilized.up_seconds,
        "downSeconds": stabilized.down_seconds,
    })
}

fn limited(limited: &Limited, told: Told<'_>) -> Value {
    let policies = limited.policies.iter().map(|one| {
        json!({
            "policy": one.policy.to_string(),
            "periodStartReplicas": one.start,
            "allowedReplicas": one.reach,
        })
    });
    json!({
        "replicas": limited.replicas,
        "reason": limited.by.reason(),
        "message": limited.by.message(),
        "reach": limited.reach,
        "minReplicas": told.hpa.min_replicas,
        "maxReplicas": told.hpa.max_replicas,
        "policies": policies.collect::<Vec<_>>(),
    })
}

/// A condition as the status of an autoscaler has it.
pub fn condition(condition: &Condition) -> Value {
    json!({
        "type": condition.kind.name(),
        "status": condition.status.name(),
        "lastTransitionTime": time(condition.since),
        "reason": condition.reason,
        "message": condition.message,
    })
}
