//! Label matchers: `=`, `!=`, `=~`, `!~`, with the fast paths that most regexes allow.

mod glob;
mod lazy;

use glob::{Glob, common_prefix};
use lazy::LazyRegex;
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
#[error("error parsing regexp: {reason}{}", in_quotes(.reason, .pattern))]
pub struct MatcherError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it; quotes the part that is, where that is known.
    pub reason: String,
}

/// The pattern, where the reason quotes no part of it.
fn in_quotes(reason: &str, pattern: &str) -> String {
    if reason.ends_with('`') {
        return String::new();
    }
    format!(": `{pattern}`")
}

/// More literals than this in a row are not listed.
const MAX_LITERALS: usize = 1024;
/// More alternatives than this with gaps in them are left to the regex.
const MAX_GLOBS: usize = 16;

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

/// How values are looked at.
#[derive(Clone)]
enum Test {
    /// Not a regex.
    Literal,
    /// `a|b|c`: sorted, unique.
    AnyOf(Box<[String]>),
    /// `.*`
    Anything,
    /// `.+`
    NotEmpty,
    /// `a.*|.*b.*c`
    Globs(Box<[Glob]>),
    /// A literal prefix, and what the whole must match.
    Regex { prefix: String, regex: LazyRegex },
}

impl Matcher {
    /// Makes a matcher; reads the pattern of a regex one. What needs a compiled regex gets it when it is first asked.
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

    /// The pattern of a regex matcher asked of a label, this way or the other. Shares the regex, if it needs one;
    /// `None` if this or the other is none of a regex.
    pub fn again(&self, op: MatchOp, name: impl Into<String>) -> Option<Self> {
        let is_regex = |op| matches!(op, MatchOp::Regex | MatchOp::NotRegex);
        (is_regex(op) && is_regex(self.op)).then(|| Self {
            name: name.into(),
            op,
            value: self.value.clone(),
            test: self.test.clone(),
        })
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
            Test::Globs(globs) => globs.iter().any(|glob| glob.matches(value)),
            Test::Regex { prefix, regex } => value.starts_with(prefix.as_str()) && regex.is_match(value),
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
            Test::Anything | Test::NotEmpty | Test::Globs(_) | Test::Regex { .. } => None,
        }
    }

    /// What every value that meets the positive form starts with; empty if nothing is known.
    pub fn prefix(&self) -> &str {
        match &self.test {
            Test::Literal => &self.value,
            Test::Globs(globs) => common_prefix(globs),
            Test::Regex { prefix, .. } => prefix,
            Test::AnyOf(_) | Test::Anything | Test::NotEmpty => "",
        }
    }
}

impl Matcher {
    /// About how many bytes it takes once its regex is compiled, rather too many than too few; 0 if it needs none.
    pub fn regex_bytes(&self) -> u64 {
        match &self.test {
            Test::Regex { regex, .. } => regex.size_bytes(),
            _ => 0,
        }
    }
}

impl Test {
    fn compile(pattern: &str) -> Result<Self, MatcherError> {
        if let Some(literals) = plain(pattern) {
            return Ok(Self::any_of(literals));
        }
        if let Some(globs) = Glob::read(pattern)
            && let Some(test) = Self::of_globs(globs)
        {
            return Ok(test);
        }
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
        if let Some(globs) = Glob::alternatives(&hir)
            && let Some(test) = Self::of_globs(globs)
        {
            return Ok(test);
        }
        Ok(Self::Regex {
            prefix: prefix(&hir),
            regex: LazyRegex::new(hir).map_err(|e| error(too_large(&e)))?,
        })
    }

    fn any_of(mut literals: Vec<String>) -> Self {
        literals.sort_unstable();
        literals.dedup();
        Self::AnyOf(literals.into())
    }

    /// `None` if they are too many to be tried one by one.
    fn of_globs(globs: Vec<Glob>) -> Option<Self> {
        let literals: Option<Vec<String>> = globs.iter().map(|glob| glob.literal().map(str::to_owned)).collect();
        if let Some(literals) = literals {
            return Some(Self::any_of(literals));
        }
        if globs.iter().any(|glob| glob.anything() == Some(0)) {
            return Some(Self::Anything);
        }
        match globs.as_slice() {
            [glob] if glob.anything().is_some() => Some(Self::NotEmpty),
            _ => (globs.len() <= MAX_GLOBS).then(|| Self::Globs(globs.into())),
        }
    }
}

/// The literals of a pattern that has nothing but bars between them.
fn plain(pattern: &str) -> Option<Vec<String>> {
    let plain = |b: u8| {
        !matches!(
            b,
            b'\\' | b'.' | b'+' | b'*' | b'?' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'^' | b'$'
        )
    };
    if !pattern.bytes().all(plain) || pattern.bytes().filter(|b| *b == b'|').count() >= MAX_LITERALS {
        return None;
    }
    Some(pattern.split('|').map(str::to_owned).collect())
}

