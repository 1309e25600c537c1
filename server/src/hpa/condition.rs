//! Conditions in the status of an autoscaler.

use super::pods::Status;
use std::borrow::Cow;
use tidegauge_model::Timestamp;

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub kind: Kind,
    /// Whether it holds.
    pub status: Status,
    /// Since when.
    pub since: Timestamp,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: Cow<'static, str>,
}

/// What a condition is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whether the scale can be read and set, and whether something holds it back for now.
    AbleToScale,
    /// Whether metrics say what to do.
    ScalingActive,
    /// Whether limits decided.
    ScalingLimited,
    /// Whether it was the controller who took the last replica.
    ScaledToZero,
}

impl Kind {
    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AbleToScale => "AbleToScale",
            Self::ScalingActive => "ScalingActive",
            Self::ScalingLimited => "ScalingLimited",
            Self::ScaledToZero => "ScaledToZero",
        }
    }
}

/// The conditions of one autoscaler, in the order in which they first came.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    pub(super) fn list(&self) -> &[Condition] {
        &self.0
    }

    /// Sets one; the time stays if its status does.
    pub(super) fn set(
        &mut self,
        kind: Kind,
        status: Status,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
        now: Timestamp,
    ) {
        let message = message.into();
        match self.0.iter_mut().find(|condition| condition.kind == kind) {
            Some(condition) => {
                if condition.status != status {
                    condition.since = now;
                }
                (condition.status, condition.reason, condition.message) = (status, reason, message);
            }
            None => self.0.push(Condition {
                kind,
                status,
                since: now,
                reason,
                message,
            }),
        }
    }
}
