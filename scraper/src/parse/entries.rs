//! The walk over a body.

use std::borrow::Cow;

use tidegauge_model::{Histogram, Labels, MetricKind, Timestamp};

use super::collate::{self, Collate};
use super::protobuf::{self, Families, NativeExemplars};
use super::series::Pair;
use super::{Fingerprint, Format, ParseError, openmetrics, series, text};

/// The largest body that is parsed: offsets are kept in 32 bits.
const MAX_BODY_BYTES: usize = u32::MAX as usize;
/// So many lines' strings are looked at one by one before the whole body is.
const LOOKS: u32 = 64;

/// What becomes of OpenMetrics `_created` lines of counters, histograms and summaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CreatedLines {
    /// They are samples like others, as upstream does unless told otherwise.
    #[default]
    Samples,
    /// They are start timestamps of their families: [`Entry::Created`].
    StartTimestamps,
}

/// What becomes of histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramLines {
    /// Native histograms are [`Entry::Histogram`]; otherwise only their classic part is told.
    pub native: bool,
    /// The classic part of histograms that become native ones is told as well.
    pub classic: bool,
    /// Classic histograms become native ones with custom bounds.
    pub collate: bool,
}

impl Default for HistogramLines {
    fn default() -> Self {
        Self {
            native: true,
            classic: false,
            collate: false,
        }
    }
}

/// One thing an exposition says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Entry<'b> {
    /// A value of a series.
    Sample(SampleLine<'b>),
    /// A native histogram, which [`Entries::histogram`] has; the line's value means nothing.
    Histogram(SampleLine<'b>),
    /// When the series of a family began, with [`CreatedLines::StartTimestamps`].
    Created {
        /// The series part of the `_created` line, as written.
        series: &'b [u8],
        /// When it began.
        start: Timestamp,
    },
    /// A metric's help text.
    Help {
        /// The metric family.
        metric: Escaped<'b>,
        /// The text.
        text: Escaped<'b>,
    },
    /// A metric's type.
    Type {
        /// The metric family.
        metric: Escaped<'b>,
        /// Its type.
        kind: MetricKind,
    },
    /// A metric's unit (OpenMetrics).
    Unit {
        /// The metric family.
        metric: Escaped<'b>,
        /// The unit.
        unit: Escaped<'b>,
    },
    /// A comment, from its `#` to the end of the line.
    Comment(&'b [u8]),
}

/// One sample as it stands in the body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleLine<'b> {
    /// The series part: name and labels, as written. With protobuf, where no such thing is written, the metric's
    /// message. [`Entries::key`] has what tells series apart in any format.
    pub series: &'b [u8],
    /// The value. In text any NaN is the ordinary one; protobuf can write a stale marker.
    pub value: f64,
    /// The explicit timestamp, if there is one.
    pub at: Option<Timestamp>,
    /// The type declared last, which decides whether `le` and `quantile` are normalised.
    pub kind: MetricKind,
}

/// An exemplar as it stands in the body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawExemplar<'b> {
    pub(crate) labels: RawLabels<'b>,
    /// The observed value.
    pub value: f64,
    /// When it was observed, if the exposition says so.
    pub at: Option<Timestamp>,
}

/// Where an exemplar's labels stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RawLabels<'b> {
    /// Between and with these braces.
    Braces(&'b [u8]),
    /// In fields of this message.
    Fields(&'b [u8]),
}

impl RawExemplar<'_> {
    /// The exemplar's labels.
    ///
    /// # Errors
    /// A repeated name, or a name or value that is not UTF-8.
    pub fn labels(&self) -> Result<Labels, ParseError> {
        match self.labels {
            RawLabels::Braces(list) => series::exemplar_labels(list),
            RawLabels::Fields(message) => {
                let mut pairs = Vec::new();
                protobuf::label_pairs(message, "Label", &mut pairs)?;
                Labels::from_pairs(pairs).map_err(|problem| ParseError::series(problem.to_string()))
            }
        }
    }
}

/// The exemplars of one sample: at most one, but for native histograms.
#[derive(Debug, Clone)]
pub enum Exemplars<'e, 'b> {
    /// At most one.
    One(Option<RawExemplar<'b>>),
    /// Those of a native histogram.
    Native(NativeExemplars<'b>),
    /// Those of the lines of a classic histogram.
    Kept(std::slice::Iter<'e, RawExemplar<'b>>),
}

impl<'b> Iterator for Exemplars<'_, 'b> {
    type Item = RawExemplar<'b>;

    #[inline]
    fn next(&mut self) -> Option<RawExemplar<'b>> {
        match self {
            Self::One(one) => one.take(),
            Self::Native(many) => many.next(),
            Self::Kept(many) => many.next().copied(),
        }
    }
}

