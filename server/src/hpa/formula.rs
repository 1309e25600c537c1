//! What one metric asks for: from values of pods to a number of replicas.
//!
//! ```text
//!   pods, values --group--> counted, unready, missing --ratio--> 1st --fill what is missing--> ratio --> 2nd --> proposal
//! ```
//!
//! All amounts are thousandths in `i64` with integer division, ratios are floats: the controller's own arithmetic,
//! without which proposals differ by one now and then.
//!
//! # Reference
//! `pkg/controller/podautoscaler/replica_calculator.go` of Kubernetes 1.35.

use super::pods::{Grouped, Pod, PodValue, group, ready_count};
use super::spec::{Hpa, Metric, Selected, Settings, Source, Target};
use super::usage::{Usage, average, percentage};
use std::fmt;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// How many replicas there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// As many as are asked for (`spec.replicas` of the scale).
    pub spec: i32,
    /// As many as there are (`status.replicas`).
    pub status: i32,
}

/// What the source of a metric answered.
#[derive(Debug, Clone, Copy)]
pub enum Reading<'a> {
    /// Values of pods.
    Pods {
        /// One place for each pod that the selector matches, in the order of the pods.
        values: &'a [Option<PodValue>],
        /// Thousandths of pods that the selector does not match: they count in plain averages.
        strangers: &'a [i64],
        /// What each pod requests; only looked at for utilization.
        requests: &'a [Request],
    },
    /// Thousandths of an object (one value) or from outside (any number of them).
    Values(&'a [i64]),
    /// It could not be had.
    Failed(&'a str),
}

/// What a pod requests of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// So many thousandths.
    Milli(i64),
    /// A container of it says nothing.
    NoContainerRequest(Arc<str>),
    /// The pod has requests of its own, but not of this resource.
    NoPodRequest,
    /// It has no such container.
    NoContainer(Arc<str>),
}

/// What one metric asks for and how that came about.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// So many replicas, or why none can be told.
    pub outcome: Result<i32, MetricError>,
    /// What the status of the autoscaler shows.
    pub current: Current,
    /// The steps.
    pub trace: Trace,
}

/// A metric that gives no proposal, in the controller's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event}")]
pub struct MetricError {
    /// `FailedGetResourceMetric`.
    pub reason: &'static str,
    /// What the condition says behind "unable to compute the replica count".
    pub condition: String,
    /// What the event says.
    pub event: String,
}

/// A metric's value as the status of the autoscaler shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Current {
    /// Percent of requests.
    pub utilization: Option<i32>,
    /// Thousandths for each pod.
    pub average_milli: Option<i64>,
    /// Thousandths altogether.
    pub value_milli: Option<i64>,
}

/// The steps from values to a proposal.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Which pods counted; for metrics of pods.
    pub pods: Option<Grouped>,
    /// Values of pods that the selector does not match.
    pub strangers: usize,
    /// Pods that are running and ready; for metrics that are no pods'.
    pub ready: Option<usize>,
    /// What was used, over what was to be used.
    pub first: Option<Usage>,
    /// What was taken for pods without a value.
    pub filled: Filled,
    /// The same with what was filled in.
    pub second: Option<Usage>,
    /// Why it is that number.
    pub rule: Rule,
}

/// What was taken for pods without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filled {
    /// For the missing ones.
    pub missing: Option<FilledWith>,
    /// The unready ones got zero.
    pub unready: bool,
}

/// What stands for a value that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilledWith {
    /// As much as there should be: it must not scale down for want of a value.
    Target,
    /// Nothing: it must not scale up for want of a value.
    Zero,
}

/// Why a proposal is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Rule {
    /// There is none.
    #[default]
    None,
    /// The ratio is near enough to 1.
    Within,
    /// The ratio would be near enough to 1, were the missing values as assumed.
    WithinFilled,
    /// With what was filled in it would go the other way.
    Turned,
    /// With as many pods as were counted it would go the other way.
    TurnedByCount,
    /// `ceil(ratio × count)`.
    Times {
        /// Over 1: too little.
        ratio: f64,
        /// How many replicas the ratio is of.
        count: usize,
    },
    /// `ceil(total / target)`.
    Share,
    /// `ceil(ratio)`: there are no replicas yet.
    FromZero {
        /// The total over the target.
        ratio: f64,
    },
}

