//! Anchored regexes and replacement templates.

use regex_syntax::hir::{Hir, HirKind};
use tidegauge_model::{MatchOp, Matcher, from_re2};

/// What one compiled regex may take; a pattern beyond it is refused.
const REGEX_SIZE_BYTES: usize = 4 << 20;

/// A regex that a whole value must match.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    source: String,
    /// Says whether a value matches, mostly without a regex.
    matcher: Matcher,
    groups: Groups,
}

/// How the groups of a match are found.
#[derive(Debug, Clone)]
enum Groups {
    /// There are none but the whole match.
    None,
    /// The one group is the whole match, as in `(.*)`.
    Whole,
    /// By the regex.
    Regex(regex::Regex),
}

impl Pattern {
    /// Compiles a pattern, written for Go's RE2.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let matcher = Matcher::new(MatchOp::Regex, "", source).map_err(|error| error.to_string())?;
        // The groups are to be those of the very pattern that the matcher reads.
        let rewritten = from_re2(source).map_err(|problem| format!("error parsing regexp: {problem}"))?;
        let regex = regex::RegexBuilder::new(&format!("^(?s:{rewritten})$"))
            .size_limit(REGEX_SIZE_BYTES)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(limit) => {
                    format!(
                        "error parsing regexp: expression too large: it would take more than {limit} bytes: `{source}`"
                    )
                }
                other => format!("error parsing regexp: {other}"),
            })?;
        let groups = match regex.captures_len() {
            1 => Groups::None,
            2 if is_one_group(&rewritten) => Groups::Whole,
            _ => Groups::Regex(regex),
        };
        Ok(Self {
            source: source.to_owned(),
            matcher,
            groups,
        })
    }

    /// The pattern as written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole value matches.
    pub(super) fn is_match(&self, value: &str) -> bool {
        self.matcher.matches(value)
    }

    /// The groups of a match, for templates; `None` if the value does not match.
    pub(super) fn groups<'v>(&self, value: &'v str) -> Option<Found<'v>> {
        if !self.is_match(value) {
            return None;
        }
        match &self.groups {
            Groups::None => Some(Found::Whole { value, groups: 1 }),
            Groups::Whole => Some(Found::Whole { value, groups: 2 }),
            Groups::Regex(regex) => regex.captures(value).map(Found::Captures),
        }
    }

    /// The number of a named group.
    fn named(&self, name: &str) -> Option<usize> {
        match &self.groups {
            Groups::Regex(regex) => regex.capture_names().position(|n| n == Some(name)),
            Groups::None | Groups::Whole => None,
        }
    }
}

/// Whether the pattern is one unnamed group around everything.
fn is_one_group(source: &str) -> bool {
    let hir = regex_syntax::ParserBuilder::new()
        .dot_matches_new_line(true)
        .build()
        .parse(source);
    matches!(hir.as_ref().map(Hir::kind), Ok(HirKind::Capture(group)) if group.name.is_none())
}

/// The groups of one match.
pub(super) enum Found<'v> {
    /// Each of them is the whole value.
    Whole { value: &'v str, groups: usize },
    /// As the regex found them.
    Captures(regex::Captures<'v>),
}

impl Found<'_> {
    fn get(&self, group: usize) -> &str {
        match self {
            Self::Whole { value, groups } if group < *groups => value,
            Self::Whole { .. } => "",
            Self::Captures(captures) => captures.get(group).map_or("", |found| found.as_str()),
        }
    }
}

/// A text with `$1`, `${1}`, `$name` and `${name}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    /// Reads a template; its names are those of the pattern's groups. A group that the pattern has not is empty.
    pub(super) fn new(source: &str, pattern: &Pattern) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(rest) {
                rest = after;
                if let Some(group) = group_number(name).or_else(|| pattern.named(name)) {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(Part::Group(group));
                }
            } else {
                text.push('$');
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Self(parts)
    }

    /// The text with the groups filled in.
    pub(super) fn expand(&self, found: &Found<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            out.push_str(match part {
                Part::Text(text) => text,
                Part::Group(group) => found.get(*group),
            });
        }
        out
    }
}

/// Splits `name` or `{name}` off what follows a dollar sign.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(inner) = text.strip_prefix('{') {
        let (name, rest) = inner.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_word)).then_some((name, rest));
    }
    let (name, rest) = text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()));
    (!name.is_empty()).then_some((name, rest))
}

/// The group that a name of digits means. As in Go, a leading zero makes it a name like others.
fn group_number(name: &str) -> Option<usize> {
    let numeric = name.len() < 9 && name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    numeric.then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(pattern: &str, template: &str, value: &str) -> Option<String> {
        let pattern = Pattern::new(pattern).unwrap();
        let template = Template::new(template, &pattern);
        pattern.groups(value).map(|found| template.expand(&found))
    }

    #[test]
    fn templates_expand_as_in_go() {
        for (pattern, template, value, expect) in [
            ("(.*)", "$1", "x\ny", Some("x\ny")),
            ("(.*)", "<$0|$1|$2>", "x", Some("<x|x|>")),
            ("a|b", "$0-${0}-$1", "b", Some("b-b-")),
            ("(a+)(b*)", "${2}$1", "aab", Some("baa")),
            ("(a+)(b*)", "$1x", "aab", Some("")),
            ("(a)(b)?", "$2.", "a", Some(".")),
            ("(?P<n>a)(?<m>b)", "${m}$n", "ab", Some("ba")),
            ("(?P<n>.*)", "$n", "ab", Some("ab")),
            ("a", "$$1 $ ${ ${} ${a-b} $", "a", Some("$1 $ ${ ${} ${a-b} $")),
            ("(a)", "$01", "a", Some("")),
            ("a", "b", "xa", None),
            ("a|b", "$0", "ab", None),
            ("^a$", "$0", "a", Some("a")),
            // What RE2 reads in its own way.
            (r"(\d+)(.*)", "$1|$2", "1\u{663}", Some("1|\u{663}")),
            (r"(\w+)\s(.*)", "$1", "ä b", None),
            (r"(a{b)([[x]*)", "$2", "a{b[x", Some("[x")),
            (r"(\Qa.b\E)(.)", "$1", "a.bc", Some("a.b")),
            (r"(\w*)", "$1", "é", None),
        ] {
            assert_eq!(
                expand(pattern, template, value).as_deref(),
                expect,
                "{pattern} {template}"
            );
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        let error = Pattern::new("(a**)").unwrap_err();
        assert!(
            error.starts_with("error parsing regexp: invalid nested repetition operator"),
            "{error}"
        );
        let error = Pattern::new("((a{100}){100}){100}").unwrap_err();
        assert_eq!(error, "error parsing regexp: invalid repeat count: `{100}`");
        let error = Pattern::new(r"([\pL\pN]{1000})").unwrap_err();
        assert!(
            error.contains("expression too large") && error.lines().count() == 1,
            "{error}"
        );
    }
}
