//! The label index of the head: which series there are, by number, by label set and by matcher.
//!
//! A series is a number; its label set is a list of pair numbers in one arena. Nothing here is owned by one series.

use super::postings::{Pairs, intersect, subtract, union};
use super::symbols::{Symbols, put_numbers, read_numbers, reserve};
use crate::codec::{Cursor, Malformed, varint};
use hashbrown::HashTable;
use std::collections::BTreeSet;
use tidegauge_model::{Labels, Matcher};

/// Reading the pairs of a series costs as much as reading so many entries of a list.
const LOOK_COST: usize = 8;

/// The label index. Series are only added; [`super::gc`] builds a new index without those that are gone.
#[derive(Debug, Default)]
pub(crate) struct Index {
    symbols: Symbols,
    pairs: Pairs,
    /// Pair numbers of all series one after another, as varints, in order of label name.
    arena: Vec<u8>,
    ends: Vec<u32>,
    hashes: Vec<u32>,
    table: HashTable<u32>,
}

/// The table wants all 64 bits to differ; 32 are kept for each series.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// The pairs of a series, in order of label name.
    pub(crate) fn pairs_of(&self, series: u32) -> impl Iterator<Item = u32> + '_ {
        let at = series as usize;
        let start = at.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(0);
        let end = self.ends.get(at).copied().unwrap_or(start);
        let mut cursor = Cursor::new(self.arena.get(start as usize..end as usize).unwrap_or_default());
        std::iter::from_fn(move || cursor.varint().ok().map(|pair| pair as u32))
    }

    /// The label pairs of a series, in order of name.
    pub(crate) fn texts(&self, series: u32) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.pairs_of(series).map(|pair| self.pair_texts(pair))
    }

    /// Name and value of a pair.
    pub(crate) fn pair_texts(&self, pair: u32) -> (&str, &str) {
        let (name, value) = self.pairs.get(pair);
        (self.symbols.get(name), self.symbols.get(value))
    }

    pub(crate) fn labels(&self, series: u32) -> Labels {
        Labels::from_sorted(self.texts(series))
    }

    /// The order of two series by their labels.
    pub(crate) fn compare(&self, a: u32, b: u32) -> std::cmp::Ordering {
        self.texts(a).cmp(self.texts(b))
    }

    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        let hash = labels.stable_hash() as u32;
        self.table
            .find(spread(hash), |s| {
                self.hashes.get(*s as usize) == Some(&hash) && labels.iter().eq(self.texts(*s))
            })
            .copied()
    }

    /// Adds a series that is not there; `None` if an arena is full.
    pub(crate) fn add(&mut self, labels: &Labels) -> Option<u32> {
        let series = u32::try_from(self.ends.len()).ok().filter(|s| *s < u32::MAX)?;
        let mut pairs: Vec<u32> = Vec::with_capacity(16);
        // Series come in families: most pairs are those of the one before, which need no look into cold tables.
        let before: Vec<u32> = series
            .checked_sub(1)
            .map_or_else(Vec::new, |s| self.pairs_of(s).collect());
        for (name, value) in labels.iter() {
            let known = before.get(pairs.len()).map(|p| (*p, self.pair_texts(*p)));
            pairs.push(match known {
                Some((pair, texts)) if texts == (name, value) => pair,
                Some((pair, texts)) if texts.0 == name => {
                    let value = self.symbols.intern(value)?;
                    self.pairs.intern(self.pairs.get(pair).0, value)
                }
                _ => {
                    let (name, value) = (self.symbols.intern(name)?, self.symbols.intern(value)?);
                    self.pairs.intern(name, value)
                }
            });
        }
        let hash = labels.stable_hash() as u32;
        reserve(&mut self.arena, pairs.len() * 5);
        for pair in &pairs {
            varint::put(&mut self.arena, u64::from(*pair));
        }
        let end = u32::try_from(self.arena.len()).ok()?;
        for pair in pairs {
            self.pairs.enter(pair, series);
        }
        reserve(&mut self.ends, 1);
        self.ends.push(end);
        reserve(&mut self.hashes, 1);
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.table.insert_unique(spread(hash), series, |s| {
            spread(hashes.get(*s as usize).copied().unwrap_or_default())
        });
        Some(series)
    }

    /// The series that match, rising.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        let mut wanted: Vec<&Matcher> = matchers.iter().filter(|m| !m.matches_empty()).collect();
        wanted.sort_by_key(|m| self.cost(m));
        let mut found: Option<Vec<u32>> = None;
        for matcher in wanted {
            found = Some(match found {
                None => self.carrying(matcher, |value| matcher.matches(value)),
                Some(found) if found.is_empty() => return found,
                Some(found) if self.few(found.len(), matcher) => self.filter(found, matcher),
                Some(found) => intersect(&found, &self.carrying(matcher, |value| matcher.matches(value))),
            });
        }
        let mut found = found.unwrap_or_else(|| (0..self.len() as u32).collect());
        // These hold for series without the label: take away the ones whose value does not match.
        for matcher in matchers.iter().filter(|m| m.matches_empty()) {
            if found.is_empty() {
                break;
            }
            found = if self.few(found.len(), matcher) {
                self.filter(found, matcher)
            } else {
                subtract(&found, &self.carrying(matcher, |value| !matcher.matches(value)))
            };
        }
        found
    }

    /// Whether so many series are looked at one by one sooner than the lists of a matcher are read.
    fn few(&self, series: usize, matcher: &Matcher) -> bool {
        let lists = match self.cost(matcher) {
            usize::MAX => self.len(),
            cost => cost,
        };
        series.saturating_mul(LOOK_COST) < lists
    }

    /// Of some series, those that match.
    fn filter(&self, mut series: Vec<u32>, matcher: &Matcher) -> Vec<u32> {
        let name = self.symbols.find(matcher.name());
        series.retain(|s| {
            let value = name
                .and_then(|name| self.pair_of(*s, name))
                .map(|pair| self.pair_texts(pair).1);
            matcher.matches(value.unwrap_or_default())
        });
        series
    }

    /// The pair of a series with a label name.
    fn pair_of(&self, series: u32, name: u32) -> Option<u32> {
        self.pairs_of(series).find(|pair| self.pairs.get(*pair).0 == name)
    }

    /// Cheap ones first: their result bounds the rest.
    fn cost(&self, matcher: &Matcher) -> usize {
        match (matcher.is_negative(), matcher.literals()) {
            (false, Some(values)) => {
                let name = self.symbols.find(matcher.name());
                values
                    .iter()
                    .filter_map(|v| self.pairs.find(name?, self.symbols.find(v)?))
                    .map(|p| self.pairs.count(p) as usize)
                    .sum()
            }
            _ => usize::MAX,
        }
    }

    /// The series that carry the matcher's label with a value that `keep` accepts.
    fn carrying(&self, matcher: &Matcher, keep: impl Fn(&str) -> bool) -> Vec<u32> {
        let Some(name) = self.symbols.find(matcher.name()) else {
            return Vec::new();
        };
        let mut lists = Vec::new();
        let mut push = |pair: u32| {
            let mut list = Vec::new();
            self.pairs.list(pair, &mut list);
            lists.push(list);
        };
        // If `keep` accepts the literals, it accepts nothing else (`=`, and `!=` turned round): look them up.
        let literals = matcher.literals().filter(|l| l.iter().all(|v| keep(v)));
        match literals {
            Some(values) => {
                for pair in values
                    .iter()
                    .filter_map(|v| self.pairs.find(name, self.symbols.find(v)?))
                {
                    push(pair);
                }
            }
            None => {
                for pair in self.pairs.of_name(name) {
                    if keep(self.symbols.get(self.pairs.get(*pair).1)) {
                        push(*pair);
                    }
                }
            }
        }
        union(lists)
    }

    /// The label names of some series; `None`: of all.
    pub(crate) fn label_names(&self, series: Option<&[u32]>) -> BTreeSet<String> {
        let Some(series) = series else {
            let names = self.pairs.names();
            return names.map(|name| self.symbols.get(name).to_owned()).collect();
        };
        let symbols: BTreeSet<u32> = self
            .distinct_pairs(series)
            .iter()
            .map(|p| self.pairs.get(*p).0)
            .collect();
        symbols.iter().map(|s| self.symbols.get(*s).to_owned()).collect()
    }

    /// The values of a label among some series (`None`: among all), each once, in no order.
    pub(crate) fn label_values(&self, name: &str, series: Option<&[u32]>) -> Vec<&str> {
        let Some(name) = self.symbols.find(name) else {
            return Vec::new();
        };
        let mut own: Vec<u32> = Vec::new();
        match series {
            None => own.extend_from_slice(self.pairs.of_name(name)),
            Some(series) if series.len().saturating_mul(LOOK_COST) < self.len() => {
                own.extend(series.iter().filter_map(|s| self.pair_of(*s, name)));
                own.sort_unstable();
                own.dedup();
            }
            Some(series) => {
                let mut list = Vec::new();
                own.extend(self.pairs.of_name(name).iter().filter(|pair| {
                    list.clear();
                    self.pairs.list(**pair, &mut list);
                    !intersect(&list, series).is_empty()
                }));
            }
        }
        own.iter().map(|pair| self.pair_texts(*pair).1).collect()
    }

    fn distinct_pairs(&self, series: &[u32]) -> Vec<u32> {
        let mut seen = vec![false; self.pairs.len()];
        for pair in series.iter().flat_map(|s| self.pairs_of(*s)) {
            if let Some(seen) = seen.get_mut(pair as usize) {
                *seen = true;
            }
        }
        (0u32..)
            .zip(seen)
            .filter(|(_, seen)| *seen)
            .map(|(pair, _)| pair)
            .collect()
    }

    /// For statistics: label names with the count of their values, and the bytes that the pairs of all series would take if
    /// each were written by itself, as upstream counts them.
    pub(crate) fn name_sizes(&self) -> Vec<(String, u64, u64)> {
        self.pairs
            .names()
            .map(|name| {
                let pairs = self.pairs.of_name(name);
                let name = self.symbols.get(name);
                let bytes = pairs
                    .iter()
                    .map(|p| {
                        let value = self.symbols.get(self.pairs.get(*p).1);
                        u64::from(self.pairs.count(*p)) * (written_bytes(name) + written_bytes(value))
                    })
                    .sum();
                (name.to_owned(), pairs.len() as u64, bytes)
            })
            .collect()
    }

    /// For statistics: all pairs with how many series carry them.
    pub(crate) fn pair_sizes(&self) -> impl Iterator<Item = (&str, &str, u64)> + '_ {
        (0..self.pairs.len() as u32).map(|pair| {
            let (name, value) = self.pair_texts(pair);
            (name, value, u64::from(self.pairs.count(pair)))
        })
    }

    /// Appends all of it, for a checkpoint.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        self.symbols.save(out);
        self.pairs.save(out);
        varint::put(out, self.ends.len() as u64);
        varint::put(out, self.arena.len() as u64);
        put_numbers(out, &self.ends);
        put_numbers(out, &self.hashes);
        out.extend_from_slice(&self.arena);
    }

    /// What [`Index::save`] wrote.
    pub(crate) fn load(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let symbols = Symbols::load(cursor)?;
        let pairs = Pairs::load(cursor)?;
        let left = cursor.remaining();
        let count = cursor.bounded(left, "more series than what is left")?;
        let bytes = cursor.bounded(left, "more pairs than what is left")?;
        let ends = read_numbers(cursor, count)?;
        let hashes = read_numbers(cursor, count)?;
        let mut index = Self {
            symbols,
            pairs,
            arena: cursor.take(bytes)?.to_vec(),
            ends,
            table: HashTable::with_capacity(count),
            hashes,
        };
        // What is added comes behind them.
        if !index.ends.is_sorted() || index.ends.last().copied().unwrap_or(0) as usize != index.arena.len() {
            return Err(cursor.malformed("pairs of series do not follow each other"));
        }
        // Whoever makes a label set of them relies on it.
        if !(0..count as u32).all(|series| index.texts(series).is_sorted_by(|a, b| a.0 < b.0)) {
            return Err(cursor.malformed("labels of a series are not in order"));
        }
        let mut pairs = std::mem::take(&mut index.pairs);
        for series in 0..count as u32 {
            for pair in index.pairs_of(series) {
                pairs.enter(pair, series);
            }
            let hash = |s: &u32| spread(index.hashes.get(*s as usize).copied().unwrap_or_default());
            index.table.insert_unique(hash(&series), series, hash);
        }
        index.pairs = pairs;
        Ok(index)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.symbols.heap_bytes()
            + self.pairs.heap_bytes()
            + self.arena.capacity()
            + (self.ends.capacity() + self.hashes.capacity()) * 4
            + self.table.allocation_size()
    }
}

