//! A sink that keeps all rows; and what sinks of several parts made, joined.

use super::Cx;
use super::row::{MakeSink, Row, Sink, Who};
use super::table::Table;
use crate::error::QueryError;
use crate::window::Grid;
use parking_lot::Mutex;

/// What the parts made, joined in order of part as they come.
pub(crate) struct Joining<T> {
    joined: Mutex<Joined<T>>,
    /// Adds what the next part made to what those before it made.
    join: fn(&mut T, T) -> Result<(), QueryError>,
}

struct Joined<T> {
    /// The first part that is missing.
    next: usize,
    all: Option<T>,
    /// Parts that came before their turn.
    waiting: Vec<(usize, T)>,
}

impl<T> Joining<T> {
    pub(crate) fn new(join: fn(&mut T, T) -> Result<(), QueryError>) -> Self {
        Self {
            joined: Mutex::new(Joined {
                next: 0,
                all: None,
                waiting: Vec::new(),
            }),
            join,
        }
    }

    /// Takes what a part made.
    pub(crate) fn add(&self, part: usize, made: T) -> Result<(), QueryError> {
        let mut joined = self.joined.lock();
        let joined = &mut *joined;
        joined.waiting.push((part, made));
        while let Some(at) = joined.waiting.iter().position(|(part, _)| *part == joined.next) {
            let (_, made) = joined.waiting.swap_remove(at);
            match &mut joined.all {
                None => joined.all = Some(made),
                Some(all) => (self.join)(all, made)?,
            }
            joined.next += 1;
        }
        Ok(())
    }
}

/// Runs something that sends rows to sinks which join what they made; gives all of it.
pub(crate) fn join_parts<'s, T: Send, S: Sink + 's>(
    parts: &'s Joining<T>,
    new: impl Fn(usize) -> S + Sync + 's,
    run: impl FnOnce(&MakeSink<'s>) -> Result<(), QueryError>,
) -> Result<Option<T>, QueryError> {
    let make: Box<MakeSink<'s>> = Box::new(move |part| Box::new(new(part)));
    run(&*make)?;
    Ok(parts.joined.lock().all.take())
}

struct Collect<'p> {
    part: usize,
    table: Table,
    parts: &'p Joining<Table>,
}

impl Sink for Collect<'_> {
    fn row(&mut self, who: &Who<'_>, row: Row<'_>) -> Result<(), QueryError> {
        self.table.push_row(who.head(), row)
    }

    fn finish(self: Box<Self>) -> Result<(), QueryError> {
        self.parts.add(self.part, self.table)
    }
}

/// Keeps all rows that `run` sends.
pub(crate) fn collect(
    cx: &Cx<'_>,
    grid: Grid,
    run: impl FnOnce(&MakeSink<'_>) -> Result<(), QueryError>,
) -> Result<Table, QueryError> {
    let parts = Joining::new(|all: &mut Table, more| {
        all.append(more);
        Ok(())
    });
    let new = |part| Collect {
        part,
        table: cx.table(grid.len),
        parts: &parts,
    };
    let all = join_parts(&parts, new, |make| run(make))?;
    Ok(all.unwrap_or_else(|| cx.table(grid.len)))
}
