//! Exemplars: a ring of the newest, over all series.
//!
//! In memory only. After a restart it holds those that live segments of the log still tell.

use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use tidegauge_model::{
    Exemplar, ExemplarCounts, Labels, Lease, Matcher, Meter, ReadContext, SelectError, SeriesExemplars, TimeRange,
    Timestamp,
};

/// What an exemplar takes beside its text.
const EXEMPLAR_BYTES: u64 = 160;

/// An exemplar that an appender has collected.
#[derive(Debug, Clone)]
pub(crate) struct PendingExemplar {
    pub(crate) column: u32,
    /// When its sample was.
    pub(crate) at: i64,
    pub(crate) exemplar: Exemplar,
}

/// An exemplar of a series.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) series: Labels,
    /// The column it came for; means something to the log alone.
    pub(crate) column: u32,
    pub(crate) at: i64,
    pub(crate) exemplar: Exemplar,
    lease: Lease,
}

/// The newest of a series, and how many of it the ring holds.
#[derive(Debug)]
struct Newest {
    stored: Arc<Stored>,
    live: usize,
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    ring: VecDeque<Arc<Stored>>,
    series: HashMap<Labels, Newest>,
    max: usize,
}

/// What a commit will put into the ring.
#[derive(Debug, Default)]
pub(crate) struct ExemplarPlan {
    pub(crate) stored: Vec<Arc<Stored>>,
    pub(crate) counts: ExemplarCounts,
    /// Which of them are behind a newer one.
    pub(crate) late: Vec<u64>,
}

impl Exemplars {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Whether any are kept.
    pub(crate) fn is_on(&self) -> bool {
        self.max > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Bytes that its exemplars hold of their meter.
    pub(crate) fn bytes(&self) -> u64 {
        self.ring.iter().map(|s| s.lease.bytes()).sum()
    }

    /// Keeps at most so many from now on, the newest.
    pub(crate) fn resize(&mut self, max: usize) {
        self.max = max;
        self.shrink_to(max);
        if max == 0 {
            *self = Self::default();
        }
    }

    fn shrink_to(&mut self, len: usize) {
        while self.ring.len() > len {
            let Some(old) = self.ring.pop_front() else { return };
            if let Some(newest) = self.series.get_mut(&old.series) {
                newest.live -= 1;
                if newest.live == 0 {
                    self.series.remove(&old.series);
                }
            }
        }
    }

    /// Decides what becomes of a commit's exemplars.
    pub(crate) fn plan(
        &self,
        pending: &[PendingExemplar],
        labels_of: impl Fn(u32) -> Option<Labels>,
        meter: &Meter,
    ) -> ExemplarPlan {
        let mut plan = ExemplarPlan::default();
        if !self.is_on() {
            return plan;
        }
        let mut staged: HashMap<Labels, Arc<Stored>> = HashMap::new();
        for (place, one) in (0u64..).zip(pending) {
            let Some(series) = labels_of(one.column) else { continue };
            let at = one.exemplar.at.map_or(one.at, Timestamp::millis);
            let newest = staged
                .get(&series)
                .or_else(|| self.series.get(&series).map(|n| &n.stored));
            if let Some(newest) = newest {
                let (old_at, new_at) = (Timestamp::from_millis(newest.at), Timestamp::from_millis(at));
                if newest.exemplar.is_repeated_by(old_at, &one.exemplar, new_at) {
                    plan.counts.repeated += 1;
                    continue;
                }
                if newest.exemplar.order(old_at, &one.exemplar, new_at).is_gt() {
                    plan.counts.out_of_order += 1;
                    plan.late.push(place);
                    continue;
                }
            }
            let bytes = EXEMPLAR_BYTES + (one.exemplar.labels.heap_bytes() + series.heap_bytes()) as u64;
            let Ok(lease) = meter.lease(bytes) else {
                plan.counts.refused += 1;
                continue;
            };
            let stored = Arc::new(Stored {
                series: series.clone(),
                column: one.column,
                at,
                exemplar: one.exemplar.clone(),
                lease,
            });
            plan.counts.stored += 1;
            plan.stored.push(Arc::clone(&stored));
            staged.insert(series, stored);
        }
        plan
    }

    /// Puts what was planned in, in place of the oldest.
    pub(crate) fn apply(&mut self, stored: Vec<Arc<Stored>>) {
        for one in stored {
            if self.max == 0 {
                return;
            }
            self.shrink_to(self.max - 1);
            match self.series.get_mut(&one.series) {
                Some(newest) => {
                    newest.stored = Arc::clone(&one);
                    newest.live += 1;
                }
                None => {
                    let newest = Newest {
                        stored: Arc::clone(&one),
                        live: 1,
                    };
                    self.series.insert(one.series.clone(), newest);
                }
            }
            self.ring.push_back(one);
        }
    }

    /// All, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Stored>> {
        self.ring.iter().cloned().collect()
    }

    /// Those of a range, in the order they came: cheap copies, so that series are matched without the ring's lock.
    pub(crate) fn in_range(&self, range: TimeRange) -> Vec<Arc<Stored>> {
        let inside = |s: &&Arc<Stored>| range.contains(Timestamp::from_millis(s.at));
        self.ring.iter().filter(inside).cloned().collect()
    }
}

