//! One look of the controller at an autoscaler: from what is measured to the number of replicas, with what it remembers
//! in between and what it writes into the status.

use super::behavior::{
    Changes, Limited, Recorded, Stabilized, Wish, limit, limit_by_default, stabilize, stabilize_by_default,
};
use super::condition::{Condition, Conditions, Kind};
use super::formula::{Proposal, Reading, Scale, Sight, Tolerance, propose};
use super::pods::{Pod, Status};
use super::spec::{Behavior, Hpa, Metric, Settings};
use std::collections::VecDeque;
use tidegauge_model::Timestamp;

/// What the controller sees at one look.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// When.
    pub now: Timestamp,
    /// How many replicas.
    pub scale: Scale,
    /// The pods that the scale's selector matches.
    pub pods: &'a [Pod],
    /// One for each metric, in their order.
    pub readings: &'a [Reading<'a>],
    /// What keeps it from looking at metrics at all.
    pub barred: Option<&'a Barred>,
}

/// Why metrics cannot be looked at, in the controller's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    /// `InvalidSelector`, `AmbiguousSelector`.
    pub reason: &'static str,
    /// The same in a sentence.
    pub message: String,
}

/// What the controller remembers of an autoscaler, in its memory and in the status.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Recommendations before they were stabilized; `None` before the first look.
    recommended: Option<VecDeque<Recorded>>,
    added: Vec<Recorded>,
    removed: Vec<Recorded>,
    scaled_to_zero: bool,
    conditions: Conditions,
}

impl History {
    /// That of a controller that has made these recommendations and changes before.
    pub fn of(
        recommended: impl IntoIterator<Item = Recorded>,
        added: Vec<Recorded>,
        removed: Vec<Recorded>,
        scaled_to_zero: bool,
    ) -> Self {
        Self {
            recommended: Some(recommended.into_iter().collect()),
            added,
            removed,
            scaled_to_zero,
            conditions: Conditions::default(),
        }
    }

    /// The conditions as the status has them.
    pub fn conditions(&self) -> &[Condition] {
        self.conditions.list()
    }

    /// Remembers that the number of replicas was changed. Without a behaviour nobody asks for it.
    pub fn changed(&mut self, behavior: Option<&Behavior>, from: i32, to: i32, now: Timestamp) {
        let Some(behavior) = behavior else { return };
        let (changes, rules) = if to > from {
            (&mut self.added, &behavior.up)
        } else {
            (&mut self.removed, &behavior.down)
        };
        // A policy may look at changes in either direction.
        let other = if to > from { &behavior.down } else { &behavior.up };
        let longest = rules.longest_period_seconds().max(other.longest_period_seconds());
        let cutoff = now.saturating_sub(i64::from(longest).saturating_mul(1000));
        changes.retain(|change| change.at > cutoff);
        changes.push(Recorded {
            at: now,
            replicas: to.saturating_sub(from).saturating_abs(),
        });
    }

    /// Remembers a recommendation and forgets those that no window reaches.
    fn recommend(&mut self, replicas: i32, now: Timestamp, window_ms: i64) {
        let recommended = self.recommended.get_or_insert_default();
        let cutoff = now.saturating_sub(window_ms);
        while recommended.front().is_some_and(|first| first.at < cutoff) {
            recommended.pop_front();
        }
        recommended.push_back(Recorded { at: now, replicas });
    }

    /// Takes over what the status says of the last replica: that the controller took it, or not.
    pub fn set_scaled_to_zero(&mut self, scaled_to_zero: bool) {
        self.scaled_to_zero = scaled_to_zero;
    }

    /// Whether a look at so many replicas would look at metrics.
    pub fn looks_at_metrics(&self, hpa: &Hpa, current: i32) -> bool {
        match current {
            0 => self.scaled_to_zero && hpa.can_leave_zero(),
            current => (hpa.min_replicas..=hpa.max_replicas).contains(&current),
        }
    }

    fn recommended(&self) -> impl Iterator<Item = &Recorded> {
        self.recommended.iter().flatten()
    }
}

/// What came of one look, and how.
#[derive(Debug, Clone)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Replicas before.
    pub current: i32,
    /// Replicas from now on.
    pub desired: i32,
    /// How it got there.
    pub path: Path,
    /// What each metric asks for, in their order; none if they were not looked at.
    pub metrics: Vec<Proposal>,
    /// Why the number was changed, in the controller's words; empty if it was not.
    pub reason: String,
    /// The conditions of the status afterwards.
    pub conditions: Vec<Condition>,
}

