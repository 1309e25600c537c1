//! The label pairs of a block while it is written: numbered as they come, ranked in the end.

use hashbrown::{Equivalent, HashMap};
use tidegauge_model::Labels;

/// Gathers the pairs of each series.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    names: HashMap<Box<str>, u32>,
    pairs: HashMap<Pair, u32>,
    /// The pairs of all series by their first numbers, and where each series' end.
    used: Vec<u32>,
    ends: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Pair(u32, Box<str>);

#[derive(Hash)]
struct PairKey<'a>(u32, &'a str);

impl Equivalent<Pair> for PairKey<'_> {
    fn equivalent(&self, pair: &Pair) -> bool {
        self.0 == pair.0 && self.1 == &*pair.1
    }
}

impl Symbols {
    /// Adds the next series.
    pub(super) fn push(&mut self, labels: &Labels) -> Option<()> {
        for (name, value) in labels.iter() {
            let name = match self.names.get(name) {
                Some(no) => *no,
                None => {
                    let no = u32::try_from(self.names.len()).ok()?;
                    self.names.insert(name.into(), no);
                    no
                }
            };
            let pair = match self.pairs.get(&PairKey(name, value)) {
                Some(no) => *no,
                None => {
                    let no = u32::try_from(self.pairs.len()).ok()?;
                    self.pairs.insert(Pair(name, value.into()), no);
                    no
                }
            };
            self.used.push(pair);
        }
        self.ends.push(u32::try_from(self.used.len()).ok()?);
        Some(())
    }

    /// Ranks the pairs.
    pub(super) fn sort(self) -> SortedSymbols {
        let mut names: Vec<Box<str>> = vec!["".into(); self.names.len()];
        for (name, no) in self.names {
            if let Some(place) = names.get_mut(no as usize) {
                *place = name;
            }
        }
        let name_of = |pair: &Pair| names.get(pair.0 as usize).map_or("", AsRef::as_ref);
        let mut pairs: Vec<(Pair, u32)> = self.pairs.into_iter().collect();
        pairs.sort_unstable_by(|(a, _), (b, _)| (name_of(a), &a.1).cmp(&(name_of(b), &b.1)));
        let mut ranks = vec![0; pairs.len()];
        for (rank, (_, no)) in (0u32..).zip(&pairs) {
            if let Some(place) = ranks.get_mut(*no as usize) {
                *place = rank;
            }
        }
        let mut used = self.used;
        for pair in &mut used {
            *pair = ranks.get(*pair as usize).copied().unwrap_or(0);
        }
        SortedSymbols {
            names,
            pairs: pairs.into_iter().map(|(pair, _)| pair).collect(),
            used,
            ends: self.ends,
        }
    }
}

/// Pairs by rank.
#[derive(Debug)]
pub(super) struct SortedSymbols {
    names: Vec<Box<str>>,
    pairs: Vec<Pair>,
    used: Vec<u32>,
    ends: Vec<u32>,
}

impl SortedSymbols {
    /// All pairs in order.
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        let name = |pair: &Pair| self.names.get(pair.0 as usize).map_or("", |n| &**n);
        self.pairs.iter().map(|pair| (name(pair), &*pair.1)).collect()
    }

    /// The ranks of a series' pairs, in order of name.
    pub(super) fn pairs_of(&self, series: usize) -> impl Iterator<Item = u32> {
        let start = series
            .checked_sub(1)
            .and_then(|s| self.ends.get(s))
            .copied()
            .unwrap_or(0);
        let end = self.ends.get(series).copied().unwrap_or(start);
        let used = self.used.get(start as usize..end as usize).unwrap_or_default();
        used.iter().copied()
    }

    /// Calls `each` with the series of every pair, then with those of every name.
    pub(super) fn each_posting(&self, mut each: impl FnMut(&[u32]) -> Option<()>) -> Option<()> {
        // A counting sort: `ends` first holds where a pair's list begins, then where it ends.
        let mut ends = vec![0u32; self.pairs.len() + 1];
        for pair in &self.used {
            *ends.get_mut(*pair as usize + 1)? += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut series_of = vec![0u32; self.used.len()];
        for series in 0..self.ends.len() {
            for pair in self.pairs_of(series) {
                let at = ends.get_mut(pair as usize)?;
                *series_of.get_mut(*at as usize)? = u32::try_from(series).ok()?;
                *at += 1;
            }
        }
        let list = |from: usize, to: usize| {
            let start = from
                .checked_sub(1)
                .map_or(Some(0), |before| ends.get(before).copied())?;
            let end = to.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
            series_of.get(start as usize..end as usize)
        };
        for pair in 0..self.pairs.len() {
            each(list(pair, pair + 1)?)?;
        }
        let mut start = 0;
        for group in self.pairs.chunk_by(|a, b| a.0 == b.0) {
            let mut all = list(start, start + group.len())?.to_vec();
            all.sort_unstable();
            each(&all)?;
            start += group.len();
        }
        Some(())
    }
}