/// Of exemplars in the order they came, those of series that meet a selector, by series.
pub(crate) fn select(
    stored: &[Arc<Stored>],
    selectors: &[Vec<Matcher>],
    cx: &ReadContext,
) -> Result<Vec<SeriesExemplars>, SelectError> {
    let mut by_series: HashMap<&Labels, Option<Vec<Exemplar>>> = HashMap::new();
    let lease = cx.meter.lease(stored.len() as u64 * EXEMPLAR_BYTES)?;
    for (n, one) in stored.iter().enumerate() {
        if n % 1024 == 0 {
            cx.cancel.check()?;
        }
        let found = by_series.entry(&one.series).or_insert_with(|| {
            let meets = |all: &Vec<Matcher>| all.iter().all(|m| m.matches(one.series.value(m.name())));
            selectors.iter().any(meets).then(Vec::new)
        });
        if let Some(found) = found {
            found.push(Exemplar {
                at: Some(Timestamp::from_millis(one.at)),
                ..one.exemplar.clone()
            });
        }
    }
    drop(lease);
    let mut out: Vec<SeriesExemplars> = by_series
        .into_iter()
        .filter_map(|(labels, exemplars)| {
            Some(SeriesExemplars {
                labels: labels.clone(),
                exemplars: exemplars?,
            })
        })
        .collect();
    out.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(column: u32, at: i64, value: f64, own: Option<i64>) -> PendingExemplar {
        PendingExemplar {
            column,
            at,
            exemplar: Exemplar {
                labels: Labels::from_pairs([("trace_id", "x")]).unwrap(),
                value,
                at: own.map(Timestamp::from_millis),
            },
        }
    }

    fn series(column: u32) -> Option<Labels> {
        Labels::from_pairs([("__name__", format!("m{column}"))]).ok()
    }

    fn put(ring: &mut Exemplars, meter: &Meter, all: &[PendingExemplar]) -> [u64; 4] {
        let plan = ring.plan(all, series, meter);
        ring.apply(plan.stored);
        let c = plan.counts;
        [c.stored, c.repeated, c.out_of_order, c.refused]
    }

    fn found(ring: &Exemplars, selectors: &[Vec<Matcher>]) -> Vec<(String, Vec<(i64, f64)>)> {
        let all = select(&ring.in_range(TimeRange::ALL), selectors, &ReadContext::unlimited()).unwrap();
        let of = |s: SeriesExemplars| {
            let values = s.exemplars.iter().map(|e| (e.at.unwrap().millis(), e.value)).collect();
            (s.labels.value("__name__").to_owned(), values)
        };
        all.into_iter().map(of).collect()
    }

    #[test]
    fn repeats_and_older_ones_are_left_out_as_upstream_does() {
        let meter = Meter::unlimited("head");
        let mut ring = Exemplars::new(10);
        // The second has no time of its own, as the first: a target shows it again.
        assert_eq!(
            put(
                &mut ring,
                &meter,
                &[pending(1, 10, 1.0, None), pending(1, 20, 1.0, None)]
            ),
            [1, 1, 0, 0]
        );
        assert_eq!(put(&mut ring, &meter, &[pending(1, 20, 2.0, Some(20))]), [1, 0, 0, 0]);
        assert_eq!(put(&mut ring, &meter, &[pending(1, 30, 2.0, Some(20))]), [0, 1, 0, 0]);
        assert_eq!(put(&mut ring, &meter, &[pending(1, 30, 2.0, Some(19))]), [0, 0, 1, 0]);
        // At one time, values rise.
        assert_eq!(
            put(
                &mut ring,
                &meter,
                &[pending(1, 30, 3.0, Some(20)), pending(1, 30, 2.5, Some(20))]
            ),
            [1, 0, 1, 0]
        );
        assert_eq!(
            found(&ring, &[vec![]]),
            [("m1".to_owned(), vec![(10, 1.0), (20, 2.0), (20, 3.0)])]
        );
    }

    #[test]
    fn the_oldest_give_way_and_memory_is_given_back() {
        let meter = Meter::unlimited("head");
        let mut ring = Exemplars::new(3);
        for at in 0..5 {
            put(&mut ring, &meter, &[pending(at as u32 % 2, at, 1.0, Some(at))]);
        }
        let m0 = vec![Matcher::equal("__name__", "m0")];
        let m1 = vec![Matcher::equal("__name__", "m1")];
        assert_eq!(
            found(&ring, &[m0.clone(), m1]),
            [("m0".into(), vec![(2, 1.0), (4, 1.0)]), ("m1".into(), vec![(3, 1.0)])]
        );
        assert_eq!(meter.used(), ring.bytes());
        ring.resize(1);
        assert_eq!(found(&ring, std::slice::from_ref(&m0)), [("m0".into(), vec![(4, 1.0)])]);
        assert_eq!((ring.len(), ring.series.len(), meter.used()), (1, 1, ring.bytes()));
        ring.resize(0);
        assert_eq!((found(&ring, &[m0]), meter.used()), (vec![], 0));
        assert_eq!(put(&mut ring, &meter, &[pending(1, 9, 1.0, None)]), [0, 0, 0, 0]);
    }

    #[test]
    fn without_memory_an_exemplar_is_refused() {
        let meter = Meter::new("head", 330);
        let mut ring = Exemplars::new(3);
        assert_eq!(
            put(&mut ring, &meter, &[pending(1, 1, 1.0, None), pending(1, 2, 2.0, None)]),
            [1, 0, 0, 1]
        );
    }
}
