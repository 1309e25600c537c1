//! The slow path: a series part becomes label pairs.

use std::borrow::Cow;

use tidegauge_model::{Labels, MetricKind, reserved};

use super::entries::Escapes;
use super::error::{ParseError, go_quote};
use super::lex::{self, Dialect, Named, Sink};
use super::number::{go_float, normal_form};
use super::openmetrics::ExemplarLabels;
use super::text::Text;
use crate::naming::NameScheme;

/// A label's name and value, borrowed from the body where they hold no escape sequences.
pub type Pair<'b> = (Cow<'b, str>, Cow<'b, str>);

/// Reads the label pairs of a series part that an [`super::Entries`] yielded into `pairs`, the metric name among them
/// as `__name__`, in order of name. `kind` is the one that came with the sample: it decides whether `le` or `quantile`
/// is normalised. A label with an empty value is left out, as an empty label is no label.
///
/// # Errors
/// No metric name, a name that `scheme` does not allow, a name that occurs twice; `pairs` is then of no use.
pub fn parse_series<'b>(
    series: &'b [u8],
    kind: MetricKind,
    scheme: NameScheme,
    pairs: &mut Vec<Pair<'b>>,
) -> Result<(), ParseError> {
    read_series(series, kind, pairs)?;
    leave_out_empty(pairs);
    let metric = pairs.binary_search_by(|(name, _)| (**name).cmp(reserved::METRIC_NAME));
    let Some((_, metric)) = metric.ok().and_then(|at| pairs.get(at)) else {
        return Err(ParseError::series("missing metric name (__name__ label)".to_owned()));
    };
    if !scheme.allows_metric(metric) || !pairs.iter().all(|(name, _)| scheme.allows_label(name)) {
        let labels = Labels::from_sorted(pairs.iter().map(|(n, v)| (&**n, &**v)));
        return Err(ParseError::series(format!(
            "invalid metric name or label names: {labels}"
        )));
    }
    Ok(())
}

/// As [`parse_series`], but whatever the names are, and though there be no metric name: relabelling may mend both, so
/// that they are to be looked at when it is done. Labels with an empty value are there: they may stand in the way of
/// the target's.
///
/// # Errors
/// A name that occurs twice; `pairs` is then of no use.
pub(crate) fn read_series<'b>(series: &'b [u8], kind: MetricKind, pairs: &mut Vec<Pair<'b>>) -> Result<(), ParseError> {
    pairs.clear();
    let mut reader = Reader {
        series,
        kind,
        pairs,
        broken: false,
    };
    read_pairs::<Text>(series, &mut reader)?;
    if reader.broken {
        let series = go_quote(series);
        return Err(ParseError::series(format!(
            "invalid metric name or label names: {series}"
        )));
    }
    in_order(reader.pairs)
}

/// Puts pairs in order of name.
///
/// # Errors
/// A name that occurs twice.
pub(super) fn in_order(pairs: &mut Vec<Pair<'_>>) -> Result<(), ParseError> {
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        refuse_duplicates(pairs)?;
    }
    Ok(())
}

/// Leaves out the pairs without a value: an empty label is no label.
pub(super) fn leave_out_empty(pairs: &mut Vec<Pair<'_>>) {
    pairs.retain(|(_, value)| !value.is_empty());
}

/// Of pairs in order of name. One empty value takes its name out altogether, as upstream's builder of label sets does.
fn refuse_duplicates(pairs: &mut Vec<Pair<'_>>) -> Result<(), ParseError> {
    let twice = |pairs: &[Pair<'_>]| {
        let pair = pairs
            .windows(2)
            .find(|pair| matches!(pair, [(a, _), (b, _)] if a == b))?;
        pair.first().map(|(name, _)| name.clone().into_owned())
    };
    if twice(pairs).is_none() {
        return Ok(());
    }
    let empty: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| value.is_empty())
        .map(|(name, _)| name.clone().into_owned())
        .collect();
    pairs.retain(|(name, _)| empty.binary_search_by(|gone| gone.as_str().cmp(name)).is_err());
    match twice(pairs) {
        Some(name) => {
            let name = go_quote(name.as_bytes());
            Err(ParseError::series(format!(
                "label name {name} is not unique: invalid sample"
            )))
        }
        None => Ok(()),
    }
}

