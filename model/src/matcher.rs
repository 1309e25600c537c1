//! Label matchers: `=`, `!=`, `=~`, `!~`, with the fast paths that most regexes allow.

use regex_syntax::hir::{Hir, HirKind, Look};
use std::fmt;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// Why a matcher cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{pattern}`")]
pub struct MatcherError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// At most this many literals are taken from an alternation; beyond it the regex does the work.
const MAX_LITERALS: usize = 1024;
/// What one compiled regex may take; a pattern beyond it is refused.
const REGEX_SIZE_BYTES: usize = 4 << 20;

/// One condition on one label. A missing label counts as the empty string.
///
/// Regexes are anchored at both ends and `.` matches a line feed, as upstream's, and are written for RE2.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    test: Test,
}

/// The compiled form of a pattern.
#[derive(Clone)]
enum Test {
    /// Not a regex, or one that is a single literal.
    Literal,
    /// `a|b|c`: sorted, unique.
    AnyOf(Box<[String]>),
    /// `.*`
    Anything,
    /// `.+`
    NotEmpty,
    /// A literal prefix, and what the whole must match; `None` if only `.*` follows the prefix.
    Regex { prefix: String, rest: Option<regex::Regex> },
}

impl Matcher {
    /// Makes a matcher; compiles the pattern of a regex one.
    ///
    /// # Errors
    /// [`MatcherError`] if the pattern is not valid or too large.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => Test::compile(&value)?,
        };
        Ok(Self { name, op, value, test })
    }

    /// `name = value`, which cannot fail.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            test: Test::Literal,
        }
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or pattern, as given.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label value (empty: no such label) meets the condition.
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.test {
            Test::Literal => value == self.value,
            Test::AnyOf(literals) => literals.binary_search_by(|l| l.as_str().cmp(value)).is_ok(),
            Test::Anything => true,
            Test::NotEmpty => !value.is_empty(),
            Test::Regex { prefix, rest } => {
                value.starts_with(prefix.as_str()) && rest.as_ref().is_none_or(|r| r.is_match(value))
            }
        };
        hit != self.is_negative()
    }

    /// Whether it asks for what does *not* match (`!=`, `!~`).
    pub fn is_negative(&self) -> bool {
        matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex)
    }

    /// Whether series without the label meet the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The only values that the (positive form of the) condition accepts, sorted, if they can be listed:
    /// `a="x"`, `a=~"x|y"`, and likewise for `!=` and `!~`, whose values these are not.
    pub fn literals(&self) -> Option<Vec<&str>> {
        match &self.test {
            Test::Literal => Some(vec![&self.value]),
            Test::AnyOf(literals) => Some(literals.iter().map(String::as_str).collect()),
            Test::Anything | Test::NotEmpty | Test::Regex { .. } => None,
        }
    }

    /// What every value that meets the positive form starts with; empty if nothing is known.
    pub fn prefix(&self) -> &str {
        match &self.test {
            Test::Literal => &self.value,
            Test::Regex { prefix, .. } => prefix,
            Test::AnyOf(_) | Test::Anything | Test::NotEmpty => "",
        }
    }
}

impl Test {
    fn compile(pattern: &str) -> Result<Self, MatcherError> {
        let error = |reason: String| MatcherError {
            pattern: pattern.to_owned(),
            reason,
        };
        let rewritten = crate::pattern::from_re2(pattern).map_err(error)?;
        let hir = regex_syntax::ParserBuilder::new()
            .dot_matches_new_line(true)
            .nest_limit(200)
            .build()
            .parse(&rewritten)
            .map_err(|e| error(last_line(&e.to_string())))?;
        if let Some(mut literals) = literals(&hir) {
            literals.sort_unstable();
            literals.dedup();
            return Ok(Self::AnyOf(literals.into()));
        }
        if is_dot(&hir, 0) {
            return Ok(Self::Anything);
        }
        if is_dot(&hir, 1) {
            return Ok(Self::NotEmpty);
        }
        let (prefix, bare) = prefix(&hir);
        if bare {
            return Ok(Self::Regex { prefix, rest: None });
        }
        let rest = regex::RegexBuilder::new(&format!("^(?s:{rewritten})$"))
            .size_limit(REGEX_SIZE_BYTES)
            .build()
            .map_err(|e| error(last_line(&e.to_string())))?;
        Ok(Self::Regex {
            prefix,
            rest: Some(rest),
        })
    }
}

