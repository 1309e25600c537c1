//! Rows whose samples stand in places of one timeline already: planned without a look at each series.
//!
//! A column that is on a timeline without foreign columns owns its series ([`Timeline::foreign`]), and a row that is
//! later than all others of the timeline is later than all its samples. So place and value are all there is to see.

use super::{Item, Loose, Stage, Verdict, item_of};
use crate::head::staged::Staged;
use crate::timeline::{NONE, Presence, Timeline};
use hashbrown::HashSet;
use tidegauge_model::{RejectReason, Rejected, SeriesRef, is_stale};

impl Stage<'_> {
    /// Whether a timeline's places say all there is to know of a row.
    fn plain(&self, timeline: u32) -> Option<(&Timeline, i64)> {
        let t = self.state.timeline(timeline)?;
        if t.foreign || self.plan.foreign.contains(&timeline) {
            return None;
        }
        Some((t, self.newest(timeline)))
    }

    /// Plans a row of a timeline most of whose samples have their places, in any order: series come and go. `false`:
    /// nothing was done.
    pub(super) fn placed_row(
        &mut self,
        timeline: u32,
        at: i64,
        row: &[(SeriesRef, f64)],
        ordinal: u64,
    ) -> Result<bool, Rejected> {
        let state = self.state;
        match self.plain(timeline) {
            Some((_, newest)) if at > newest && self.plan.moved.is_empty() => {}
            _ => return Ok(false),
        }
        let index = self.staged(timeline);
        let (Some(t), Some(staged)) = (state.timeline(timeline), self.plan.staged.get_mut(index)) else {
            return Ok(false);
        };
        if !staged.ends.is_empty() || !staged.added.is_empty() {
            return Ok(false);
        }
        staged.overlay(Some(t));
        let first_change = staged.changes.len();
        let touched = &mut self.touched;
        touched.clear();
        touched.resize(t.places.len(), false);
        let mut held = 0;
        let (mut fresh, mut repeated) = (Vec::new(), Vec::new());
        for ((series, value), ordinal) in row.iter().zip(ordinal..) {
            let column = state.column(series.bits() as u32);
            let place = column.filter(|c| c.timeline == timeline).map_or(NONE, |c| c.place);
            let (Some(p), Some(touched)) = (t.places.get(place as usize), touched.get_mut(place as usize)) else {
                fresh.push(item_of(*series, *value, ordinal));
                continue;
            };
            if p.end != NONE {
                fresh.push(item_of(*series, *value, ordinal));
            } else if *touched {
                repeated.push(item_of(*series, *value, ordinal));
            } else {
                *touched = true;
                held += 1;
                let old = newest_value(staged, t, place);
                if old.to_bits() != value.to_bits() {
                    staged.push_change(place, old, *value, p.exponent);
                }
            }
        }
        self.plan.done.samples += u64::from(held);
        for item in &repeated {
            self.settle(item, at, &Verdict::Reject(RejectReason::Repeated))?;
        }
        let fresh = self.accept_fresh(timeline, at, fresh)?;
        if held > 0 || !fresh.is_empty() {
            self.finish_row(timeline, at, first_change, held, &fresh);
        }
        Ok(true)
    }

    /// Of samples without a place, those that fit their series.
    fn accept_fresh(&mut self, timeline: u32, at: i64, mut fresh: Vec<Item>) -> Result<Vec<Item>, Rejected> {
        let mut seen = HashSet::with_capacity(fresh.len());
        let mut kept = Vec::with_capacity(fresh.len());
        self.plan.owners.reserve(fresh.len());
        for item in &mut fresh {
            item.timeline = timeline;
            item.of_row = true;
            let verdict = if seen.insert(item.column) {
                self.verdict(item, at, false)
            } else {
                Verdict::Reject(RejectReason::Repeated)
            };
            if self.settle(item, at, &verdict)? {
                kept.push(*item);
            }
        }
        Ok(kept)
    }

    /// Plans samples of one time that stand in rising places of one of the store's own timelines, some of them in its
    /// newest row: what a sender that repeats itself sends. `false`: nothing was done.
    pub(super) fn rising_row(&mut self, at: i64, samples: &[Loose]) -> bool {
        let state = self.state;
        let timeline = samples
            .first()
            .and_then(|s| state.column(s.series.bits() as u32))
            .map_or(NONE, |c| c.timeline);
        let newest = match self.plain(timeline) {
            Some((t, newest)) if t.key.is_none() && at >= newest => newest,
            _ => return false,
        };
        let index = self.staged(timeline);
        let (Some(t), Some(staged)) = (state.timeline(timeline), self.plan.staged.get_mut(index)) else {
            return false;
        };
        if !staged.ends.is_empty() || !staged.added.is_empty() {
            return false;
        }
        staged.overlay(Some(t));
        let (codes, changes) = (staged.codes.len(), staged.changes.len());
        let mut row = Rising::new(at > newest);
        let moved = &self.plan.moved;
        let whole = samples.iter().all(|sample| {
            let number = sample.series.bits() as u32;
            let column = state.column(number);
            let place = column.filter(|c| c.timeline == timeline).map_or(NONE, |c| c.place);
            let Some(p) = t.places.get(place as usize).filter(|p| p.end == NONE) else {
                return false;
            };
            if !row.push(place, staged, t) || !moved.is_empty() && moved.contains_key(&number) {
                return false;
            }
            let old = newest_value(staged, t, place);
            if old.to_bits() != sample.value.to_bits() {
                staged.push_change(place, old, sample.value, p.exponent);
            }
            true
        });
        row.gap(t.places.len() as u32, staged, t);
        if !whole || !row.goes_on(samples, staged, t, &|column| state.last_of(column).map(|l| l.0)) {
            staged.codes.truncate(codes);
            staged.changes.truncate(changes);
            // It is made anew from what is left.
            staged.last = None;
            return false;
        }
        for place in std::mem::take(&mut row.ends) {
            staged.end(place);
        }
        let all = samples.len() as u32 == staged.live;
        staged.close_row(at, (!all).then(|| row.edges.into()));
        self.plan.done.samples += samples.len() as u64;
        true
    }

    /// Whether a series occurs twice among samples.
    pub(super) fn repeats(&self, samples: &[Loose]) -> bool {
        let mut seen = vec![0u64; self.state.series.len() / 64 + 1];
        samples.iter().any(|sample| {
            let series = self
                .state
                .column(sample.series.bits() as u32)
                .map_or(NONE, |c| c.series);
            let Some(word) = seen.get_mut(series as usize / 64) else {
                return true;
            };
            let bit = 1 << (series % 64);
            let twice = *word & bit != 0;
            *word |= bit;
            twice
        })
    }
}

