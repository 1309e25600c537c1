//! Walks protobuf messages of remote write where they lie.
//!
//! ```text
//!   1.0 WriteRequest  1: TimeSeries*       3: MetricMetadata*
//!       TimeSeries    1: Label*            2: Sample*      3: Exemplar*    4: Histogram*
//!       Label         1: name              2: value
//!       Exemplar      1: Label*            2: value f64    3: timestamp i64
//!   2.0 Request       4: symbol*           5: TimeSeries*
//!       TimeSeries    1: labels_refs u32*  2: Sample*      3: Histogram*   4: Exemplar*   5: Metadata   6: start i64
//!       Exemplar      1: labels_refs u32*  2: value f64    3: timestamp i64
//!   both Sample       1: value f64         2: timestamp i64 (milliseconds)
//!       Histogram     see [`super::histogram`]
//! ```
//!
//! A field is a varint `number << 3 | type` and a value: a varint (0), 8 bytes (1), length and bytes (2), 4 bytes (5).
//! Unknown fields are stepped over. Groups (3, 4) are long out of use and refused.

use super::content::ProtoMessage;
use super::labels::Pair;
use super::symbols::MAX_PAIRS;
use std::borrow::Cow;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// They end too early.
    #[error("unexpected EOF")]
    Cut,
    /// A number is over 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A field is not of its type.
    #[error("proto: wrong wireType = {found} for field {field}")]
    Type {
        /// The type that is there.
        found: u8,
        /// The field.
        field: &'static str,
    },
    /// A list holds more than any histogram may have.
    #[error("proto: more than {0} elements in a list of one histogram")]
    TooMany(usize),
    /// A type that is none, or is out of use.
    #[error("proto: illegal wireType {0}")]
    Unknown(u8),
}

/// A value as it lies in the message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
    Fixed32,
}

impl<'b> Value<'b> {
    pub(crate) fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        }
    }

    /// The bytes of a field that has some.
    pub(crate) fn bytes(self, field: &'static str) -> Result<&'b [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(WireError::Type {
                found: other.wire_type(),
                field,
            }),
        }
    }
}

/// Reads fields one after another.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(crate) fn new(message: &'b [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'b>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Cut)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::Cut)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => {
                self.rest = self.rest.get(4..).ok_or(WireError::Cut)?;
                Value::Fixed32
            }
            other => return Err(WireError::Unknown(other as u8)),
        };
        Ok(Some((tag >> 3, value)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0u64;
        for place in 0..10u32 {
            let (byte, rest) = self.rest.split_first().ok_or(WireError::Cut)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if place == 9 && bits > 1 {
                return Err(WireError::Overflow);
            }
            number |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WireError::Overflow)
    }

    #[inline]
    pub(super) fn fixed(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(WireError::Cut)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }
}

/// What a field of a series holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Sample,
    Histogram,
    Exemplar,
    Metadata,
    Other,
}

impl ProtoMessage {
    /// The number of the fields that are series.
    pub(super) fn series_field(self) -> u64 {
        match self {
            Self::V1 => 1,
            Self::V2 => 5,
        }
    }

    /// What a series' field of this number holds.
    #[inline]
    pub(super) fn part(self, number: u64) -> Part {
        match (self, number) {
            (_, 2) => Part::Sample,
            (Self::V1, 4) | (Self::V2, 3) => Part::Histogram,
            (Self::V1, 3) | (Self::V2, 4) => Part::Exemplar,
            (Self::V2, 5) => Part::Metadata,
            _ => Part::Other,
        }
    }
}

/// One series of a request.
#[derive(Debug)]
pub(crate) struct TimeSeries<'b> {
    /// The label fields as they lie in the message: in one of 1.0, equal bytes are equal labels.
    pub(crate) labels: Cow<'b, [u8]>,
    /// What follows them.
    pub(crate) rest: Fields<'b>,
}