/// How a look came to its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// There are no replicas, and it was not the controller who took them: it is switched off.
    Disabled,
    /// There are more than may be: metrics were not looked at.
    AboveMax,
    /// There are fewer than may be: metrics were not looked at.
    BelowMin,
    /// Metrics failed, and what is left does not allow a change.
    Failed {
        /// What the event says.
        error: String,
    },
    /// By metrics.
    Metrics {
        /// The most that any metric asks for.
        proposed: i32,
        /// The metric that asks for it.
        by: usize,
        /// After others of late were looked at.
        stabilized: Stabilized,
        /// What limits allow.
        limited: Limited,
        /// What the event says of metrics that failed beside it.
        error: Option<String>,
    },
}

impl Decision {
    /// Whether the number was changed.
    pub fn is_change(&self) -> bool {
        self.current != self.desired
    }
}

/// Looks at an autoscaler. What it remembers is brought up to date as if the number had been set; that it was set is for
/// the caller to say ([`History::changed`]).
pub fn decide(hpa: &Hpa, settings: &Settings, situation: &Situation<'_>, history: &mut History) -> Decision {
    let (now, current) = (situation.now, situation.scale.spec);
    history.conditions.set(
        Kind::AbleToScale,
        Status::True,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
        now,
    );
    // The first sight of a number is a recommendation: a controller that has just started does not scale down at once.
    if history.recommended.is_none() {
        history.recommended = Some(VecDeque::from([Recorded {
            at: now,
            replicas: current,
        }]));
    }
    let mut decision = Decision {
        at: now,
        current,
        desired: current,
        path: Path::Disabled,
        metrics: Vec::new(),
        reason: String::new(),
        conditions: Vec::new(),
    };
    if history.looks_at_metrics(hpa, current) {
        by_metrics(hpa, settings, situation, history, &mut decision);
    } else if current == 0 {
        history.conditions.set(
            Kind::ScalingActive,
            Status::False,
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero",
            now,
        );
    } else if current > hpa.max_replicas {
        decision.path = Path::AboveMax;
        decision.desired = hpa.max_replicas;
        decision.reason = "Current number of replicas above Spec.MaxReplicas".to_owned();
    } else {
        decision.path = Path::BelowMin;
        decision.desired = hpa.min_replicas;
        decision.reason = "Current number of replicas below Spec.MinReplicas".to_owned();
    }
    finish(hpa, history, &mut decision);
    decision
}

/// Notes in the conditions what becomes of the number.
fn finish(hpa: &Hpa, history: &mut History, decision: &mut Decision) {
    let (now, desired) = (decision.at, decision.desired);
    if decision.is_change() {
        history.conditions.set(
            Kind::AbleToScale,
            Status::True,
            "SucceededRescale",
            format!("the HPA controller was able to update the target scale to {desired}"),
            now,
        );
        let to_zero = desired == 0 && hpa.min_replicas == 0 && hpa.can_leave_zero();
        if to_zero {
            let message = "the HPA controller scaled the workload to zero";
            let set = &mut history.conditions;
            set.set(Kind::ScaledToZero, Status::True, "ScaledToZero", message, now);
        } else if history.scaled_to_zero {
            let message = "the HPA controller did not scale the workload to zero";
            let set = &mut history.conditions;
            set.set(Kind::ScaledToZero, Status::False, "NotScaledToZero", message, now);
        }
        history.scaled_to_zero = to_zero;
    } else {
        decision.reason.clear();
    }
    decision.conditions = history.conditions.list().to_vec();
}