/// The `regex` crate draws the pattern over several lines and says what is wrong in the last.
fn last_line(text: &str) -> String {
    let line = text.trim_end().lines().next_back().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Why a pattern that could be read cannot be compiled, in RE2's words.
fn too_large(problem: &regex::Error) -> String {
    match problem {
        regex::Error::CompiledTooBig(limit) => format!("expression too large: it would take more than {limit} bytes"),
        other => last_line(&other.to_string()),
    }
}

/// The literal prefix.
fn prefix(hir: &Hir) -> String {
    let subs = match hir.kind() {
        HirKind::Concat(subs) => subs.as_slice(),
        HirKind::Capture(c) => return prefix(&c.sub),
        _ => std::slice::from_ref(hir),
    };
    let mut prefix = String::new();
    for sub in subs {
        match sub.kind() {
            HirKind::Literal(l) => match std::str::from_utf8(&l.0) {
                Ok(text) => prefix.push_str(text),
                Err(_) => break,
            },
            HirKind::Look(Look::Start) if prefix.is_empty() => {}
            _ => break,
        }
    }
    prefix
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
        assert_eq!(regex("^a$|b").literals(), Some(vec!["a", "b"]));
        assert_eq!(regex("^/dev/[a-z]{3}").prefix(), "/dev/");
        let hosts: Vec<String> = (0..900).map(|n| format!(r"10\.0\.0\.{n}:9100")).collect();
        assert_eq!(regex(&hosts.join("|")).literals().map(|all| all.len()), Some(900));
        assert_eq!(regex("sd[a-z][1-9]").literals(), None, "too many to be listed");
        assert_eq!(regex("é|è.*").prefix(), "");
        for pattern in [".*", "^.*$", "(.*)", "(x|.*)", "a?.*|.*?"] {
            assert!(matches!(regex(pattern).test, Test::Anything), "{pattern}");
        }
        assert!(matches!(regex("^(.+)$").test, Test::NotEmpty));
    }

    #[test]
    fn literals_and_gaps_need_no_regex() {
        for pattern in [
            ".*ssd.*",
            ".+x.+",
            ".*suffix",
            ".*(docker).*",
            "^(/dev/).*",
            ".*(serviceaccount|proc|sys).*",
            "lo|veth.+",
            "a.*b.*c",
        ] {
            assert!(matches!(regex(pattern).test, Test::Globs(_)), "{pattern}");
        }
        for pattern in ["5..", ".*^a", "a$.*", ".+.+", "(?-s:.*)a", "[^a]*x", "(?m:^)a.*"] {
            assert!(matches!(regex(pattern).test, Test::Regex { .. }), "{pattern}");
        }
    }

    /// What the pattern says, by the regex crate alone.
    fn slow(pattern: &str) -> regex::Regex {
        let rewritten = crate::pattern::from_re2(pattern).unwrap();
        regex::Regex::new(&format!("^(?s:{rewritten})$")).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn fast_paths_agree_with_the_regex(
            pattern in "(\\^|)((a|b|é|ab|[.][*]|[.][+]|[.]|[.][*][?]|[.][+][*]|[\\\\][.|*\\\\Qd]|[(]a[|]bé[)]|[(]b[.][*]a[|]é[)][?]|[(][?]i:a[)]|[ab]|a[*]|[|]){0,5})([$]|)",
            values in proptest::collection::vec("[abé\nA.|*]{0,6}", 12),
        ) {
            let Ok(matcher) = Matcher::new(MatchOp::Regex, "x", pattern.clone()) else { return Ok(()) };
            let slow = slow(&pattern);
            for value in &values {
                proptest::prop_assert_eq!(matcher.matches(value), slow.is_match(value), "{} on {:?}", pattern, value);
                if matcher.matches(value) {
                    if matcher.literals().is_none() {
                        proptest::prop_assert!(value.starts_with(matcher.prefix()), "{} on {:?}", pattern, value);
                    }
                    let listed = matcher.literals().is_none_or(|all| all.contains(&value.as_str()));
                    proptest::prop_assert!(listed, "{} on {:?}", pattern, value);
                }
            }
        }
    }

    #[test]
    fn a_pattern_asked_again_says_the_same_of_another_label() {
        let first = regex("test-[0-9]+");
        let again = first.again(MatchOp::NotRegex, "y").unwrap();
        assert_eq!(again, Matcher::new(MatchOp::NotRegex, "y", "test-[0-9]+").unwrap());
        for value in ["test-1", "test-", ""] {
            assert_ne!(again.matches(value), first.matches(value), "{value}");
        }
        assert_eq!(again.regex_bytes(), first.regex_bytes());
        assert!(
            first.again(MatchOp::Equal, "y").is_none() && Matcher::equal("x", "y").again(MatchOp::Regex, "y").is_none()
        );
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
        let told = |pattern: &str| Matcher::new(MatchOp::Regex, "x", pattern).unwrap_err().to_string();
        assert_eq!(
            told("(a{1000}){1000}"),
            "error parsing regexp: invalid repeat count: `{1000}`"
        );
        assert!(told(r"[\pL\pN]{1000}").starts_with("error parsing regexp: expression too large: "));
        let many = r"\pL|".repeat(100_000);
        assert!(told(&many).starts_with("error parsing regexp: expression too large: more than 1000 properties"));
        assert!(Matcher::new(MatchOp::Regex, "x", r"\\p".repeat(2000)).is_ok());
        assert!(Matcher::new(MatchOp::Regex, "x", "(".repeat(5000) + &")".repeat(5000)).is_err());
    }
}