impl<'b> TimeSeries<'b> {
    /// Splits a message into labels and the rest. Writers put the labels first; where one does not, they are copied.
    pub(crate) fn read(message: &'b [u8], of: ProtoMessage) -> Result<Self, WireError> {
        let is_label = |label: Value<'_>| match of {
            ProtoMessage::V1 => label.bytes("Labels").map(|_| ()),
            // One reference, or many in bytes: looked at with the symbols.
            ProtoMessage::V2 => Ok(()),
        };
        let mut fields = Fields::new(message);
        let mut rest = fields.clone();
        while let Some((1, label)) = fields.next()? {
            is_label(label)?;
            rest = fields.clone();
        }
        let labels = message.get(..message.len() - rest.rest.len()).unwrap_or_default();
        let mut series = Self {
            labels: Cow::Borrowed(labels),
            rest,
        };
        let mut scattered = series.rest.clone();
        let mut before = scattered.rest;
        while let Some((number, value)) = scattered.next()? {
            if number == 1 {
                is_label(value)?;
                let field = before.get(..before.len() - scattered.rest.len()).unwrap_or_default();
                series.labels.to_mut().extend_from_slice(field);
            }
            before = scattered.rest;
        }
        Ok(series)
    }
}

/// The tag of a series' samples, which follow its labels.
pub(crate) const SAMPLE: u8 = 2 << 3 | 2;

/// How many bytes at the start of a series' message are label fields, if samples follow them and all lengths are of
/// one or two bytes: what writers send.
#[inline]
pub(crate) fn labels_in_front(message: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *message.get(at)? {
            LABEL => {}
            SAMPLE if at > 0 => return Some(at),
            _ => return None,
        }
        let low = usize::from(*message.get(at + 1)?);
        let (length, head) = if low < 0x80 {
            (low, 2)
        } else {
            let high = usize::from(*message.get(at + 2)?);
            if high >= 0x80 {
                return None;
            }
            (low & 0x7f | high << 7, 3)
        };
        at += head + length;
    }
}

/// The tag of a series' labels.
const LABEL: u8 = 1 << 3 | 2;

/// Hands on the samples that a message begins with, in the form that writers send, and gives what follows them; `None` if
/// one has another form. Samples may have been handed on by then.
#[inline]
pub(crate) fn plain_samples(mut message: &[u8], mut each: impl FnMut(f64, i64)) -> Option<&[u8]> {
    while let [SAMPLE, length, rest @ ..] = message {
        let (body, behind) = rest.split_at_checked(usize::from(*length))?;
        let (value, time) = match body {
            // A writer leaves a value of zero out.
            [0x09, rest @ ..] => {
                let (bits, rest) = rest.split_first_chunk::<8>()?;
                (f64::from_le_bytes(*bits), rest)
            }
            _ => (0.0, body),
        };
        let [0x10, time @ ..] = time else { return None };
        if *length >= 0x80 || time.len() > 9 {
            return None;
        }
        let (last, front) = time.split_last()?;
        let mut at_ms = i64::from(*last);
        for byte in front.iter().rev() {
            if *byte < 0x80 {
                return None;
            }
            at_ms = at_ms << 7 | i64::from(*byte & 0x7f);
        }
        if *last >= 0x80 {
            return None;
        }
        each(value, at_ms);
        message = behind;
    }
    Some(message)
}

/// What follows the samples of a series that has no histogram and no exemplar, in the form that writers of 2.0 send: its
/// metadata, if there is any, and when it began. `None` if there is something else.
#[inline]
pub(crate) fn plain_metadata(message: &[u8]) -> Option<&[u8]> {
    let (metadata, rest) = match message {
        [METADATA, length, rest @ ..] if *length < 0x80 => rest.split_at_checked(usize::from(*length))?,
        other => other.split_at_checked(0)?,
    };
    match rest {
        [] => Some(metadata),
        [START, start @ ..] => {
            let mut start = Fields::new(start);
            start.varint().ok()?;
            start.is_empty().then_some(metadata)
        }
        _ => None,
    }
}

/// The tags of what may follow the samples of a series of 2.0.
const METADATA: u8 = 5 << 3 | 2;
const START: u8 = 6 << 3;

