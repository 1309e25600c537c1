//! One look at an autoscaler of the cluster: metrics are asked for, and it is decided what its controller would decide.

use super::answers::{Answer, Metrics, Which};
use super::scale::TargetScale;
use crate::hpa::explain::Lack;
use crate::hpa::formula::{Proposal, Reading, Request};
use crate::hpa::pods::{Phase, Pod, PodValue};
use crate::hpa::seen::Seen;
use crate::hpa::spec::{Hpa, Metric, Settings, Source, Target};
use crate::hpa::{Barred, Decision, History, Situation, decide};
use std::fmt;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// Of more pods without a value it is not asked why.
const MAX_LACKS: usize = 5;

/// What a pod, by its place, requests of a resource: of one container, or of all.
pub type Requests<'a> = &'a dyn Fn(usize, &str, Option<&str>) -> Request;

/// What is seen of the cluster at a look.
#[derive(Clone, Copy)]
pub struct Sighted<'a> {
    /// When.
    pub now: Timestamp,
    /// The autoscaler.
    pub hpa: &'a Hpa,
    /// What its controller was started with.
    pub settings: &'a Settings,
    /// The scale of its target.
    pub scale: &'a TargetScale,
    /// The pods that the scale's selector matches.
    pub pods: &'a [Pod],
    /// What these request.
    pub requests: Requests<'a>,
    /// What keeps it from looking at metrics.
    pub barred: Option<&'a Barred>,
}

impl fmt::Debug for Sighted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sighted")
            .field("now", &self.now)
            .field("pods", &self.pods.len())
            .finish_non_exhaustive()
    }
}

/// What came of a look.
#[derive(Debug, Clone)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// The autoscaler as it was then.
    pub hpa: Arc<Hpa>,
    /// What its controller is taken to be started with.
    pub settings: Settings,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a look.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A number, or why it stays as it is.
    Decided(Box<Decided>),
    /// It did not get so far: the scale or the pods cannot be read.
    Blocked(String),
}

/// A decision and what belongs to it.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// Where each metric's value came from.
    pub queries: Vec<String>,
    /// Why pods have no value, as far as that is known; by metric.
    pub missing: Vec<Vec<Lack>>,
    /// The pods by name.
    pub pods: Vec<Arc<str>>,
    /// Which pods are meant.
    pub selector: String,
}

impl Look {
    /// The decision, if it came to one.
    pub fn decided(&self) -> Option<&Decided> {
        match &self.outcome {
            Outcome::Decided(decided) => Some(decided),
            Outcome::Blocked(_) => None,
        }
    }
}

/// Looks once. What is remembered is brought up to date; what becomes of the number is for the next look to see.
pub fn look(sighted: &Sighted<'_>, metrics: &dyn Metrics, history: &mut History) -> Decided {
    let Sighted { now, hpa, scale, .. } = *sighted;
    let names: Vec<Arc<str>> = sighted.pods.iter().map(|pod| Arc::clone(&pod.name)).collect();
    let wants_metrics = sighted.barred.is_none() && history.looks_at_metrics(hpa, scale.replicas.spec);
    let answers: Vec<(String, Seen)> = match wants_metrics {
        true => hpa
            .metrics
            .iter()
            .map(|one| ask(one, sighted, &names, metrics))
            .collect(),
        false => Vec::new(),
    };
    let readings: Vec<Reading<'_>> = answers.iter().map(|(_, seen)| seen.reading()).collect();
    let situation = Situation {
        now,
        scale: scale.replicas,
        pods: sighted.pods,
        readings: &readings,
        barred: sighted.barred,
    };
    let decision = decide(hpa, sighted.settings, &situation, history);
    let asked = hpa.metrics.iter().zip(&decision.metrics);
    let missing = asked.map(|(metric, proposal)| lacks(metric, proposal, sighted, metrics));
    Decided {
        missing: missing.collect(),
        decision,
        queries: answers.into_iter().map(|(query, _)| query).collect(),
        pods: names,
        selector: scale.selector.clone(),
    }
}