/// Bytes of a text with its length before it, as upstream keeps it.
fn written_bytes(text: &str) -> u64 {
    let of_length = if text.len() < 255 { 1 } else { 4 };
    text.len() as u64 + of_length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegauge_model::MatchOp;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_label_set_has_one_number() {
        let mut index = Index::default();
        let all: Vec<Labels> = (0..2000)
            .map(|i| labels(&[("__name__", &format!("m{}", i % 50)), ("pod", &format!("p{}", i / 50))]))
            .collect();
        for (i, l) in all.iter().enumerate() {
            assert_eq!(index.find(l), None);
            assert_eq!(index.add(l), Some(i as u32));
        }
        for (i, l) in all.iter().enumerate() {
            assert_eq!(index.find(l), Some(i as u32));
            assert_eq!(&index.labels(i as u32), l);
        }
        let some = index.select(&[Matcher::equal("pod", "p3")]);
        assert_eq!(some, (150..200).collect::<Vec<u32>>());
        let values = |series| {
            let mut values = index.label_values("pod", series);
            values.sort_unstable();
            values
        };
        assert_eq!(values(Some(&some)), ["p3"]);
        assert_eq!(index.label_names(Some(&some)).len(), 2);
        assert_eq!(index.label_names(None), index.label_names(Some(&some)));
        let all = index.select(&[]);
        assert_eq!(values(None).len(), 40);
        assert_eq!(values(None), values(Some(&all)));
    }

    proptest! {
        #[test]
        fn select_is_what_matchers_say(
            sets in proptest::collection::btree_set(proptest::collection::btree_map("[a-c]", "[x-z]{0,2}", 0..3), 0..20),
            ops in proptest::collection::vec((0..4usize, "[a-d]", prop_oneof![Just(""), Just("x"), Just("x|y"), Just("x.*"), Just(".*"), Just(".+"), Just("z|"), Just("[x-z]")]), 0..4),
        ) {
            let mut index = Index::default();
            let sets: BTreeSet<Labels> = sets.iter().map(|s| Labels::from_pairs(s.iter()).unwrap()).collect();
            let sets: Vec<Labels> = sets.into_iter().collect();
            for l in &sets { index.add(l).unwrap(); }
            let matchers: Vec<Matcher> = ops.iter().map(|(op, name, value)| {
                let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][*op];
                Matcher::new(op, name.clone(), *value).unwrap()
            }).collect();
            let expect: Vec<u32> = (0u32..).zip(&sets)
                .filter(|(_, l)| matchers.iter().all(|m| m.matches(l.value(m.name())))).map(|(i, _)| i).collect();
            prop_assert_eq!(index.select(&matchers), expect);
        }
    }
}
