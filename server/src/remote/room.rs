//! What a request may hold while it is decided.

use super::write_in::WriteError;
use tidegauge_model::{Lease, Meter, OverBudget};

/// Memory of one walk over a request: of the share of all requests, and no more than one may have.
#[derive(Debug)]
pub(super) struct Room {
    lease: Lease,
    limit: u64,
}

impl Room {
    /// Room of at most `limit` bytes, out of what a meter has.
    pub(super) fn of(meter: &Meter, limit: u64) -> Result<Self, OverBudget> {
        let lease = meter.lease(0)?;
        Ok(Self { lease, limit })
    }

    /// Takes bytes until the walk ends.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), WriteError> {
        if self.lease.bytes().saturating_add(bytes) > self.limit {
            return Err(WriteError::Room(self.limit));
        }
        Ok(self.lease.grow(bytes)?)
    }
}