/// Why pods have no value of a resource.
fn lacks(metric: &Metric, proposal: &Proposal, sighted: &Sighted<'_>, metrics: &dyn Metrics) -> Vec<Lack> {
    let container = match &metric.source {
        Source::Resource { .. } => None,
        Source::ContainerResource { container, .. } => Some(container.as_str()),
        Source::Pods { .. } | Source::Object { .. } | Source::External { .. } => return Vec::new(),
    };
    // Without any value it does not get as far as to say what each pod is.
    let places = proposal.trace.pods.as_ref().map(|pods| pods.places.as_slice());
    let is_missing = |no: usize| match places {
        Some(places) => places.get(no).is_some_and(|place| place.is_missing()),
        None => proposal.outcome.is_err(),
    };
    let pods = sighted.pods.iter().enumerate();
    let missing = pods.filter(|(no, pod)| pod.phase == Phase::Running && is_missing(*no));
    let lacks = missing.take(MAX_LACKS).filter_map(|(_, pod)| {
        let why = metrics.why_missing(&sighted.hpa.namespace, &pod.name, container)?;
        let pod = Arc::clone(&pod.name);
        Some(Lack { pod, why })
    });
    lacks.collect()
}

/// Asks for one metric.
fn ask(metric: &Metric, sighted: &Sighted<'_>, names: &[Arc<str>], metrics: &dyn Metrics) -> (String, Seen) {
    let namespace = sighted.hpa.namespace.as_str();
    let which = Which {
        namespace,
        selector: &sighted.scale.selector,
        names,
    };
    let of_pods = |answer: Answer<Vec<Option<PodValue>>>, requests: Vec<Request>| {
        let seen = match answer.values {
            Ok(values) => Seen::Pods { values, requests },
            Err(why) => Seen::Failed(why.into()),
        };
        (answer.query, seen)
    };
    let requests = |resource: &str, container: Option<&str>| match metric.target {
        Target::Utilization(_) => (0..names.len())
            .map(|no| (sighted.requests)(no, resource, container))
            .collect(),
        Target::AverageValue(_) | Target::Value(_) => Vec::new(),
    };
    match &metric.source {
        Source::Resource { name } => of_pods(metrics.resource(which, name, None), requests(name, None)),
        Source::ContainerResource { name, container } => {
            let container = Some(container.as_str());
            let answer = metrics.resource(which, name, container);
            of_pods(answer, requests(name, container))
        }
        Source::Pods { metric } => of_pods(metrics.pods(which, metric), Vec::new()),
        Source::Object { metric, object } => {
            let answer = metrics.object(namespace, object, metric);
            let seen = match answer.values {
                Ok(milli) => Seen::Values(vec![milli]),
                Err(why) => Seen::Failed(why.into()),
            };
            (answer.query, seen)
        }
        Source::External { metric } => {
            let answer = metrics.external(namespace, metric);
            let seen = match answer.values {
                Ok(values) => Seen::Values(values),
                Err(why) => Seen::Failed(why.into()),
            };
            (answer.query, seen)
        }
    }
}

/// Why metrics of pods that several autoscalers control are not looked at.
pub fn ambiguous<'a>(selector: &str, autoscalers: impl IntoIterator<Item = &'a str>) -> Barred {
    let all: Vec<&str> = autoscalers.into_iter().collect();
    Barred {
        reason: "AmbiguousSelector",
        message: format!(
            "pods by selector {selector} are controlled by multiple HPAs: [{}]",
            all.join(" ")
        ),
    }
}

/// Why metrics of a scale without a selector, or with one that is none, are not looked at.
pub fn invalid_selector(problem: Option<&str>) -> Barred {
    Barred {
        reason: "InvalidSelector",
        message: match problem {
            None => "the HPA target's scale is missing a selector".to_owned(),
            Some(why) => {
                format!("couldn't convert selector into a corresponding internal selector object: {why}")
            }
        },
    }
}

#[cfg(test)]
mod tests;
