//! One autoscaler, sync by sync, over what is recorded.

use super::columns::{Columns, MetricColumns, metric_milli, resource_milli};
use super::report::{Event, MetricRun, Run};
use super::{BacktestError, Feedback, MAX_PODS, Options, Source, Steps};
use crate::hpa::explain;
use crate::hpa::formula::{Reading, Request, Scale};
use crate::hpa::pods::{Phase, Pod, PodValue, Ready, Status};
use crate::hpa::seen::Seen;
use crate::hpa::spec::Source as Measured;
use crate::hpa::spec::{Hpa, Metric, Target};
use crate::hpa::{Decision, History, Path, Situation, decide};
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// How many syncs go by between two looks at whether anybody still waits.
const SYNCS_A_LOOK: usize = 256;

/// Plays all syncs.
pub(super) fn replay(
    hpa: &Hpa,
    options: &Options,
    steps: Steps,
    columns: Columns,
    source: &dyn Source,
) -> Result<Run, BacktestError> {
    let mut player = Player::new(hpa, options, steps, &columns);
    for no in 0..steps.count {
        if no % SYNCS_A_LOOK == 0 {
            source.check().map_err(|source| BacktestError::Source {
                what: "the rehearsal".to_owned(),
                query: format!("sync {no} of {}", steps.count),
                source,
            })?;
        }
        player.sync(no)?;
    }
    let mut run = player.run;
    run.finish(steps);
    let recorded = columns.replicas;
    for (told, read) in run.metrics.iter_mut().zip(columns.metrics) {
        told.query = read.total.query;
    }
    if let Some(recorded) = recorded {
        run.recorded(&recorded.query, &recorded.values, steps);
    }
    Ok(run)
}

/// The state of a rehearsal.
struct Player<'a> {
    hpa: &'a Hpa,
    options: &'a Options,
    steps: Steps,
    columns: &'a Columns,
    history: History,
    /// The pods there are; the newest last.
    pods: Vec<Pod>,
    /// How many pods there ever were, for their names.
    named: usize,
    /// What was decided last.
    desired: Option<i32>,
    /// When that was.
    looked: Timestamp,
    /// What was recorded at the sync before.
    recorded: Option<i32>,
    last: Option<Event>,
    run: Run,
}

impl<'a> Player<'a> {
    fn new(hpa: &'a Hpa, options: &'a Options, steps: Steps, columns: &'a Columns) -> Self {
        let metrics = hpa.metrics.iter().map(|metric| MetricRun::new(metric.description()));
        Self {
            hpa,
            options,
            steps,
            columns,
            history: History::default(),
            pods: Vec::new(),
            named: 0,
            desired: None,
            looked: steps.start,
            recorded: None,
            last: None,
            run: Run::new(
                format!("{}/{}", hpa.namespace, hpa.name),
                metrics.collect(),
                steps.count,
            ),
        }
    }

    /// The recorded replicas at a sync.
    fn recorded_at(&self, no: usize) -> Result<Option<i32>, BacktestError> {
        let value = self.columns.replicas.as_ref().and_then(|asked| asked.values.get(no));
        let Some(value) = value.copied().filter(|value| value.is_finite()) else {
            return Ok(None);
        };
        if !(0.0..=f64::from(MAX_PODS)).contains(&value) {
            return Err(BacktestError::Question(format!(
                "{value} replicas were recorded at {}; at most {MAX_PODS} are played",
                self.steps.at(no).seconds()
            )));
        }
        Ok(Some(value.round() as i32))
    }

    fn sync(&mut self, no: usize) -> Result<(), BacktestError> {
        let now = self.steps.at(no);
        let recorded = self.recorded_at(no)?;
        let current = match (self.options.feedback, self.desired, recorded) {
            (Feedback::Shared, Some(desired), _) => desired,
            // It begins with what there was.
            (Feedback::Shared, None, recorded) => recorded.unwrap_or(self.hpa.min_replicas.max(1)),
            (Feedback::None, _, Some(recorded)) => recorded,
            (Feedback::None, _, None) => {
                self.run.skipped += 1;
                self.run.replicas.push(self.desired.unwrap_or(0));
                return Ok(());
            }
        };
        if self.options.feedback == Feedback::None {
            if let (Some(before), Some(recorded)) = (self.recorded, recorded)
                && before != recorded
            {
                self.history.changed(self.hpa.behavior.as_ref(), before, recorded, now);
            }
            self.recorded = recorded;
        }
        let decision = self.look(no, now, current, recorded);
        if self.options.feedback == Feedback::Shared && decision.is_change() {
            self.history
                .changed(self.hpa.behavior.as_ref(), current, decision.desired, now);
        }
        self.note(now, current, &decision);
        self.desired = Some(decision.desired);
        self.looked = now;
        Ok(())
    }

    /// What the controller sees at a sync, and what it decides.
    fn look(&mut self, no: usize, now: Timestamp, current: i32, recorded: Option<i32>) -> Decision {
        self.make_pods(no, now, current);
        let seen: Vec<Seen> = self
            .hpa
            .metrics
            .iter()
            .zip(&self.columns.metrics)
            .map(|(metric, columns)| self.see(metric, columns, no, now, recorded))
            .collect();
        let readings: Vec<Reading<'_>> = seen.iter().map(Seen::reading).collect();
        let situation = Situation {
            now,
            scale: Scale {
                spec: current,
                status: current,
            },
            pods: &self.pods,
            readings: &readings,
            barred: None,
        };
        let decision = decide(self.hpa, &self.options.settings, &situation, &mut self.history);
        if self.run.explained.is_none() && self.options.explain_at.is_some_and(|at| at <= now) {
            let queries: Vec<String> = self.columns.metrics.iter().map(|m| m.total.query.clone()).collect();
            let told = explain::Told {
                hpa: self.hpa,
                settings: &self.options.settings,
                queries: &queries,
                pods: &[],
                missing: &[],
            };
            self.run.explained = Some(explain::Explained::of(&decision, told));
        }
        decision
    }

