//! Reads the files that spare a start its time: runs that left the heap, and checkpoints. The log holds the same, so
//! damage in them loses nothing; it is told all the same.

use super::{File, Visit};
use crate::Error;
use crate::head::{checkpoint, run::Run, runfile, runfile::RunFile};
use std::path::Path;

/// Checks header, directory and sums of a file of runs, and decodes every column.
pub(super) fn check_runs(visit: &mut Visit<'_>, file: &File) -> Result<(), Error> {
    visit.read_through(&file.path, |_| {})?;
    let number = file.name().and_then(|name| runfile::FILES.number(name)).unwrap_or(0);
    let dir = file.path.parent().unwrap_or(Path::new("."));
    let runs = RunFile::open(&**visit.fs, dir, number)?;
    runs.slice(0..runs.body_end())
        .map_err(|what| Error::corrupt(&file.path, 0, what))?;
    for (_, run) in runs.runs() {
        check_run(&run)?;
    }
    Ok(())
}

fn check_run(run: &Run) -> Result<(), Error> {
    let corrupt = |e| run.corrupt(&e);
    let meta = run.meta();
    let (mut times, mut values, mut before) = (Vec::new(), Vec::new(), None);
    run.times(&mut times).map_err(corrupt)?;
    let ends = [times.first(), times.last()].map(|t| t.map(|t| t.millis()));
    let mut problem = (ends != [Some(meta.first), Some(meta.last)]).then_some("a run has other times than it says");
    for column in 0..meta.columns {
        let series = run.series(column).map_err(corrupt)?;
        if before.is_some_and(|before| before >= series) {
            problem = Some("the series of a run are out of order");
        }
        before = Some(series);
        values.clear();
        let chunk = run.chunk(column).map_err(corrupt)?;
        chunk.values(meta.rows, &mut values).map_err(corrupt)?;
    }
    match problem {
        Some(what) => Err(run.corrupt(&crate::Malformed::new(0, what))),
        None => Ok(()),
    }
}

/// Reads a checkpoint as a start does, and forgets it. Files of runs that it names are looked at by themselves: a store
/// that is served may have let go of them.
pub(super) fn check_checkpoint(visit: &mut Visit<'_>, file: &File) -> Result<(), Error> {
    visit.read_through(&file.path, |_| {})?;
    let number = file.name().and_then(|name| checkpoint::FILES.number(name)).unwrap_or(0);
    // All of it lies in blocks then, and no file is opened.
    let flushed = i64::MAX;
    checkpoint::read(&**visit.fs, &file.path, number, Path::new(""), flushed).map(drop)
}
