//! Durations and sizes as Prometheus writes them: `1h30m`, `512MB`.

use std::fmt;
use std::str::FromStr;

/// A span of whole milliseconds, read from and written as `1y2w3d4h5m6s7ms` (units in this order, each at most once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromDuration(i64);

/// Unit, its length in milliseconds, and whether it is written only if it divides the whole (as upstream prints).
const UNITS: [(&str, i64, bool); 7] = [
    ("y", 365 * 86_400_000, true),
    ("w", 7 * 86_400_000, true),
    ("d", 86_400_000, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1000, false),
    ("ms", 1, false),
];

/// What is wrong with a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing is given.
    #[error("empty duration string")]
    Empty,
    /// It does not read as a duration.
    #[error("not a valid duration string: {0:?}")]
    Duration(String),
    /// It does not fit 64 bits of milliseconds.
    #[error("duration {0:?} is out of range")]
    Range(String),
    /// It does not read as a size.
    #[error("units: {1} in {0:?} (a size is a number and one of B, KB, MB, GB, TB, PB, EB or KiB, MiB, ...)")]
    Size(String, &'static str),
}

impl PromDuration {
    /// Of this many milliseconds.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// In milliseconds.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// As the standard library's; nothing below zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl FromStr for PromDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "" => return Err(UnitError::Empty),
            "0" => return Ok(Self(0)),
            _ => {}
        }
        let bad = || UnitError::Duration(text.to_owned());
        let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0i64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let number: i64 = match number.parse() {
                Ok(n) => n,
                Err(_) if digits > 0 => return Err(UnitError::Range(text.to_owned())),
                Err(_) => return Err(bad()),
            };
            // Advancing one iterator keeps the order and makes each unit usable once.
            let (_, ms, _) = units.find(|(name, ..)| *name == unit).ok_or_else(bad)?;
            total = number
                .checked_mul(*ms)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| UnitError::Range(text.to_owned()))?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = self.0;
        if ms <= 0 {
            return f.write_str("0s");
        }
        for (unit, length, exact) in UNITS {
            if (exact && ms % length != 0) || ms < length {
                continue;
            }
            write!(f, "{}{unit}", ms / length)?;
            ms %= length;
        }
        Ok(())
    }
}

impl<'de> serde::Deserialize<'de> for PromDuration {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for PromDuration {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A number of bytes, with units of 1024 as upstream's (`1KB` and `1KiB` are both 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Of this many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |why| UnitError::Size(text.to_owned(), why);
        let digits = text
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad("no number"))?;
        if unit.is_empty() && number == 0.0 {
            return Ok(Self(0));
        }
        let power = match unit.trim_end_matches('B').trim_end_matches('i') {
            "" if unit == "B" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            "P" => 5,
            "E" => 6,
            "" => return Err(bad("no unit")),
            _ => return Err(bad("unknown unit")),
        };
        let bytes = number * 1024f64.powi(power);
        if bytes >= u64::MAX as f64 {
            return Err(bad("too much"));
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut n, mut unit) = (self.0, "B");
        for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            if n < 1024 || n % 1024 != 0 {
                break;
            }
            (n, unit) = (n / 1024, next);
        }
        write!(f, "{n}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed_as_upstream() {
        for (text, ms, printed) in [
            ("15d", 1_296_000_000, "15d"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("1d12h", 129_600_000, "1d12h"),
            ("14d", 1_209_600_000, "2w"),
            ("365d", 31_536_000_000, "1y"),
            ("0", 0, "0s"),
            ("1s500ms", 1500, "1s500ms"),
        ] {
            let d: PromDuration = text.parse().unwrap();
            assert_eq!((d.millis(), d.to_string().as_str()), (ms, printed), "{text}");
        }
    }

    #[test]
    fn bad_durations_are_refused() {
        for text in ["", "1", "s", "-1h", "1m1h", "1h1h", "1.5h", "99999999999999999999s", "9999999999y"] {
            assert!(text.parse::<PromDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_count_in_1024() {
        for (text, bytes) in [("512MB", 512 << 20), ("1GiB", 1 << 30), ("100B", 100), ("1.5KB", 1536), ("2G", 2 << 30), ("0", 0)] {
            assert_eq!(text.parse::<ByteSize>().map(ByteSize::bytes), Ok(bytes), "{text}");
        }
        for text in ["100", "1XB", "MB", "-1B", "99999EB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
