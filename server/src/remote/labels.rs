//! Pairs of names and values as they came, to a label set; or why they are none, in upstream's words.

use crate::quoted::push_quoted;
use tidegauge_model::{Labels, LabelsError, reserved};

/// A label as it came.
pub(super) type Pair<'b> = (&'b [u8], &'b [u8]);

/// The most bytes of the names and values of one series. References let a short message name a long text many times.
const MAX_BYTES: usize = 1 << 20;
/// The most bytes of a label set in a text for people.
const SHOWN_BYTES: usize = 4096;

/// Why pairs are no label set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No name, or something that is no name or no text.
    Invalid,
    /// Too many bytes.
    Long,
    /// A name that comes twice.
    Repeated(String),
}

impl Fault {
    /// Upstream's words, where it has some.
    pub(super) fn text(&self, pairs: &[Pair<'_>]) -> String {
        let shown = shown(pairs);
        match self {
            Self::Invalid => format!("invalid metric name or labels, got {shown}"),
            Self::Long => format!("labels of more than {MAX_BYTES} bytes, got {shown}"),
            Self::Repeated(name) => format!("invalid labels for series, labels {shown}, duplicated label {name}"),
        }
    }
}

/// The labels of a series, which needs a name.
pub(super) fn of_series(pairs: &[Pair<'_>]) -> Result<Labels, Fault> {
    let is_name = |(name, value): &Pair<'_>| *name == reserved::METRIC_NAME.as_bytes() && !value.is_empty();
    if !pairs.iter().any(is_name) {
        return Err(Fault::Invalid);
    }
    set(pairs)
}

/// The labels of an exemplar.
pub(super) fn of_exemplar(pairs: &[Pair<'_>]) -> Option<Labels> {
    set(pairs).ok()
}

fn set(pairs: &[Pair<'_>]) -> Result<Labels, Fault> {
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        return Err(Fault::Long);
    }
    let texts = pairs
        .iter()
        .map(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)))
        .collect::<Option<Vec<_>>>()
        .ok_or(Fault::Invalid)?;
    Labels::from_pairs(texts).map_err(|error| match error {
        LabelsError::Duplicate(name) => Fault::Repeated(name),
        LabelsError::EmptyName(_) => Fault::Invalid,
    })
}

/// A label set as upstream shows one: sorted, values quoted, those that are empty too. Cut if it is long.
pub(super) fn shown(pairs: &[Pair<'_>]) -> String {
    let mut sorted = pairs.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    let mut text = String::from("{");
    for (place, (name, value)) in sorted.into_iter().enumerate() {
        if text.len() > SHOWN_BYTES {
            text.push_str(", ...");
            break;
        }
        if place > 0 {
            text.push_str(", ");
        }
        if is_plain(name) {
            text.push_str(&String::from_utf8_lossy(name));
        } else {
            push_quoted(&mut text, name);
        }
        text.push('=');
        push_quoted(&mut text, value);
    }
    text.push('}');
    text
}

fn is_plain(name: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.first().is_some_and(letter) && name.iter().all(|byte| letter(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_none_are_told_as_upstream_tells_them() {
        let name: Pair<'_> = (b"__name__", b"x");
        let told = |pairs: &[Pair<'_>]| of_series(pairs).unwrap_err().text(pairs);
        assert_eq!(told(&[]), "invalid metric name or labels, got {}");
        assert_eq!(
            told(&[(b"job", b"a")]),
            "invalid metric name or labels, got {job=\"a\"}"
        );
        assert_eq!(
            told(&[(b"__name__", b""), (b"A b", b"\"\\\n\xff\x01")]),
            "invalid metric name or labels, got {\"A b\"=\"\\\"\\\\\\n\\xff\\x01\", __name__=\"\"}"
        );
        assert_eq!(
            told(&[name, (b"a", b"2"), (b"a", b"1")]),
            "invalid labels for series, labels {__name__=\"x\", a=\"2\", a=\"1\"}, duplicated label a"
        );
        assert_eq!(
            told(&[name, (b"", b"v")]),
            "invalid metric name or labels, got {\"\"=\"v\", __name__=\"x\"}"
        );
        let long = vec![b'v'; 600_000];
        let told = told(&[name, (b"a", &long), (b"b", &long)]);
        assert!(
            told.starts_with("labels of more than 1048576 bytes") && told.len() < 10_000,
            "{}",
            told.len()
        );
    }

    #[test]
    fn labels_are_sorted_and_empty_values_left_out() {
        let labels = of_series(&[(b"z", b"1"), (b"e", b""), (b"__name__", b"x")]).unwrap();
        assert_eq!(labels.to_string(), "{__name__=\"x\", z=\"1\"}");
        assert_eq!(shown(&[(b"z", b"1"), (b"e", b"")]), "{e=\"\", z=\"1\"}");
        assert_eq!(of_exemplar(&[(b"id", b"\xff")]), None);
    }
}
