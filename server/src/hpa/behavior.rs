//! How fast it may go: recommendations held for a while, then limits on the change.
//!
//! # Reference
//! `pkg/controller/podautoscaler/horizontal.go` of Kubernetes 1.35.

use super::spec::{Behavior, Policy, PolicyKind, Rules, Select, Settings};
use tidegauge_model::Timestamp;

/// A number of replicas at a time: one that was recommended, or by how much the count was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub replicas: i32,
}

/// A recommendation after others of late were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stabilized {
    /// As it was computed.
    pub desired: i32,
    /// The least that was recommended in the window for scaling up; as computed where there is no such window.
    pub lowest: i32,
    /// The most that was recommended in the window for scaling down.
    pub highest: i32,
    /// The recommendation that holds.
    pub replicas: i32,
    /// Seconds of the window for scaling up.
    pub up_seconds: i64,
    /// Seconds of the window for scaling down.
    pub down_seconds: i64,
}

/// What limits allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// So many replicas.
    pub replicas: i32,
    /// By which of them.
    pub by: Limit,
    /// What each policy of the direction allows.
    pub policies: Vec<Allowed>,
    /// How far policies, or the old limit, let it go; `None` if it does not want to go anywhere.
    pub reach: Option<i32>,
}

/// What a policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The policy.
    pub policy: Policy,
    /// Replicas at the start of its period.
    pub start: i32,
    /// Replicas it lets the count go to.
    pub reach: i32,
}

/// What decided a limited number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nothing: it is as recommended.
    Within,
    /// The rate of scaling up.
    ScaleUp,
    /// The rate of scaling down.
    ScaleDown,
    /// The most replicas there may be.
    TooMany,
    /// The fewest replicas there may be.
    TooFew,
}

impl Limit {
    /// The controller's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Within => "DesiredWithinRange",
            Self::ScaleUp => "ScaleUpLimit",
            Self::ScaleDown => "ScaleDownLimit",
            Self::TooMany => "TooManyReplicas",
            Self::TooFew => "TooFewReplicas",
        }
    }

    /// The controller's message.
    pub fn message(self) -> &'static str {
        match self {
            Self::Within => "the desired count is within the acceptable range",
            Self::ScaleUp => "the desired replica count is increasing faster than the maximum scale rate",
            Self::ScaleDown => "the desired replica count is decreasing faster than the maximum scale rate",
            Self::TooMany => "the desired replica count is more than the maximum replica count",
            Self::TooFew => "the desired replica count is less than the minimum replica count",
        }
    }
}

/// How many replicas there are, want to be, and may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// There are.
    pub current: i32,
    /// Wanted.
    pub desired: i32,
    /// At least.
    pub min: i32,
    /// At most.
    pub max: i32,
}

/// Without a behaviour: the highest recommendation of the last minutes holds.
pub fn stabilize_by_default<'a>(
    desired: i32,
    recommended: impl IntoIterator<Item = &'a Recorded>,
    now: Timestamp,
    settings: &Settings,
) -> Stabilized {
    let window = settings.downscale_stabilization_ms;
    let cutoff = now.saturating_sub(window);
    // One as old as the window still counts here, and not with a behaviour: so does the controller.
    let of_late = recommended.into_iter().filter(|r| r.at >= cutoff);
    let highest = of_late.map(|r| r.replicas).fold(desired, i32::max);
    Stabilized {
        desired,
        lowest: desired,
        highest,
        replicas: highest,
        up_seconds: 0,
        down_seconds: window / 1000,
    }
}

/// With a behaviour: scaling up needs that it was wanted for a whole window, and so does scaling down.
pub fn stabilize<'a>(
    current: i32,
    desired: i32,
    behavior: &Behavior,
    recommended: impl IntoIterator<Item = &'a Recorded>,
    now: Timestamp,
    settings: &Settings,
) -> Stabilized {
    let seconds = |rules: &Rules, default: i64| rules.window_seconds.map_or(default, i64::from);
    let up_seconds = seconds(&behavior.up, 0);
    let down_seconds = seconds(&behavior.down, settings.downscale_stabilization_ms / 1000);
    let up_cutoff = now.saturating_sub(up_seconds.saturating_mul(1000));
    let down_cutoff = now.saturating_sub(down_seconds.saturating_mul(1000));
    let (mut lowest, mut highest) = (desired, desired);
    for one in recommended {
        if one.at > up_cutoff {
            lowest = lowest.min(one.replicas);
        }
        if one.at > down_cutoff {
            highest = highest.max(one.replicas);
        }
    }
    Stabilized {
        desired,
        lowest,
        highest,
        replicas: current.max(lowest).min(highest),
        up_seconds,
        down_seconds,
    }
}

