//! The stores that scripts run on.

use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Queryable, Sample};

/// A store that a script fills, queries and empties.
pub(crate) trait TestStore {
    /// Adds samples, wherever in time they lie.
    fn add(&self, labels: &Labels, samples: &[Sample]);
    /// Drops everything.
    fn clear(&mut self);
    /// The door out.
    fn queryable(&self) -> &dyn Queryable;
}

impl TestStore for MemoryStore {
    fn add(&self, labels: &Labels, samples: &[Sample]) {
        for sample in samples {
            self.insert(labels, sample.at, sample.value);
        }
    }

    fn clear(&mut self) {
        *self = Self::new();
    }

    fn queryable(&self) -> &dyn Queryable {
        self
    }
}
