//! What is known of autoscalers, as JSON for programs and as text for people.

use super::board::{Board, Entry, Id};
use super::look::{Look, Outcome};
use super::object::{Controller, StatusCondition};
use crate::hpa::explain::{self, Explained, Told, json};
use crate::hpa::spec::{Hpa, Settings};
use serde_json::{Value, json};
use std::fmt::Write as _;
use tidegauge_model::Timestamp;

impl Board {
    /// All autoscalers, by namespace and name.
    pub fn json(&self) -> Value {
        let inner = self.inner.lock();
        let hpas = inner.entries.iter().map(|(id, entry)| brief(id, entry));
        json!({
            "hpas": hpas.collect::<Vec<_>>(),
            "problems": inner.problems,
            "refused": inner.refused,
        })
    }

    /// Why one is at the number it is at; `None` if it is not known of.
    pub fn explain(&self, id: &Id) -> Option<Explained> {
        let entry = self.entry(id)?;
        Some(Explained {
            json: whole(id, &entry),
            text: text(id, &entry),
        })
    }
}

impl Look {
    fn told<'a>(&'a self, decided: &'a super::look::Decided) -> Told<'a> {
        Told {
            hpa: &self.hpa,
            settings: &self.settings,
            queries: &decided.queries,
            pods: &decided.pods,
            missing: &decided.missing,
        }
    }

    /// What came of it, as JSON.
    pub fn json(&self) -> Value {
        match &self.outcome {
            Outcome::Decided(decided) => json::decision(&decided.decision, self.told(decided)),
            Outcome::Blocked(_) => Value::Null,
        }
    }

    /// What came of it, in lines.
    pub fn text(&self) -> String {
        match &self.outcome {
            Outcome::Decided(decided) => explain::text(&decided.decision, self.told(decided)),
            Outcome::Blocked(why) => {
                let Hpa {
                    namespace,
                    name,
                    target,
                    ..
                } = &*self.hpa;
                let at = explain::time(self.at);
                format!(
                    "{namespace}/{name} at {at}: {} {}, no change\n  blocked    {why}\n",
                    target.kind, target.name
                )
            }
        }
    }

    /// What kept it from a number, or failed beside it.
    pub fn error(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Decided(decided) => json::error(&decided.decision.path),
            Outcome::Blocked(why) => Some(why),
        }
    }
}

/// What all answers say of an autoscaler.
fn brief(id: &Id, entry: &Entry) -> Value {
    let hpa = entry.shown.hpa.as_ref().ok();
    let look = entry.look.as_deref();
    let decided = look.and_then(Look::decided);
    let error = match (&entry.shown.hpa, look) {
        (Err(why), _) => Some(why.as_str()),
        (Ok(_), Some(look)) => look.error(),
        (Ok(_), None) => None,
    };
    let target =
        hpa.map(|hpa| json!({"apiVersion": hpa.target.api_version, "kind": hpa.target.kind, "name": hpa.target.name}));
    json!({
        "namespace": &*id.namespace,
        "name": &*id.name,
        "target": target,
        "minReplicas": hpa.map(|hpa| hpa.min_replicas),
        "maxReplicas": hpa.map(|hpa| hpa.max_replicas),
        "lookedAt": look.map(|look| explain::time(look.at)),
        "watchedSince": entry.memory.since.map(explain::time),
        "currentReplicas": decided.map(|decided| decided.decision.current),
        "desiredReplicas": decided.map(|decided| decided.decision.desired),
        "metrics": metrics(entry),
        "conditions": decided.map_or_else(Vec::new, |d| d.decision.conditions.iter().map(json::condition).collect()),
        "error": error,
        "controller": controller(&entry.shown.controller),
        "difference": difference(entry),
        "differsSince": entry.differs_since.map(explain::time),
    })
}

/// Each metric in a line, with what the controller saw.
fn metrics(entry: &Entry) -> Vec<Value> {
    let Ok(hpa) = &entry.shown.hpa else { return Vec::new() };
    let decided = entry
        .look
        .as_deref()
        .filter(|look| look.hpa == *hpa)
        .and_then(Look::decided);
    let metrics = hpa.metrics.iter().enumerate().map(|(no, metric)| {
        let proposal = decided.and_then(|decided| decided.decision.metrics.get(no));
        json!({
            "name": metric.description(),
            "type": json::kind(&metric.source),
            "target": metric.target.to_string(),
            "ratio": proposal.and_then(|proposal| proposal.trace.first).map(|first| first.ratio),
            "replicas": proposal.and_then(|proposal| proposal.outcome.as_ref().ok()),
            "error": proposal.and_then(|proposal| proposal.outcome.as_ref().err()).map(ToString::to_string),
            "controllerSaw": entry.shown.controller.metrics.get(no),
        })
    });
    metrics.collect()
}

