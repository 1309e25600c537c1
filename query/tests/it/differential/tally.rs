//! Counts what came of a run, and keeps what differs.

use super::case::Case;
use super::compare::{Difference, Notes, Verdict};
use std::collections::BTreeMap;
use std::fmt;

/// What came of the queries so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    count: u64,
    with_results: u64,
    exact: u64,
    close: u64,
    other_words: u64,
    /// By difference, those nobody has explained.
    different: BTreeMap<Difference, u64>,
    /// By reason, those that are upstream's own.
    explained: BTreeMap<&'static str, u64>,
    notes_same: u64,
    notes_moved: u64,
    notes_other: u64,
    /// By the texts of both sides, what is said in other words.
    words: BTreeMap<String, u64>,
    shown: Vec<(u64, String)>,
}

impl Tally {
    /// Counts one query: whether both sides have a result for it, how they compare, and of those that differ the smallest
    /// part that does and why, if that is known.
    pub(super) fn add(
        &mut self,
        n: u64,
        case: &Case,
        with_result: bool,
        verdict: Verdict,
        notes: Notes,
        explained: Option<(Case, Option<&'static str>)>,
    ) {
        self.count += 1;
        self.with_results += u64::from(with_result);
        match notes {
            Notes::None => {}
            Notes::Same => self.notes_same += 1,
            Notes::Moved => self.notes_moved += 1,
            Notes::Other(texts) => {
                self.notes_other += 1;
                *self.words.entry(gist(&texts)).or_default() += 1;
            }
        }
        match (verdict, explained) {
            (Verdict::Exact, _) => self.exact += 1,
            (Verdict::Close, _) => self.close += 1,
            (Verdict::OtherWords(texts), _) => {
                self.other_words += 1;
                *self.words.entry(gist(&texts)).or_default() += 1;
            }
            (Verdict::Different(..), Some((_, Some(why)))) => *self.explained.entry(why).or_default() += 1,
            (Verdict::Different(what, how), smallest) => {
                *self.different.entry(what).or_default() += 1;
                let mut text = format!("{what:?}: {case}\n  ours | theirs: {how}");
                if let Some((smallest, _)) = smallest {
                    text.push_str(&format!("\n  in short: {smallest}"));
                }
                self.shown.push((n, text));
            }
        }
    }

    /// Differences that are nobody's but ours.
    pub(super) fn unexplained(&self) -> u64 {
        self.different.values().sum()
    }

    /// Queries that both sides answer with a result.
    pub(super) fn with_results(&self) -> u64 {
        self.with_results
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agreed = self.count - self.unexplained();
        writeln!(
            f,
            "{agreed} of {} agree: {} exact, {} close, {} errors in other words, {} explained; {} have results",
            self.count,
            self.exact,
            self.close,
            self.other_words,
            self.explained.values().sum::<u64>(),
            self.with_results
        )?;
        writeln!(
            f,
            "annotations: {} the same, {} the same elsewhere, {} others",
            self.notes_same, self.notes_moved, self.notes_other
        )?;
        for (why, count) in &self.explained {
            writeln!(f, "explained {count}: {why}")?;
        }
        for (what, count) in &self.different {
            writeln!(f, "differ in {what:?}: {count}")?;
        }
        for (words, count) in &self.words {
            writeln!(f, "in other words {count}: {words}")?;
        }
        let mut shown: Vec<&(u64, String)> = self.shown.iter().collect();
        shown.sort();
        for (n, text) in shown {
            writeln!(f, "#{n} {text}")?;
        }
        Ok(())
    }
}

/// A text without what differs from query to query: what stands in quotes, braces and parentheses, and numbers.
fn gist(text: &str) -> String {
    let (mut out, mut until) = (String::new(), Vec::new());
    for c in text.chars() {
        if until.last() == Some(&c) {
            until.pop();
        } else if let Some(close) = [('"', '"'), ('{', '}'), ('(', ')')].iter().find(|(open, _)| *open == c) {
            until.push(close.1);
        } else if until.is_empty() && !(c.is_ascii_digit() && out.ends_with('0')) {
            out.push(if c.is_ascii_digit() { '0' } else { c });
        }
    }
    out
}
