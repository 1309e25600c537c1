//! Which samples an expression sees.

use super::walk::Walk;
use super::{Answer, Failure, Item, Outcome, Ranged, Series, refused};
use tidegauge_model::{Matcher, is_stale};
use tidegauge_query::parser::{
    AtModifier, DurationError, DurationExpr, Extent, MatrixSelector, Subquery, VectorSelector,
};

/// At most so many steps of one subquery.
const MOST_STEPS: usize = 5_000;

impl Walk<'_> {
    /// The time a selector looks at: the step, or the one after `@`; less the offset.
    fn looks_at(&self, modifier: Option<AtModifier>, offset: Option<&DurationExpr>, at: i64) -> Outcome<i64> {
        let time = match modifier {
            None => at,
            Some(AtModifier::Timestamp(fixed)) => fixed.millis(),
            Some(AtModifier::Start) => self.start,
            Some(AtModifier::End) => self.end,
        };
        let offset = match offset {
            None => 0,
            Some(offset) => offset.offset_ms(self.durations).map_err(|e| bad_duration(&e))?,
        };
        Ok(time.saturating_sub(offset))
    }

    /// The series that meet all matchers; a label that is not there is empty.
    fn series(&self, matchers: &[Matcher]) -> impl Iterator<Item = &Series> {
        let meets = |series: &&Series| matchers.iter().all(|m| m.matches(series.0.value(m.name())));
        self.oracle.series.iter().filter(meets)
    }

    /// An instant selector: of each series the newest sample that is younger than the lookback, unless it is a marker.
    pub(super) fn newest(&self, selector: &VectorSelector, at: i64) -> Outcome<Vec<Item>> {
        match selector.extent {
            Some(Extent::Anchored) => return refused("anchored modifier can only be used with range vectors"),
            Some(Extent::Smoothed) => return self.smoothed(selector, at),
            None => {}
        }
        let found = self.newest_samples(selector, at)?;
        Ok(found.into_iter().map(|(item, _)| item).collect())
    }

    /// As [`Walk::newest`], with the time of each sample.
    pub(super) fn newest_samples(&self, selector: &VectorSelector, at: i64) -> Outcome<Vec<(Item, i64)>> {
        let time = self.looks_at(selector.at, selector.offset.as_ref(), at)?;
        let mut items = Vec::new();
        for (labels, samples) in self.series(&selector.matchers) {
            self.work(samples.len())?;
            let oldest = time.saturating_sub(self.oracle.lookback_ms);
            let newest = samples.iter().rfind(|(t, _)| *t <= time && *t > oldest);
            if let Some((when, value)) = newest
                && !is_stale(*value)
            {
                let item = Item {
                    labels: labels.clone(),
                    value: *value,
                    drop_name: false,
                };
                items.push((item, *when));
            }
        }
        Ok(items)
    }

    fn smoothed(&self, selector: &VectorSelector, at: i64) -> Outcome<Vec<Item>> {
        let time = self.looks_at(selector.at, selector.offset.as_ref(), at)?;
        let lookback = self.oracle.lookback_ms;
        let mut items = Vec::new();
        for (labels, samples) in self.series(&selector.matchers) {
            self.work(samples.len())?;
            let around = between(samples, time.saturating_sub(lookback), time.saturating_add(lookback));
            if let Some(value) = super::extent::value_at(&around, time) {
                items.push(Item {
                    labels: labels.clone(),
                    value,
                    drop_name: false,
                });
            }
        }
        Ok(items)
    }

    /// A range selector: of each series the samples in the range, whose left end is out; without markers.
    pub(super) fn samples(&self, selector: &MatrixSelector, at: i64) -> Outcome<Vec<Ranged>> {
        let vector = &selector.vector;
        let right = self.looks_at(vector.at, vector.offset.as_ref(), at)?;
        let range = selector
            .range
            .positive_ms(self.durations)
            .map_err(|e| bad_duration(&e))?;
        let left = right.saturating_sub(range);
        let lookback = self.oracle.lookback_ms;
        let (before, after) = match vector.extent {
            None => (0, 0),
            Some(Extent::Anchored) => (lookback, 0),
            Some(Extent::Smoothed) => (lookback, lookback),
        };
        let mut all = Vec::new();
        for (labels, samples) in self.series(&vector.matchers) {
            self.work(samples.len())?;
            let samples = between(samples, left.saturating_sub(before), right.saturating_add(after));
            if !samples.is_empty() {
                all.push(Ranged {
                    labels: labels.clone(),
                    drop_name: false,
                    samples,
                    left,
                    right,
                    extent: vector.extent,
                });
            }
        }
        Ok(all)
    }

    /// A subquery: the expression at each multiple of the step within the range.
    pub(super) fn subquery(&self, subquery: &Subquery, at: i64) -> Outcome<Vec<Ranged>> {
        let right = self.looks_at(subquery.at, subquery.offset.as_ref(), at)?;
        let range = subquery
            .range
            .positive_ms(self.durations)
            .map_err(|e| bad_duration(&e))?;
        let step = match &subquery.step {
            None => self.oracle.default_step_ms,
            Some(step) => step.positive_ms(self.durations).map_err(|e| bad_duration(&e))?,
        };
        if step <= 0 {
            return Err(Failure::Unsupported("a step below a millisecond"));
        }
        let left = right.saturating_sub(range);
        let first = left.div_euclid(step) + 1;
        let last = right.div_euclid(step);
        if last - first > MOST_STEPS as i64 {
            return Err(Failure::Unsupported("too many steps"));
        }
        let mut all: Vec<Ranged> = Vec::new();
        for time in (first..=last).map(|n| n * step) {
            let items = match self.value(&subquery.expr, time)? {
                Answer::Vector(items) => items,
                Answer::Scalar(value) => vec![Item {
                    labels: tidegauge_model::Labels::empty(),
                    value,
                    drop_name: false,
                }],
                _ => return refused("a subquery of what is neither vector nor scalar"),
            };
            for item in items {
                match all.iter_mut().find(|r| r.labels == item.labels) {
                    Some(series) => series.samples.push((time, item.value)),
                    None => all.push(Ranged {
                        labels: item.labels,
                        drop_name: item.drop_name,
                        samples: vec![(time, item.value)],
                        left,
                        right,
                        extent: None,
                    }),
                }
            }
        }
        Ok(all)
    }
}

/// The samples after `left` and up to `right`, without markers.
fn between(samples: &[(i64, f64)], left: i64, right: i64) -> Vec<(i64, f64)> {
    let seen = |(t, v): &&(i64, f64)| *t > left && *t <= right && !is_stale(*v);
    samples.iter().filter(seen).copied().collect()
}

fn bad_duration(error: &DurationError) -> Failure {
    Failure::Refused(error.to_string())
}