/// The pairs of label fields of 1.0, or why they are too many.
pub(crate) fn label_pairs(labels: &[u8]) -> Result<Result<Vec<Pair<'_>>, String>, WireError> {
    let mut fields = Fields::new(labels);
    let mut pairs = Vec::new();
    while let Some((number, label)) = fields.next()? {
        if number != 1 {
            continue;
        }
        let mut parts = Fields::new(label.bytes("Labels")?);
        let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
        while let Some((number, part)) = parts.next()? {
            match number {
                1 => name = part.bytes("Name")?,
                2 => value = part.bytes("Value")?,
                _ => {}
            }
        }
        if pairs.len() >= MAX_PAIRS {
            return Ok(Err(format!("more than {MAX_PAIRS} labels")));
        }
        pairs.push((name, value));
    }
    Ok(Ok(pairs))
}

/// An exemplar's value and time in milliseconds; its labels are [`label_pairs`] of the same message.
pub(crate) fn exemplar(message: &[u8]) -> Result<(f64, i64), WireError> {
    let mut fields = Fields::new(message);
    let (mut value, mut at_ms) = (0.0, 0);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
            (3, Value::Varint(ms)) => at_ms = ms.cast_signed(),
            (2 | 3, other) => {
                return Err(WireError::Type {
                    found: other.wire_type(),
                    field: if number == 2 { "Value" } else { "Timestamp" },
                });
            }
            _ => {}
        }
    }
    Ok((value, at_ms))
}

