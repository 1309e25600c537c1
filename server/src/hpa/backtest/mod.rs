//! An autoscaler rehearsed on history: what it would have done with what was measured.
//!
//! ```text
//!   manifest --queries--> PromQL --source--> columns (one value a sync) --replay: decide, sync by sync--> runs --> report
//! ```
//!
//! What cannot be known from history is assumed, and the report says what: see [`Feedback`].

mod chart;
mod columns;
mod queries;
mod replay;
mod report;
mod source;

pub use report::{Event, MetricRun, Report, Run};
pub use source::{EngineSource, Source, SourceError, Steps};

use super::explain::Explained;
use super::quantity::Quantity;
use super::spec::{Hpa, Settings};
use std::collections::BTreeMap;
use std::str::FromStr;
use tidegauge_model::Timestamp;

/// The most syncs of one rehearsal: 17 days at 15 s.
pub const MAX_SYNCS: usize = 100_000;
/// The most metrics of one autoscaler.
pub const MAX_METRICS: usize = 10;
/// The most pods that are played.
pub const MAX_PODS: i32 = 2_000;
/// How many autoscalers are compared.
pub const MAX_MANIFESTS: usize = 2;

/// What is rehearsed.
#[derive(Debug, Clone)]
pub struct Options {
    /// The first sync.
    pub from: Timestamp,
    /// No sync is later.
    pub to: Timestamp,
    /// What the controller is started with; also how far apart syncs are.
    pub settings: Settings,
    /// What the replicas do to the load.
    pub feedback: Feedback,
    /// How many replicas there were, instead of what kube-state-metrics says.
    pub replicas_query: Option<String>,
    /// For each metric by name: the query for its total over all pods, or for its value; instead of the usual one.
    pub metric_queries: BTreeMap<String, String>,
    /// For each resource by name: what one pod requests, instead of what kube-state-metrics says.
    pub requests: BTreeMap<String, Quantity>,
    /// A regular expression for the names of pods, instead of one made from the scaled object.
    pub pods: Option<String>,
    /// Over how long the use of cpu is taken.
    pub rate_window_ms: i64,
    /// How long a pod takes until it is ready.
    pub ready_after_ms: i64,
    /// A change within this time after one in the other direction is thrash.
    pub thrash_ms: i64,
    /// Tell all of the first sync at or after this time.
    pub explain_at: Option<Timestamp>,
}

impl Options {
    /// The usual ones.
    pub fn new(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from,
            to,
            settings: Settings::default(),
            feedback: Feedback::Shared,
            replicas_query: None,
            metric_queries: BTreeMap::new(),
            requests: BTreeMap::new(),
            pods: None,
            rate_window_ms: 120_000,
            ready_after_ms: 30_000,
            thrash_ms: 600_000,
            explain_at: None,
        }
    }
}

/// What the replicas do to the load; history knows only one number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// The load is what it was, and ready replicas share it evenly.
    Shared,
    /// None: each sync begins with as many replicas as there were and what each of them had. Nothing that is wanted is done.
    None,
}

impl Feedback {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::None => "none",
        }
    }

    /// The assumption in words.
    pub fn described(self) -> &'static str {
        match self {
            Self::Shared => {
                "the load is as recorded and shared evenly by the ready replicas of the rehearsal; a metric with a target \
                 of type Value is divided by them and multiplied by the recorded ones"
            }
            Self::None => {
                "none: each sync begins with the recorded replicas and what each of them had; what is wanted is noted and \
                 not done"
            }
        }
    }
}

impl FromStr for Feedback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Shared, Self::None]
            .into_iter()
            .find(|one| one.name() == text)
            .ok_or_else(|| format!("{text:?} is not one of shared and none"))
    }
}

/// Why nothing could be rehearsed.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The question makes no sense.
    #[error("{0}")]
    Question(String),
    /// History could not be read.
    #[error("{what}: {query}")]
    Source {
        /// What was asked for.
        what: String,
        /// The query.
        query: String,
        /// Why.
        source: SourceError,
    },
    /// History does not have it.
    #[error("there is nothing recorded of {what} between these times: {query}")]
    Nothing {
        /// What was asked for.
        what: String,
        /// The query, or what to say instead.
        query: String,
    },
}

