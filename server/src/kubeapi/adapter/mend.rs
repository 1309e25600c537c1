//! Lines that are no YAML, and that are written all the same: quotes within quotes.
//!
//! ```yaml
//! metricsQuery: "sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[2m])) by (<<.GroupBy>>)"
//! ```
//!
//! prometheus-adapter's own example has such lines, and so have the files that began as a copy of it. Where a file
//! cannot be read, and only then, a value that begins and ends with a quote and has more of them between is taken for the
//! text between the outer ones.

use crate::config::{Fault, Node};

/// Reads YAML; also tells the lines that were mended, from 1.
///
/// # Errors
/// What is wrong with the text as it was given.
pub(super) fn read(text: &str) -> Result<(Node, Vec<usize>), Fault> {
    let fault = match Node::parse(text) {
        Ok(root) => return Ok((root, Vec::new())),
        Err(fault) => fault,
    };
    let mut lines = Vec::new();
    let mut mended = String::with_capacity(text.len() + 64);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        match mend(line) {
            Some(better) => {
                lines.push(i + 1);
                mended.push_str(&better);
                mended.push('\n');
            }
            None => mended.push_str(line),
        }
    }
    if lines.is_empty() {
        return Err(fault);
    }
    match Node::parse(&mended) {
        Ok(root) => Ok((root, lines)),
        Err(_) => Err(fault),
    }
}

/// The line with its value in single quotes, if it is such a line.
fn mend(line: &str) -> Option<String> {
    let (key, value) = line.trim_end().split_once(": ")?;
    let is_key = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let inner = value.trim_start().strip_prefix('"')?.strip_suffix('"')?;
    // A backslash would say which quotes are meant; who writes one knows the rules.
    let broken = inner.contains('"') && !inner.contains('\\');
    (broken && key.chars().all(is_key)).then(|| format!("{key}: '{}'", inner.replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_within_quotes_are_read_as_they_are_meant() {
        let text = "a: 1\nrules:\n- q: \"x{y!=\"it's\"}\" \n  z: \"fine\"\n";
        let (root, lines) = read(text).unwrap();
        assert_eq!(lines, [3]);
        let rule = &root.get("rules").unwrap().items()[0];
        assert_eq!(rule.get("q").unwrap().as_text(), Some(r#"x{y!="it's"}"#));
        assert_eq!(rule.get("z").unwrap().at.line, 4);
    }

    #[test]
    fn what_can_be_read_is_left_alone() {
        let (root, lines) = read("a: \"x\\\"y\"\nb: '\"p\"q\"'\n").unwrap();
        assert!(lines.is_empty());
        assert_eq!(root.get("b").unwrap().as_text(), Some("\"p\"q\""));
        for text in ["a: [", "a: \"x\\\"y\"z\"\n", "{a: \"x\"y\"z\"}"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
