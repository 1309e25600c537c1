//! Many label sets as a table: the text of each pair once, a set as a row of numbers.
//!
//! ```text
//!   pairs   0 __name__="up"   1 job="node"   2 instance="a:1"   3 instance="b:1"
//!   rows    [0 2 1] [0 3 1]
//! ```

use crate::Labels;

/// Label sets as rows of pairs.
#[derive(Debug, Clone, Default)]
pub struct LabelTable {
    text: String,
    /// Where each pair's name and its value end in `text`.
    pairs: Vec<(usize, usize)>,
    rows: Vec<u32>,
    /// Where each row ends in `rows`.
    ends: Vec<usize>,
}

impl LabelTable {
    /// A table without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair; gives its number. The same pair added twice has two.
    pub fn add_pair(&mut self, name: &str, value: &str) -> u32 {
        let number = self.pairs.len() as u32;
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.pairs.push((name_end, self.text.len()));
        number
    }

    /// Adds a set: the numbers of its pairs, in order of name.
    pub fn add_row(&mut self, pairs: impl IntoIterator<Item = u32>) {
        self.rows.extend(pairs);
        self.ends.push(self.rows.len());
    }

    /// Adds a set with pairs of its own.
    pub fn add_labels(&mut self, labels: &Labels) {
        for (name, value) in labels.iter() {
            let pair = self.add_pair(name, value);
            self.rows.push(pair);
        }
        self.ends.push(self.rows.len());
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many pairs there are.
    pub fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// Name and value of a pair; empty if there is no such pair.
    pub fn pair(&self, number: u32) -> (&str, &str) {
        let at = number as usize;
        let start = at.checked_sub(1).and_then(|before| self.pairs.get(before));
        let start = start.map_or(0, |(_, end)| *end);
        let Some((name_end, end)) = self.pairs.get(at) else {
            return ("", "");
        };
        let text = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        (text(start, *name_end), text(*name_end, *end))
    }

    /// The pairs of a set, in order of name.
    pub fn row(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = start.copied().unwrap_or(0);
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.rows.get(start..end).unwrap_or_default()
    }

    /// A set.
    pub fn labels(&self, row: usize) -> Labels {
        Labels::from_sorted(self.row(row).iter().map(|pair| self.pair(*pair)))
    }

    /// Keeps the first so many sets.
    pub fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.rows.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Puts the sets in order and leaves each once. Pairs get new numbers.
    pub fn sort(&mut self) {
        let mut order: Vec<u32> = (0..self.pairs.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.pair(*a).cmp(&self.pair(*b)));
        // A pair's number becomes its rank, so that sets compare as their numbers do.
        let mut sorted = Self::default();
        let mut ranks = vec![0u32; self.pairs.len()];
        for number in order {
            let pair = self.pair(number);
            let last = (sorted.pairs.len() as u32).checked_sub(1);
            let rank = match last.filter(|last| sorted.pair(*last) == pair) {
                Some(last) => last,
                None => sorted.add_pair(pair.0, pair.1),
            };
            if let Some(place) = ranks.get_mut(number as usize) {
                *place = rank;
            }
        }
        for pair in &mut self.rows {
            *pair = ranks.get(*pair as usize).copied().unwrap_or(0);
        }
        let mut rows: Vec<&[u32]> = (0..self.len()).map(|row| self.row(row)).collect();
        rows.sort_unstable();
        rows.dedup();
        sorted.rows.reserve_exact(self.rows.len());
        sorted.ends.reserve_exact(rows.len());
        for row in rows {
            sorted.add_row(row.iter().copied());
        }
        *self = sorted;
    }
}

impl FromIterator<Labels> for LabelTable {
    fn from_iter<I: IntoIterator<Item = Labels>>(sets: I) -> Self {
        let mut table = Self::default();
        for labels in sets {
            table.add_labels(&labels);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_share_pairs() {
        let mut table = LabelTable::new();
        let (name, job) = (table.add_pair("__name__", "up"), table.add_pair("job", "node"));
        for host in ["b", "a"] {
            let instance = table.add_pair("instance", host);
            table.add_row([name, instance, job]);
        }
        assert_eq!((table.len(), table.pair_count()), (2, 4));
        assert_eq!(
            table.labels(0).to_string(),
            r#"{__name__="up", instance="b", job="node"}"#
        );
        table.sort();
        assert_eq!(table.labels(0).get("instance"), Some("a"));
        table.truncate(1);
        assert_eq!((table.len(), table.row(0).len(), table.row(1).len()), (1, 3, 0));
        assert_eq!((table.pair(99), table.labels(9)), (("", ""), Labels::empty()));
    }

    proptest! {
        #[test]
        fn sorting_is_that_of_sets(sets in prop::collection::vec(prop::collection::btree_map("[a-c]{1,2}", "[x-z]{1,3}", 0..4), 0..30)) {
            let sets: Vec<Labels> = sets.iter().map(|s| Labels::from_pairs(s).unwrap()).collect();
            let mut table: LabelTable = sets.iter().cloned().collect();
            let all: Vec<Labels> = (0..table.len()).map(|row| table.labels(row)).collect();
            prop_assert_eq!(&all, &sets);
            table.sort();
            let sorted: Vec<Labels> = (0..table.len()).map(|row| table.labels(row)).collect();
            let expected: Vec<Labels> = sets.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(sorted, expected);
        }
    }
}
