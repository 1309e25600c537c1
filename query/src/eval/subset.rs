//! The part of a label set that groups or matches series: a key of bytes for each series, a label set once per group.

use hashbrown::HashTable;
use std::cmp::Ordering;
use tidegauge_model::{Labels, reserved::METRIC_NAME};
use xxhash_rust::xxh3::xxh3_64;

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

    /// Begins a key. Keys are equal where all labels that count are: the values of `With`, in order of name, each with an
    /// end after it; names and values of `Without`.
    fn begin<'k>(&'k self, bytes: &'k mut Vec<u8>) -> KeyMaker<'k> {
        bytes.clear();
        let (names, listed) = match self {
            Self::With(names) => (names.as_slice(), true),
            Self::Without(names) => (names.as_slice(), false),
        };
        KeyMaker { names, listed, bytes }
    }

    /// The label set that a key stands for.
    fn labels_of(&self, key: &[u8]) -> Labels {
        let mut texts = key
            .split(|b| *b == END)
            .map(|t| std::str::from_utf8(t).unwrap_or_default());
        match self {
            Self::With(names) => Labels::from_sorted(names.iter().map(String::as_str).zip(texts)),
            Self::Without(_) => {
                let pairs = std::iter::from_fn(|| Some((texts.next()?, texts.next()?)));
                Labels::from_sorted(pairs)
            }
        }
    }

    /// The label set of what counts.
    pub(crate) fn of(&self, labels: &Labels) -> Labels {
        let mut bytes = Vec::new();
        let mut key = self.begin(&mut bytes);
        labels.iter().for_each(|(name, value)| key.label(name, value));
        key.end();
        self.labels_of(&bytes)
    }
}

/// Ends each text of a key: no byte of UTF-8.
const END: u8 = 0xff;

/// Makes the key of a series, label by label in order of name.
struct KeyMaker<'k> {
    /// The names that are still to come.
    names: &'k [String],
    /// Whether those count, or all others.
    listed: bool,
    bytes: &'k mut Vec<u8>,
}

impl KeyMaker<'_> {
    fn label(&mut self, name: &str, value: &str) {
        loop {
            let order = match self.names.first() {
                Some(first) => first.as_str().cmp(name),
                None => Ordering::Greater,
            };
            match order {
                // The series does not have it.
                Ordering::Less if self.listed => self.bytes.push(END),
                Ordering::Equal if self.listed => {
                    self.bytes.extend_from_slice(value.as_bytes());
                    self.bytes.push(END);
                }
                Ordering::Less | Ordering::Equal => {}
                Ordering::Greater => {
                    if !self.listed {
                        for text in [name, value] {
                            self.bytes.extend_from_slice(text.as_bytes());
                            self.bytes.push(END);
                        }
                    }
                    return;
                }
            }
            self.names = &self.names[1..];
            if order == Ordering::Equal {
                return;
            }
        }
    }

    fn end(self) {
        if self.listed {
            self.bytes.extend(self.names.iter().map(|_| END));
        }
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
    /// The keys of all groups, one after the other, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
    /// The label set of each group.
    pub(crate) labels: Vec<Labels>,
    /// Room for the key of the series at hand.
    key: Vec<u8>,
}

impl Groups {
    pub(crate) fn new(subset: Subset) -> Self {
        Self {
            subset,
            table: HashTable::new(),
            keys: Vec::new(),
            ends: Vec::new(),
            labels: Vec::new(),
            key: Vec::new(),
        }
    }

    /// The number of the group of a series, a new one if it is the first.
    pub(crate) fn number(&mut self, labels: &Labels) -> usize {
        self.number_of(|label| labels.iter().for_each(|(name, value)| label(name, value)))
    }

    /// As [`Groups::number`], for a series whose labels `visit` tells in order of name.
    pub(crate) fn number_of(&mut self, visit: impl FnOnce(&mut dyn FnMut(&str, &str))) -> usize {
        let mut key = self.subset.begin(&mut self.key);
        visit(&mut |name, value| key.label(name, value));
        key.end();
        let hash = xxh3_64(&self.key);
        let (keys, ends, key) = (&self.keys, &self.ends, self.key.as_slice());
        let known = |group: usize| {
            let start = group.checked_sub(1).map_or(0, |before| ends[before]);
            &keys[start..ends[group]]
        };
        let found = self.table.find(hash, |(h, group)| *h == hash && known(*group) == key);
        if let Some((_, group)) = found {
            return *group;
        }
        let group = self.labels.len();
        self.labels.push(self.subset.labels_of(&self.key));
        self.keys.extend_from_slice(&self.key);
        self.ends.push(self.keys.len());
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

    /// The number of a group of others that fall into groups by the same labels.
    pub(crate) fn number_of_other(&mut self, others: &Self, group: usize) -> usize {
        if self.subset.is_nothing() {
            return self.only();
        }
        self.number(&others.labels[group])
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
        assert_eq!(missing.labels, [Labels::empty()]);
    }

    #[test]
    fn a_key_tells_which_label_has_a_value() {
        let l = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        let all = [
            l(&[("b", "1")]),
            l(&[("d", "1")]),
            l(&[("a", "0"), ("b", "1"), ("c", "2"), ("d", "1"), ("e", "3")]),
            l(&[]),
        ];
        let mut by = Groups::new(Subset::with(&["d".into(), "b".into()]));
        let numbers: Vec<usize> = all.iter().map(|labels| by.number(labels)).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(
            by.labels,
            [l(&[("b", "1")]), l(&[("d", "1")]), l(&[("b", "1"), ("d", "1")]), l(&[])]
        );
        for labels in by.labels.clone() {
            assert_eq!(by.subset.of(&labels), labels);
            assert!(by.number(&labels) < all.len());
        }
        let without = Subset::without(&["b".into(), "zz".into()]);
        assert_eq!(
            without.of(&all[2]),
            l(&[("a", "0"), ("c", "2"), ("d", "1"), ("e", "3")])
        );
        assert_eq!(without.of(&all[0]), Labels::empty());
    }
}
