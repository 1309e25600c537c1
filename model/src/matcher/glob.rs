//! Patterns that are literals with `.*` and `.+` between them: matched by searching, without a regex.
//!
//! ```text
//!   node_.*         first "node_", then anything
//!   .*ssd.*         anything, "ssd", anything
//!   .+(a|b)x        two of them: .+ax and .+bx
//! ```
//!
//! A literal is UTF-8, so it is found at borders of characters only, and "at least one character" between two of them
//! is the same as "at least one byte". The leftmost place for each literal leaves the most for those behind it.

use memchr::memmem::Finder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// At most this many alternatives are told apart; beyond it the regex does the work.
const MAX_ALTERNATIVES: usize = 1024;
/// Where a choice follows a choice there may be as many combinations; to list more costs more than the regex.
const MAX_COMBINATIONS: usize = 64;
/// A class of more characters than this is not taken apart.
const MAX_CLASS: u64 = 32;

/// What a pattern is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `.*` (0) or `.+` (1).
    Gap(usize),
    Start,
    End,
}

/// One alternative.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    first: String,
    /// What lies between: a gap of at least so many bytes, and a literal.
    middle: Vec<(usize, Finder<'static>)>,
    /// The last gap and the literal behind it; `None` if there is no gap and `first` is all.
    last: Option<(usize, String)>,
}

impl Glob {
    /// The alternatives of a pattern, if they are few and plain.
    pub(super) fn alternatives(hir: &Hir) -> Option<Vec<Self>> {
        pieces(hir)?.into_iter().map(Self::new).collect()
    }

    /// The same of a pattern of nothing but literals, `.*`, `.+` and bars, as most are. Parsing one takes many times as
    /// long as to see that.
    pub(super) fn read(pattern: &str) -> Option<Vec<Self>> {
        if pattern.bytes().filter(|b| *b == b'|').count() >= MAX_ALTERNATIVES {
            return None;
        }
        let alternatives = pattern.split('|');
        alternatives.map(|one| Self::new(plain_pieces(one)?)).collect()
    }

    fn new(mut pieces: Vec<Piece>) -> Option<Self> {
        // The ends are what every pattern is anchored to.
        let starts = pieces.iter().take_while(|piece| **piece == Piece::Start).count();
        pieces.drain(..starts);
        while pieces.pop_if(|piece| *piece == Piece::End).is_some() {}
        let (mut first, mut gap, mut text) = (String::new(), None, String::new());
        let mut middle = Vec::new();
        for piece in pieces {
            match (piece, gap) {
                (Piece::Text(more), None) => first.push_str(&more),
                (Piece::Text(more), Some(_)) => text.push_str(&more),
                (Piece::Gap(min), None) => gap = Some(min),
                (Piece::Gap(min), Some(before)) if text.is_empty() => {
                    // Two characters may be less than two bytes are: that is for the regex.
                    if before + min > 1 {
                        return None;
                    }
                    gap = Some(before + min);
                }
                (Piece::Gap(min), Some(before)) => {
                    middle.push((before, Finder::new(&std::mem::take(&mut text)).into_owned()));
                    gap = Some(min);
                }
                (Piece::Start | Piece::End, _) => return None,
            }
        }
        let last = gap.map(|gap| (gap, text));
        Some(Self { first, middle, last })
    }

    /// The whole value, if only one matches.
    pub(super) fn literal(&self) -> Option<&str> {
        self.last.is_none().then_some(&*self.first)
    }

    /// The least length of the values, if nothing else is asked of them.
    pub(super) fn anything(&self) -> Option<usize> {
        match &self.last {
            Some((min, last)) if self.first.is_empty() && self.middle.is_empty() && last.is_empty() => Some(*min),
            _ => None,
        }
    }

    /// What every value that matches starts with.
    pub(super) fn prefix(&self) -> &str {
        &self.first
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        self.find(value.as_bytes()).is_some()
    }