/// The part that looks at metrics.
fn by_metrics(
    hpa: &Hpa,
    settings: &Settings,
    situation: &Situation<'_>,
    history: &mut History,
    decision: &mut Decision,
) {
    let (now, current) = (situation.now, situation.scale.spec);
    if let Some(Barred { reason, message }) = situation.barred {
        let conditions = &mut history.conditions;
        conditions.set(Kind::ScalingActive, Status::False, reason, message.clone(), now);
        decision.path = Path::Failed { error: message.clone() };
        return;
    }
    let sight = Sight {
        now,
        scale: situation.scale,
        pods: situation.pods,
        tolerance: Tolerance::of(hpa, settings),
        settings,
        namespace: &hpa.namespace,
    };
    let none = Reading::Failed("it was not asked for");
    let readings = (0..).map(|no: usize| situation.readings.get(no).copied().unwrap_or(none));
    let asked = hpa.metrics.iter().zip(readings);
    decision.metrics = asked
        .map(|(metric, reading)| propose(metric, reading, &sight))
        .collect();
    let (by, proposed, error) = match most(hpa, current, &decision.metrics, &mut history.conditions, now) {
        Ok(most) => most,
        Err(error) => {
            decision.path = Path::Failed { error };
            return;
        }
    };
    // Nobody asks for fewer than none.
    let wanted = proposed.max(0);
    let above = hpa.metrics.get(by).filter(|_| wanted > 0).map(Metric::description);
    decision.reason = match wanted.cmp(&current) {
        std::cmp::Ordering::Greater => format!("{} above target", above.unwrap_or_default()),
        std::cmp::Ordering::Less => "All metrics below target".to_owned(),
        std::cmp::Ordering::Equal => String::new(),
    };
    let (stabilized, limited) = normalize(hpa, settings, current, wanted, now, history);
    decision.desired = limited.replicas;
    if current == 0 && hpa.min_replicas != 0 && decision.desired < hpa.min_replicas {
        // The fewest were raised while there were none.
        decision.desired = hpa.min_replicas;
        if decision.reason.is_empty() {
            decision.reason = "Current number of replicas below Spec.MinReplicas".to_owned();
        }
    }
    decision.path = Path::Metrics {
        proposed,
        by,
        stabilized,
        limited,
        error,
    };
}

/// The metric that asks for most, how much, and what failed beside it; or the event's text if that does not allow a change.
fn most(
    hpa: &Hpa,
    current: i32,
    metrics: &[Proposal],
    conditions: &mut Conditions,
    now: Timestamp,
) -> Result<(usize, i32, Option<String>), String> {
    let mut most: Option<(usize, i32)> = None;
    for (no, proposal) in metrics.iter().enumerate() {
        if let Ok(replicas) = proposal.outcome
            // Zero is no bid yet, as for the controller.
            && most.is_none_or(|(_, so_far)| so_far == 0 || replicas > so_far)
        {
            most = Some((no, replicas));
        }
    }
    let mut failures = metrics.iter().filter_map(|proposal| proposal.outcome.as_ref().err());
    let first = failures.next();
    let error = first.map(|first| {
        let failed = 1 + failures.count();
        let all = metrics.len();
        format!("invalid metrics ({failed} invalid out of {all}), first error is: {first}")
    });
    let allowed = most.filter(|(_, replicas)| first.is_none() || *replicas >= current);
    let Some((by, proposed)) = allowed else {
        if let Some(first) = first {
            let message = format!("the HPA was unable to compute the replica count: {}", first.condition);
            conditions.set(Kind::ScalingActive, Status::False, first.reason, message, now);
        }
        return Err(error.unwrap_or_else(|| "there are no metrics".to_owned()));
    };
    let name = hpa.metrics.get(by).map(Metric::description).unwrap_or_default();
    conditions.set(
        Kind::ScalingActive,
        Status::True,
        "ValidMetricFound",
        format!("the HPA was able to successfully calculate a replica count from {name}"),
        now,
    );
    Ok((by, proposed, error))
}

/// Stabilizes and limits what is wanted.
fn normalize(
    hpa: &Hpa,
    settings: &Settings,
    current: i32,
    wanted: i32,
    now: Timestamp,
    history: &mut History,
) -> (Stabilized, Limited) {
    let stabilized = match &hpa.behavior {
        None => stabilize_by_default(wanted, history.recommended(), now, settings),
        Some(behavior) => stabilize(current, wanted, behavior, history.recommended(), now, settings),
    };
    let longest = stabilized.up_seconds.max(stabilized.down_seconds);
    history.recommend(wanted, now, longest.saturating_mul(1000));
    let (reason, message) = if stabilized.replicas == wanted {
        ("ReadyForNewScale", "recommended size matches current size")
    } else if hpa.behavior.is_some() && wanted >= current {
        (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        )
    } else {
        (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )
    };
    history
        .conditions
        .set(Kind::AbleToScale, Status::True, reason, message, now);
    let wish = Wish {
        current,
        desired: stabilized.replicas,
        min: hpa.min_replicas,
        max: hpa.max_replicas,
    };
    let limited = match &hpa.behavior {
        None => limit_by_default(wish),
        Some(behavior) => {
            let changes = Changes {
                added: &history.added,
                removed: &history.removed,
            };
            limit(wish, behavior, changes, now)
        }
    };
    let status = match limited.replicas == stabilized.replicas {
        true => Status::False,
        false => Status::True,
    };
    let (reason, message) = (limited.by.reason(), limited.by.message());
    history
        .conditions
        .set(Kind::ScalingLimited, status, reason, message, now);
    (stabilized, limited)
}
