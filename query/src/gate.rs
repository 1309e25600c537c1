//! How many queries run at a time.

use crate::error::QueryError;
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};
use tidegauge_model::Cancel;

/// Lets in so many at a time; the others wait, in no particular order.
#[derive(Debug)]
pub(crate) struct Gate {
    free: Mutex<usize>,
    left: Condvar,
}

/// How often a query that waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Gate {
    /// At most `places` at a time, at least one.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            free: Mutex::new(places.max(1)),
            left: Condvar::new(),
        }
    }

    /// Waits for a place, which is free again when the answer is dropped.
    ///
    /// # Errors
    /// The deadline passes, or nobody wants the answer any more.
    pub(crate) fn enter(&self, deadline: Option<Instant>, cancel: &Cancel) -> Result<Place<'_>, QueryError> {
        let mut free = self.free.lock();
        while *free == 0 {
            if cancel.is_cancelled() {
                return Err(QueryError::Canceled);
            }
            let now = Instant::now();
            if deadline.is_some_and(|d| now >= d) {
                return Err(QueryError::QueueTimeout);
            }
            let until = deadline.map_or(now + LOOK_EVERY, |d| d.min(now + LOOK_EVERY));
            self.left.wait_until(&mut free, until);
        }
        *free -= 1;
        Ok(Place(self))
    }
}

/// A place among the running queries.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Gate);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_place_is_told_so() {
        let gate = Gate::new(1);
        let cancel = Cancel::new();
        let place = gate.enter(None, &cancel).unwrap();
        let soon = Some(Instant::now());
        assert!(matches!(gate.enter(soon, &cancel), Err(QueryError::QueueTimeout)));
        let gone = Cancel::new();
        gone.cancel();
        assert!(matches!(gate.enter(None, &gone), Err(QueryError::Canceled)));
        drop(place);
        assert!(gate.enter(soon, &cancel).is_ok());
    }
}