/// The band around 1 in which nothing is done, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Below 1.
    pub down: f64,
    /// Above 1.
    pub up: f64,
}

impl Tolerance {
    /// Those of an autoscaler.
    pub fn of(hpa: &Hpa, settings: &Settings) -> Self {
        let behavior = hpa.behavior.as_ref();
        let own = |rules: Option<f64>| rules.unwrap_or(settings.tolerance);
        Self {
            down: own(behavior.and_then(|b| b.down.tolerance)),
            up: own(behavior.and_then(|b| b.up.tolerance)),
        }
    }

    /// Whether a ratio is in it. NaN is not.
    pub fn has(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What all metrics of one sync have in common.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// When.
    pub now: Timestamp,
    /// How many replicas.
    pub scale: Scale,
    /// The pods that the scale's selector matches.
    pub pods: &'a [Pod],
    /// The band in which nothing is done.
    pub tolerance: Tolerance,
    /// What the controller was started with.
    pub settings: &'a Settings,
    /// The namespace, for messages.
    pub namespace: &'a str,
}

/// Computes what one metric asks for.
pub fn propose(metric: &Metric, reading: Reading<'_>, sight: &Sight<'_>) -> Proposal {
    let mut proposal = Proposal {
        outcome: Ok(0),
        current: Current::default(),
        trace: Trace::default(),
    };
    let result = match (&metric.source, reading) {
        (_, Reading::Failed(why)) => Err(unable(metric, sight.namespace, why)),
        (
            Source::Resource { .. } | Source::ContainerResource { .. } | Source::Pods { .. },
            Reading::Pods {
                values,
                strangers,
                requests,
            },
        ) => of_pods(metric, values, strangers, requests, sight, &mut proposal),
        (Source::Object { .. } | Source::External { .. }, Reading::Values(values)) => {
            of_total(metric, values, sight, &mut proposal)
        }
        // The caller's mistake; said rather than guessed around.
        (_, Reading::Pods { .. } | Reading::Values(_)) => Err(unable(
            metric,
            sight.namespace,
            "the answer is not of the metric's kind",
        )),
    };
    proposal.outcome = result.map_err(|why| wrap(metric, why));
    proposal
}

/// For metrics that each pod has.
fn of_pods(
    metric: &Metric,
    values: &[Option<PodValue>],
    strangers: &[i64],
    requests: &[Request],
    sight: &Sight<'_>,
    into: &mut Proposal,
) -> Result<i32, String> {
    if sight.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    if values.iter().all(Option::is_none) && strangers.is_empty() {
        let api = match metric.source {
            Source::Pods { .. } => "custom",
            _ => "resource",
        };
        let why = format!("no metrics returned from {api} metrics API");
        return Err(unable(metric, sight.namespace, &why));
    }
    let is_cpu = !matches!(metric.source, Source::Pods { .. }) && metric.name() == "cpu";
    let grouped = group(sight.pods, values, is_cpu, sight.now, sight.settings);
    // What is left of the values: one place for each pod.
    let mut left: Vec<Option<i64>> = grouped
        .places
        .iter()
        .zip(values)
        .map(|(place, value)| value.filter(|_| place.is_counted()).map(|v| v.milli))
        .collect();
    into.trace.strangers = strangers.len();
    let counted = grouped.counted;
    let grouped = into.trace.pods.insert(grouped);
    if counted == 0 && strangers.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let measure = Measure::of(metric, strangers, requests, sight.pods)?;
    let first = measure.usage(&left)?;
    into.trace.first = Some(first);
    into.current = first.current();
    let unready = grouped.unready > 0 && first.ratio > 1.0;
    if !unready && grouped.missing == 0 {
        return Ok(if sight.tolerance.has(first.ratio) {
            into.trace.rule = Rule::Within;
            sight.scale.spec
        } else {
            into.trace.rule = Rule::Times {
                ratio: first.ratio,
                count: counted,
            };
            ceil(first.ratio * counted as f64)
        });
    }
    let filled = Filled {
        missing: match first.ratio {
            _ if grouped.missing == 0 => None,
            ratio if ratio < 1.0 => Some(FilledWith::Target),
            ratio if ratio > 1.0 => Some(FilledWith::Zero),
            _ => None,
        },
        unready,
    };
    measure.fill(&mut left, grouped, filled);
    let second = measure.usage(&left)?;
    into.trace.filled = filled;
    into.trace.second = Some(second);
    let count = left.iter().flatten().count() + strangers.len();
    let (rule, replicas) = decide_filled(first.ratio, second.ratio, count, sight);
    into.trace.rule = rule;
    Ok(replicas)
}

/// From both ratios to a proposal: never further than what is known asks for, and never the other way.
fn decide_filled(first: f64, second: f64, count: usize, sight: &Sight<'_>) -> (Rule, i32) {
    let current = sight.scale.spec;
    if sight.tolerance.has(second) {
        return (Rule::WithinFilled, current);
    }
    if (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0) {
        return (Rule::Turned, current);
    }
    let replicas = ceil(second * count as f64);
    if (second < 1.0 && replicas > current) || (second > 1.0 && replicas < current) {
        return (Rule::TurnedByCount, current);
    }
    (Rule::Times { ratio: second, count }, replicas)
}

/// How values of pods are put in relation to the target.
enum Measure<'a> {
    /// Percent of what is requested.
    Percent { target: i32, requests: Vec<i64> },
    /// An average, strangers among it.
    Average { target: i64, strangers: &'a [i64] },
}

impl<'a> Measure<'a> {
    fn of(metric: &Metric, strangers: &'a [i64], requests: &[Request], pods: &[Pod]) -> Result<Self, String> {
        match metric.target {
            Target::Utilization(target) => Ok(Self::Percent {
                target,
                requests: known(requests, metric.name(), pods)?,
            }),
            Target::AverageValue(target) | Target::Value(target) => Ok(Self::Average {
                target: target.milli(),
                strangers,
            }),
        }
    }

