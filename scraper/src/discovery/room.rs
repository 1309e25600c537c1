//! How much all that discovery has found may be, of all jobs together.
//!
//! A group that would pass a limit is left out as a whole, and the one that stood in its place before stays: a part of
//! the truth that is told as one is better than a process that is killed. Groups of `static_configs` are not counted,
//! as the length of the file bounds them.

use super::TargetGroup;
use crate::metrics::Metrics;
use std::fmt;
use std::sync::Arc;
use tidegauge_model::Meter;

/// What a target takes beside its labels: its places in lists, and the loop that scrapes it.
const TARGET_BYTES: u64 = 64;
/// The same of a group.
const GROUP_BYTES: u64 = 200;

/// The room of all jobs. Clones are the same room.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    targets: Meter,
    bytes: Meter,
    metrics: Arc<Metrics>,
}

/// What a group takes of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    targets: u64,
    bytes: u64,
}

/// Something was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Full {
    flag: &'static str,
    limit: u64,
    unit: &'static str,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flag, limit, unit } = self;
        write!(
            f,
            "not all targets are taken: those of all jobs together would be more than {limit} {unit} (raise --{flag})"
        )
    }
}

impl Size {
    pub(super) fn of(group: &TargetGroup) -> Self {
        let labels = |labels: &tidegauge_model::Labels| labels.heap_bytes() as u64;
        let targets = group.targets.len() as u64;
        let own: u64 = group.targets.iter().map(labels).sum();
        Self {
            targets,
            bytes: GROUP_BYTES + group.source.len() as u64 + labels(&group.labels) + own + targets * TARGET_BYTES,
        }
    }
}

impl Room {
    pub(crate) fn new(max_targets: u64, max_bytes: u64, metrics: &Arc<Metrics>) -> Self {
        Self {
            targets: Meter::new("discovered targets", max_targets),
            bytes: Meter::new("discovered groups", max_bytes),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes the room of a group in the place of another one's.
    ///
    /// # Errors
    /// [`Full`]; the other one's is held as before.
    pub(super) fn exchange(&self, old: Size, new: Size) -> Result<(), Full> {
        let more = Size {
            targets: new.targets.saturating_sub(old.targets),
            bytes: new.bytes.saturating_sub(old.bytes),
        };
        self.take(more)?;
        self.give_back(Size {
            targets: old.targets.saturating_sub(new.targets),
            bytes: old.bytes.saturating_sub(new.bytes),
        });
        Ok(())
    }

    fn take(&self, more: Size) -> Result<(), Full> {
        let full = |flag, meter: &Meter, unit| {
            self.metrics.sd_refused.inc();
            Full {
                flag,
                limit: meter.limit(),
                unit,
            }
        };
        if self.targets.take(more.targets).is_err() {
            return Err(full("discovery.max-targets", &self.targets, "targets"));
        }
        if self.bytes.take(more.bytes).is_err() {
            self.targets.give_back(more.targets);
            return Err(full("discovery.max-size", &self.bytes, "bytes"));
        }
        self.metrics.sd_targets.add(more.targets);
        self.metrics.sd_bytes.add(more.bytes);
        Ok(())
    }

    pub(super) fn give_back(&self, size: Size) {
        self.targets.give_back(size.targets);
        self.bytes.give_back(size.bytes);
        self.metrics.sd_targets.sub(size.targets);
        self.metrics.sd_bytes.sub(size.bytes);
    }

    /// Whether so much is free again that what was left out may be asked for once more.
    pub(crate) fn is_airy(&self) -> bool {
        let airy = |meter: &Meter| meter.used() < meter.limit() - meter.limit() / 10;
        airy(&self.targets) && airy(&self.bytes)
    }
}
