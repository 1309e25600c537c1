//! What was deleted of the head: hidden from views that are made later, left out when a window becomes a block.
//!
//! An interval ends, at the latest, with the newest sample its series had when it was deleted. Samples that come in
//! order lie behind that, so they are never hidden. What blocks hold is not told here: blocks have tombstones of
//! their own.

use super::State;
use crate::timeline::NONE;
use crate::tombstones::{Intervals, Tombstones};
use std::sync::{Arc, Weak};
use tidegauge_model::{Matcher, TimeRange, Timestamp};

/// Deleted intervals by the series numbers of one index of the head.
#[derive(Debug, Default)]
pub(crate) struct HeadTombstones {
    /// Which index.
    epoch: u64,
    tombstones: Tombstones,
}

impl HeadTombstones {
    /// What is deleted of a series, by its number of today.
    pub(crate) fn get(&self, state: &State, series: u32) -> Option<&Intervals> {
        if self.tombstones.is_empty() {
            return None;
        }
        self.tombstones.get(state.series_in_epoch(series, self.epoch)?)
    }
}

/// What is deleted now, and which older ones views still hold.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    now: Arc<HeadTombstones>,
    before: Vec<Weak<HeadTombstones>>,
}

impl Deletions {
    /// What a view made now goes by.
    pub(crate) fn current(&self) -> Arc<HeadTombstones> {
        Arc::clone(&self.now)
    }

    /// By the numbers of the head's index.
    pub(crate) fn tombstones(&self) -> &Tombstones {
        &self.now.tombstones
    }

    pub(crate) fn set(&mut self, epoch: u64, tombstones: Tombstones) {
        let old = std::mem::replace(&mut self.now, Arc::new(HeadTombstones { epoch, tombstones }));
        self.before.retain(|b| b.strong_count() > 0);
        if !old.tombstones.is_empty() {
            self.before.push(Arc::downgrade(&old));
        }
    }

    /// Lets go of what lies before `bound`: blocks have it.
    pub(crate) fn drop_before(&mut self, bound: i64) {
        if !self.now.tombstones.is_empty() {
            let kept = self.now.tombstones.not_before(Timestamp::from_millis(bound));
            self.set(self.now.epoch, kept);
        }
    }

    /// The oldest index whose numbers are still in use here.
    pub(crate) fn oldest_epoch(&self) -> Option<u64> {
        let before = self.before.iter().filter_map(Weak::upgrade).map(|b| b.epoch);
        let now = (!self.now.tombstones.is_empty()).then_some(self.now.epoch);
        before.chain(now).min()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.now.tombstones.heap_bytes()
    }
}

impl State {
    /// What a deletion hides of the head from `from` on: a range for each series that matches, by rising number.
    pub(crate) fn deleted_by(&self, matchers: &[Matcher], range: TimeRange, from: i64) -> Vec<(u32, TimeRange)> {
        let start = range.start.max(Timestamp::from_millis(from));
        let found = self.index.read().select(matchers);
        found
            .into_iter()
            .filter_map(|series| {
                let end = range.end.min(Timestamp::from_millis(self.newest_of(series)?));
                let hidden = TimeRange::new(start, end);
                let known = self.deleted.tombstones().get(series);
                let new = !hidden.is_empty() && known.is_none_or(|known| !known.cover(hidden));
                new.then_some((series, hidden))
            })
            .collect()
    }

    /// The time of a series' newest sample.
    fn newest_of(&self, series: u32) -> Option<i64> {
        let owner = self.series.get(series as usize)?.owner;
        let float = (owner != NONE).then(|| self.last_of(owner)).flatten();
        let histogram = self.histograms.last(series).map(|(at, _)| at);
        float.map(|(at, _)| at).max(histogram)
    }

    /// Hides what [`State::deleted_by`] found.
    pub(crate) fn delete(&mut self, hidden: &[(u32, TimeRange)]) {
        if !hidden.is_empty() {
            let tombstones = self.deleted.tombstones().with(hidden);
            self.deleted.set(self.epoch, tombstones);
        }
    }
}