/// The `regex` crate draws the pattern over several lines and says what is wrong in the last.
fn last_line(text: &str) -> String {
    let line = text.trim_end().lines().next_back().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Whether it is `.{min,}`, greedy or not.
fn is_dot(hir: &Hir, min: u32) -> bool {
    let HirKind::Repetition(r) = hir.kind() else {
        return false;
    };
    r.min == min
        && r.max.is_none()
        && matches!(r.sub.kind(), HirKind::Class(_))
        && *r.sub == Hir::dot(regex_syntax::hir::Dot::AnyChar)
}

/// All strings the expression matches, if they are few and plain.
fn literals(hir: &Hir) -> Option<Vec<String>> {
    let found = match hir.kind() {
        HirKind::Empty => vec![String::new()],
        HirKind::Literal(l) => vec![String::from_utf8(l.0.to_vec()).ok()?],
        HirKind::Capture(c) => literals(&c.sub)?,
        HirKind::Alternation(subs) => {
            let mut all = Vec::new();
            for sub in subs {
                all.extend(literals(sub)?);
            }
            all
        }
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            let count: u64 = class
                .iter()
                .map(|r| u64::from(u32::from(r.end())) - u64::from(u32::from(r.start())) + 1)
                .sum();
            if count > 32 {
                return None;
            }
            class
                .iter()
                .flat_map(|r| r.start()..=r.end())
                .map(String::from)
                .collect()
        }
        HirKind::Repetition(r) if r.min == 0 && r.max == Some(1) => {
            let mut all = literals(&r.sub)?;
            all.push(String::new());
            all
        }
        HirKind::Concat(subs) => {
            let mut all = vec![String::new()];
            for sub in subs {
                let tails = literals(sub)?;
                if all.len() * tails.len() > MAX_LITERALS {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}")))
                    .collect();
            }
            all
        }
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => return None,
    };
    (found.len() <= MAX_LITERALS).then_some(found)
}

/// The literal prefix, and whether nothing but `.*` follows it.
fn prefix(hir: &Hir) -> (String, bool) {
    let subs = match hir.kind() {
        HirKind::Concat(subs) => subs.as_slice(),
        HirKind::Capture(c) => return prefix(&c.sub),
        _ => std::slice::from_ref(hir),
    };
    let mut prefix = String::new();
    for (i, sub) in subs.iter().enumerate() {
        match sub.kind() {
            HirKind::Literal(l) => match std::str::from_utf8(&l.0) {
                Ok(text) => prefix.push_str(text),
                Err(_) => return (prefix, false),
            },
            HirKind::Look(Look::Start) if prefix.is_empty() => {}
            _ => return (prefix, i + 1 == subs.len() && is_dot(sub, 0)),
        }
    }
    (prefix, false)
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

/// As PromQL writes it: `job=~"a|b"`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new(MatchOp::Regex, "x", pattern).unwrap()
    }

    #[test]
    fn patterns_are_anchored_and_dot_takes_line_feeds() {
        for (pattern, yes, no) in [
            ("a.c", vec!["abc", "a\nc"], vec!["xabc", "abcd", ""]),
            ("foo|bar", vec!["foo", "bar"], vec!["foobar", "fo", ""]),
            ("resource|", vec!["resource", ""], vec!["resources"]),
            (".*", vec!["", "x", "\n"], vec![]),
            (".+", vec!["x", "\n"], vec![""]),
            ("node_.*", vec!["node_", "node_x\n"], vec!["node", "xnode_"]),
            ("node_(cpu|disk).*", vec!["node_cpu", "node_disk_x"], vec!["node_mem"]),
            ("5..", vec!["500"], vec!["50", "5000", "400"]),
            ("^a$|b", vec!["a", "b"], vec!["ab"]),
            ("(?i)abc", vec!["ABC", "abc"], vec!["abd"]),
            ("[ab]x?", vec!["a", "bx"], vec!["c", "xx"]),
            ("", vec![""], vec!["x"]),
        ] {
            for value in yes {
                assert!(regex(pattern).matches(value), "{pattern} should match {value:?}");
            }
            for value in no {
                assert!(!regex(pattern).matches(value), "{pattern} should not match {value:?}");
            }
        }
    }

    #[test]
    fn alternations_and_prefixes_are_seen() {
        assert_eq!(regex("b|a|a").literals(), Some(vec!["a", "b"]));
        assert_eq!(regex("web-(1|2)").literals(), Some(vec!["web-1", "web-2"]));
        assert_eq!(regex("node_(cpu|disk).*").prefix(), "node_");
        assert_eq!(regex("node_.*").literals(), None);
        assert!(matches!(regex("node_.*").test, Test::Regex { rest: None, .. }));
        assert!(matches!(regex("(.*)").test, Test::Regex { .. } | Test::Anything));
    }

    #[test]
    fn negative_forms_negate_and_missing_labels_are_empty() {
        let m = Matcher::new(MatchOp::NotRegex, "x", "a|b").unwrap();
        assert!(m.matches("c") && !m.matches("a") && m.matches_empty());
        assert!(!Matcher::new(MatchOp::NotEqual, "x", "").unwrap().matches_empty());
    }

    #[test]
    fn bad_and_huge_patterns_are_refused() {
        assert!(
            Matcher::new(MatchOp::Regex, "x", "a(")
                .unwrap_err()
                .to_string()
                .starts_with("error parsing regexp: ")
        );
        assert!(Matcher::new(MatchOp::Regex, "x", "(a{1000}){1000}").is_err());
        assert!(Matcher::new(MatchOp::Regex, "x", "(".repeat(5000) + &")".repeat(5000)).is_err());
    }
}
