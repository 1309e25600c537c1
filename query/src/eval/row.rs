//! A row on its way: which series it is, its values, and who takes it.

use super::table::{DropNames, Head, is_metadata, is_present, without_metadata};
use crate::error::QueryError;
use std::cell::OnceCell;
use tidegauge_model::{Labels, SeriesGroup};

/// Takes the rows of one part.
pub(crate) trait Sink {
    /// Takes a series' values, of which at least one is there.
    fn row(&mut self, who: &Who<'_>, row: Row<'_>) -> Result<(), QueryError>;

    /// Takes the end of the part.
    fn finish(self: Box<Self>) -> Result<(), QueryError>;
}

/// Makes the sink of a part.
pub(crate) type MakeSink<'s> = dyn Fn(usize) -> Box<dyn Sink + 's> + Sync + 's;

/// A series' values at all steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) values: &'a [f64],
    /// Each step has a value, for certain: loops need not look. `false` says nothing.
    pub(crate) full: bool,
}

impl<'a> Row<'a> {
    /// A row of which nothing is known: it is looked at.
    pub(crate) fn look(values: &'a [f64]) -> Self {
        Self {
            values,
            full: values.iter().all(|v| is_present(*v)),
        }
    }

    /// How many steps have a value.
    pub(crate) fn present(&self) -> usize {
        if self.full {
            self.values.len()
        } else {
            self.values.iter().filter(|v| is_present(**v)).count()
        }
    }

    /// Adds one to the count of each step that has a value.
    pub(crate) fn count_into(&self, by_step: &mut [u64]) {
        for (n, value) in by_step.iter_mut().zip(self.values) {
            *n += u64::from(is_present(*value));
        }
    }
}

/// The series of a row; its labels are made only if somebody asks.
pub(crate) struct Who<'a> {
    origin: Origin<'a>,
    /// The name is taken away.
    cut: bool,
    /// The name is to go at the end.
    pub(crate) drop_name: bool,
    made: OnceCell<Labels>,
}

enum Origin<'a> {
    Stored(&'a dyn SeriesGroup, usize),
    Known(&'a Labels),
    Other(&'a Who<'a>),
}

impl<'a> Who<'a> {
    fn new(origin: Origin<'a>, cut: bool, drop_name: bool) -> Self {
        Self {
            origin,
            cut,
            drop_name,
            made: OnceCell::new(),
        }
    }

    /// A series of the store.
    pub(crate) fn stored(group: &'a dyn SeriesGroup, series: usize) -> Self {
        Self::new(Origin::Stored(group, series), false, false)
    }

    /// A series of a table.
    pub(crate) fn known(head: &'a Head) -> Self {
        Self::new(Origin::Known(&head.labels), false, head.drop_name)
    }

    /// The same series after something that changes what the metric means.
    pub(crate) fn without_name(&'a self, when: DropNames) -> Self {
        match when {
            DropNames::Now => Self::new(Origin::Other(self), true, false),
            DropNames::AtTheEnd => Self::new(Origin::Other(self), false, true),
        }
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> &Labels {
        self.made.get_or_init(|| {
            let labels = match &self.origin {
                Origin::Stored(group, series) => group.labels(*series),
                Origin::Known(labels) => (*labels).clone(),
                Origin::Other(who) => who.labels().clone(),
            };
            if self.cut { without_metadata(&labels) } else { labels }
        })
    }

    /// Tells its labels in order of name, without making a set of them that nobody else needs.
    pub(crate) fn visit(&self, label: &mut dyn FnMut(&str, &str)) {
        match &self.origin {
            Origin::Other(who) if self.cut => who.visit(&mut |name, value| {
                if !is_metadata(name) {
                    label(name, value);
                }
            }),
            Origin::Other(who) => who.visit(label),
            Origin::Stored(group, series) if self.made.get().is_none() => group.visit_labels(*series, label),
            Origin::Known(_) | Origin::Stored(..) => {
                self.labels().iter().for_each(|(name, value)| label(name, value));
            }
        }
    }

    /// Its head in a table.
    pub(crate) fn head(&self) -> Head {
        Head {
            labels: self.labels().clone(),
            drop_name: self.drop_name,
        }
    }
}
