//! What is used over what should be, in the controller's integers.

use super::formula::Current;

/// What is used, over what should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Thousandths in use, of all that counted.
    pub sum: i64,
    /// How that is related to the target.
    pub by: By,
    /// What is used over what should be.
    pub ratio: f64,
}

/// How a sum is related to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// As percent of what is requested.
    Percent {
        /// Thousandths requested by the pods that have a value.
        requests: i64,
        /// Values.
        count: usize,
        /// Percent in use, its fraction cut off.
        percent: i32,
        /// Percent that should be.
        target: i32,
    },
    /// As an average.
    Average {
        /// Values.
        count: usize,
        /// Thousandths on average, the rest cut off.
        average: i64,
        /// Thousandths that should be.
        target: i64,
    },
    /// As it is.
    Total {
        /// Thousandths that should be.
        target: i64,
    },
    /// Divided among all replicas there are.
    Shared {
        /// Replicas.
        replicas: i32,
        /// Thousandths for each, rounded up.
        average: i64,
        /// Thousandths that should be for each.
        target: i64,
    },
}

impl Usage {
    /// A total over its target.
    pub(super) fn total(sum: i64, target: i64) -> Self {
        Self {
            sum,
            by: By::Total { target },
            ratio: sum as f64 / target as f64,
        }
    }

    /// A total over the target of each replica.
    pub(super) fn shared(sum: i64, target: i64, replicas: i32) -> Self {
        // A sum that has overflowed is shown as it is.
        let average = match sum {
            i64::MAX => i64::MAX,
            sum => (sum as f64 / f64::from(replicas)).ceil() as i64,
        };
        Self {
            sum,
            by: By::Shared {
                replicas,
                average,
                target,
            },
            ratio: sum as f64 / (target as f64 * f64::from(replicas)),
        }
    }

    /// As the status shows it.
    pub(super) fn current(&self) -> Current {
        let none = Current::default();
        match self.by {
            By::Percent { count, percent, .. } => Current {
                utilization: Some(percent),
                average_milli: Some(self.sum / i64::try_from(count.max(1)).unwrap_or(i64::MAX)),
                ..none
            },
            By::Average { average, .. } | By::Shared { average, .. } => Current {
                average_milli: Some(average),
                ..none
            },
            By::Total { .. } => Current {
                value_milli: Some(self.sum),
                ..none
            },
        }
    }
}

/// Percent of requests, over the pods that have a value; `None` if these request nothing.
pub(super) fn percentage(values: &[Option<i64>], requests: &[i64], target: i32) -> Option<Usage> {
    let (mut sum, mut requested, mut count) = (0i64, 0i64, 0usize);
    for (value, request) in values.iter().zip(requests) {
        if let Some(value) = value {
            sum = sum.saturating_add(*value);
            requested = requested.saturating_add(*request);
            count += 1;
        }
    }
    let percent = (i128::from(sum) * 100).checked_div(i128::from(requested))?;
    let percent = i32::try_from(percent).unwrap_or(if percent > 0 { i32::MAX } else { i32::MIN });
    Some(Usage {
        sum,
        by: By::Percent {
            requests: requested,
            count,
            percent,
            target,
        },
        ratio: f64::from(percent) / f64::from(target),
    })
}

/// The average of all values there are, of which there is one at least.
pub(super) fn average(values: &[Option<i64>], strangers: &[i64], target: i64) -> Usage {
    let (mut sum, mut count) = (0i64, 0usize);
    for value in values.iter().flatten().chain(strangers) {
        sum = sum.saturating_add(*value);
        count += 1;
    }
    let average = sum / i64::try_from(count.max(1)).unwrap_or(i64::MAX);
    Usage {
        sum,
        by: By::Average { count, average, target },
        ratio: average as f64 / target as f64,
    }
}
