//! The series of several blocks in order of their labels, each once.

use crate::Error;
use crate::block::{BlockReader, Run, SeriesEntries, SeriesNo};
use std::sync::Arc;
use tidegauge_model::Labels;

/// Walks over all series of all inputs.
#[derive(Debug)]
pub(super) struct Walk<'i> {
    cursors: Vec<Cursor<'i>>,
}

#[derive(Debug)]
struct Cursor<'i> {
    entries: SeriesEntries<'i>,
    count: u32,
    /// The series behind the current one.
    next: u32,
    /// `None` at the end.
    labels: Option<Labels>,
    runs: Vec<Run>,
    /// Whether it is part of the series that was given out last.
    taken: bool,
}

impl Cursor<'_> {
    fn step(&mut self) -> Result<(), Error> {
        self.taken = false;
        self.runs.clear();
        self.labels = None;
        if self.next < self.count {
            let mut entry = self.entries.seek(SeriesNo::new(self.next))?;
            self.runs.extend_from_slice(entry.runs());
            self.labels = Some(entry.labels()?);
            self.next += 1;
        }
        Ok(())
    }
}

/// One series, with what each input has of it.
#[derive(Debug)]
pub(super) struct Met<'w, 'i> {
    pub(super) labels: Labels,
    cursors: &'w [Cursor<'i>],
}

impl Met<'_, '_> {
    /// The inputs that have it, by their places, with its runs there.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, &[Run])> {
        let taken = self.cursors.iter().enumerate().filter(|(_, c)| c.taken);
        taken.map(|(place, c)| (place, c.runs.as_slice()))
    }

    /// Its number in an input.
    pub(super) fn number(&self, input: usize) -> SeriesNo {
        SeriesNo::new(self.cursors.get(input).map_or(0, |c| c.next.saturating_sub(1)))
    }
}

impl<'i> Walk<'i> {
    pub(super) fn new(inputs: &'i [Arc<BlockReader>]) -> Result<Self, Error> {
        let mut cursors = Vec::with_capacity(inputs.len());
        for input in inputs {
            let mut cursor = Cursor {
                entries: input.entries()?,
                count: input.series_count(),
                next: 0,
                labels: None,
                runs: Vec::new(),
                taken: false,
            };
            cursor.step()?;
            cursors.push(cursor);
        }
        Ok(Self { cursors })
    }

    /// Goes to the next series; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Met<'_, 'i>>, Error> {
        for cursor in self.cursors.iter_mut().filter(|c| c.taken) {
            cursor.step()?;
        }
        let Some(labels) = self.cursors.iter().filter_map(|c| c.labels.as_ref()).min().cloned() else {
            return Ok(None);
        };
        for cursor in &mut self.cursors {
            cursor.taken = cursor.labels.as_ref() == Some(&labels);
        }
        Ok(Some(Met {
            labels,
            cursors: &self.cursors,
        }))
    }
}
