//! A sink that keeps all rows.

use super::Cx;
use super::row::{MakeSink, Sink, Who};
use super::table::Table;
use crate::error::QueryError;
use crate::window::Grid;
use parking_lot::Mutex;

/// What the parts made, by part.
pub(crate) type Parts<T> = Mutex<Vec<(usize, T)>>;

/// Runs something that sends rows to one value per part, and gives those values in order of part.
pub(crate) fn by_part<'s, T: Send, S: Sink + 's>(
    parts: &'s Parts<T>,
    new: impl Fn(usize) -> S + Sync + 's,
    run: impl FnOnce(&MakeSink<'s>) -> Result<(), QueryError>,
) -> Result<Vec<T>, QueryError> {
    let make: Box<MakeSink<'s>> = Box::new(move |part| Box::new(new(part)));
    run(&*make)?;
    let mut made = std::mem::take(&mut *parts.lock());
    made.sort_by_key(|(part, _)| *part);
    Ok(made.into_iter().map(|(_, value)| value).collect())
}

struct Collect<'p> {
    part: usize,
    table: Table,
    parts: &'p Parts<Table>,
}

impl Sink for Collect<'_> {
    fn row(&mut self, who: &Who<'_>, values: &[f64]) -> Result<(), QueryError> {
        self.table.push(who.head(), values)
    }

    fn finish(self: Box<Self>) -> Result<(), QueryError> {
        self.parts.lock().push((self.part, self.table));
        Ok(())
    }
}

/// Keeps all rows that `run` sends.
pub(crate) fn collect(
    cx: &Cx<'_>,
    grid: Grid,
    run: impl FnOnce(&MakeSink<'_>) -> Result<(), QueryError>,
) -> Result<Table, QueryError> {
    let parts = Parts::default();
    let new = |part| Collect {
        part,
        table: cx.table(grid.len),
        parts: &parts,
    };
    let mut tables = by_part(&parts, new, |make| run(make))?.into_iter();
    let mut all = tables.next().unwrap_or_else(|| cx.table(grid.len));
    for table in tables {
        all.append(table);
    }
    Ok(all)
}