/// Rehearses one autoscaler, or two side by side.
///
/// # Errors
/// [`BacktestError`]; nothing is guessed where history has nothing.
pub fn run(hpas: &[Hpa], options: &Options, source: &dyn Source) -> Result<Report, BacktestError> {
    let steps = steps(hpas, options)?;
    let mut runs: Vec<Run> = Vec::with_capacity(hpas.len());
    for hpa in hpas {
        let columns = columns::read(hpa, options, steps, source)?;
        let mut run = replay::replay(hpa, options, steps, columns, source)?;
        // Mostly it is the same one with other rules.
        if runs.iter().any(|other| other.name == run.name) {
            run.name.push_str(" (second)");
        }
        runs.push(run);
    }
    Ok(Report {
        steps,
        feedback: options.feedback,
        ready_after_ms: options.ready_after_ms,
        thrash_ms: options.thrash_ms,
        runs,
    })
}

/// Explains what an autoscaler would have decided at the end of the time, given what was recorded of its pods. It has
/// looked since the beginning, so that recommendations before count.
///
/// # Errors
/// As [`run`].
pub fn explain(hpa: &Hpa, options: &Options, source: &dyn Source) -> Result<Explained, BacktestError> {
    let mut options = options.clone();
    options.feedback = Feedback::None;
    let steps = steps(std::slice::from_ref(hpa), &options)?;
    options.explain_at = Some(steps.end());
    let report = run(std::slice::from_ref(hpa), &options, source)?;
    let explained = report.runs.into_iter().find_map(|run| run.explained);
    explained.ok_or_else(|| BacktestError::Nothing {
        what: "the replicas of the last minutes".to_owned(),
        query: options
            .replicas_query
            .unwrap_or_else(|| "replicas_query says where else to look".to_owned()),
    })
}

/// The options of [`explain`]: a time, and the syncs before it that count.
pub fn just_before(at: Timestamp, settings: &Settings) -> Options {
    // One more than the longest window that there is by default.
    let back = settings
        .downscale_stabilization_ms
        .saturating_add(settings.sync_ms)
        .max(settings.sync_ms);
    let syncs = (back / settings.sync_ms.max(1)).saturating_add(1);
    let from = at.saturating_sub(syncs.saturating_mul(settings.sync_ms));
    Options {
        settings: settings.clone(),
        ..Options::new(from, at)
    }
}

/// The bytes that a rehearsal holds at most, about.
///
/// # Errors
/// As [`run`] for what makes no sense.
pub fn bytes(hpas: &[Hpa], options: &Options) -> Result<u64, BacktestError> {
    let steps = steps(hpas, options)?;
    // For each sync: recorded replicas twice, those of the rehearsal, three numbers of each metric; and a change.
    let each = hpas.iter().map(|hpa| 3 + 3 * hpa.metrics.len()).sum::<usize>() * size_of::<f64>();
    let change = hpas.len() * size_of::<Event>();
    Ok(u64::try_from(steps.count.saturating_mul(each + change)).unwrap_or(u64::MAX))
}

/// Checks what is asked for; the times of all syncs.
fn steps(hpas: &[Hpa], options: &Options) -> Result<Steps, BacktestError> {
    let refuse = |why: String| Err(BacktestError::Question(why));
    if hpas.is_empty() || hpas.len() > MAX_MANIFESTS {
        return refuse(format!(
            "{} autoscalers are given: one is rehearsed, or {MAX_MANIFESTS} are compared",
            hpas.len()
        ));
    }
    for hpa in hpas {
        if hpa.metrics.len() > MAX_METRICS {
            return refuse(format!("{} has more than {MAX_METRICS} metrics", hpa.name));
        }
        if hpa.max_replicas > MAX_PODS {
            return refuse(format!(
                "maxReplicas of {} is above {MAX_PODS}, the most that is played",
                hpa.name
            ));
        }
    }
    let step_ms = options.settings.sync_ms;
    for (name, length, least) in [
        ("step", step_ms, 1000),
        ("rate_window", options.rate_window_ms, 1000),
        ("ready_after", options.ready_after_ms, 0),
        ("thrash", options.thrash_ms, 0),
        (
            "downscale_stabilization",
            options.settings.downscale_stabilization_ms,
            0,
        ),
    ] {
        if length < least {
            return refuse(format!("{name} is {} s at least", least / 1000));
        }
    }
    let span = options
        .to
        .millis()
        .checked_sub(options.from.millis())
        .filter(|span| *span >= 0);
    let Some(span) = span else {
        return refuse("the end is before the beginning".to_owned());
    };
    let count = usize::try_from(span / step_ms).unwrap_or(usize::MAX).saturating_add(1);
    if count > MAX_SYNCS {
        return refuse(format!(
            "{count} syncs are asked for, at most {MAX_SYNCS} are played: take a longer step"
        ));
    }
    Ok(Steps {
        start: options.from,
        step_ms,
        count,
    })
}

#[cfg(test)]
mod tests;