    fn find(&self, value: &[u8]) -> Option<()> {
        let rest = value.strip_prefix(self.first.as_bytes())?;
        let Some((least, last)) = &self.last else {
            return rest.is_empty().then_some(());
        };
        let mut rest = rest.strip_suffix(last.as_bytes())?;
        for (least, literal) in &self.middle {
            rest = rest.get(*least..)?;
            let at = literal.find(rest)?;
            rest = rest.get(at + literal.needle().len()..)?;
        }
        (rest.len() >= *least).then_some(())
    }
}

/// The pieces of an alternative of nothing but literals, `.*` and `.+`.
fn plain_pieces(text: &str) -> Option<Vec<Piece>> {
    let (mut pieces, mut literal) = (Vec::new(), String::new());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => literal.push(rest.next().filter(char::is_ascii_punctuation)?),
            '.' => {
                let min = match rest.next()? {
                    '*' => 0,
                    '+' => 1,
                    _ => return None,
                };
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Gap(min));
            }
            // Also what makes a gap lazy, or is an error behind it.
            '*' | '+' | '?' | '{' | '}' | '(' | ')' | '[' | ']' | '^' | '$' => return None,
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Some(pieces)
}

/// The literal prefix that all have in common.
pub(super) fn common_prefix(globs: &[Glob]) -> &str {
    let mut all = globs.iter().map(Glob::prefix);
    let first = all.next().unwrap_or("");
    all.fold(first, |common, other| {
        let same = common.chars().zip(other.chars()).take_while(|(a, b)| a == b);
        let len = same.map(|(c, _)| c.len_utf8()).sum();
        common.get(..len).unwrap_or("")
    })
}

/// Whether it is `.{min,}`, greedy or not.
fn gap(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(r) = hir.kind() else {
        return None;
    };
    let any = matches!(r.sub.kind(), HirKind::Class(_)) && *r.sub == Hir::dot(regex_syntax::hir::Dot::AnyChar);
    (any && r.min <= 1 && r.max.is_none()).then_some(if r.min == 0 { 0 } else { 1 })
}

/// The alternatives of an expression; `None` if they are many or not made of literals and gaps.
fn pieces(hir: &Hir) -> Option<Vec<Vec<Piece>>> {
    if let Some(min) = gap(hir) {
        return Some(vec![vec![Piece::Gap(min)]]);
    }
    let found = match hir.kind() {
        HirKind::Empty => vec![vec![]],
        HirKind::Literal(l) => vec![vec![Piece::Text(String::from_utf8(l.0.to_vec()).ok()?)]],
        HirKind::Look(Look::Start) => vec![vec![Piece::Start]],
        HirKind::Look(Look::End) => vec![vec![Piece::End]],
        HirKind::Capture(c) => pieces(&c.sub)?,
        HirKind::Alternation(subs) => {
            let mut all = Vec::new();
            for sub in subs {
                all.extend(pieces(sub)?);
            }
            all
        }
        HirKind::Class(Class::Unicode(class)) => {
            let count = |r: &regex_syntax::hir::ClassUnicodeRange| u64::from(r.end()) - u64::from(r.start()) + 1;
            if class.iter().map(count).sum::<u64>() > MAX_CLASS {
                return None;
            }
            let characters = class.iter().flat_map(|r| r.start()..=r.end());
            characters.map(|c| vec![Piece::Text(c.into())]).collect()
        }
        HirKind::Repetition(r) if r.min == 0 && r.max == Some(1) => {
            let mut all = pieces(&r.sub)?;
            all.push(vec![]);
            all
        }
        HirKind::Concat(subs) => {
            let mut all = vec![vec![]];
            for sub in subs {
                let tails = pieces(sub)?;
                let combined = all.len() * tails.len();
                let chosen_twice = all.len() > 1 && tails.len() > 1;
                if combined > MAX_ALTERNATIVES || chosen_twice && combined > MAX_COMBINATIONS {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|head| tails.iter().map(move |tail| [head.as_slice(), tail].concat()))
                    .collect();
            }
            all
        }
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => return None,
    };
    (found.len() <= MAX_ALTERNATIVES).then_some(found)
}