/// Text that may hold escape sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escaped<'b> {
    pub(crate) raw: &'b [u8],
    pub(crate) escapes: Escapes,
}

/// Which escape sequences a text knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// None.
    None,
    /// Backslash and line break: help texts of the text format.
    Help,
    /// Backslash, line break and quote: label values, names in quotes, OpenMetrics help texts.
    Label,
}

impl<'b> Escaped<'b> {
    /// The bytes as written.
    pub fn raw(&self) -> &'b [u8] {
        self.raw
    }

    /// The text with its escape sequences resolved; bytes that are not UTF-8 become replacement characters.
    pub fn text(&self) -> Cow<'b, str> {
        match String::from_utf8_lossy(self.raw) {
            Cow::Borrowed(text) => series::unescape(text, self.escapes),
            Cow::Owned(text) => Cow::Owned(series::unescape(&text, self.escapes).into_owned()),
        }
    }
}

/// Walks over a body and yields what it says, line by line, borrowing from it.
///
/// After an error the walk is over: upstream fails the whole scrape.
#[derive(Debug)]
pub struct Entries<'b> {
    pub(crate) body: &'b [u8],
    /// Where the next line begins.
    pub(crate) at: usize,
    format: Format,
    pub(crate) created: CreatedLines,
    /// The type declared last.
    pub(crate) kind: MetricKind,
    /// Whether the whole body is known to be UTF-8, so that its strings need not be looked at one by one.
    pub(crate) utf8: bool,
    /// How many more lines are parsed before that is found out.
    looks: u32,
    pub(crate) exemplar: Option<RawExemplar<'b>>,
    /// In the protobuf format.
    pub(super) families: Option<Box<Families<'b>>>,
    /// Where classic histograms become native ones.
    pub(super) collate: Option<Box<Collate<'b>>>,
    /// Whether the entry yielded last is the sample that was expected.
    pub(crate) as_expected: bool,
    done: bool,
}

impl<'b> Entries<'b> {
    /// Begins a walk. `_created` lines are samples; see [`Entries::created_lines`].
    pub fn new(body: &'b [u8], format: Format) -> Self {
        Self {
            body,
            at: 0,
            format,
            created: CreatedLines::default(),
            kind: MetricKind::Unknown,
            utf8: false,
            looks: LOOKS,
            exemplar: None,
            families: (format == Format::Protobuf).then(|| Box::new(Families::new())),
            collate: None,
            as_expected: false,
            done: false,
        }
    }

    /// Says what becomes of histograms.
    #[must_use]
    pub fn histogram_lines(mut self, histograms: HistogramLines) -> Self {
        if let Some(families) = &mut self.families {
            families.native = histograms.native;
            families.keep_classic = histograms.classic;
        }
        self.collate = histograms.collate.then(|| Box::new(Collate::new(histograms.classic)));
        self
    }

    /// Whether the strings of a line that is about to be parsed need not be looked at one by one. Most bodies have few
    /// such lines or nothing else.
    #[inline]
    pub(crate) fn look_for_utf8(&mut self) -> bool {
        if self.looks > 0 {
            self.looks -= 1;
            if self.looks == 0 {
                self.utf8 = std::str::from_utf8(self.body).is_ok();
            }
        }
        self.utf8
    }

    /// Says what becomes of `_created` lines.
    #[must_use]
    pub fn created_lines(mut self, created: CreatedLines) -> Self {
        self.created = created;
        self
    }