/// Without a behaviour: twice as many as there are, or four.
pub fn limit_by_default(wish: Wish) -> Limited {
    let reach = wish.current.saturating_mul(2).max(4);
    let (most, by) = if wish.max > reach {
        (reach, Limit::ScaleUp)
    } else {
        (wish.max, Limit::TooMany)
    };
    let (replicas, by) = match wish.desired {
        desired if desired < wish.min => (wish.min, Limit::TooFew),
        desired if desired > most => (most, by),
        desired => (desired, Limit::Within),
    };
    Limited {
        replicas,
        by,
        policies: Vec::new(),
        reach: Some(reach),
    }
}

/// Changes of the number of replicas of late, as positive numbers.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// Added.
    pub added: &'a [Recorded],
    /// Removed.
    pub removed: &'a [Recorded],
}

/// With a behaviour: what the policies of the direction allow.
pub fn limit(wish: Wish, behavior: &Behavior, changes: Changes<'_>, now: Timestamp) -> Limited {
    let Wish {
        current,
        desired,
        min,
        max,
    } = wish;
    let mut limited = Limited {
        replicas: desired,
        by: Limit::Within,
        policies: Vec::new(),
        reach: None,
    };
    if desired > current {
        limited.policies = allowed(current, &behavior.up, changes, now, up);
        // What was added of late may have used up more than a policy allows; nothing is taken back for that.
        let reach = select(current, behavior.up.select, &limited.policies, i32::max, i32::min).max(current);
        limited.reach = Some(reach);
        let (most, by) = if max > reach {
            (reach, Limit::ScaleUp)
        } else {
            (max, Limit::TooMany)
        };
        if desired > most {
            (limited.replicas, limited.by) = (most, by);
        }
    } else if desired < current {
        limited.policies = allowed(current, &behavior.down, changes, now, down);
        let reach = select(current, behavior.down.select, &limited.policies, i32::min, i32::max).min(current);
        limited.reach = Some(reach);
        let (least, by) = if min < reach {
            (reach, Limit::ScaleDown)
        } else {
            (min, Limit::TooFew)
        };
        if desired < least {
            (limited.replicas, limited.by) = (least, by);
        }
    }
    limited
}

/// What each policy allows, given the count at the start of its period.
fn allowed(
    current: i32,
    rules: &Rules,
    changes: Changes<'_>,
    now: Timestamp,
    reach: fn(i32, Policy) -> i32,
) -> Vec<Allowed> {
    if rules.select == Select::Disabled {
        return Vec::new();
    }
    let policies = rules.policies.iter().map(|policy| {
        let cutoff = now.saturating_sub(i64::from(policy.period_seconds).saturating_mul(1000));
        let sum = |changes: &[Recorded]| {
            let of_late = changes.iter().filter(|change| change.at > cutoff);
            of_late.fold(0i32, |sum, change| sum.saturating_add(change.replicas))
        };
        let start = current
            .saturating_sub(sum(changes.added))
            .saturating_add(sum(changes.removed));
        Allowed {
            policy: *policy,
            start,
            reach: reach(start, *policy),
        }
    });
    policies.collect()
}

/// Rounded up: a percentage of few must still let it grow.
fn up(start: i32, policy: Policy) -> i32 {
    match policy.kind {
        PolicyKind::Pods => start.saturating_add(policy.value),
        PolicyKind::Percent => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
    }
}

/// Cut off, as the controller converts it.
fn down(start: i32, policy: Policy) -> i32 {
    match policy.kind {
        PolicyKind::Pods => start.saturating_sub(policy.value),
        PolicyKind::Percent => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
    }
}

/// The reach of the policy that counts. Largest and smallest are meant of the change, so they swap places on the way down.
fn select(
    current: i32,
    select: Select,
    policies: &[Allowed],
    largest: fn(i32, i32) -> i32,
    smallest: fn(i32, i32) -> i32,
) -> i32 {
    let reaches = policies.iter().map(|p| p.reach);
    let chosen = match select {
        Select::Max => reaches.reduce(largest),
        Select::Min => reaches.reduce(smallest),
        Select::Disabled => None,
    };
    chosen.unwrap_or(current)
}
