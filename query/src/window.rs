//! For each step the samples it sees, found once per timeline.
//!
//! ```text
//!   samples   . .  .   .  . .     .  .   .        a window is (left, right]: its left edge is out
//!   step 0       (--------]
//!   step 1            (--------]                  both edges only ever move right, so one pass finds all
//!   step 2                 (--------]
//! ```

use tidegauge_model::{TimeRange, Timestamp};

/// The times at which an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// The first step.
    pub(crate) start: i64,
    /// Milliseconds from one step to the next; above 0.
    pub(crate) step_ms: i64,
    /// How many steps.
    pub(crate) len: usize,
}

impl Grid {
    /// One step.
    pub(crate) fn instant(at: i64) -> Self {
        Self {
            start: at,
            step_ms: 1,
            len: 1,
        }
    }

    /// From `start` to `end`, both included; empty if they are the wrong way round.
    pub(crate) fn new(start: i64, end: i64, step_ms: i64) -> Self {
        let step_ms = step_ms.max(1);
        let span = i128::from(end) - i128::from(start);
        let len = if span < 0 { 0 } else { span / i128::from(step_ms) + 1 };
        Self {
            start,
            step_ms,
            len: usize::try_from(len).unwrap_or(usize::MAX),
        }
    }

    /// The time of a step.
    pub(crate) fn at(&self, step: usize) -> i64 {
        self.start
            .saturating_add(self.step_ms.saturating_mul(i64::try_from(step).unwrap_or(i64::MAX)))
    }

    /// The time of the last step.
    pub(crate) fn end(&self) -> i64 {
        self.at(self.len.saturating_sub(1))
    }

    /// The first step alone.
    pub(crate) fn first(&self) -> Self {
        Self {
            len: self.len.min(1),
            ..*self
        }
    }

    /// All times.
    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.len).map(move |i| self.at(i))
    }
}

/// Where the window of each step lies in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) grid: Grid,
    /// A fixed time (`@`) that all steps look at instead of their own.
    pub(crate) at: Option<i64>,
    /// How far back the window is moved.
    pub(crate) offset_ms: i64,
    /// How far the window reaches back from its right edge.
    pub(crate) back_ms: i64,
    /// How far it reaches beyond its right edge (`smoothed`).
    pub(crate) ahead_ms: i64,
}

impl Frame {
    /// The window's right edge, before `ahead_ms`.
    pub(crate) fn right(&self, step: usize) -> i64 {
        self.at
            .unwrap_or_else(|| self.grid.at(step))
            .saturating_sub(self.offset_ms)
    }

    /// Left (excluded) and right (included) edge.
    fn edges(&self, step: usize) -> (i64, i64) {
        let right = self.right(step);
        (right.saturating_sub(self.back_ms), right.saturating_add(self.ahead_ms))
    }

    /// The edges of all steps.
    fn all_edges(&self) -> impl Iterator<Item = (i64, i64)> {
        let this = *self;
        let last = this.grid.len.saturating_sub(1);
        // Without a fixed time, and far from the ends of time, each step is the one before and the step's width.
        let plain = this.at.is_none() && this.edges_exactly(0).is_some() && this.edges_exactly(last).is_some();
        let (left, right) = this.edges(0);
        let step_ms = this.grid.step_ms;
        (0..this.grid.len).map(move |step| {
            if plain {
                let moved = step as i64 * step_ms;
                (left + moved, right + moved)
            } else {
                this.edges(step)
            }
        })
    }

    /// The edges of a step if no time on the way to them is out of range.
    fn edges_exactly(&self, step: usize) -> Option<(i64, i64)> {
        let moved = self.grid.step_ms.checked_mul(i64::try_from(step).ok()?)?;
        let right = self.grid.start.checked_add(moved)?.checked_sub(self.offset_ms)?;
        Some((right.checked_sub(self.back_ms)?, right.checked_add(self.ahead_ms)?))
    }

    /// All samples some window sees.
    pub(crate) fn range(&self) -> TimeRange {
        let (first, _) = self.edges(0);
        let (_, last) = self.edges(self.grid.len.saturating_sub(1));
        TimeRange::new(
            Timestamp::from_millis(first.saturating_add(1)),
            Timestamp::from_millis(last),
        )
    }
}

