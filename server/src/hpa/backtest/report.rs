//! What came of a rehearsal, for people and for programs.

use super::{Feedback, Steps, chart};
use crate::hpa::explain::Explained;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tidegauge_model::Timestamp;

/// The most events that are listed; all are counted.
const MAX_EVENTS: usize = 10_000;
/// The most events that a text lists.
const MAX_LINES: usize = 50;

/// What came of a rehearsal.
#[derive(Debug, Clone)]
pub struct Report {
    /// When the syncs were.
    pub steps: Steps,
    /// What was assumed of the load.
    pub feedback: Feedback,
    /// How long pods took until they were ready.
    pub ready_after_ms: i64,
    /// What counts as thrash.
    pub thrash_ms: i64,
    /// One for each autoscaler.
    pub runs: Vec<Run>,
}

/// What came of one autoscaler.
#[derive(Debug, Clone)]
pub struct Run {
    /// Which.
    pub name: String,
    /// Syncs that were played.
    pub syncs: usize,
    /// Syncs at which metrics failed and nothing could be done.
    pub failed: usize,
    /// Syncs at which a limit decided.
    pub limited: usize,
    /// Steps that were left out because nothing is known of the replicas yet.
    pub skipped: usize,
    /// What the first failure was.
    pub first_error: Option<String>,
    /// Replicas after each step; 0 for the first ones that were left out.
    pub replicas: Vec<i32>,
    /// Changes, in order.
    pub events: Vec<Event>,
    /// One for each metric.
    pub metrics: Vec<MetricRun>,
    /// What there was really, if that is known: the query, and the replicas at each step.
    pub recorded: Option<(String, Vec<f64>)>,
    /// One decision in words, if one was asked for.
    pub explained: Option<Explained>,
    /// Sums over all steps.
    pub sums: Sums,
}

/// Sums over all steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// Replicas times hours.
    pub pod_hours: f64,
    /// The same of what there was really.
    pub recorded_pod_hours: Option<f64>,
    /// The fewest replicas.
    pub min: i32,
    /// The most replicas.
    pub max: i32,
}

/// A change of the number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// From.
    pub from: i32,
    /// To.
    pub to: i32,
    /// Why, in the controller's words.
    pub reason: String,
    /// It came soon after one in the other direction.
    pub thrash: bool,
}

impl Event {
    /// Whether there are more afterwards.
    pub fn is_up(&self) -> bool {
        self.to > self.from
    }
}

/// What came of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRun {
    /// What the controller calls it.
    pub name: String,
    /// Where its value came from.
    pub query: String,
    /// Syncs at which it was above its target.
    pub above: usize,
    /// Syncs at which it had a value.
    pub known: usize,
    /// Syncs at which it failed.
    pub failed: usize,
    /// How far it was above its target at most: the value over the target.
    pub highest: f64,
}

impl MetricRun {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            query: String::new(),
            above: 0,
            known: 0,
            failed: 0,
            highest: 0.0,
        }
    }

    /// Notes a value over its target.
    pub(super) fn ratio(&mut self, ratio: f64) {
        self.known += 1;
        self.above += usize::from(ratio > 1.0);
        if ratio.is_finite() {
            self.highest = self.highest.max(ratio);
        }
    }
}

impl Run {
    pub(super) fn new(name: String, metrics: Vec<MetricRun>, steps: usize) -> Self {
        Self {
            name,
            syncs: 0,
            failed: 0,
            limited: 0,
            skipped: 0,
            first_error: None,
            replicas: Vec::with_capacity(steps),
            events: Vec::new(),
            metrics,
            recorded: None,
            explained: None,
            sums: Sums::default(),
        }
    }