    /// The next entry, as [`Iterator::next`], when `expected` is what the next series part should be.
    ///
    /// If the coming line begins with that series part it is not parsed again, only its value is, and
    /// [`Entries::as_expected`] tells so: therefore `expected` must be the [key](Self::key) of a sample that an earlier
    /// walk in the same format yielded. [`Fingerprint::NONE`] means that nothing is expected.
    #[inline]
    pub fn next_expecting(&mut self, expected: Fingerprint) -> Option<Result<Entry<'b>, ParseError>> {
        if self.done {
            return None;
        }
        if self.body.len() > MAX_BODY_BYTES {
            self.done = true;
            return Some(Err(ParseError::too_large(self.body.len())));
        }
        let entry = if self.collate.is_some() {
            collate::next(self, expected)
        } else {
            self.next_written(expected)
        };
        if !matches!(entry, Some(Ok(_))) {
            self.done = true;
        }
        entry
    }

    /// The next entry of the body itself.
    #[inline]
    pub(super) fn next_written(&mut self, expected: Fingerprint) -> Option<Result<Entry<'b>, ParseError>> {
        self.as_expected = false;
        match self.format {
            Format::PrometheusText => text::next(self, expected),
            Format::OpenMetrics => openmetrics::next(self, expected),
            Format::Protobuf => protobuf::next(self, expected),
        }
    }

    /// What tells the series of the sample or histogram yielded last, which is `line`, from others, and is the same in
    /// every body of the same format: in text formats the fingerprint of its series part as written.
    #[inline]
    pub fn key(&self, line: &SampleLine<'b>) -> Fingerprint {
        if let Some(collate) = &self.collate
            && let Some(made) = collate.made()
        {
            return made.key;
        }
        match &self.families {
            Some(families) => families.key(),
            None => Fingerprint::of(line.series),
        }
    }

    /// Reads the label pairs of the sample or histogram yielded last, which is `line`, into `pairs`, the metric name
    /// among them as `__name__`, in order of name; whatever the names are, and though there be no metric name:
    /// relabelling may mend both, so that they are to be looked at when it is done. A label with an empty value is left
    /// out, as an empty label is no label.
    ///
    /// # Errors
    /// A name that occurs twice, a name or value that is not UTF-8; `pairs` is then of no use.
    pub fn pairs(&self, line: &SampleLine<'b>, pairs: &mut Vec<Pair<'b>>) -> Result<(), ParseError> {
        self.all_pairs(line, pairs)?;
        series::leave_out_empty(pairs);
        Ok(())
    }

    /// As [`Entries::pairs`], those without a value among them: such a label may stand in the way of the target's.
    pub(crate) fn all_pairs(&self, line: &SampleLine<'b>, pairs: &mut Vec<Pair<'b>>) -> Result<(), ParseError> {
        if let Some(collate) = &self.collate
            && let Some(made) = collate.made()
        {
            pairs.clone_from(&made.pairs);
            return Ok(());
        }
        self.written_pairs(line, pairs)
    }

    pub(super) fn written_pairs(&self, line: &SampleLine<'b>, pairs: &mut Vec<Pair<'b>>) -> Result<(), ParseError> {
        let Some(families) = &self.families else {
            return series::read_series(line.series, line.kind, pairs);
        };
        pairs.clear();
        families.pairs(pairs)?;
        series::in_order(pairs)
    }

    /// The native histogram yielded last, which may not be valid.
    ///
    /// # Errors
    /// None was, or it cannot be read.
    pub fn histogram(&self) -> Result<Histogram, ParseError> {
        if let Some(collate) = &self.collate
            && let Some(made) = collate.made()
        {
            return Ok(made.histogram.clone());
        }
        match &self.families {
            Some(families) => families.native_histogram(),
            None => Err(ParseError::series("text formats have no native histograms".to_owned())),
        }
    }

    /// Whether it is worth asking for [`Entries::exemplars`]: text without any is most of what is scraped.
    #[inline]
    pub(crate) fn may_have_exemplars(&self) -> bool {
        self.exemplar.is_some() || self.families.is_some() || self.collate.is_some()
    }

    /// The exemplars of the sample or histogram yielded last.
    #[inline]
    pub fn exemplars(&self) -> Exemplars<'_, 'b> {
        if let Some(collate) = &self.collate
            && let Some(made) = collate.made()
        {
            return Exemplars::Kept(made.exemplars.iter());
        }
        self.written_exemplars()
    }

    #[inline]
    pub(super) fn written_exemplars(&self) -> Exemplars<'_, 'b> {
        match &self.families {
            Some(families) => families.exemplars(),
            None => Exemplars::One(self.exemplar),
        }
    }

    /// Whether the entry yielded last is the sample that was expected.
    #[inline]
    pub fn as_expected(&self) -> bool {
        self.as_expected
    }
}

impl<'b> Iterator for Entries<'b> {
    type Item = Result<Entry<'b>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_expecting(Fingerprint::NONE)
    }
}
