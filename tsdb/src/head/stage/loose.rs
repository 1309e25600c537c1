//! Samples with times of their own (remote write, explicit timestamps): which timeline they go on. Those that share a
//! time share a row.

use super::{Item, Stage, Verdict, duplicate, item_of};
use crate::timeline::NONE;
use hashbrown::HashMap;
use tidegauge_model::{RejectReason, Rejected, SeriesRef, is_stale};

/// A sample with its time and its ordinal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loose {
    pub(crate) series: SeriesRef,
    pub(crate) at: i64,
    pub(crate) value: f64,
    pub(crate) ordinal: u64,
    /// It came in a row of a timeline that is ahead of it.
    pub(crate) of_row: bool,
}

impl Stage<'_> {
    /// Plans samples with their own times, in any order of series.
    pub(crate) fn loose(&mut self, samples: &mut Vec<Loose>) -> Result<(), Rejected> {
        let mut backward = Vec::new();
        if !samples.is_sorted_by_key(|s| s.at) {
            if self.repeats(samples) {
                backward = self.part_backward(samples);
            }
            samples.sort_by_key(|s| s.at);
        }
        for same in samples.chunk_by(|a, b| a.at == b.at) {
            self.loose_group(same)?;
        }
        for (sample, ends_histograms) in backward {
            let item = item_of_loose(&sample);
            let series = self.state.column(item.column).map_or(NONE, |c| c.series);
            let verdict = if ends_histograms {
                Verdict::Reject(self.never_late(sample.at))
            } else {
                self.behind(&item, series, sample.at)
            };
            self.settle(&item, sample.at, &verdict)?;
        }
        Ok(())
    }

    /// Takes out the samples that come behind one of their own series in the order they were handed in; sorting would
    /// hide that. What is out of bounds does not count.
    /// Tells of each whether it is the marker of a series whose newest sample, where it was handed in, is a histogram.
    fn part_backward(&mut self, samples: &mut Vec<Loose>) -> Vec<(Loose, bool)> {
        // Of each series: the newest time so far, and that of the histogram which is its newest sample, if one is.
        let mut newest: HashMap<u32, (i64, Option<i64>)> = HashMap::new();
        let (oldest, latest) = (self.bounds.oldest, self.bounds.newest);
        let (mut kept, mut backward) = (Vec::with_capacity(samples.len()), Vec::new());
        for sample in samples.drain(..) {
            if sample.at < oldest || sample.at > latest {
                kept.push(sample);
                continue;
            }
            let column = self.state.column(sample.series.bits() as u32);
            let series = column.map_or(NONE, |c| c.series);
            let (before, histogram) = newest
                .entry(series)
                .or_insert_with(|| (i64::MIN, self.newest_is_histogram(series).map(|(at, _)| at)));
            if sample.at < *before {
                backward.push((sample, is_stale(sample.value) && histogram.is_some()));
                continue;
            }
            *before = sample.at;
            if histogram.is_some_and(|at| at < sample.at) {
                // Behind a histogram a marker is one, too; a float ends them.
                *histogram = is_stale(sample.value).then_some(sample.at);
            }
            kept.push(sample);
        }
        *samples = kept;
        backward
    }

    /// Plans samples that share a time: those of a timeline go on it together, others find or make one.
    fn loose_group(&mut self, samples: &[Loose]) -> Result<(), Rejected> {
        let Some(at) = samples.first().map(|s| s.at) else {
            return Ok(());
        };
        let inside = (self.bounds.oldest..=self.bounds.newest).contains(&at);
        if inside && self.rising_row(at, samples) {
            return Ok(());
        }
        let mut items = Vec::with_capacity(samples.len());
        for sample in samples {
            let mut item = item_of_loose(sample);
            if at > self.bounds.newest {
                self.settle(&item, at, &Verdict::Reject(RejectReason::TooNew))?;
                continue;
            }
            if at < self.bounds.oldest {
                let verdict = self.verdict(&item, at, false);
                self.settle(&item, at, &verdict)?;
                continue;
            }
            (item.timeline, item.place) = self.location(item.column);
            items.push(item);
        }
        items.sort_by_key(|i| (i.timeline, i.place, i.column));
        let mut fresh = Vec::new();
        let mut joined = None;
        for same in items.chunk_by(|a, b| a.timeline == b.timeline) {
            let timeline = same.first().map_or(NONE, |i| i.timeline);
            let fits = self.fits(timeline, at, same);
            let mut row = Vec::with_capacity(same.len());
            // One column twice at one time: the first that fits counts.
            let mut taken: Option<(u32, f64)> = None;
            for item in same {
                if let Some((column, first)) = taken
                    && column == item.column
                {
                    let verdict = if first.to_bits() == item.value.to_bits() {
                        Verdict::Stored
                    } else {
                        Verdict::Reject(duplicate(at, first, item.value))
                    };
                    self.settle(item, at, &verdict)?;
                    continue;
                }
                let in_order = fits && item.place != NONE && at > self.newest(timeline);
                let verdict = self.verdict(item, at, in_order);
                if self.settle(item, at, &verdict)? {
                    taken = Some((item.column, item.value));
                    if fits { row.push(*item) } else { fresh.push(*item) }
                }
            }
            if !row.is_empty() {
                self.put(timeline, at, &row);
                joined = Some(timeline);
            }
        }
        if !fresh.is_empty() {
            let timeline = joined.unwrap_or_else(|| self.loose_timeline(at));
            fresh.iter_mut().for_each(|i| i.place = NONE);
            fresh.sort_by_key(|i| i.ordinal);
            self.put(timeline, at, &fresh);
        }
        Ok(())
    }

    /// Whether samples that were on a timeline so far go on there: it is one of the store's own, not ahead of them,
    /// and its newest row held some of them (else they have parted).
    fn fits(&self, timeline: u32, at: i64, items: &[Item]) -> bool {
        let own = match self.state.timeline(timeline) {
            Some(t) => t.key.is_none(),
            None => self.plan.new_timelines.contains(&timeline),
        };
        let newest = self.newest(timeline);
        if !own || at < newest {
            return false;
        }
        if at == newest || newest == i64::MIN {
            return true;
        }
        let step = (items.len() / 8).max(1);
        items
            .iter()
            .step_by(step)
            .any(|i| i.place == NONE || self.last_of(i.column).is_some_and(|(last, _)| last == newest))
    }

    /// A timeline of the store's own whose newest row is of this time, or a new one.
    fn loose_timeline(&mut self, at: i64) -> u32 {
        if let Some(staged) = self.plan.staged.iter().find(|s| {
            s.newest == at && !s.rows.is_empty() && self.state.timeline(s.timeline).is_none_or(|t| t.key.is_none())
        }) {
            return staged.timeline;
        }
        if let Some(timeline) = self.state.loose.get(&at)
            && self.newest(*timeline) == at
            && self.state.timeline(*timeline).is_some_and(|t| t.key.is_none())
        {
            return *timeline;
        }
        let made = self.plan.new_timelines.len();
        let free = &self.state.free_timelines;
        let timeline = match free.len().checked_sub(made + 1).and_then(|i| free.get(i)) {
            Some(free) => *free,
            None => (self.state.timelines.len() + made - free.len().min(made)) as u32,
        };
        self.plan.new_timelines.push(timeline);
        timeline
    }
}

fn item_of_loose(sample: &Loose) -> Item {
    Item {
        of_row: sample.of_row,
        ..item_of(sample.series, sample.value, sample.ordinal)
    }
}