    /// Sums up.
    pub(super) fn finish(&mut self, steps: Steps) {
        let played = self
            .replicas
            .get(self.skipped.min(self.replicas.len())..)
            .unwrap_or_default();
        let sum: i64 = played.iter().map(|n| i64::from(*n)).sum();
        self.sums.pod_hours = hours(sum as f64, steps);
        self.sums.min = played.iter().copied().min().unwrap_or(0);
        self.sums.max = played.iter().copied().max().unwrap_or(0);
    }

    /// Notes what there was really.
    pub(super) fn recorded(&mut self, query: &str, values: &[f64], steps: Steps) {
        let known: f64 = values.iter().filter(|value| value.is_finite()).sum();
        self.sums.recorded_pod_hours = Some(hours(known, steps));
        self.recorded = Some((query.to_owned(), values.to_vec()));
    }

    /// Changes up.
    pub fn ups(&self) -> usize {
        self.events.iter().filter(|event| event.is_up()).count()
    }

    /// Changes down.
    pub fn downs(&self) -> usize {
        self.events.len() - self.ups()
    }

    /// Changes soon after one in the other direction.
    pub fn thrash(&self) -> usize {
        self.events.iter().filter(|event| event.thrash).count()
    }
}

fn hours(replica_steps: f64, steps: Steps) -> f64 {
    replica_steps * steps.step_ms as f64 / 3_600_000.0
}

fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| at.millis().to_string(), |at| at.to_string())
}

/// A time for people: `2h 5m`.
fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    match told.is_empty() {
        true => "0s".to_owned(),
        false => told.join(" "),
    }
}