    /// Brings the pods to what there should be at a sync.
    fn make_pods(&mut self, no: usize, now: Timestamp, current: i32) {
        let most_seen = match self.options.feedback {
            Feedback::Shared => 0,
            Feedback::None => {
                let counts = self.columns.metrics.iter().filter_map(|m| m.count.as_ref()?.get(no));
                let most = counts.copied().filter(|count| count.is_finite()).fold(0.0, f64::max);
                most.min(f64::from(MAX_PODS)) as usize
            }
        };
        let wanted = usize::try_from(current).unwrap_or(0).max(most_seen);
        self.pods.truncate(wanted);
        // Those of the beginning have been there for long; so have recorded ones, whose age nobody knows. Others began when
        // it was decided, at the look before.
        let is_old = self.desired.is_none() || self.options.feedback == Feedback::None;
        let started = if is_old {
            now.saturating_sub(DAY_MS)
        } else {
            self.looked
        };
        while self.pods.len() < wanted {
            self.named += 1;
            self.pods.push(Pod {
                name: format!("{}-{}", self.hpa.target.name, self.named).into(),
                phase: Phase::Pending,
                deleting: false,
                started: Some(started),
                ready: None,
            });
        }
        for pod in &mut self.pods {
            let since = pod.started.unwrap_or(now).saturating_add(self.options.ready_after_ms);
            if pod.phase == Phase::Pending && since <= now {
                pod.phase = Phase::Running;
                let status = Status::True;
                pod.ready = Some(Ready { status, since });
            }
        }
    }

    /// What a metric answers at a sync.
    fn see(&self, metric: &Metric, columns: &MetricColumns, no: usize, now: Timestamp, recorded: Option<i32>) -> Seen {
        let total = columns.total.values.get(no).copied().filter(|total| total.is_finite());
        let Some(total) = total else {
            return Seen::Failed("nothing is recorded of this time".into());
        };
        let running = self.pods.iter().filter(|pod| pod.phase == Phase::Running).count();
        match &metric.source {
            Measured::Object { .. } | Measured::External { .. } => {
                let shared = matches!(metric.target, Target::Value(_)) && self.options.feedback == Feedback::Shared;
                let value = match (shared && running > 0, recorded) {
                    (true, Some(recorded)) => total * f64::from(recorded) / running as f64,
                    _ => total,
                };
                Seen::Values(vec![metric_milli(value)])
            }
            Measured::Resource { .. } | Measured::ContainerResource { .. } | Measured::Pods { .. } => {
                let with = match self.options.feedback {
                    Feedback::Shared => running,
                    Feedback::None => {
                        let counted = columns.count.as_ref().and_then(|counts| counts.get(no)).copied();
                        let known = counted
                            .filter(|count| count.is_finite())
                            .map(|count| count.max(0.0) as usize);
                        known.unwrap_or(running).min(running)
                    }
                };
                let each = total / with.max(1) as f64;
                let milli = match metric.source {
                    Measured::Pods { .. } => metric_milli(each),
                    _ => resource_milli(each),
                };
                let value = PodValue {
                    milli,
                    at: now,
                    window_ms: self.options.settings.sync_ms,
                };
                let mut left = with;
                let values = self.pods.iter().map(|pod| {
                    let has = pod.phase == Phase::Running && left > 0;
                    left -= usize::from(has);
                    has.then_some(value)
                });
                let values = values.collect();
                let request = match columns.request.as_ref().map(|request| request.milli(no)) {
                    Some(Some(milli)) => Request::Milli(milli),
                    _ => Request::NoContainerRequest(Arc::from("(not recorded at this time)")),
                };
                let requests = match metric.target {
                    Target::Utilization(_) => vec![request; self.pods.len()],
                    _ => Vec::new(),
                };
                Seen::Pods { values, requests }
            }
        }
    }

    /// Notes what came of a sync.
    fn note(&mut self, now: Timestamp, current: i32, decision: &Decision) {
        let run = &mut self.run;
        run.syncs += 1;
        run.replicas.push(decision.desired);
        match &decision.path {
            Path::Failed { error } => {
                run.failed += 1;
                run.first_error.get_or_insert_with(|| error.clone());
            }
            Path::Metrics { limited, .. } => {
                run.limited += usize::from(limited.by != crate::hpa::behavior::Limit::Within);
            }
            Path::Disabled | Path::AboveMax | Path::BelowMin => {}
        }
        for (told, proposal) in run.metrics.iter_mut().zip(&decision.metrics) {
            match (&proposal.outcome, proposal.trace.first) {
                (Ok(_), Some(first)) => told.ratio(first.ratio),
                (Err(_), _) => told.failed += 1,
                (Ok(_), None) => {}
            }
        }
        let from = match self.options.feedback {
            Feedback::Shared => current,
            Feedback::None => self.desired.unwrap_or(current),
        };
        if decision.desired == from {
            return;
        }
        let mut event = Event {
            at: now,
            from,
            to: decision.desired,
            reason: decision.reason.clone(),
            thrash: false,
        };
        event.thrash = self.last.as_ref().is_some_and(|last| {
            last.is_up() != event.is_up() && now.millis().saturating_sub(last.at.millis()) <= self.options.thrash_ms
        });
        self.last = Some(event.clone());
        run.events.push(event);
    }
}

/// A pod of this age is in no way new.
const DAY_MS: i64 = 86_400_000;
