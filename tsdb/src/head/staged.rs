//! The plan for one timeline: rows to come, and what they change.

use super::delta;
use crate::timeline::{NONE, Presence, Timeline, holds};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidegauge_model::is_stale;

/// Of so many values one usually differs from the row before.
const USUALLY_CHANGED: usize = 4;

/// One value that differs from the row before (or the first of its place).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) place: u32,
    pub(crate) code: (u32, u32),
    pub(crate) exponent: u8,
    pub(crate) value: f64,
}

/// One row of the plan.
#[derive(Debug)]
pub(crate) struct StagedRow {
    pub(crate) at: i64,
    pub(crate) presence: Presence,
    /// Where its changes end in [`Staged::changes`].
    pub(crate) changes_end: u32,
    /// How many places there are from this row on.
    pub(crate) places: u32,
    /// Places that end with the row before, as far as the log has not heard.
    pub(crate) ended: Vec<u32>,
}

/// The plan for one timeline.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) timeline: u32,
    pub(crate) base_rows: u32,
    pub(crate) base_places: u32,
    pub(crate) newest: i64,
    pub(crate) rows: Vec<StagedRow>,
    pub(crate) changes: Vec<Change>,
    pub(crate) codes: Vec<u8>,
    /// References of the places that are added, in order.
    pub(crate) added: Vec<u64>,
    /// Place and the row it ends at.
    pub(crate) ends: HashMap<u32, u32>,
    /// (series, place): the column has moved on.
    pub(crate) left: Vec<(u32, u32)>,
    /// Ended places that no row has told yet.
    pub(crate) untold: Vec<u32>,
    /// Newest value of each place after the staged rows, once a second row needs it.
    pub(crate) last: Option<Vec<f64>>,
    pub(crate) live: u32,
}

impl Staged {
    pub(crate) fn new(timeline: u32, t: Option<&Timeline>) -> Self {
        let expected = t.map_or(0, |t| t.live() as usize / USUALLY_CHANGED);
        Self {
            timeline,
            base_rows: t.map_or(0, Timeline::rows),
            base_places: t.map_or(0, |t| t.places.len() as u32),
            newest: t.map_or(i64::MIN, |t| t.newest),
            rows: Vec::new(),
            changes: Vec::with_capacity(expected),
            codes: Vec::with_capacity(expected * 4),
            added: Vec::new(),
            ends: HashMap::new(),
            left: Vec::new(),
            untold: t.map(|t| t.unlogged.clone()).unwrap_or_default(),
            last: None,
            live: t.map_or(0, Timeline::live),
        }
    }

    pub(crate) fn changes(&self, row: usize) -> &[Change] {
        let start = row
            .checked_sub(1)
            .and_then(|r| self.rows.get(r))
            .map_or(0, |r| r.changes_end);
        let end = self.rows.get(row).map_or(start, |r| r.changes_end);
        self.changes.get(start as usize..end as usize).unwrap_or_default()
    }

    pub(crate) fn code(&self, change: &Change) -> &[u8] {
        self.codes
            .get(change.code.0 as usize..change.code.1 as usize)
            .unwrap_or_default()
    }

    pub(crate) fn places(&self) -> u32 {
        self.base_places + self.added.len() as u32
    }

    pub(crate) fn overlay(&mut self, t: Option<&Timeline>) {
        if self.rows.is_empty() || self.last.is_some() {
            return;
        }
        let mut last = t.map(|t| t.last.clone()).unwrap_or_default();
        last.resize(self.places() as usize, 0.0);
        for change in &self.changes {
            if let Some(slot) = last.get_mut(change.place as usize) {
                *slot = change.value;
            }
        }
        self.last = Some(last);
    }

    /// The newest staged row that holds a place.
    pub(crate) fn last_row(&self, place: u32) -> Option<&StagedRow> {
        let end = self.ends.get(&place).copied().unwrap_or(NONE);
        let rows = self.rows.iter().enumerate().rev();
        rows.map(|(i, row)| (self.base_rows + i as u32, row))
            .find(|(number, row)| *number < end && place < row.places && holds(&row.presence, place))
            .map(|(_, row)| row)
    }

    pub(crate) fn value(&self, t: Option<&Timeline>, place: u32) -> f64 {
        if let Some(last) = &self.last {
            return last.get(place as usize).copied().unwrap_or(0.0);
        }
        let staged = self.changes.iter().rev().find(|c| c.place == place).map(|c| c.value);
        staged.or_else(|| t?.last.get(place as usize).copied()).unwrap_or(0.0)
    }

    pub(crate) fn push_change(&mut self, place: u32, old: f64, value: f64, mut exponent: u8) {
        let start = self.codes.len() as u32;
        delta::put(&mut self.codes, old, value, &mut exponent);
        self.changes.push(Change {
            place,
            code: (start, self.codes.len() as u32),
            exponent,
            value,
        });
        if let Some(slot) = self.last.as_mut().and_then(|l| l.get_mut(place as usize)) {
            *slot = value;
        }
    }

    pub(crate) fn close_row(&mut self, at: i64, presence: Presence) {
        self.rows.push(StagedRow {
            at,
            presence,
            changes_end: self.changes.len() as u32,
            places: self.places(),
            ended: std::mem::take(&mut self.untold),
        });
        self.newest = at;
    }

    pub(crate) fn end(&mut self, place: u32) {
        let row = self.base_rows + self.rows.len() as u32;
        if let Entry::Vacant(slot) = self.ends.entry(place) {
            slot.insert(row);
            self.live = self.live.saturating_sub(1);
            self.untold.push(place);
        }
    }
}

/// The ranges of places a row holds. Ended places do not break a range. Places that are missing and went stale before
/// end here, if time has moved on.
pub(crate) fn ranges(staged: &mut Staged, t: Option<&Timeline>, touched: &[bool], later: bool) -> Box<[u32]> {
    let mut edges: Vec<u32> = Vec::new();
    let mut open = false;
    let mut ends = Vec::new();
    for (place, touched) in (0u32..).zip(touched) {
        if *touched {
            if !open {
                edges.push(place);
                open = true;
            }
            continue;
        }
        let ended = staged.ends.contains_key(&place)
            || t.and_then(|t| t.places.get(place as usize))
                .is_some_and(|p| p.end != NONE);
        if ended {
            continue;
        }
        let value = match &staged.last {
            Some(last) => last.get(place as usize).copied(),
            None => t.and_then(|t| t.last.get(place as usize).copied()),
        };
        if later && value.is_some_and(is_stale) {
            ends.push(place);
            continue;
        }
        if open {
            edges.push(place);
            open = false;
        }
    }
    if open {
        edges.push(touched.len() as u32);
    }
    staged.ends.reserve(ends.len());
    for place in ends {
        staged.end(place);
    }
    edges.into()
}