/// The samples of one window: indices `first..end`.
pub(crate) type Span = (u32, u32);

/// Finds the window of each step.
pub(crate) fn spans(timestamps: &[Timestamp], frame: &Frame, out: &mut Vec<Span>) {
    out.clear();
    out.reserve(frame.grid.len);
    let (mut first, mut end) = (0usize, 0usize);
    for (left, right) in frame.all_edges() {
        end = advance(timestamps, end, right);
        first = advance(timestamps, first, left).min(end);
        out.push((first as u32, end as u32));
        if frame.at.is_some() {
            out.resize(frame.grid.len, (first as u32, end as u32));
            break;
        }
    }
}

/// The first index, from `from` on, whose time is after `edge`.
fn advance(timestamps: &[Timestamp], from: usize, edge: i64) -> usize {
    let rest = &timestamps[from..];
    // Steps are mostly a few samples apart: walk a little, then search.
    for (i, t) in rest.iter().take(8).enumerate() {
        if t.millis() > edge {
            return from + i;
        }
    }
    let walked = rest.len().min(8);
    from + walked + rest[walked..].partition_point(|t| t.millis() <= edge)
}

/// The windows of all steps, and what they say together.
#[derive(Debug, Default)]
pub(crate) struct Windowing {
    pub(crate) spans: Vec<Span>,
    /// How many samples the steps see, each step for itself.
    pub(crate) total: u64,
    /// How many the step sees that sees the fewest.
    pub(crate) least: u32,
}

impl Windowing {
    /// Finds the windows anew.
    pub(crate) fn find(&mut self, timestamps: &[Timestamp], frame: &Frame) {
        spans(timestamps, frame, &mut self.spans);
        let lens = || self.spans.iter().map(|(first, end)| end - first);
        self.total = lens().map(u64::from).sum();
        self.least = lens().min().unwrap_or(0);
    }
}

/// No sample.
pub(crate) const NONE: u32 = u32::MAX;

/// Finds for each step the newest sample of its window, [`NONE`] if the window is empty.
pub(crate) fn newest(timestamps: &[Timestamp], frame: &Frame, out: &mut Vec<u32>) {
    out.clear();
    out.reserve(frame.grid.len);
    let mut end = 0usize;
    for (left, right) in frame.all_edges() {
        end = advance(timestamps, end, right);
        let found = match end.checked_sub(1) {
            Some(last) if timestamps[last].millis() > left => last as u32,
            _ => NONE,
        };
        out.push(found);
        if frame.at.is_some() {
            out.resize(frame.grid.len, found);
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_pass_finds_what_a_search_per_step_finds(
            mut times in proptest::collection::btree_set(-500i64..500, 0..60),
            start in -300i64..300, step in 1i64..90, len in 1usize..20,
            offset_ms in -100i64..100, back_ms in 0i64..200, at in proptest::option::of(-200i64..200),
        ) {
            times.insert(0);
            let timestamps: Vec<_> = times.iter().map(|t| Timestamp::from_millis(*t)).collect();
            let grid = Grid { start, step_ms: step, len };
            let frame = Frame { grid, at, offset_ms, back_ms, ahead_ms: 0 };
            let (mut windows, mut last) = (Vec::new(), Vec::new());
            spans(&timestamps, &frame, &mut windows);
            newest(&timestamps, &frame, &mut last);
            for i in 0..len {
                let right = at.unwrap_or_else(|| grid.at(i)) - offset_ms;
                let seen: Vec<usize> = (0..timestamps.len())
                    .filter(|k| timestamps[*k].millis() > right - back_ms && timestamps[*k].millis() <= right)
                    .collect();
                let (a, b) = windows[i];
                prop_assert_eq!((a as usize..b as usize).collect::<Vec<_>>(), seen.clone());
                prop_assert_eq!(last[i], seen.last().map_or(NONE, |k| *k as u32));
            }
        }
    }

    #[test]
    fn grids_include_both_ends() {
        assert_eq!(Grid::new(0, 10, 5).times().collect::<Vec<_>>(), [0, 5, 10]);
        assert_eq!(Grid::new(0, 9, 5).end(), 5);
        assert_eq!(Grid::new(1, 0, 5).len, 0);
    }
}