fn newest_value(staged: &Staged, t: &Timeline, place: u32) -> f64 {
    let last = staged.last.as_ref().unwrap_or(&t.last);
    last.get(place as usize).copied().unwrap_or(0.0)
}

/// The ranges of a row's places, which come rising.
struct Rising {
    edges: Vec<u32>,
    /// Where the last range ends so far.
    end: u32,
    /// Missing places that went stale before: they end here.
    ends: Vec<u32>,
    /// Time has moved on.
    later: bool,
}

impl Rising {
    fn new(later: bool) -> Self {
        Self {
            edges: Vec::new(),
            end: 0,
            ends: Vec::new(),
            later,
        }
    }

    /// Takes the next place; `false` if it does not rise.
    #[inline]
    fn push(&mut self, place: u32, staged: &Staged, t: &Timeline) -> bool {
        if self.edges.is_empty() || place != self.end {
            if place < self.end {
                return false;
            }
            self.gap(place, staged, t);
            if self.edges.len().is_multiple_of(2) {
                self.edges.push(place);
            }
        }
        self.end = place + 1;
        true
    }

    /// Passes over missing places up to `to`: ended ones do not break a range.
    fn gap(&mut self, to: u32, staged: &Staged, t: &Timeline) {
        let mut breaks = false;
        if self.later || t.ended > 0 {
            for place in self.end..to {
                if t.places.get(place as usize).is_none_or(|p| p.end != NONE) {
                    continue;
                }
                if self.later && is_stale(newest_value(staged, t, place)) {
                    self.ends.push(place);
                } else {
                    breaks = true;
                }
            }
        } else {
            breaks = self.end < to;
        }
        let open = self.edges.len() % 2 == 1;
        if open && (breaks || to as usize == t.places.len()) {
            // What ended behind the range is not told apart from it.
            self.edges.push(self.end);
        }
    }

