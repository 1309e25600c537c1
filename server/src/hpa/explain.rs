//! A decision in words: what each metric was, what was missing, what it asks for, what held it back, what came of it.

pub mod json;

use super::behavior::{Limit, Limited, Stabilized};
use super::decide::{Decision, Path};
use super::formula::{Filled, FilledWith, Proposal, Rule, Tolerance};
use super::pods::{Grouped, Place};
use super::quantity::{Format, Quantity};
use super::spec::{Hpa, Metric, Settings, Source};
use super::usage::{By, Usage};
use std::fmt::Write as _;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// Of more pods that do not count, only the number is told.
const MAX_PODS_TOLD: usize = 20;

/// What is told beside the decision itself.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// What it was decided for.
    pub hpa: &'a Hpa,
    /// What the controller was started with.
    pub settings: &'a Settings,
    /// Where each metric's value came from; may be shorter than the metrics.
    pub queries: &'a [String],
    /// The names of the pods; may be empty, where names say nothing.
    pub pods: &'a [Arc<str>],
    /// Why pods have no value, by metric; may be shorter than the metrics.
    pub missing: &'a [Vec<Lack>],
}

/// Why a pod has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The pod.
    pub pod: Arc<str>,
    /// Why, in words.
    pub why: String,
}

/// A decision, explained.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// For programs.
    pub json: serde_json::Value,
    /// For people.
    pub text: String,
}

impl Explained {
    /// Explains a decision both ways.
    pub fn of(decision: &Decision, told: Told<'_>) -> Self {
        Self {
            json: json::decision(decision, told),
            text: text(decision, told),
        }
    }
}

/// The decision as lines of text.
pub fn text(decision: &Decision, told: Told<'_>) -> String {
    let Told { hpa, .. } = told;
    let mut out = String::new();
    let at = time(decision.at);
    line(
        &mut out,
        0,
        format_args!(
            "{}/{} at {at}: {} {}, {} -> {} replicas",
            hpa.namespace, hpa.name, hpa.target.kind, hpa.target.name, decision.current, decision.desired
        ),
    );
    for (no, (metric, proposal)) in hpa.metrics.iter().zip(&decision.metrics).enumerate() {
        self::metric(&mut out, no, metric, proposal, told);
    }
    path(&mut out, decision, hpa);
    if !decision.reason.is_empty() {
        line(&mut out, 1, format_args!("because    {}", decision.reason));
    }
    for condition in &decision.conditions {
        line(
            &mut out,
            1,
            format_args!(
                "{:<15}{:<6}{}: {}",
                condition.kind.name(),
                condition.status.name(),
                condition.reason,
                condition.message
            ),
        );
    }
    out
}

/// A time as people and Kubernetes write it.
pub fn time(at: Timestamp) -> String {
    let known = jiff::Timestamp::from_millisecond(at.millis());
    known.map_or_else(|_| at.millis().to_string(), |at| at.to_string())
}

fn line(out: &mut String, indent: usize, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:indent$}{text}", "", indent = indent * 2);
}

fn metric(out: &mut String, no: usize, metric: &Metric, proposal: &Proposal, told: Told<'_>) {
    let container = match &metric.source {
        Source::ContainerResource { container, .. } => format!(", container {container}"),
        _ => String::new(),
    };
    line(
        out,
        1,
        format_args!("metric {}   {}{container}", no + 1, metric.description()),
    );
    line(out, 2, format_args!("target   {}", metric.target));
    if let Some(query) = told.queries.get(no) {
        line(out, 2, format_args!("query    {query}"));
    }
    let trace = &proposal.trace;
    let lacks = told.missing.get(no).map_or(&[][..], Vec::as_slice);
    if trace.pods.is_none() {
        for Lack { pod, why } in lacks {
            line(out, 3, format_args!("{pod}: no value: {why}"));
        }
    }
    if let Some(pods) = &trace.pods {
        line(out, 2, format_args!("pods     {}", grouped(pods)));
        let all = not_counted(pods, told.pods, lacks);
        for (name, why) in all.iter().take(MAX_PODS_TOLD) {
            line(out, 3, format_args!("{name}: {why}"));
        }
        if all.len() > MAX_PODS_TOLD {
            line(out, 3, format_args!("and {} more", all.len() - MAX_PODS_TOLD));
        }
    }
    if let Some(ready) = trace.ready {
        line(out, 2, format_args!("pods     {ready} running and ready"));
    }
    if trace.strangers > 0 {
        line(
            out,
            2,
            format_args!(
                "beside   {} values of pods that the selector does not match",
                trace.strangers
            ),
        );
    }
    let format = format(metric);
    if let Some(first) = &trace.first {
        line(out, 2, format_args!("value    {}", usage(first, format)));
        let tolerance = Tolerance::of(told.hpa, told.settings);
        let within = if tolerance.has(first.ratio) {
            "within"
        } else {
            "outside"
        };
        line(
            out,
            2,
            format_args!("ratio    {:.4}, {within} {tolerance}", first.ratio),
        );
    }
    if let Some(second) = &trace.second {
        line(out, 2, format_args!("assumed  {}", filled(trace.filled)));
        line(
            out,
            2,
            format_args!("value    {} then, ratio {:.4}", usage(second, format), second.ratio),
        );
    }
    match &proposal.outcome {
        Ok(replicas) => line(out, 2, format_args!("asks for {replicas}: {}", rule(trace.rule))),
        Err(error) => line(out, 2, format_args!("fails    {error}")),
    }
}