fn controller(controller: &Controller) -> Value {
    let conditions = controller.conditions.iter().map(
        |StatusCondition {
             kind,
             status,
             last_transition_time,
             reason,
             message,
         }| {
            json!({
                "type": kind,
                "status": status,
                "lastTransitionTime": last_transition_time,
                "reason": reason,
                "message": message,
            })
        },
    );
    json!({
        "currentReplicas": controller.current,
        "desiredReplicas": controller.desired,
        "lastScaleTime": controller.scaled_at.map(explain::time),
        "conditions": conditions.collect::<Vec<_>>(),
    })
}

/// All of it.
fn whole(id: &Id, entry: &Entry) -> Value {
    let mut all = brief(id, entry);
    if let Value::Object(all) = &mut all {
        let look = entry.look.as_deref();
        let selector = look.and_then(Look::decided).map(|decided| decided.selector.as_str());
        all.insert("selector".to_owned(), json!(selector));
        all.insert("decision".to_owned(), look.map_or(Value::Null, Look::json));
        all.insert("text".to_owned(), Value::String(text(id, entry)));
    }
    all
}

fn text(id: &Id, entry: &Entry) -> String {
    let mut out = match (&entry.shown.hpa, &entry.look) {
        (Err(why), _) => format!("{id}: it cannot be read: {why}\n"),
        (Ok(_), None) => format!("{id}: not looked at yet\n"),
        (Ok(_), Some(look)) => look.text(),
    };
    let theirs = &entry.shown.controller;
    // Writing to a string cannot fail.
    let _ = match (theirs.current, theirs.desired) {
        (Some(current), Some(desired)) => writeln!(out, "  controller {current} -> {desired} replicas, by its status"),
        _ => writeln!(out, "  controller has not looked at it yet, by its status"),
    };
    if let Ok(hpa) = &entry.shown.hpa {
        for (metric, saw) in hpa.metrics.iter().zip(&theirs.metrics) {
            let saw = saw.as_deref().unwrap_or("nothing");
            let _ = writeln!(out, "    saw      {saw} of {}", metric.description());
        }
    }
    if let Some(condition) = theirs.trouble() {
        let _ = writeln!(out, "    says     {}: {}", condition.reason, condition.message);
    }
    if let Some(difference) = difference(entry) {
        let _ = writeln!(out, "  differs    {difference}");
    }
    out
}

/// How the controller's number is another, and what may be behind it; `None` if it is the same, or not known.
fn difference(entry: &Entry) -> Option<String> {
    let look = entry.look.as_deref()?;
    let decided = look.decided()?;
    let theirs = entry.shown.controller.desired?;
    let ours = decided.decision.desired;
    if ours == theirs {
        return None;
    }
    let mut said = format!("the controller wants {theirs}, here it is {ours}");
    if let Some(since) = entry.differs_since.filter(|since| *since < look.at) {
        let _ = write!(said, ", for {}s now", seconds(since, look.at));
    }
    for cause in causes(entry, look) {
        let _ = write!(said, "; {cause}");
    }
    Some(said)
}

/// What may be behind a difference.
fn causes(entry: &Entry, look: &Look) -> Vec<String> {
    let mut causes = Vec::new();
    if let Some(condition) = entry.shown.controller.trouble() {
        causes.push(format!(
            "the controller says {}: {}",
            condition.reason, condition.message
        ));
    }
    let window = longest_window_seconds(&look.hpa, &look.settings);
    if let Some(since) = entry.memory.since {
        let watched = seconds(since, look.at);
        if watched < window {
            causes.push(format!("it is watched for {watched}s, and {window}s count"));
        }
    }
    if entry.differs_since == Some(look.at) {
        causes.push("it may have looked some seconds before or after".to_owned());
    }
    causes
}

/// How far back a decision looks.
fn longest_window_seconds(hpa: &Hpa, settings: &Settings) -> i64 {
    let default = settings.downscale_stabilization_ms / 1000;
    let Some(behavior) = &hpa.behavior else { return default };
    let up = behavior.up.window_seconds.map_or(0, i64::from);
    let down = behavior.down.window_seconds.map_or(default, i64::from);
    up.max(down)
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.millis().saturating_sub(from.millis()) / 1000
}
