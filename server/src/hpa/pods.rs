//! The pods of a scale, and which of them count for a metric.

use super::spec::Settings;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// What the controller looks at of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: Arc<str>,
    /// How far it is.
    pub phase: Phase,
    /// It is being deleted.
    pub deleting: bool,
    /// When the kubelet took it.
    pub started: Option<Timestamp>,
    /// Its condition Ready.
    pub ready: Option<Ready>,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have run yet.
    Pending,
    /// It runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// A container ended badly, for good.
    Failed,
    /// Its node is not heard of.
    Unknown,
}

/// A pod's condition Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// What it is.
    pub status: Status,
    /// Since when.
    pub since: Timestamp,
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl Status {
    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A pod's value of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodValue {
    /// Thousandths.
    pub milli: i64,
    /// When it was measured.
    pub at: Timestamp,
    /// Over how long.
    pub window_ms: i64,
}

/// What a pod is to a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its value counts.
    Counted,
    /// It has no value.
    Missing,
    /// Its value says nothing yet.
    Unready(Unready),
    /// It is as if it were not there.
    Ignored(Ignored),
}

/// Why a pod's value says nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// It is pending.
    Pending,
    /// Nothing is known of its start or readiness.
    Unknown,
    /// It is young and not ready.
    Starting,
    /// It is young, and its value was measured before it was ready for as long as the value spans.
    TooEarly,
    /// It is not ready and never was.
    NeverReady,
}

/// Why a pod is as if it were not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It is being deleted.
    Deleting,
    /// It has failed.
    Failed,
}

impl Place {
    /// Whether its value counts.
    pub fn is_counted(self) -> bool {
        self == Self::Counted
    }

    /// Whether it has no value.
    pub fn is_missing(self) -> bool {
        self == Self::Missing
    }

    /// Whether its value says nothing yet.
    pub fn is_unready(self) -> bool {
        matches!(self, Self::Unready(_))
    }

    /// In words, for people.
    pub fn described(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Missing => "no value",
            Self::Unready(Unready::Pending) => "pending",
            Self::Unready(Unready::Unknown) => "start or readiness unknown",
            Self::Unready(Unready::Starting) => "starting, not ready",
            Self::Unready(Unready::TooEarly) => "starting, measured too early",
            Self::Unready(Unready::NeverReady) => "never was ready",
            Self::Ignored(Ignored::Deleting) => "being deleted",
            Self::Ignored(Ignored::Failed) => "failed",
        }
    }
}

/// The pods of a scale by what they are to a metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouped {
    /// What each pod is, in the order of the pods.
    pub places: Vec<Place>,
    /// Pods whose value counts.
    pub counted: usize,
    /// Pods without a value.
    pub missing: usize,
    /// Pods whose value says nothing yet.
    pub unready: usize,
    /// Pods that are as if they were not there.
    pub ignored: usize,
}

/// Says what each pod is to a metric. Readiness matters to cpu alone: a start burns cpu, and little else.
pub(super) fn group(
    pods: &[Pod],
    values: &[Option<PodValue>],
    is_cpu: bool,
    now: Timestamp,
    settings: &Settings,
) -> Grouped {
    let mut grouped = Grouped {
        places: Vec::with_capacity(pods.len()),
        ..Grouped::default()
    };
    for (no, pod) in pods.iter().enumerate() {
        let value = values.get(no).copied().flatten();
        let place = place(pod, value, is_cpu, now, settings);
        match place {
            Place::Counted => grouped.counted += 1,
            Place::Missing => grouped.missing += 1,
            Place::Unready(_) => grouped.unready += 1,
            Place::Ignored(_) => grouped.ignored += 1,
        }
        grouped.places.push(place);
    }
    grouped
}

fn place(pod: &Pod, value: Option<PodValue>, is_cpu: bool, now: Timestamp, settings: &Settings) -> Place {
    if pod.deleting {
        return Place::Ignored(Ignored::Deleting);
    }
    if pod.phase == Phase::Failed {
        return Place::Ignored(Ignored::Failed);
    }
    if pod.phase == Phase::Pending {
        return Place::Unready(Unready::Pending);
    }
    let Some(value) = value else {
        return Place::Missing;
    };
    match is_cpu.then(|| doubt(pod, value, now, settings)).flatten() {
        Some(why) => Place::Unready(why),
        None => Place::Counted,
    }
}

/// Why a pod's cpu says nothing yet, if it does not.
fn doubt(pod: &Pod, value: PodValue, now: Timestamp, settings: &Settings) -> Option<Unready> {
    let (Some(ready), Some(started)) = (pod.ready, pod.started) else {
        return Some(Unready::Unknown);
    };
    let unready = ready.status == Status::False;
    if started.saturating_add(settings.cpu_initialization_ms) > now {
        if unready {
            return Some(Unready::Starting);
        }
        return (value.at < ready.since.saturating_add(value.window_ms)).then_some(Unready::TooEarly);
    }
    let never_ready = started.saturating_add(settings.initial_readiness_ms) > ready.since;
    (unready && never_ready).then_some(Unready::NeverReady)
}

/// How many pods run and are ready.
pub(super) fn ready_count(pods: &[Pod]) -> usize {
    let is_ready = |pod: &&Pod| pod.phase == Phase::Running && pod.ready.is_some_and(|r| r.status == Status::True);
    pods.iter().filter(is_ready).count()
}
