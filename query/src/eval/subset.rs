//! The part of a label set that groups or matches series: hashed and compared in place, built once per group.

use hashbrown::HashTable;
use std::hash::Hasher;
use tidegauge_model::{Labels, reserved::METRIC_NAME};
use xxhash_rust::xxh3::Xxh3Default;

/// Which labels count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subset {
    /// These (`by`, `on`), sorted.
    With(Vec<String>),
    /// All but these (`without`, `ignoring`) and the metric name, sorted.
    Without(Vec<String>),
}

impl Subset {
    /// `by (...)`, `on (...)`.
    pub(crate) fn with(names: &[String]) -> Self {
        Self::With(sorted(names.to_vec()))
    }

    /// `without (...)`, `ignoring (...)`: the metric name never counts.
    pub(crate) fn without(names: &[String]) -> Self {
        let mut names = names.to_vec();
        names.push(METRIC_NAME.to_owned());
        Self::Without(sorted(names))
    }

    /// Whether no label counts, so that all series are one.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::With(names) if names.is_empty())
    }

    fn counts(&self, name: &str) -> bool {
        match self {
            Self::With(names) => names.binary_search_by(|n| n.as_str().cmp(name)).is_ok(),
            Self::Without(names) => names.binary_search_by(|n| n.as_str().cmp(name)).is_err(),
        }
    }

    fn pairs<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
        labels.iter().filter(|(name, _)| self.counts(name))
    }

    fn hash(&self, labels: &Labels) -> u64 {
        let mut hasher = Xxh3Default::new();
        for (name, value) in self.pairs(labels) {
            hasher.write(name.as_bytes());
            hasher.write_u8(0xff);
            hasher.write(value.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// The label set of what counts.
    pub(crate) fn of(&self, labels: &Labels) -> Labels {
        Labels::from_sorted(self.pairs(labels))
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

/// Numbers the groups that series fall into, in order of appearance.
#[derive(Debug)]
pub(crate) struct Groups {
    subset: Subset,
    /// Hash and number of each group.
    table: HashTable<(u64, usize)>,
    /// The label set of each group.
    pub(crate) labels: Vec<Labels>,
}

impl Groups {
    pub(crate) fn new(subset: Subset) -> Self {
        Self {
            subset,
            table: HashTable::new(),
            labels: Vec::new(),
        }
    }

    /// The number of a series' group, a new one if it is the first.
    pub(crate) fn number(&mut self, labels: &Labels) -> usize {
        let hash = self.subset.hash(labels);
        let (subset, known) = (&self.subset, &self.labels);
        let found = self.table.find(hash, |(h, group)| {
            *h == hash && subset.pairs(labels).eq(known[*group].iter())
        });
        if let Some((_, group)) = found {
            return *group;
        }
        let group = self.labels.len();
        self.labels.push(self.subset.of(labels));
        self.table.insert_unique(hash, (hash, group), |(h, _)| *h);
        group
    }

    /// The number of the one group of all series.
    pub(crate) fn only(&mut self) -> usize {
        if self.labels.is_empty() {
            self.labels.push(Labels::empty());
        }
        0
    }

    /// The number of a group by its own label set, a new one if it is the first.
    pub(crate) fn number_of_group(&mut self, labels: &Labels) -> usize {
        if self.subset.is_nothing() {
            return self.only();
        }
        self.number(labels)
    }

    /// Which labels count.
    pub(crate) fn subset(&self) -> &Subset {
        &self.subset
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_fall_into_groups_by_the_labels_that_count() {
        let l = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        let (a, b) = (
            l(&[("__name__", "x"), ("a", "1"), ("b", "1")]),
            l(&[("__name__", "y"), ("a", "1"), ("b", "2")]),
        );
        let mut by = Groups::new(Subset::with(&["a".into()]));
        assert_eq!(
            (by.number(&a), by.number(&b), by.labels.clone()),
            (0, 0, vec![l(&[("a", "1")])])
        );
        let mut without = Groups::new(Subset::without(&["a".into()]));
        assert_eq!((without.number(&a), without.number(&b), without.number(&a)), (0, 1, 0));
        assert_eq!(without.labels, [l(&[("b", "1")]), l(&[("b", "2")])]);
        let mut missing = Groups::new(Subset::with(&["zz".into()]));
        assert_eq!((missing.number(&a), missing.number(&b)), (0, 0));
    }
}