    fn usage(&self, values: &[Option<i64>]) -> Result<Usage, String> {
        match self {
            Self::Percent { target, requests } => {
                percentage(values, requests, *target).ok_or_else(|| "no metrics returned matched known pods".to_owned())
            }
            Self::Average { target, strangers } => Ok(average(values, strangers, *target)),
        }
    }

    /// Puts assumptions where no value is.
    fn fill(&self, values: &mut [Option<i64>], grouped: &Grouped, filled: Filled) {
        for (no, (value, place)) in values.iter_mut().zip(&grouped.places).enumerate() {
            let missing = filled.missing.filter(|_| place.is_missing());
            match missing {
                Some(FilledWith::Zero) => *value = Some(0),
                Some(FilledWith::Target) => {
                    *value = Some(match self {
                        Self::Percent { target, requests } => {
                            let request = requests.get(no).copied().unwrap_or(0);
                            request.saturating_mul(i64::from(*target).max(100)) / 100
                        }
                        Self::Average { target, .. } => *target,
                    });
                }
                None if filled.unready && place.is_unready() => *value = Some(0),
                None => {}
            }
        }
    }
}

/// The requests of all pods; fails for the first that has none, ignored ones too.
fn known(requests: &[Request], resource: &str, pods: &[Pod]) -> Result<Vec<i64>, String> {
    let none = Request::NoPodRequest;
    let all = pods
        .iter()
        .enumerate()
        .map(|(no, pod)| (pod, requests.get(no).unwrap_or(&none)));
    all.map(|(pod, request)| match request {
        Request::Milli(milli) => Ok(*milli),
        Request::NoContainerRequest(container) => Err(format!(
            "missing request for {resource} in container {container} of Pod {}",
            pod.name
        )),
        Request::NoPodRequest => Err(format!("missing pod-level request for {resource} in Pod {}", pod.name)),
        Request::NoContainer(container) => Err(format!("container {container} not found in Pod {}", pod.name)),
    })
    .collect()
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";

/// For metrics of an object or from outside.
fn of_total(metric: &Metric, values: &[i64], sight: &Sight<'_>, into: &mut Proposal) -> Result<i32, String> {
    if values.is_empty() {
        let api = match metric.source {
            Source::External { .. } => "external",
            _ => "custom",
        };
        let why = format!("no metrics returned from {api} metrics API");
        return Err(unable(metric, sight.namespace, &why));
    }
    let total = values.iter().fold(0i64, |sum, value| sum.saturating_add(*value));
    match metric.target {
        Target::Value(target) | Target::AverageValue(target) if target.milli() == 0 => {
            Err("the target is zero".to_owned())
        }
        Target::Value(target) => {
            let first = Usage::total(total, target.milli());
            into.trace.first = Some(first);
            into.current = first.current();
            let spec = sight.scale.spec;
            if spec == 0 {
                into.trace.rule = Rule::FromZero { ratio: first.ratio };
                return Ok(ceil(first.ratio));
            }
            if sight.tolerance.has(first.ratio) {
                into.trace.rule = Rule::Within;
                return Ok(spec);
            }
            if sight.pods.is_empty() {
                return Err(format!("unable to calculate ready pods: {NO_PODS}"));
            }
            let count = ready_count(sight.pods);
            into.trace.ready = Some(count);
            into.trace.rule = Rule::Times {
                ratio: first.ratio,
                count,
            };
            Ok(ceil(first.ratio * count as f64))
        }
        Target::AverageValue(target) => {
            let first = Usage::shared(total, target.milli(), sight.scale.status);
            into.trace.first = Some(first);
            into.current = first.current();
            if sight.tolerance.has(first.ratio) {
                into.trace.rule = Rule::Within;
                return Ok(sight.scale.status);
            }
            into.trace.rule = Rule::Share;
            Ok(ceil(total as f64 / target.milli() as f64))
        }
        Target::Utilization(_) => Err(format!(
            "invalid {} metric source: neither a value target nor an average value target was set",
            kind(metric)
        )),
    }
}

/// The whole replicas of a fraction; what no `i32` holds is its largest.
fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

fn kind(metric: &Metric) -> &'static str {
    match metric.source {
        Source::Resource { .. } => "resource",
        Source::ContainerResource { .. } => "container resource",
        Source::Pods { .. } => "pods",
        Source::Object { .. } => "object",
        Source::External { .. } => "external",
    }
}

/// What a source that does not answer is told of.
fn unable(metric: &Metric, namespace: &str, why: &str) -> String {
    match &metric.source {
        Source::Resource { name } | Source::ContainerResource { name, .. } => {
            format!("unable to get metrics for resource {name}: {why}")
        }
        Source::Pods { metric } => format!("unable to get metric {}: {why}", metric.name),
        // In the controller's order, which puts the cause last.
        Source::Object { metric, object } => format!(
            "unable to get metric {}: {} on {namespace} {}/{why}",
            metric.name, object.kind, object.name
        ),
        Source::External { metric } => format!(
            "unable to get external metric {namespace}/{}/{}: {why}",
            metric.name,
            Selected(metric.selector.as_ref())
        ),
    }
}

/// Puts the controller's words around a failure.
fn wrap(metric: &Metric, why: String) -> MetricError {
    let averaged = matches!(metric.target, Target::AverageValue(_));
    let usage = match metric.target {
        Target::Utilization(_) => "utilization",
        _ => "usage",
    };
    let (reason, condition, event) = match &metric.source {
        Source::Resource { name } => {
            let why = format!("failed to get {name} {usage}: {why}");
            let event = format!("failed to get {name} resource metric value: {why}");
            ("FailedGetResourceMetric", why, event)
        }
        Source::ContainerResource { name, container } => {
            let why = format!("failed to get {name} {usage}: {why}");
            let event = format!("failed to get {container} container metric value: {why}");
            ("FailedGetContainerResourceMetric", why, event)
        }
        Source::Pods { .. } => {
            let event = format!("failed to get pods metric value: {why}");
            ("FailedGetPodsMetric", why, event)
        }
        Source::Object { metric, .. } => {
            let event = match averaged {
                true => format!(
                    "failed to get object metric value: failed to get {} object metric: {why}",
                    metric.name
                ),
                false => format!("failed to get object metric value: {why}"),
            };
            ("FailedGetObjectMetric", why, event)
        }
        Source::External { metric } => {
            let name = &metric.name;
            let inner = match averaged {
                true => format!("failed to get {name} external metric: {why}"),
                false => format!("failed to get external metric {name}: {why}"),
            };
            let event = format!("failed to get {name} external metric value: {inner}");
            ("FailedGetExternalMetric", why, event)
        }
    };
    MetricError {
        reason,
        condition,
        event,
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", 1.0 - self.down, 1.0 + self.up)
    }
}
