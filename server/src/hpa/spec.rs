//! What an autoscaler is told to do: the `spec` of autoscaling/v2, read, checked and with its defaults filled in.

use super::quantity::Quantity;
use std::collections::BTreeMap;
use std::fmt;

/// A HorizontalPodAutoscaler.
#[derive(Debug, Clone, PartialEq)]
pub struct Hpa {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it scales.
    pub target: ObjectRef,
    /// The fewest replicas: 1 unless told; 0 only beside an Object or External metric.
    pub min_replicas: i32,
    /// The most replicas, at least [`Hpa::min_replicas`].
    pub max_replicas: i32,
    /// What is measured; at least one.
    pub metrics: Vec<Metric>,
    /// How fast it may go. `None` is not the same as all defaults: the limits of old times hold then.
    pub behavior: Option<Behavior>,
}

impl Hpa {
    /// Whether a metric can be had without a pod, so that zero replicas are no dead end.
    pub fn can_leave_zero(&self) -> bool {
        self.metrics
            .iter()
            .any(|m| matches!(m.source, Source::Object { .. } | Source::External { .. }))
    }
}

/// An object by name, in the namespace of the autoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// `apps/v1`; may be empty.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A metric and what it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// What is measured.
    pub source: Source,
    /// What it should be.
    pub target: Target,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A resource, summed over the containers of each pod.
    Resource {
        /// `cpu`, `memory`.
        name: String,
    },
    /// A resource of one container of each pod.
    ContainerResource {
        /// `cpu`, `memory`.
        name: String,
        /// The container.
        container: String,
    },
    /// A number that each pod has.
    Pods {
        /// Which.
        metric: MetricId,
    },
    /// A number that one object has.
    Object {
        /// Which.
        metric: MetricId,
        /// Whose.
        object: ObjectRef,
    },
    /// Numbers from outside, added up.
    External {
        /// Which.
        metric: MetricId,
    },
}

/// A metric by name, and which of its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricId {
    /// Its name.
    pub name: String,
    /// Which of its series; all if there is none.
    pub selector: Option<LabelSelector>,
}

/// What a metric should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Percent of what the pods request.
    Utilization(i32),
    /// So much for each pod.
    AverageValue(Quantity),
    /// So much altogether.
    Value(Quantity),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utilization(percent) => write!(f, "{percent}% of requests"),
            Self::AverageValue(amount) => write!(f, "{amount} a pod"),
            Self::Value(amount) => write!(f, "{amount} altogether"),
        }
    }
}

impl Metric {
    /// What the controller calls it in conditions and events.
    pub fn description(&self) -> String {
        let utilization = matches!(self.target, Target::Utilization(_));
        match &self.source {
            Source::Resource { name } if utilization => format!("{name} resource utilization (percentage of request)"),
            Source::ContainerResource { name, .. } if utilization => {
                format!("{name} container resource utilization (percentage of request)")
            }
            Source::Resource { name } | Source::ContainerResource { name, .. } => format!("{name} resource"),
            Source::Pods { metric } => format!("pods metric {}", metric.name),
            // The controller's own slip of the pen: an average over an object calls itself external.
            Source::Object { metric, .. } if matches!(self.target, Target::AverageValue(_)) => external(metric),
            Source::Object { metric, object } => format!("{} metric {}", object.kind, metric.name),
            Source::External { metric } => external(metric),
        }
    }

    /// The resource or metric by its name alone.
    pub fn name(&self) -> &str {
        match &self.source {
            Source::Resource { name } | Source::ContainerResource { name, .. } => name,
            Source::Pods { metric } | Source::Object { metric, .. } | Source::External { metric } => &metric.name,
        }
    }
}

fn external(metric: &MetricId) -> String {
    format!(
        "external metric {}({})",
        metric.name,
        Selected(metric.selector.as_ref())
    )
}

/// Labels that are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// Labels with exactly these values.
    pub labels: BTreeMap<String, String>,
    /// Further conditions.
    pub expressions: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
    /// The values, for [`Operator::In`] and [`Operator::NotIn`].
    pub values: Vec<String>,
}

/// What is asked of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// A selector as the controller prints it in its messages.
#[derive(Debug)]
pub(super) struct Selected<'a>(pub(super) Option<&'a LabelSelector>);

impl fmt::Display for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(selector) = self.0 else {
            return f.write_str("nil");
        };
        f.write_str("&LabelSelector{MatchLabels:map[string]string{")?;
        for (name, value) in &selector.labels {
            write!(f, "{name}: {value},")?;
        }
        f.write_str("},MatchExpressions:[]LabelSelectorRequirement{")?;
        for one in &selector.expressions {
            let values = one.values.join(" ");
            write!(
                f,
                "LabelSelectorRequirement{{Key:{},Operator:{:?},Values:[{values}],}},",
                one.key, one.operator
            )?;
        }
        f.write_str("},}")
    }
}

