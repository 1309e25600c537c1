//! `label_replace`, `label_join`, and the natural order of `sort_by_label`.

use crate::error::QueryError;
use std::cmp::Ordering;
use tidegauge_model::{Labels, LabelsBuilder, from_re2};

/// What one compiled regex may take; a pattern beyond it is refused.
const REGEX_SIZE_BYTES: usize = 4 << 20;

/// A `label_replace` with its pattern compiled.
#[derive(Debug)]
pub(crate) struct Replace<'a> {
    target: &'a str,
    replacement: &'a str,
    source: &'a str,
    pattern: regex::Regex,
}

impl<'a> Replace<'a> {
    /// # Errors
    /// The pattern is none, or a name is empty.
    pub(crate) fn new(
        target: &'a str,
        replacement: &'a str,
        source: &'a str,
        pattern: &str,
    ) -> Result<Self, QueryError> {
        let compiled = from_re2(pattern)
            .ok()
            .and_then(|rewritten| {
                let mut builder = regex::RegexBuilder::new(&format!("^(?s:{rewritten})$"));
                builder.size_limit(REGEX_SIZE_BYTES).build().ok()
            })
            .ok_or_else(|| {
                QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}"))
            })?;
        if !is_label_name(target) {
            return Err(QueryError::execution(format!(
                "invalid destination label name in label_replace(): {target}"
            )));
        }
        Ok(Self {
            target,
            replacement,
            source,
            pattern: compiled,
        })
    }

    /// The label to set.
    pub(crate) fn target(&self) -> &str {
        self.target
    }

    /// The new label set; `None` if the pattern does not match.
    pub(crate) fn apply(&self, labels: &Labels) -> Option<Labels> {
        let captures = self.pattern.captures(labels.value(self.source))?;
        let mut value = String::new();
        captures.expand(&go_template(self.replacement), &mut value);
        Some(with_label(labels, self.target, &value))
    }
}

/// Go and Rust read templates alike, but for a `$` before something that is no name: Go drops a malformed one,
/// Rust keeps it as text.
fn go_template(template: &str) -> std::borrow::Cow<'_, str> {
    if !template.contains('$') {
        return template.into();
    }
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push_str("$$");
            rest = tail;
            continue;
        }
        let braced = rest.strip_prefix('{');
        let body = braced.unwrap_or(rest);
        let len = body
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(body.len());
        let (name, tail) = body.split_at(len);
        let tail = if braced.is_some() {
            tail.strip_prefix('}')
        } else {
            Some(tail)
        };
        match tail {
            Some(tail) if !name.is_empty() => {
                out.push_str("${");
                out.push_str(name);
                out.push('}');
                rest = tail;
            }
            // Malformed: the `$` is text.
            _ => out.push_str("$$"),
        }
    }
    out.push_str(rest);
    out.into()
}

/// Whether a text can be a label's name. The parser puts U+FFFD for what is no UTF-8.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('\u{fffd}')
}

/// The set with one label set (or, if empty, removed).
pub(crate) fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut builder = LabelsBuilder::from_labels(labels);
    builder.set(name, value);
    builder.build()
}

/// `label_join`: the values of labels with a separator between.
pub(crate) fn join(labels: &Labels, target: &str, separator: &str, sources: &[&str]) -> Labels {
    let values: Vec<&str> = sources.iter().map(|name| labels.value(name)).collect();
    with_label(labels, target, &values.join(separator))
}

/// Orders texts as people do: runs of digits by their number.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len());
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, after_a) = digits(a);
            let (n, after_b) = digits(b);
            let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (after_a, after_b);
        } else if x != y {
            return x.cmp(&y);
        } else {
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
        }
    }
}

/// The number at the start, without leading zeros, and what follows.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    (number.trim_start_matches('0'), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_go_s() {
        let labels = Labels::from_pairs([("src", "source-value-10")]).unwrap();
        for (pattern, template, expect) in [
            ("source-value-(.*)", "x-$1", "x-10"),
            ("source-value-(.*)", "x-${1}y", "x-10y"),
            ("source-value-(.*)", "x-$1y", "x-"),
            ("source-value-(?P<n>.*)", "$n", "10"),
            ("(.*)", "$$1", "$1"),
            ("(.*)", "a$ b", "a$ b"),
            ("(.*)", "a${", "a${"),
        ] {
            let replace = Replace::new("dst", template, "src", pattern).unwrap();
            assert_eq!(
                replace.apply(&labels).unwrap().value("dst"),
                expect,
                "{pattern} {template}"
            );
        }
        assert!(
            Replace::new("dst", "", "src", "value")
                .unwrap()
                .apply(&labels)
                .is_none()
        );
        assert!(Replace::new("dst", "", "src", "(").is_err());
    }

    #[test]
    fn numbers_in_texts_sort_as_numbers() {
        let mut names = ["cpu10", "cpu2", "cpu", "a", "cpu2b", "cpu02"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "cpu", "cpu2", "cpu02", "cpu2b", "cpu10"]);
    }
}
