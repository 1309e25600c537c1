//! Closes the open rows of a timeline into runs, one for each window of blocks they lie in.
//!
//! The work is done on a plan while readers go on; only the exchange needs them to wait. Whoever seals holds the log,
//! so that no row comes in between.

use super::State;
use super::append::{Head, Log};
use super::run::{Hidden, Run, RunWriter};
use crate::Metrics;
use crate::column::Encoder;
use crate::timeline::{NONE, Timeline, decode_open};
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{Timestamp, is_stale};

/// A run is cut after so many rows, well below what one encoded column may hold.
const MAX_RUN_ROWS: usize = 4096;
/// Distinct times after which open rows are sealed.
const RUN_ROWS: u32 = 120;
/// The first run of a window may be shorter by so many, another number for each timeline: timelines that began together
/// are not full together.
const SPREAD_ROWS: u32 = 60;

/// The start of the window that holds `at`.
pub(crate) fn window_start(at: i64, block_ms: i64) -> i64 {
    at.div_euclid(block_ms).saturating_mul(block_ms)
}

/// Whether open rows must be closed before a row of this time comes.
pub(super) fn must_seal(state: &State, timeline: u32, at: i64, block_ms: i64) -> bool {
    let Some(t) = state.timeline(timeline) else {
        return false;
    };
    let Some(first) = t.times.first() else {
        return false;
    };
    let window = window_start(*first, block_ms);
    let begins = t.runs.last().is_none_or(|r| window_start(r.first, block_ms) != window);
    // By a number that shares no factor with it, neighbours lie far apart.
    let less = if begins {
        timeline.wrapping_mul(37) % SPREAD_ROWS
    } else {
        0
    };
    at > t.newest && (t.groups >= RUN_ROWS - less || window_start(at, block_ms) != window)
}

/// A column, its new place, its newest sample.
type Successor = (u32, u32, i64, f64);

/// What sealing a timeline will change.
#[derive(Debug)]
pub(crate) struct Sealed {
    timeline: u32,
    runs: Vec<Arc<Run>>,
    /// Which places go on.
    keep: Vec<bool>,
    columns: Vec<Successor>,
}

/// Encodes the open rows of a timeline; `None` if there are none. `seen`: how many of its rows each living view sees.
pub(crate) fn plan(state: &State, timeline: u32, block_ms: i64, seen: &[u64], encoder: &mut Encoder) -> Option<Sealed> {
    let t = state.timeline(timeline)?;
    if t.times.is_empty() {
        return None;
    }
    let (times, group_of) = fold(t);
    let windows = windows(&times, block_ms);
    let mut writers: Vec<RunWriter> = windows.iter().map(|_| RunWriter::default()).collect();
    let mut order: Vec<(u32, u32)> = (0u32..)
        .zip(&t.refs)
        .map(|(place, bits)| (state.column(*bits as u32).map_or(NONE, |c| c.series), place))
        .collect();
    order.sort_unstable();
    let mut newest: Vec<Option<(u32, f64)>> = vec![None; t.refs.len()];
    let mut hidden = hide(t, &group_of, seen);
    let (mut chains, mut samples, mut one) = (Vec::new(), Vec::new(), Vec::new());
    for same in order.chunk_by(|a, b| a.0 == b.0) {
        samples.clear();
        let series = same.first().map_or(NONE, |s| s.0);
        for (_, place) in same {
            chains.clear();
            let Some(open) = t.copy_column(*place, &mut chains) else {
                continue;
            };
            let before = samples.len();
            let decoded = decode_open(&open, &chains, t.rows(), |row, value| {
                if t.present(*place, row) {
                    hidden.iter_mut().for_each(|h| h.meet(series, row));
                    samples.push((group_of.get(row as usize).copied().unwrap_or(0), value));
                }
            });
            if let Err(e) = decoded {
                // Our own, but for one that a checkpoint brought back: what was read before stays.
                tracing::error!(error = %e, "an open column cannot be read whole");
            }
            if samples.len() > before
                && let Some(slot) = newest.get_mut(*place as usize)
            {
                *slot = samples.last().copied();
            }
        }
        if same.len() > 1 {
            samples.sort_by_key(|s| s.0);
            samples.dedup_by_key(|s| s.0);
        }
        for ((start, end), writer) in windows.iter().zip(&mut writers) {
            one.clear();
            one.extend(
                samples
                    .iter()
                    .filter(|s| (*start..*end).contains(&(s.0 as usize)))
                    .map(|s| (s.0 - *start as u32, s.1)),
            );
            if !one.is_empty() && series != NONE {
                writer.column(series, &one, (end - start) as u32, encoder);
            }
        }
    }
    let runs = windows
        .iter()
        .zip(&mut writers)
        .filter_map(|((start, end), writer)| {
            let first = group_of.partition_point(|g| (*g as usize) < *start) as u64;
            let hidden = hidden.iter_mut().filter_map(|h| h.within(*start, *end)).collect();
            writer
                .finish(times.get(*start..*end)?, state.epoch, t.sealed + first, hidden)
                .map(Arc::new)
        })
        .collect();
    let (keep, columns) = successors(state, timeline, t, &times, &newest);
    Some(Sealed {
        timeline,
        runs,
        keep,
        columns,
    })
}