impl Report {
    fn milliseconds(&self, steps: usize) -> i64 {
        i64::try_from(steps)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.steps.step_ms)
    }

    /// As JSON: times are seconds since 1970, durations seconds, replicas a list of changes.
    pub fn json(&self) -> Value {
        json!({
            "from": self.steps.start.seconds(),
            "to": self.steps.end().seconds(),
            "stepSeconds": self.steps.step_ms as f64 / 1000.0,
            "feedback": self.feedback.name(),
            "assumption": self.feedback.described(),
            "readyAfterSeconds": self.ready_after_ms as f64 / 1000.0,
            "thrashSeconds": self.thrash_ms as f64 / 1000.0,
            "hpas": self.runs.iter().map(|run| self.run_json(run)).collect::<Vec<_>>(),
        })
    }

    fn run_json(&self, run: &Run) -> Value {
        let seconds = |steps| self.milliseconds(steps) as f64 / 1000.0;
        let metrics = run.metrics.iter().map(|metric| {
            json!({
                "name": metric.name,
                "query": metric.query,
                "aboveTargetSeconds": seconds(metric.above),
                "knownSeconds": seconds(metric.known),
                "failedSyncs": metric.failed,
                "highestRatio": metric.highest,
            })
        });
        let events = run.events.iter().take(MAX_EVENTS).map(|event| {
            json!({
                "at": event.at.seconds(),
                "from": event.from,
                "to": event.to,
                "reason": event.reason,
                "thrash": event.thrash,
            })
        });
        let recorded = run.recorded.as_ref().map(|(query, values)| {
            json!({
                "query": query,
                "podHours": run.sums.recorded_pod_hours,
                "replicas": self.changes(values.iter().map(|v| if v.is_finite() { Some(v.round() as i64) } else { None })),
            })
        });
        let played = run
            .replicas
            .iter()
            .enumerate()
            .map(|(no, n)| (no >= run.skipped).then_some(i64::from(*n)));
        json!({
            "name": run.name,
            "syncs": run.syncs,
            "failedSyncs": run.failed,
            "limitedSyncs": run.limited,
            "skippedSyncs": run.skipped,
            "firstError": run.first_error,
            "podHours": run.sums.pod_hours,
            "minReplicas": run.sums.min,
            "maxReplicas": run.sums.max,
            "scaleUps": run.ups(),
            "scaleDowns": run.downs(),
            "thrash": run.thrash(),
            "metrics": metrics.collect::<Vec<_>>(),
            "replicas": self.changes(played),
            "events": events.collect::<Vec<_>>(),
            "recorded": recorded,
            "explain": run.explained.as_ref().map(|explained| &explained.text),
        })
    }

    /// `[time, replicas]` where the number differs from the one before.
    fn changes(&self, values: impl Iterator<Item = Option<i64>>) -> Vec<Value> {
        let mut last = None;
        let mut out = Vec::new();
        for (no, value) in values.enumerate() {
            if value != last {
                out.push(json!([self.steps.at(no).seconds(), value]));
                last = value;
            }
        }
        out
    }

    /// As text for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{} to {}, a sync every {}",
            time(self.steps.start),
            time(self.steps.end()),
            duration(self.steps.step_ms)
        );
        let _ = writeln!(out, "feedback: {}\n", self.feedback.described());
        self.table(&mut out);
        for run in &self.runs {
            self.details(&mut out, run);
        }
        out
    }

    fn table(&self, out: &mut String) {
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        let mut row = |name: &str, cell: &dyn Fn(&Run) -> String| {
            rows.push((name.to_owned(), self.runs.iter().map(cell).collect()));
        };
        row("", &|run| run.name.clone());
        row("pod hours", &|run| format!("{:.2}", run.sums.pod_hours));
        row("  as recorded", &|run| {
            let hours = run.sums.recorded_pod_hours;
            hours.map_or("not known".to_owned(), |hours| format!("{hours:.2}"))
        });
        row("replicas", &|run| format!("{} to {}", run.sums.min, run.sums.max));
        row("scaled up", &|run| run.ups().to_string());
        row("scaled down", &|run| run.downs().to_string());
        row("thrash", &|run| run.thrash().to_string());
        row("limited", &|run| duration(self.milliseconds(run.limited)));
        row("metrics failed", &|run| duration(self.milliseconds(run.failed)));
        let most = self.runs.iter().map(|run| run.metrics.len()).max().unwrap_or(0);
        for no in 0..most {
            row(&format!("above target {}", no + 1), &|run| match run.metrics.get(no) {
                Some(metric) => format!(
                    "{}, up to {:.2}x",
                    duration(self.milliseconds(metric.above)),
                    metric.highest
                ),
                None => "-".to_owned(),
            });
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.runs.len())
            .map(|no| {
                rows.iter()
                    .filter_map(|(_, cells)| cells.get(no))
                    .map(|c| c.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (name, cells) in &rows {
            let _ = write!(out, "{name:<width$}");
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(out, "  {cell:>width$}");
            }
            out.push('\n');
        }
    }

    fn details(&self, out: &mut String, run: &Run) {
        let _ = writeln!(out, "\n{}", run.name);
        for (no, metric) in run.metrics.iter().enumerate() {
            let _ = writeln!(out, "  metric {}  {}: {}", no + 1, metric.name, metric.query);
        }
        if let Some((query, _)) = &run.recorded {
            let _ = writeln!(out, "  recorded  {query}");
        }
        if let Some(error) = &run.first_error {
            let _ = writeln!(out, "  failed    {} syncs, the first: {error}", run.failed);
        }
        if run.skipped > 0 {
            let _ = writeln!(
                out,
                "  left out  {} steps before any replicas are recorded",
                run.skipped
            );
        }
        for event in run.events.iter().take(MAX_LINES) {
            let _ = writeln!(
                out,
                "  {}  {:>4} -> {:<4} {}{}",
                time(event.at),
                event.from,
                event.to,
                event.reason,
                if event.thrash { "  (thrash)" } else { "" }
            );
        }
        if run.events.len() > MAX_LINES {
            let _ = writeln!(out, "  and {} changes more", run.events.len() - MAX_LINES);
        }
        if let Some(explained) = &run.explained {
            let _ = write!(out, "\n{}", explained.text);
        }
    }

    /// As a picture (SVG): replicas over time.
    pub fn svg(&self) -> String {
        chart::draw(self)
    }
}