/// How amounts of a metric are printed.
fn format(metric: &Metric) -> Format {
    match metric.name() {
        "memory" => Format::Binary,
        _ => Format::Decimal,
    }
}

/// The pods that do not count, by their names as far as these are known, and why.
fn not_counted<'a>(pods: &Grouped, names: &'a [Arc<str>], lacks: &[Lack]) -> Vec<(&'a str, String)> {
    let all = names.iter().zip(&pods.places);
    let others = all.filter(|(_, place)| **place != Place::Counted);
    let told = others.map(|(name, place)| {
        let lack = lacks.iter().find(|lack| place.is_missing() && lack.pod == *name);
        let why = match lack {
            Some(lack) => format!("{}: {}", place.described(), lack.why),
            None => place.described().to_owned(),
        };
        (&**name, why)
    });
    told.collect()
}

fn grouped(pods: &Grouped) -> String {
    let mut out = format!("{} match, {} counted", pods.places.len(), pods.counted);
    let mut told: Vec<(&str, usize)> = Vec::new();
    for place in pods.places.iter().filter(|place| **place != Place::Counted) {
        let words = place.described();
        match told.iter_mut().find(|(known, _)| *known == words) {
            Some((_, count)) => *count += 1,
            None => told.push((words, 1)),
        }
    }
    for (words, count) in told {
        let _ = write!(out, ", {count} {words}");
    }
    out
}

fn usage(usage: &Usage, format: Format) -> String {
    let amount = |milli| Quantity::from_milli(milli, format);
    let sum = amount(usage.sum);
    match usage.by {
        By::Percent {
            requests,
            percent,
            target,
            ..
        } => format!(
            "{sum} of {} requested = {percent}%, should be {target}%",
            amount(requests)
        ),
        By::Average { count, average, target } => {
            format!("{sum} / {count} = {}, should be {}", amount(average), amount(target))
        }
        By::Total { target } => format!("{sum}, should be {}", amount(target)),
        By::Shared {
            replicas,
            average,
            target,
        } => format!(
            "{sum} / {replicas} replicas = {}, should be {}",
            amount(average),
            amount(target)
        ),
    }
}

fn filled(filled: Filled) -> String {
    let missing = filled.missing.map(|with| match with {
        FilledWith::Target => "pods without a value use what they should",
        FilledWith::Zero => "pods without a value use nothing",
    });
    let unready = filled.unready.then_some("pods that are not ready use nothing");
    let told: Vec<&str> = missing.into_iter().chain(unready).collect();
    match told.is_empty() {
        true => "nothing of pods without a value".to_owned(),
        false => told.join(", "),
    }
}

fn rule(rule: Rule) -> String {
    match rule {
        Rule::None => "nothing".to_owned(),
        Rule::Within => "near enough to the target, no change".to_owned(),
        Rule::WithinFilled => "near enough to the target with what is assumed, no change".to_owned(),
        Rule::Turned => "with what is assumed it would go the other way, no change".to_owned(),
        Rule::TurnedByCount => "of the pods that count it would go the other way, no change".to_owned(),
        Rule::Times { ratio, count } => format!("ceil({ratio:.4} x {count})"),
        Rule::Share => "ceil(total / target)".to_owned(),
        Rule::FromZero { ratio } => format!("ceil({ratio:.4}), as there are none yet"),
    }
}

fn path(out: &mut String, decision: &Decision, hpa: &Hpa) {
    match &decision.path {
        Path::Disabled => line(
            out,
            1,
            format_args!("switched off: there are no replicas, and the autoscaler did not take them"),
        ),
        Path::AboveMax => line(
            out,
            1,
            format_args!("above maxReplicas, {}: metrics are not looked at", hpa.max_replicas),
        ),
        Path::BelowMin => line(
            out,
            1,
            format_args!("below minReplicas, {}: metrics are not looked at", hpa.min_replicas),
        ),
        Path::Failed { error } => line(out, 1, format_args!("no change: {error}")),
        Path::Metrics {
            proposed,
            by,
            stabilized,
            limited,
            error,
        } => {
            line(
                out,
                1,
                format_args!("proposed   {proposed}, the most of all metrics, by metric {}", by + 1),
            );
            if let Some(error) = error {
                line(out, 1, format_args!("failed     {error}; scaling up is still allowed"));
            }
            line(out, 1, format_args!("stabilized {}", self::stabilized(stabilized)));
            limits(out, limited, hpa);
        }
    }
}

fn stabilized(stabilized: &Stabilized) -> String {
    let Stabilized {
        replicas,
        lowest,
        highest,
        up_seconds,
        down_seconds,
        ..
    } = stabilized;
    let mut out = format!("{replicas}, the most wanted in {down_seconds}s is {highest}");
    if *up_seconds > 0 {
        let _ = write!(out, ", the least in {up_seconds}s {lowest}");
    }
    out
}

fn limits(out: &mut String, limited: &Limited, hpa: &Hpa) {
    let (least, most) = (hpa.min_replicas, hpa.max_replicas);
    let mut text = format!("{}, of {least} to {most}", limited.replicas);
    if let Some(reach) = limited.reach {
        let _ = write!(text, ", at this pace {reach}");
    }
    if limited.by != Limit::Within {
        let _ = write!(text, ": {}", limited.by.message());
    }
    line(out, 1, format_args!("limited    {text}"));
    for one in &limited.policies {
        line(
            out,
            2,
            format_args!("policy   {}: from {} to {}", one.policy, one.start, one.reach),
        );
    }
}