    /// Whether the timeline goes on with this row: of the time of the newest rows it adds to them; later it holds some
    /// of what they held, else the two have parted.
    fn goes_on(&self, samples: &[Loose], staged: &Staged, t: &Timeline, last: &dyn Fn(u32) -> Option<i64>) -> bool {
        let newest = staged.newest;
        if !self.later && t.runs.last().is_some_and(|run| run.last == newest) {
            // Some rows of this time are sealed: what they hold is not told here.
            return false;
        }
        let staged_rows = staged.rows.iter().rev().map(|r| (r.at, &r.presence));
        let open_rows = t.times.iter().copied().zip(&t.presence).rev();
        let mut met = false;
        let mut any = false;
        for (_, presence) in staged_rows.chain(open_rows).take_while(|(at, _)| *at == newest) {
            any = true;
            met |= overlap(&self.edges, presence);
        }
        if any {
            return met == self.later;
        }
        // The newest rows are sealed: columns remember.
        let step = (samples.len() / 8).max(1);
        self.later
            && samples
                .iter()
                .step_by(step)
                .any(|s| last(s.series.bits() as u32) == Some(newest))
    }
}

/// Whether ranges and the presence of another row have a place in common.
fn overlap(edges: &[u32], presence: &Presence) -> bool {
    let Some(other) = presence else {
        return !edges.is_empty();
    };
    let (mut a, mut b) = (edges.chunks_exact(2).peekable(), other.chunks_exact(2).peekable());
    while let (Some([a0, a1]), Some([b0, b1])) = (a.peek(), b.peek()) {
        if a0.max(b0) < a1.min(b1) {
            return true;
        }
        if a1 <= b1 {
            a.next();
        } else {
            b.next();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn edges(places: &BTreeSet<u32>) -> Vec<u32> {
        let mut out: Vec<u32> = Vec::new();
        for place in places {
            match out.last_mut() {
                Some(end) if *end == *place => *end += 1,
                _ => out.extend([*place, *place + 1]),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn ranges_overlap_where_sets_do(a in proptest::collection::btree_set(0u32..40, 0..20), b in proptest::collection::btree_set(0u32..40, 0..20)) {
            let presence: Presence = Some(edges(&b).into());
            prop_assert_eq!(overlap(&edges(&a), &presence), !a.is_disjoint(&b));
            prop_assert_eq!(overlap(&edges(&a), &None), !a.is_empty());
        }

        #[test]
        fn rising_places_become_ranges(places in proptest::collection::btree_set(0u32..60, 1..60), ended in proptest::collection::btree_set(0u32..60, 0..20)) {
            let mut t = Timeline::new(None);
            t.push_row(0, None);
            for place in 0..60u32 {
                t.add_place(u64::from(place), 0, 1.0);
            }
            for place in &ended {
                t.end_place(*place, 1);
            }
            let staged = Staged::new(0, Some(&t));
            let held: Vec<u32> = places.difference(&ended).copied().collect();
            let mut rising = Rising::new(true);
            for place in &held {
                prop_assert!(rising.push(*place, &staged, &t));
                prop_assert!(!rising.push(*place, &staged, &t));
            }
            rising.gap(60, &staged, &t);
            let presence: Presence = Some(rising.edges.into());
            let back: Vec<u32> = (0..60).filter(|p| !ended.contains(p) && crate::timeline::holds(&presence, *p)).collect();
            prop_assert_eq!(back, held);
        }
    }
}