fn read_pairs<D: Dialect>(series: &[u8], reader: &mut Reader<'_, '_>) -> Result<(), ParseError> {
    let first = lex::skip_blanks(series, 0);
    let (open, named) = match lex::metric_name_end(series, first) {
        Some(end) => {
            reader.metric((0, end));
            (lex::skip_blanks(series, end), Named::Yes)
        }
        None => (first, Named::No),
    };
    if named == Named::Yes && open == series.len() {
        return Ok(());
    }
    if series.get(open) == Some(&b'{') {
        match lex::labels::<D, _>(series, open, named, true, reader) {
            Ok((end, Named::Yes)) if end == series.len() => return Ok(()),
            Ok(_) => {}
            Err(stop) => return Err(ParseError::stopped::<D>(series, 0, stop)),
        }
    }
    Err(ParseError::series(format!("not a series: {}", go_quote(series))))
}

/// The labels of an exemplar, from the bytes between and with its braces.
pub(super) fn exemplar_labels(list: &[u8]) -> Result<Labels, ParseError> {
    let mut pairs = Vec::new();
    let mut reader = Reader {
        series: list,
        kind: MetricKind::Unknown,
        pairs: &mut pairs,
        broken: false,
    };
    lex::labels::<ExemplarLabels, _>(list, 0, Named::Yes, false, &mut reader)
        .map_err(|stop| ParseError::stopped::<ExemplarLabels>(list, 0, stop))?;
    if reader.broken {
        let labels = go_quote(list);
        return Err(ParseError::series(format!("invalid exemplar label names: {labels}")));
    }
    Labels::from_pairs(pairs).map_err(|error| ParseError::series(error.to_string()))
}

/// The metric name of a series part whose name stands inside the braces, as written.
pub(super) fn metric_name(series: &[u8]) -> Option<&[u8]> {
    struct Name(Option<(usize, usize)>);
    impl Sink for Name {
        fn metric(&mut self, name: (usize, usize)) {
            self.0 = Some(name);
        }
        fn label(&mut self, _: (usize, usize), _: (usize, usize)) {}
    }
    let mut name = Name(None);
    lex::labels::<Text, _>(series, 0, Named::No, true, &mut name).ok()?;
    let (start, end) = name.0?;
    series.get(start..end)
}

/// Collects pairs.
struct Reader<'b, 'p> {
    series: &'b [u8],
    kind: MetricKind,
    pairs: &'p mut Vec<Pair<'b>>,
    /// Whether something was not UTF-8.
    broken: bool,
}

impl<'b> Reader<'b, '_> {
    fn text(&mut self, range: (usize, usize)) -> Cow<'b, str> {
        let raw = self.series.get(range.0..range.1).unwrap_or_default();
        match std::str::from_utf8(raw) {
            Ok(text) => unescape(text, Escapes::Label),
            Err(_) => {
                self.broken = true;
                Cow::Borrowed("")
            }
        }
    }
}

impl Sink for Reader<'_, '_> {
    fn metric(&mut self, name: (usize, usize)) {
        let name = self.text(name);
        self.pairs.push((Cow::Borrowed(reserved::METRIC_NAME), name));
    }

    fn label(&mut self, name: (usize, usize), value: (usize, usize)) {
        let (name, mut value) = (self.text(name), self.text(value));
        let bound = matches!(
            (self.kind, &*name),
            (MetricKind::Histogram, reserved::BUCKET) | (MetricKind::Summary, reserved::QUANTILE)
        );
        if bound && let Ok(number) = go_float(value.as_bytes()) {
            let normal = normal_form(number);
            if normal != *value {
                value = Cow::Owned(normal);
            }
        }
        self.pairs.push((name, value));
    }
}

/// Resolves escape sequences; one that is not known stays as it is.
pub(super) fn unescape(text: &str, escapes: Escapes) -> Cow<'_, str> {
    if escapes == Escapes::None || memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let resolved = match (c, chars.peek()) {
            ('\\', Some('\\')) => Some('\\'),
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('"')) if escapes == Escapes::Label => Some('"'),
            _ => None,
        };
        if resolved.is_some() {
            chars.next();
        }
        out.push(resolved.unwrap_or(c));
    }
    Cow::Owned(out)
}
