//! Whether a query is to go on: its deadline, and whether anybody waits for it.

use crate::error::QueryError;
use std::cell::Cell;
use std::time::Instant;
use tidegauge_model::Cancel;

/// Says when to stop. One for each thread that works on a query.
#[derive(Debug)]
pub(crate) struct Watch {
    cancel: Cancel,
    deadline: Option<Instant>,
    /// It was time to stop when somebody looked.
    over: Cell<bool>,
}

impl Watch {
    pub(crate) fn new(cancel: Cancel, deadline: Option<Instant>) -> Self {
        Self {
            cancel,
            deadline,
            over: Cell::new(false),
        }
    }

    /// Looks whether it is time to stop; what is half done is then left so, and [`Watch::check`] fails.
    pub(crate) fn is_over(&self) -> bool {
        let over = self.cancel.is_cancelled() || self.deadline.is_some_and(|d| Instant::now() >= d);
        self.over.set(self.over.get() || over);
        over
    }

    /// # Errors
    /// Somebody looked, and it was time to stop.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if !self.over.get() {
            return Ok(());
        }
        Err(if self.cancel.is_cancelled() {
            QueryError::Canceled
        } else {
            QueryError::Timeout
        })
    }
}
