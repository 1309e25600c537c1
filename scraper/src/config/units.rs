//! Durations and sizes as Prometheus writes them: `1h30m`, `15MB`.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of whole milliseconds, written as `1y2w3d4h5m6s7ms` (units in this order, each at most once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromDuration(u64);

/// A number of bytes, written as `15MB` or `15MiB`; both count in powers of 1024, as upstream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing is written.
    #[error("empty duration string")]
    EmptyDuration,
    /// Not a duration.
    #[error("not a valid duration string: {0:?}")]
    Duration(String),
    /// Longer than a signed 64-bit count of nanoseconds, upstream's bound.
    #[error("duration out of range")]
    DurationRange,
    /// A number without a unit, or with one that is none.
    #[error("units: unknown unit {unit} in {text}")]
    SizeUnit {
        /// What stands where the unit should.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Not a size.
    #[error("units: invalid {0}")]
    Size(String),
}

/// Name, milliseconds, and whether the unit is written only when it divides the whole.
const DURATION_UNITS: [(&str, u64, bool); 7] = [
    ("y", 31_536_000_000, true),
    ("w", 604_800_000, true),
    ("d", 86_400_000, true),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1_000, false),
    ("ms", 1, false),
];

const MAX_DURATION_MS: u64 = i64::MAX as u64 / 1_000_000;

impl PromDuration {
    /// From whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// As the standard library's duration.
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Whether it is of no length, which in a file means "not given".
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl FromStr for PromDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "" => return Err(UnitError::EmptyDuration),
            "0" => return Ok(Self(0)),
            _ => {}
        }
        let bad = || UnitError::Duration(text.to_owned());
        let (mut rest, mut total, mut units) = (text, 0u64, DURATION_UNITS.iter());
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (name, tail) = tail.split_at(letters);
            if number.is_empty() {
                return Err(bad());
            }
            // The iterator only moves on: a unit out of order or given twice is not found.
            let (_, ms, _) = units.find(|(unit, ..)| *unit == name).ok_or_else(bad)?;
            let number: u64 = number.parse().map_err(|_| UnitError::DurationRange)?;
            let part = number.checked_mul(*ms).ok_or(UnitError::DurationRange)?;
            total = total.checked_add(part).ok_or(UnitError::DurationRange)?;
            rest = tail;
        }
        if total > MAX_DURATION_MS {
            return Err(UnitError::DurationRange);
        }
        Ok(Self(total))
    }
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, ms, exact) in DURATION_UNITS {
            if exact && !rest.is_multiple_of(ms) {
                continue;
            }
            if rest / ms > 0 {
                write!(f, "{}{name}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

const SIZE_PREFIXES: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

impl ByteSize {
    /// From bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whether it is 0, which in a file means "no limit".
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Size(text.to_owned());
        match text {
            "" => return Err(bad()),
            "0" => return Ok(Self(0)),
            _ => {}
        }
        let (mut rest, mut total) = (text, 0f64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
            let (unit, tail) = tail.split_at(letters);
            let number: f64 = number.parse().map_err(|_| bad())?;
            let stem = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B'));
            let power = stem.and_then(|stem| SIZE_PREFIXES.iter().position(|p| *p == stem));
            let Some(power) = power else {
                return Err(UnitError::SizeUnit {
                    unit: unit.to_owned(),
                    text: text.to_owned(),
                });
            };
            total += number * 1024f64.powi(power as i32);
            rest = tail;
        }
        if total >= i64::MAX as f64 {
            return Err(bad());
        }
        Ok(Self(total as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        for (power, prefix) in SIZE_PREFIXES.iter().enumerate().rev() {
            let digit = (self.0 >> (10 * power)) & 0x3ff;
            if digit != 0 {
                write!(f, "{digit}{prefix}{}", if power == 0 { "B" } else { "iB" })?;
            }
        }
        Ok(())
    }
}

/// Reads any scalar as its text, since YAML makes a number of `0` and `100`.
struct Text<T>(std::marker::PhantomData<T>);

impl<T> Visitor<'_> for Text<T>
where
    T: FromStr<Err = UnitError>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number with its unit")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Text(std::marker::PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    };
}
as_text!(PromDuration);
as_text!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_upstream_does() {
        for (text, ms, written) in [
            ("0", 0, "0s"),
            ("15s", 15_000, "15s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("500ms", 500, "500ms"),
            ("1d", 86_400_000, "1d"),
            ("25h", 90_000_000, "25h"),
            ("14d", 1_209_600_000, "2w"),
            ("1y", 31_536_000_000, "1y"),
            ("1m500ms", 60_500, "1m500ms"),
        ] {
            let duration: PromDuration = text.parse().unwrap();
            assert_eq!(
                (duration.millis(), duration.to_string()),
                (ms, written.to_owned()),
                "{text}"
            );
        }
        for text in [
            "",
            "1",
            "s",
            "1x",
            "1s1h",
            "1s1s",
            "-1s",
            "1.5s",
            "99999999999y",
            "1h 30m",
        ] {
            assert!(text.parse::<PromDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_count_in_1024() {
        for (text, bytes, written) in [
            ("10MB", 10 << 20, "10MiB"),
            ("10MiB", 10 << 20, "10MiB"),
            ("1KB512B", 1536, "1KiB512B"),
            ("1.5KB", 1536, "1KiB512B"),
            ("0", 0, "0B"),
            ("1GB", 1 << 30, "1GiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string()), (bytes, written.to_owned()), "{text}");
        }
        assert_eq!(
            "100".parse::<ByteSize>().unwrap_err().to_string(),
            "units: unknown unit  in 100"
        );
        for text in ["", "MB", "1XB", "-1MB", "1e3B", "99999999999EB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
