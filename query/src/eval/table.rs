//! What an expression is at all steps: series with a value or none at each.

use super::Held;
use super::row::Row;
use crate::error::QueryError;
use hashbrown::HashMap;
use tidegauge_model::{Labels, STALE_BITS, reserved::METRIC_NAME};

/// Stands for "no value at this step". No expression has it as a value: a stored stale marker means the same, and
/// arithmetic never makes one.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_BITS);

/// Whether there is no value.
#[inline]
pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// Whether there is a value.
#[inline]
pub(crate) fn is_present(value: f64) -> bool {
    value.to_bits() != STALE_BITS
}

/// The labels that say what a metric is and go when its meaning changes.
pub(crate) const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Whether a label is one of them.
pub(crate) fn is_metadata(name: &str) -> bool {
    name.starts_with("__") && METADATA_LABELS.contains(&name)
}

/// A series without its metric's name, type and unit.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    labels.without(&METADATA_LABELS)
}

/// One series of a table.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) labels: Labels,
    /// The name is to go at the end of the query (delayed name removal); without that it has gone already.
    pub(crate) drop_name: bool,
}

/// Series by steps.
#[derive(Debug)]
pub(crate) struct Table {
    /// Steps.
    pub(crate) width: usize,
    pub(crate) heads: Vec<Head>,
    /// `width` values for each head, one after the other; [`ABSENT`] where there is none.
    pub(crate) cells: Vec<f64>,
    /// What it counts against the query's limits.
    pub(crate) held: Held,
}

impl Table {
    pub(crate) fn new(width: usize, held: Held) -> Self {
        Self {
            width,
            heads: Vec::new(),
            cells: Vec::new(),
            held,
        }
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// A series' values.
    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.cells[row * self.width..(row + 1) * self.width]
    }

    /// A series' values.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.cells[row * self.width..(row + 1) * self.width]
    }

    /// Adds a series unless it has no value at all.
    pub(crate) fn push(&mut self, head: Head, values: &[f64]) -> Result<(), QueryError> {
        let present = values.iter().filter(|v| is_present(**v)).count();
        self.push_counted(head, values, present)
    }

    /// As [`Table::push`] for a row that was looked at.
    pub(crate) fn push_row(&mut self, head: Head, row: Row<'_>) -> Result<(), QueryError> {
        if row.full {
            return self.push_counted(head, row.values, row.values.len());
        }
        self.push(head, row.values)
    }

    fn push_counted(&mut self, head: Head, values: &[f64], present: usize) -> Result<(), QueryError> {
        if present == 0 {
            return Ok(());
        }
        self.held.grow(present, values.len(), head.labels.heap_bytes())?;
        self.heads.push(head);
        self.cells.extend_from_slice(values);
        Ok(())
    }

    /// How many series have a value at each step.
    pub(crate) fn present_by_step(&self) -> Vec<u64> {
        let mut counts = vec![0; self.width];
        for row in self.cells.chunks_exact(self.width.max(1)) {
            for (count, value) in counts.iter_mut().zip(row) {
                *count += u64::from(is_present(*value));
            }
        }
        counts
    }

    /// Takes over the series of another.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.heads.append(&mut other.heads);
        self.cells.append(&mut other.cells);
        self.held.take_over(other.held);
    }

    /// Keeps the series for which `keep` holds, with those after them moved up.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Head, &[f64]) -> bool) {
        let mut to = 0;
        for from in 0..self.heads.len() {
            if !keep(&self.heads[from], self.row(from)) {
                continue;
            }
            if from != to {
                self.heads.swap(from, to);
                self.cells
                    .copy_within(from * self.width..(from + 1) * self.width, to * self.width);
            }
            to += 1;
        }
        self.heads.truncate(to);
        self.cells.truncate(to * self.width);
    }

    /// Drops the series without any value.
    pub(crate) fn drop_empty(&mut self) {
        self.retain(|_, row| row.iter().any(|v| is_present(*v)));
    }

    /// Puts the series in the order of these indices, each of which occurs once.
    pub(crate) fn reorder(&mut self, order: &[usize]) {
        let mut cells = Vec::with_capacity(self.cells.len());
        let mut heads = Vec::with_capacity(self.heads.len());
        for row in order {
            cells.extend_from_slice(self.row(*row));
            heads.push(self.heads[*row].clone());
        }
        self.heads = heads;
        self.cells = cells;
    }

    /// Whether two series have the same labels.
    pub(crate) fn has_twins(&self) -> bool {
        if self.heads.len() < 2 {
            return false;
        }
        let mut seen = hashbrown::HashSet::with_capacity(self.heads.len());
        !self.heads.iter().all(|head| seen.insert(&head.labels))
    }

    /// Joins series with the same labels.
    ///
    /// # Errors
    /// Two of them have a value at the same step.
    pub(crate) fn join_twins(&mut self) -> Result<(), QueryError> {
        if !self.has_twins() {
            return Ok(());
        }
        let mut first: HashMap<Labels, usize> = HashMap::with_capacity(self.heads.len());
        let mut gone = vec![false; self.heads.len()];
        for (row, gone) in gone.iter_mut().enumerate() {
            let target = *first.entry(self.heads[row].labels.clone()).or_insert(row);
            if target == row {
                continue;
            }
            *gone = true;
            for step in 0..self.width {
                let value = self.cells[row * self.width + step];
                if is_absent(value) {
                    continue;
                }
                let cell = &mut self.cells[target * self.width + step];
                if is_present(*cell) {
                    return Err(same_labelset());
                }
                *cell = value;
            }
        }
        let mut gone = gone.into_iter();
        self.retain(|_, _| !gone.next().unwrap_or(false));
        Ok(())
    }
}

/// When a name that has lost its meaning goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropNames {
    /// At once.
    Now,
    /// At the end of the query (`promql-delayed-name-removal`).
    AtTheEnd,
}

/// Upstream's words for two series that have become one.
pub(crate) fn same_labelset() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}