/// The rows that share the time of the last row a view sees, in the making.
struct Hiding {
    seen: u64,
    group: u32,
    rows: Range<u32>,
    series: Vec<u32>,
}

/// For each number of rows that ends between rows of one time: the rows behind it. Times do not fall, so a view parts
/// only one time of a timeline.
fn hide(t: &Timeline, group_of: &[u32], seen: &[u64]) -> Vec<Hiding> {
    let mut hidden: Vec<Hiding> = seen
        .iter()
        .filter_map(|seen| {
            let first = usize::try_from(seen.checked_sub(t.sealed)?).ok()?;
            let group = *group_of.get(first.checked_sub(1)?)?;
            let end = group_of.partition_point(|g| *g <= group);
            (first < end).then(|| Hiding {
                seen: *seen,
                group,
                rows: first as u32..end as u32,
                series: Vec::new(),
            })
        })
        .collect();
    hidden.sort_by_key(|h| h.seen);
    hidden.dedup_by_key(|h| h.seen);
    hidden
}

impl Hiding {
    fn meet(&mut self, series: u32, row: u32) {
        if self.rows.contains(&row) && self.series.last() != Some(&series) {
            self.series.push(series);
        }
    }

    /// What a run of these times must hide.
    fn within(&mut self, start: usize, end: usize) -> Option<Arc<Hidden>> {
        (start..end).contains(&(self.group as usize)).then(|| {
            Arc::new(Hidden {
                seen: self.seen,
                row: self.group - start as u32,
                series: std::mem::take(&mut self.series).into(),
            })
        })
    }
}

/// Distinct times, and for each row the number of its own.
fn fold(t: &Timeline) -> (Vec<Timestamp>, Vec<u32>) {
    let mut times: Vec<Timestamp> = Vec::with_capacity(t.groups as usize);
    let group_of = t
        .times
        .iter()
        .map(|at| {
            let at = Timestamp::from_millis(*at);
            if times.last() != Some(&at) {
                times.push(at);
            }
            (times.len() - 1) as u32
        })
        .collect();
    (times, group_of)
}

/// Ranges of `times` that lie in one window and fit one run.
fn windows(times: &[Timestamp], block_ms: i64) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut start = 0;
    for (i, pair) in times.windows(2).enumerate() {
        let [a, b] = pair else { continue };
        let same = window_start(a.millis(), block_ms) == window_start(b.millis(), block_ms);
        if !same || i + 1 - start >= MAX_RUN_ROWS {
            out.push((start, i + 1));
            start = i + 1;
        }
    }
    out.push((start, times.len()));
    out
}

/// Which places go on, and what columns must remember of the rows that leave.
fn successors(
    state: &State,
    timeline: u32,
    t: &Timeline,
    times: &[Timestamp],
    newest: &[Option<(u32, f64)>],
) -> (Vec<bool>, Vec<Successor>) {
    let mut keep = Vec::with_capacity(t.refs.len());
    let mut columns = Vec::new();
    let mut next = 0;
    for ((place, bits), (p, newest)) in (0u32..).zip(&t.refs).zip(t.places.iter().zip(newest)) {
        let column = *bits as u32;
        let here = state
            .column(column)
            .is_some_and(|c| c.timeline == timeline && c.place == place);
        // What came in the second half of the rows is likely to come again.
        let goes_on = here
            && p.end == NONE
            && newest.is_some_and(|(group, value)| group as usize >= times.len() / 2 && !is_stale(value));
        keep.push(goes_on);
        if here {
            let to = if goes_on { next } else { NONE };
            next += u32::from(goes_on);
            let (at, value) = newest
                .and_then(|(group, value)| Some((times.get(group as usize)?.millis(), value)))
                .unwrap_or((i64::MIN, 0.0));
            columns.push((column, to, at, value));
        }
    }
    (keep, columns)
}

/// Exchanges open rows for runs.
pub(crate) fn apply(state: &mut State, sealed: Sealed) {
    for (column, place, at, value) in &sealed.columns {
        if let Some(c) = state.column_mut(*column) {
            c.place = *place;
            if *at != i64::MIN {
                c.last_at = *at;
                c.last = *value;
            }
        }
    }
    let Some(t) = state
        .timelines
        .get_mut(sealed.timeline as usize)
        .and_then(Option::as_mut)
    else {
        return;
    };
    t.runs.extend(sealed.runs);
    t.restart(&sealed.keep);
}

impl Head {
    /// Seals the open rows of one timeline.
    pub(crate) fn seal(&self, timeline: u32, log: &mut Log) {
        let sealed = {
            let state = self.state.read();
            // A view that is made from here on sees every row: none comes while the log is held.
            let seen = self.views.rows(timeline);
            plan(&state, timeline, self.options.block_ms, &seen, &mut log.encoder)
        };
        if let Some(sealed) = sealed {
            apply(&mut self.state.write(), sealed);
            Metrics::add(&self.metrics.runs_sealed, 1);
        }
    }

    /// Seals the open histograms of one series.
    pub(crate) fn seal_histograms(&self, series: u32, log: &mut Log) {
        let runs = {
            let state = self.state.read();
            state
                .histograms
                .plan_seal(series, self.options.block_ms, &mut log.encoder)
        };
        Metrics::add(&self.metrics.runs_sealed, runs.len() as u64);
        self.state.write().histograms.seal(series, runs);
    }
}