/// A sample's value and time in milliseconds.
#[inline]
pub(crate) fn sample(message: &[u8]) -> Result<(f64, i64), WireError> {
    let mut fields = Fields::new(message);
    let (mut value, mut at_ms) = (0.0, 0);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Value::Fixed64(bits)) => value = f64::from_bits(bits),
            (2, Value::Varint(ms)) => at_ms = ms.cast_signed(),
            (1, other) => {
                return Err(WireError::Type {
                    found: other.wire_type(),
                    field: "Value",
                });
            }
            (2, other) => {
                return Err(WireError::Type {
                    found: other.wire_type(),
                    field: "Timestamp",
                });
            }
            _ => {}
        }
    }
    Ok((value, at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    /// The messages by the schema, for comparison.
    #[derive(Clone, PartialEq, Message)]
    struct Label {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(int64, tag = "2")]
        timestamp: i64,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Series {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
    }

    proptest! {
        #[test]
        fn what_the_schema_writes_is_read(
            labels in proptest::collection::vec(("\\PC{0,200}", "\\PC{0,9}"), 0..6),
            samples in proptest::collection::vec((any::<u64>(), any::<i64>()), 0..6),
        ) {
            let message = Series {
                labels: labels.iter().map(|(n, v)| Label { name: n.clone(), value: v.clone() }).collect(),
                samples: samples.iter().map(|(v, t)| Sample { value: f64::from_bits(*v), timestamp: *t }).collect(),
            }
            .encode_to_vec();
            let series = TimeSeries::read(&message, ProtoMessage::V1).unwrap();
            let pairs = label_pairs(&series.labels).unwrap().unwrap();
            prop_assert!(pairs.iter().copied().eq(labels.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()))));
            let mut rest = series.rest;
            let mut read = Vec::new();
            while let Some((2, field)) = rest.next().unwrap() {
                let (value, at) = sample(field.bytes("Samples").unwrap()).unwrap();
                read.push((value.to_bits(), at));
            }
            // Left out by the writer: a value of zero, whose sign is lost with it.
            let zeroed = |v: u64| if f64::from_bits(v) == 0.0 { 0 } else { v };
            prop_assert!(read.iter().map(|(v, t)| (zeroed(*v), *t)).eq(samples.iter().map(|(v, t)| (zeroed(*v), *t))));
            if let Some(front) = labels_in_front(&message) {
                prop_assert_eq!(&message[..front], &*series.labels);
            }
            // The quick way says the same, or nothing.
            let mut quick = Vec::new();
            if plain_samples(&message[series.labels.len()..], |value, at| quick.push((value.to_bits(), at))) == Some(&[][..]) {
                prop_assert_eq!(quick, read);
            }
        }

        #[test]
        fn the_quick_way_takes_what_senders_send(
            labels in proptest::collection::vec(("[a-z]{1,9}", "\\PC{0,90}"), 1..6),
            samples in proptest::collection::vec((any::<f64>(), 1..(1i64 << 48)), 1..6),
        ) {
            let message = Series {
                labels: labels.iter().map(|(n, v)| Label { name: n.clone(), value: v.clone() }).collect(),
                samples: samples.iter().map(|(v, t)| Sample { value: *v, timestamp: *t }).collect(),
            }
            .encode_to_vec();
            let front = labels_in_front(&message).unwrap();
            prop_assert_eq!(&message[..front], &*TimeSeries::read(&message, ProtoMessage::V1).unwrap().labels);
            let mut read = Vec::new();
            let rest = plain_samples(&message[front..], |value, at| read.push((value.to_bits(), at)));
            prop_assert_eq!(rest, Some(&[][..]));
            prop_assert!(read.iter().map(|(v, t)| (*v & !(1 << 63), *t)).eq(samples.iter().map(|(v, t)| (v.to_bits() & !(1 << 63), *t))));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok(series) = TimeSeries::read(&bytes, ProtoMessage::V1) {
                let _ = label_pairs(&series.labels);
            }
            let _ = sample(&bytes);
            if let Some(front) = labels_in_front(&bytes) {
                prop_assert!(front < bytes.len());
                if let Ok(TimeSeries { labels: Cow::Borrowed(labels), .. }) = TimeSeries::read(&bytes, ProtoMessage::V1) {
                    prop_assert_eq!(labels, &bytes[..front]);
                }
            }
            let _ = plain_samples(&bytes, |_, _| {});
            let _ = plain_metadata(&bytes);
        }
    }

    #[test]
    fn scattered_labels_are_gathered() {
        // label a=b, sample, label c=d
        let message = b"\x0a\x06\x0a\x01a\x12\x01b\x12\x02\x10\x05\x0a\x06\x0a\x01c\x12\x01d";
        let series = TimeSeries::read(message, ProtoMessage::V1).unwrap();
        assert_eq!(
            label_pairs(&series.labels).unwrap().unwrap(),
            [(&b"a"[..], &b"b"[..]), (b"c", b"d")]
        );
        assert!(matches!(series.labels, Cow::Owned(_)));
    }

    #[test]
    fn metadata_and_start_may_follow_the_samples_of_2_0() {
        for (rest, metadata) in [
            (&b""[..], Some(&b""[..])),
            (b"\x2a\x00", Some(b"")),
            (b"\x2a\x04\x08\x01\x18\x05", Some(b"\x08\x01\x18\x05")),
            (b"\x2a\x02\x08\x01\x30\x80\x01", Some(b"\x08\x01")),
            (b"\x30\x05", Some(b"")),
            (b"\x30\x80", None),
            (b"\x2a\x02\x08", None),
            (b"\x22\x00", None),
            (b"\x2a\x00\x2a\x00", None),
        ] {
            assert_eq!(plain_metadata(rest), metadata, "{rest:?}");
        }
    }

    #[test]
    fn damage_is_named() {
        let read = |bytes: &'static [u8]| Fields::new(bytes).next().map_err(|e| e.to_string());
        assert_eq!(read(b"\x0a\xff\xff"), Err("unexpected EOF".into()));
        assert_eq!(read(&[0xff; 12]), Err("proto: integer overflow".into()));
        assert_eq!(read(b"\x0b"), Err("proto: illegal wireType 3".into()));
        assert_eq!(read(b"\x09\x01"), Err("unexpected EOF".into()));
        assert_eq!(
            sample(b"\x08\x01").unwrap_err().to_string(),
            "proto: wrong wireType = 0 for field Value"
        );
    }
}
