//! A plan takes effect: one short write of the state, so that readers see all of a commit or none of it.

use super::State;
use super::stage::Plan;
use crate::timeline::{Logged, NONE};

/// Publishes a plan.
pub(crate) fn apply(state: &mut State, plan: Plan, logged: &[(u32, Logged)]) {
    for expected in plan.new_timelines {
        let made = state.add_timeline(None);
        debug_assert_eq!(made, expected, "timelines are made only by who holds the log");
    }
    for staged in &plan.staged {
        for (series, _) in &staged.left {
            state.left.insert((*series, staged.timeline));
        }
        let newest = staged.rows.last().map(|r| r.at);
        state.newest = state.newest.max(newest.unwrap_or(i64::MIN));
        let Some(t) = state
            .timelines
            .get_mut(staged.timeline as usize)
            .and_then(Option::as_mut)
        else {
            continue;
        };
        let mut added = staged.added.iter();
        let before = t.newest;
        for (number, row) in staged.rows.iter().enumerate() {
            let at_row = t.rows();
            t.push_row(row.at, row.presence.clone());
            for change in staged.changes(number) {
                if change.place as usize >= t.places.len() {
                    if let Some(bits) = added.next() {
                        t.add_place(*bits, at_row, change.value);
                    }
                    continue;
                }
                t.change(change.place, at_row, staged.code(change), change.value);
                if let Some(place) = t.places.get_mut(change.place as usize) {
                    place.exponent = change.exponent;
                }
            }
        }
        for (place, row) in &staged.ends {
            t.end_place(*place, *row);
        }
        t.unlogged.clone_from(&staged.untold);
        t.left.extend(staged.left.iter().filter(|(_, place)| *place != NONE));
        let loose = t.key.is_none();
        if let (true, Some(newest)) = (loose, newest) {
            if state.loose.get(&before) == Some(&staged.timeline) {
                state.loose.remove(&before);
            }
            state.loose.insert(newest, staged.timeline);
        }
    }
    for (column, (timeline, place)) in plan.moved {
        if let Some(c) = state.column_mut(column) {
            c.timeline = timeline;
            c.place = place;
        }
    }
    for (series, owner) in plan.owners {
        if let Some(s) = state.series.get_mut(series as usize) {
            s.owner = owner;
        }
    }
    for late in plan.late {
        let added = state.late.insert(late.series, late.at, late.value);
        debug_assert!(matches!(added, Ok(true)), "a plan has what is not there");
    }
    for timeline in plan.foreign {
        if let Some(t) = state.timeline_mut(timeline) {
            t.foreign = true;
        }
    }
    for (timeline, logged) in logged {
        if let Some(t) = state.timeline_mut(*timeline) {
            t.logged = *logged;
        }
    }
    let newest = plan.histograms.iter().map(|h| h.at).max();
    state.newest = state.newest.max(newest.unwrap_or(i64::MIN));
    state.histograms.apply(plan.histograms, &plan.histograms_logged);
}
