//! A regex that is compiled when it is first asked; what could fail then is refused when it is made.

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};
use std::sync::{Arc, OnceLock};

/// What one compiled regex may take; a pattern beyond it is refused.
const REGEX_SIZE_BYTES: usize = 4 << 20;
/// A pattern that may take more than this is compiled at once, to see whether it keeps to the limit. Far below it, as
/// the estimate is one.
const SURELY_SMALL_BYTES: u64 = 1 << 20;
/// Deeper than what a pattern may have, since an expression is written with more groups than it was read with.
const NEST_LIMIT: u32 = 2000;

/// An anchored regex; clones share what was compiled.
#[derive(Debug, Clone)]
pub(super) struct LazyRegex(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hir: Hir,
    /// `None` in it: not compiled, which the estimate rules out.
    regex: OnceLock<Option<Regex>>,
}

impl LazyRegex {
    /// # Errors
    /// As [`regex::RegexBuilder::build`], if it takes too much.
    pub(super) fn new(hir: Hir) -> Result<Self, regex::Error> {
        let regex = if size_bytes(&hir) > SURELY_SMALL_BYTES {
            OnceLock::from(Some(compile(&hir)?))
        } else {
            OnceLock::new()
        };
        Ok(Self(Arc::new(Inner { hir, regex })))
    }

    /// About what it takes compiled, with the state that matching keeps.
    pub(super) fn size_bytes(&self) -> u64 {
        /// What matching keeps, whatever the pattern.
        const KEPT: u64 = 64 << 10;
        size_bytes(&self.0.hir).min(REGEX_SIZE_BYTES as u64) + KEPT
    }

    pub(super) fn is_match(&self, value: &str) -> bool {
        let regex = self.0.regex.get_or_init(|| compile(&self.0.hir).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(value))
    }
}

fn compile(hir: &Hir) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{hir})$"))
        .size_limit(REGEX_SIZE_BYTES)
        .nest_limit(NEST_LIMIT)
        .build()
}

/// About what the compiled form takes, rather too much than too little.
fn size_bytes(hir: &Hir) -> u64 {
    /// One state.
    const STATE: u64 = 64;
    /// One range of characters: some sequences of up to four bytes.
    const RANGE: u64 = 16 * STATE;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => STATE,
        HirKind::Literal(l) => STATE * (l.0.len() as u64 + 1),
        HirKind::Class(Class::Unicode(class)) => RANGE * (class.ranges().len() as u64 + 1),
        HirKind::Class(Class::Bytes(class)) => STATE * (class.ranges().len() as u64 + 1),
        HirKind::Capture(c) => size_bytes(&c.sub).saturating_add(2 * STATE),
        HirKind::Repetition(r) => {
            let copies = u64::from(r.max.unwrap_or(0).max(r.min)) + 1;
            copies.saturating_mul(size_bytes(&r.sub).saturating_add(2 * STATE))
        }
        HirKind::Concat(subs) | HirKind::Alternation(subs) => {
            let subs = subs.iter().map(size_bytes);
            subs.fold(STATE, |sum, sub| sum.saturating_add(sub).saturating_add(STATE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hir(pattern: &str) -> Hir {
        regex_syntax::Parser::new().parse(pattern).unwrap()
    }

    #[test]
    fn small_ones_wait_and_large_ones_are_tried_at_once() {
        let small = LazyRegex::new(hir(r"[a-z]+-\d{1,3}")).unwrap();
        assert!(small.0.regex.get().is_none());
        assert!(small.is_match("a-12") && !small.is_match("a-1234"));
        assert!(small.clone().0.regex.get().is_some());
        let large = LazyRegex::new(hir("(?:a[bc]{3}){1500}")).unwrap();
        assert!(large.0.regex.get().is_some());
        assert!(LazyRegex::new(hir("(?:a{900}){900}")).is_err());
    }

    /// Whatever is put off can be compiled: the estimate is not below what the compiler counts.
    #[test]
    fn what_is_estimated_small_is_small() {
        for unit in [
            "a", "ab", ".", "[a-c]", r"\w", r"\pL", r"[^\pL]", "(?:a|bc)", "(a?)", "(?i)k", "(?:x*y+)", "^", r"\b",
        ] {
            for form in ["(?:U){N}", "(?:U){0,N}", "(?:(?:U)?z){N}", "(?:(U)*|q){N,}"] {
                let mut times = 1;
                loop {
                    let pattern = form.replace('U', unit).replace('N', &times.to_string());
                    let hir = hir(&pattern);
                    if size_bytes(&hir) > SURELY_SMALL_BYTES || times > 100_000 {
                        break;
                    }
                    if size_bytes(&hir) > SURELY_SMALL_BYTES / 4 || times == 1 {
                        assert!(compile(&hir).is_ok(), "{pattern}: {}", size_bytes(&hir));
                    }
                    times *= 3;
                }
            }
        }
    }
}
