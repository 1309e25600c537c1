//! Lets go of what blocks have: runs, then columns and timelines without samples, then, when many series are gone, the
//! index.
//!
//! Readers and appenders that are under way keep what they were promised: runs and indexes are shared, and a column or
//! a timeline is let go only in the second round after nobody has asked for it (references of appenders outlive one round only if
//! the appender does; it holds `Db::appenders` alive).

use super::series::Index;
use super::{SeriesState, State};
use crate::timeline::NONE;
use hashbrown::HashSet;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl State {
    /// Drops runs that end before `bound`, and what was deleted of them; they lie in blocks. No view of before is left
    /// but, at most, views of `oldest_view`'s epoch and later.
    pub(crate) fn drop_runs(&mut self, bound: i64, oldest_view: Option<u64>) {
        self.late_leaving.clear();
        for t in self.timelines.iter_mut().flatten() {
            t.runs.retain(|r| r.last >= bound);
            t.runs.shrink_to(t.runs.len() + 4);
        }
        self.histograms.drop_before(bound);
        let timelines = &self.timelines;
        self.left.retain(|(_, timeline)| {
            let t = timelines.get(*timeline as usize).and_then(Option::as_ref);
            t.is_some_and(|t| !t.runs.is_empty() || !t.left.is_empty())
        });
        let epochs: HashSet<u64> = self
            .timelines
            .iter()
            .flatten()
            .flat_map(|t| t.runs.iter().map(|r| r.epoch))
            .collect();
        self.deleted.drop_before(bound);
        let in_use = epochs.into_iter().chain(self.deleted.oldest_epoch()).chain(oldest_view);
        let oldest = in_use.min().unwrap_or(self.epoch);
        self.renumbered.retain(|(epoch, _)| *epoch >= oldest);
    }

    /// Takes the places away on timelines that got no row since `bound`: sealing kept them for rows that did not come.
    fn drop_places(&mut self, bound: i64) {
        let timelines = &mut self.timelines;
        let columns = &mut self.columns;
        for (number, t) in (0u32..).zip(timelines).filter_map(|(n, t)| Some((n, t.as_mut()?))) {
            if !t.times.is_empty() || t.newest >= bound || t.refs.is_empty() {
                continue;
            }
            for bits in &t.refs {
                if let Some(c) = columns.get_mut(*bits as u32 as usize).filter(|c| c.timeline == number) {
                    c.place = NONE;
                }
            }
            t.restart(&vec![false; t.refs.len()]);
        }
    }

    /// Marks columns that hold nothing, and lets go of those that were marked before; gives their numbers.
    pub(crate) fn drop_columns(&mut self, bound: i64) -> Vec<u32> {
        self.drop_places(bound);
        let left = self.left.iter().map(|(series, _)| *series);
        let late = self.late.series().chain(self.late_leaving.iter().copied());
        let held: HashSet<u32> = left.chain(late).chain(self.histograms.numbers()).collect();
        let mut gone = Vec::new();
        for (number, c) in (0u32..).zip(&self.columns) {
            if c.free || c.place != NONE || c.last_at >= bound || held.contains(&c.series) {
                continue;
            }
            if c.doomed.swap(true, Ordering::Relaxed) {
                gone.push(number);
            }
        }
        for number in &gone {
            self.free_column(*number);
        }
        gone
    }

    fn free_column(&mut self, number: u32) {
        let Some(c) = self.columns.get_mut(number as usize) else {
            return;
        };
        c.free = true;
        c.generation = c.generation.wrapping_add(1);
        let (series, next, home) = (c.series, c.next, c.home);
        self.free_columns.push(number);
        if let Some(home) = self.timeline_mut(home) {
            home.homed = home.homed.saturating_sub(1);
        }
        let Some(s) = self.series.get_mut(series as usize) else {
            return;
        };
        if s.owner == number {
            s.owner = NONE;
            self.histograms.forget(series);
        }
        if s.first == number {
            s.first = next;
            return;
        }
        let mut at = s.first;
        while let Some(c) = self.columns.get_mut(at as usize) {
            if c.next == number {
                c.next = next;
                return;
            }
            at = c.next;
        }
    }

    /// Marks timelines that hold nothing and that no column is on or at home on, and lets go of those that were marked
    /// before; gives how many are marked.
    pub(crate) fn drop_timelines(&mut self) -> usize {
        let mut marked = 0;
        let mut used: HashSet<u32> = HashSet::new();
        for c in self.columns.iter().filter(|c| !c.free) {
            used.extend([c.home, c.timeline]);
        }
        used.extend(self.left.iter().map(|(_, timeline)| *timeline));
        for (number, slot) in (0u32..).zip(&mut self.timelines) {
            let idle = slot
                .as_ref()
                .is_some_and(|t| t.times.is_empty() && t.runs.is_empty() && t.newest != i64::MIN);
            if !idle || used.contains(&number) {
                continue;
            }
            if slot.as_ref().is_some_and(|t| !t.doomed.swap(true, Ordering::Relaxed)) {
                marked += 1;
                continue;
            }
            if let Some(key) = slot.take().and_then(|t| t.key) {
                self.keys.remove(&key);
            }
            if let Some(generation) = self.timeline_generations.get_mut(number as usize) {
                *generation = generation.wrapping_add(1);
            }
            self.free_timelines.push(number);
        }
        let timelines = &self.timelines;
        self.loose.retain(|at, t| {
            timelines
                .get(*t as usize)
                .and_then(Option::as_ref)
                .is_some_and(|t| t.newest == *at)
        });
        marked
    }

    /// How many series have no column.
    pub(crate) fn dead_series(&self) -> usize {
        self.series.iter().filter(|s| s.first == NONE).count()
    }

    /// Builds the index anew without dead series. Series get new numbers.
    pub(crate) fn renumber(&mut self) -> Option<usize> {
        let old_index = Arc::clone(&self.index);
        let old = old_index.read();
        let mut index = Index::default();
        let (mut old_of, mut new_of, mut series) = (Vec::new(), vec![NONE; old.len()], Vec::new());
        for number in 0..old.len() as u32 {
            let state = self.series.get(number as usize).copied();
            let Some(state) = state.filter(|s| s.first != NONE) else {
                continue;
            };
            let new = index.add(&old.labels(number))?;
            if let Some(slot) = new_of.get_mut(number as usize) {
                *slot = new;
            }
            old_of.push(number);
            series.push(SeriesState { ..state });
        }
        let dropped = old.len() - index.len();
        drop(old);
        let new = |number: u32| new_of.get(number as usize).copied().unwrap_or(NONE);
        for c in self.columns.iter_mut().filter(|c| !c.free) {
            c.series = new(c.series);
        }
        for t in self.timelines.iter_mut().flatten() {
            for (series, _) in &mut t.left {
                *series = new(*series);
            }
        }
        self.left = self
            .left
            .iter()
            .map(|(series, t)| (new(*series), *t))
            .filter(|(s, _)| *s != NONE)
            .collect();
        let deleted = self
            .deleted
            .tombstones()
            .renumbered(|s| Some(new(s)).filter(|s| *s != NONE));
        self.late.renumber(&new_of);
        self.late_leaving = self.late_leaving.iter().map(|s| new(*s)).collect();
        self.histograms.renumber(new);
        self.renumbered.push((self.epoch, old_of.into()));
        self.epoch += 1;
        self.deleted.set(self.epoch, deleted);
        self.series = series;
        self.index = Arc::new(RwLock::new(index));
        Some(dropped)
    }
}