/// How fast it may go, in each direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Behavior {
    /// Up.
    pub up: Rules,
    /// Down.
    pub down: Rules,
}

/// How fast it may go in one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// For how long the gentlest recommendation holds, in seconds; `None` is the controller's default (down only).
    pub window_seconds: Option<i32>,
    /// Which of the policies counts.
    pub select: Select,
    /// How much may change in a time.
    pub policies: Vec<Policy>,
    /// How far from 1 a ratio may be before anything is done, instead of the controller's default.
    pub tolerance: Option<f64>,
}

/// Which of several policies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// None: no change in this direction.
    Disabled,
}

/// How much may change in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What the value counts.
    pub kind: PolicyKind,
    /// How much.
    pub value: i32,
    /// In how many seconds.
    pub period_seconds: i32,
}

/// What a policy's value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// Pods.
    Pods,
    /// Percent of the replicas at the period's start.
    Percent,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.kind {
            PolicyKind::Pods => " pods",
            PolicyKind::Percent => "%",
        };
        write!(f, "{}{unit} in {}s", self.value, self.period_seconds)
    }
}

impl Rules {
    /// What holds for scaling up where nothing is said.
    pub fn up() -> Self {
        Self {
            window_seconds: Some(0),
            select: Select::Max,
            policies: vec![
                Policy {
                    kind: PolicyKind::Pods,
                    value: 4,
                    period_seconds: 15,
                },
                DOUBLE,
            ],
            tolerance: None,
        }
    }

    /// What holds for scaling down where nothing is said.
    pub fn down() -> Self {
        Self {
            window_seconds: None,
            select: Select::Max,
            policies: vec![DOUBLE],
            tolerance: None,
        }
    }

    /// The longest time that a policy looks back.
    pub fn longest_period_seconds(&self) -> i32 {
        self.policies.iter().map(|p| p.period_seconds).max().unwrap_or(0)
    }
}

/// All of what is there, every sync.
const DOUBLE: Policy = Policy {
    kind: PolicyKind::Percent,
    value: 100,
    period_seconds: 15,
};

/// What the controller is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Time between two looks at an autoscaler.
    pub sync_ms: i64,
    /// How far from 1 a ratio may be before anything is done.
    pub tolerance: f64,
    /// For how long after its start a pod's cpu is doubted.
    pub cpu_initialization_ms: i64,
    /// How long after its start a pod's first readiness may come.
    pub initial_readiness_ms: i64,
    /// For how long the highest recommendation holds before it scales down.
    pub downscale_stabilization_ms: i64,
}

impl Default for Settings {
    /// The controller's own.
    fn default() -> Self {
        Self {
            sync_ms: 15_000,
            tolerance: 0.1,
            cpu_initialization_ms: 300_000,
            initial_readiness_ms: 30_000,
            downscale_stabilization_ms: 300_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_called_as_the_controller_calls_them() {
        let selector = LabelSelector {
            labels: BTreeMap::from([("queue".to_owned(), "shipping-task".to_owned())]),
            expressions: vec![Requirement {
                key: "a".to_owned(),
                operator: Operator::NotIn,
                values: vec!["x".to_owned(), "y".to_owned()],
            }],
        };
        let id = |selector| MetricId {
            name: "m".to_owned(),
            selector,
        };
        let amount = Target::AverageValue("1".parse().unwrap());
        let object = ObjectRef {
            api_version: String::new(),
            kind: "Ingress".to_owned(),
            name: "main".to_owned(),
        };
        for (source, target, text) in [
            (
                Source::Resource { name: "cpu".to_owned() },
                Target::Utilization(50),
                "cpu resource utilization (percentage of request)",
            ),
            (Source::Resource { name: "cpu".to_owned() }, amount, "cpu resource"),
            (Source::Pods { metric: id(None) }, amount, "pods metric m"),
            (
                Source::Object {
                    metric: id(None),
                    object: object.clone(),
                },
                Target::Value("1".parse().unwrap()),
                "Ingress metric m",
            ),
            (
                Source::Object {
                    metric: id(None),
                    object,
                },
                amount,
                "external metric m(nil)",
            ),
            (
                Source::External {
                    metric: id(Some(selector)),
                },
                amount,
                "external metric m(&LabelSelector{MatchLabels:map[string]string{queue: shipping-task,},\
                 MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:a,Operator:NotIn,\
                 Values:[x y],},},})",
            ),
        ] {
            assert_eq!(Metric { source, target }.description(), text);
        }
    }
}
