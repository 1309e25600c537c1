//! Timelines by their keys and series by their labels: found, or made if there is room.

use super::State;
use super::append::Head;
use super::series::Index;
use crate::Metrics;
use crate::db::Db;
use crate::timeline::{NONE, Timeline};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidegauge_model::{AppendError, Labels, SeriesRef, TimelineRef};

/// What a new series is taken to cost beside its labels, until maintenance counts again.
const SERIES_BYTES: u64 = 200;

impl Head {
    pub(super) fn timeline(&self, db: &Db, key: &str) -> Result<TimelineRef, AppendError> {
        {
            let state = self.state.read();
            if let Some(timeline) = state.keys.get(key) {
                return Ok(TimelineRef::from_bits(state.take_timeline(*timeline)));
            }
        }
        if key.len() > self.options.max_label_bytes {
            return Err(AppendError::Limit {
                name: "timeline key bytes",
                limit: self.options.max_label_bytes as u64,
            });
        }
        // Whoever holds the log relies on the numbers of timelines.
        let _log = db.log.lock();
        let mut state = self.state.write();
        if let Some(timeline) = state.keys.get(key) {
            return Ok(TimelineRef::from_bits(state.take_timeline(*timeline)));
        }
        let count = (state.timelines.len() - state.free_timelines.len()) as u64;
        if count >= self.options.max_timelines {
            return Err(AppendError::Limit {
                name: "max_timelines",
                limit: self.options.max_timelines,
            });
        }
        let bytes = size_of::<Timeline>() as u64 + key.len() as u64 * 2 + 64;
        self.options.head.take(bytes)?;
        self.accounted.fetch_add(bytes, Ordering::Relaxed);
        let timeline = state.add_timeline(Some(key));
        Ok(TimelineRef::from_bits(state.timeline_bits(timeline)))
    }

    pub(super) fn resolve(&self, timeline: Option<TimelineRef>, labels: &Labels) -> Result<SeriesRef, AppendError> {
        let home_of = |state: &State| match timeline {
            Some(timeline) => state.timeline_of(timeline.bits()).ok_or(AppendError::StaleTimeline),
            None => Ok(NONE),
        };
        let existing = |state: &State, series: u32, home: u32| {
            let (number, column) = state.columns_of(series).find(|(_, c)| c.home == home)?;
            column.doomed.store(false, Ordering::Relaxed);
            Some(state.series_ref(number))
        };
        {
            let state = self.state.read();
            let home = home_of(&state)?;
            let series = state.index.read().find(labels);
            if let Some(found) = series.and_then(|s| existing(&state, s, home)) {
                return Ok(found);
            }
        }
        self.check_labels(labels)?;
        let mut state = self.state.write();
        let home = home_of(&state)?;
        let index = Arc::clone(&state.index);
        let mut index = index.write();
        let known = index.find(labels);
        if let Some(found) = known.and_then(|series| existing(&state, series, home)) {
            return Ok(found);
        }
        self.check_room(&state, home)?;
        let series = match known {
            Some(series) => series,
            None => self.add_series(&mut index, labels)?,
        };
        drop(index);
        let column = state.add_column(series, home);
        Ok(state.series_ref(column))
    }

    fn check_labels(&self, labels: &Labels) -> Result<(), AppendError> {
        if labels.is_empty() {
            return Err(AppendError::Labels("a series needs at least one label".into()));
        }
        let (max_labels, max_bytes) = (self.options.max_labels, self.options.max_label_bytes);
        for (n, (name, value)) in labels.iter().enumerate() {
            if n >= max_labels {
                return Err(AppendError::Limit {
                    name: "labels of a series",
                    limit: max_labels as u64,
                });
            }
            if name.len().max(value.len()) > max_bytes {
                return Err(AppendError::Labels(format!(
                    "the name or value of label {:?} is longer than {max_bytes} bytes",
                    name.chars().take(64).collect::<String>()
                )));
            }
        }
        Ok(())
    }

    /// Whether one more series may have this timeline as its home.
    fn check_room(&self, state: &State, home: u32) -> Result<(), AppendError> {
        let limit = self.options.max_series_per_timeline;
        if limit == 0 || state.timeline(home).is_none_or(|t| u64::from(t.homed) < limit) {
            return Ok(());
        }
        Metrics::add(&self.metrics.timeline_series_refused, 1);
        Err(AppendError::Limit {
            name: "max_series_per_timeline",
            limit,
        })
    }

    fn add_series(&self, index: &mut Index, labels: &Labels) -> Result<u32, AppendError> {
        let refuse = |error| {
            Metrics::add(&self.metrics.series_refused, 1);
            error
        };
        let limit = self.options.max_series;
        if limit > 0 && index.len() as u64 >= limit {
            return Err(refuse(AppendError::Limit {
                name: "max_series",
                limit,
            }));
        }
        let bytes = labels.heap_bytes() as u64 / 2 + SERIES_BYTES;
        self.options.head.take(bytes).map_err(|e| refuse(e.into()))?;
        self.accounted.fetch_add(bytes, Ordering::Relaxed);
        let series = index.add(labels).ok_or_else(|| {
            refuse(AppendError::Limit {
                name: "bytes of all labels",
                limit: u64::from(u32::MAX),
            })
        })?;
        Metrics::add(&self.metrics.series_created, 1);
        Metrics::set(&self.metrics.series, index.len() as u64);
        Ok(series)
    }
}
