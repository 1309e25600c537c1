//! Who may take how many bytes, and who is refused.
//!
//! The process has one budget; each share of it (head, queries, bodies, ...) is a [`Meter`]. Taking is an atomic
//! addition, refusing is an error that names the share: nothing here ever kills or waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A newcomer was refused because a share is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("memory share {share:?} is used up: {wanted} bytes wanted, {used} of {limit} in use (raise --memory.limit)")]
pub struct OverBudget {
    /// The share's name.
    pub share: &'static str,
    /// Bytes asked for.
    pub wanted: u64,
    /// Bytes in use when it was refused.
    pub used: u64,
    /// The share's limit in bytes.
    pub limit: u64,
}

/// How the whole budget is divided. Shares are fractions of the whole, so that one number sets them all.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: u64,
}

impl Budget {
    /// A budget of this many bytes for the whole process.
    pub fn new(limit_bytes: u64) -> Self {
        Self { limit: limit_bytes }
    }

    /// The whole, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// A meter over `percent` of the whole.
    pub fn share(&self, name: &'static str, percent: u64) -> Meter {
        Meter::new(name, (u128::from(self.limit) * u128::from(percent) / 100) as u64)
    }
}

#[derive(Debug)]
struct Share {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
    refused: AtomicU64,
    parent: Option<Meter>,
}

/// Counts the bytes of one share. Clones count together.
#[derive(Clone)]
pub struct Meter(Arc<Share>);

impl Meter {
    /// A share of its own with a limit in bytes.
    pub fn new(name: &'static str, limit_bytes: u64) -> Self {
        Self(Arc::new(Share {
            name,
            limit: limit_bytes,
            used: 0.into(),
            refused: 0.into(),
            parent: None,
        }))
    }

    /// A share without a limit, for tests and for programs that embed a part.
    pub fn unlimited(name: &'static str) -> Self {
        Self::new(name, u64::MAX)
    }

    /// A meter below this one: what it takes, this one counts too (one query below all queries).
    pub fn child(&self, name: &'static str, limit_bytes: u64) -> Self {
        let share = Share {
            name,
            limit: limit_bytes,
            used: 0.into(),
            refused: 0.into(),
            parent: Some(self.clone()),
        };
        Self(Arc::new(share))
    }

    /// Takes bytes until [`Meter::give_back`]. Prefer [`Meter::lease`], which gives back by itself.
    ///
    /// # Errors
    /// [`OverBudget`] if this share or one above it would pass its limit; nothing is taken then.
    pub fn take(&self, bytes: u64) -> Result<(), OverBudget> {
        let share = &*self.0;
        if let Some(parent) = &share.parent {
            parent.take(bytes)?;
        }
        let used = share.used.fetch_add(bytes, Ordering::Relaxed);
        if used.saturating_add(bytes) <= share.limit {
            return Ok(());
        }
        self.give_back(bytes);
        share.refused.fetch_add(1, Ordering::Relaxed);
        Err(OverBudget {
            share: share.name,
            wanted: bytes,
            used,
            limit: share.limit,
        })
    }

    /// Gives back bytes that were taken.
    pub fn give_back(&self, bytes: u64) {
        let before = self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{} gave back more than it took", self.0.name);
        if let Some(parent) = &self.0.parent {
            parent.give_back(bytes);
        }
    }

    /// Takes bytes until the lease is dropped.
    ///
    /// # Errors
    /// As [`Meter::take`].
    pub fn lease(&self, bytes: u64) -> Result<Lease, OverBudget> {
        self.take(bytes)?;
        Ok(Lease {
            meter: self.clone(),
            bytes,
        })
    }

    /// The share's name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// How often a newcomer was refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({}: {} of {})", self.name(), self.used(), self.limit())
    }
}

/// Bytes taken from a meter; they go back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    meter: Meter,
    bytes: u64,
}

impl Lease {
    /// Takes more.
    ///
    /// # Errors
    /// As [`Meter::take`]; the lease stays as it was.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverBudget> {
        self.meter.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.meter.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_newcomer_takes_nothing() {
        let all = Budget::new(1000).share("queries", 10);
        let one = all.child("query", 60);
        let mut lease = one.lease(50).unwrap();
        assert_eq!(lease.grow(20).unwrap_err().share, "query");
        let other = all.child("query", 90);
        assert_eq!(other.lease(60).unwrap_err().share, "queries");
        assert_eq!((one.used(), other.used(), all.used(), all.refused()), (50, 0, 50, 1));
        drop(lease);
        assert_eq!(all.used(), 0);
    }
}
