//! Texts of parameters as values: numbers, times, durations; what is none is told in upstream's words.

use crate::quoted::quoted;
use std::time::Duration;
use tidegauge_model::Timestamp;

/// An integer in the words of upstream's `strconv`.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            PosOverflow | NegOverflow => format!("parsing {}: value out of range", quoted(text)),
            _ => format!("parsing {}: invalid syntax", quoted(text)),
        })
}

/// A boolean in the words of upstream's `strconv`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(text))),
    }
}

/// A number as upstream's `strconv` reads it: as we do, but that digits which come to infinity are none, and underscores
/// may stand between them.
fn parse_float(text: &str) -> Option<f64> {
    if !text.contains('_') {
        let number = text.parse::<f64>().ok()?;
        let is_in_range = number.is_finite() || !text.bytes().any(|byte| byte.is_ascii_digit());
        return is_in_range.then_some(number);
    }
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let between_digits = |at: usize| digit(at.checked_sub(1)) && digit(Some(at + 1));
    let all = text.match_indices('_').all(|(at, _)| between_digits(at));
    all.then(|| parse_float(&text.replace('_', ""))).flatten()
}

/// How upstream writes the first and the last time that it knows; clients send them back.
const LIMITS: [(&str, i64); 2] = [
    ("-292273086-05-16T16:47:06Z", -9_223_309_901_257_974_000),
    ("292277025-08-18T07:12:54.999999999Z", 9_223_309_901_257_974_999),
];

/// Unix seconds as a decimal, or RFC 3339.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let bad = || format!("cannot parse {} to a valid timestamp", quoted(text));
    if let Some(seconds) = parse_float(text) {
        let ms = (seconds * 1000.0).round();
        if !ms.is_finite() || ms.abs() >= i64::MAX as f64 {
            return Err(bad());
        }
        return Ok(Timestamp::from_millis(ms as i64));
    }
    if let Some((_, ms)) = LIMITS.iter().find(|(limit, _)| *limit == text) {
        return Ok(Timestamp::from_millis(*ms));
    }
    // The calendar library reads more than RFC 3339 allows.
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
        return Err(bad());
    }
    text.parse::<jiff::Timestamp>()
        .map(|t| Timestamp::from_millis(t.as_millisecond()))
        .map_err(|_| bad())
}

/// A duration as upstream's parameters have it: it may be negative, which each use judges by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SignedDuration {
    nanos: i64,
}

impl SignedDuration {
    /// Nanoseconds.
    pub(crate) fn nanos(self) -> i64 {
        self.nanos
    }

    /// Whole milliseconds.
    pub(crate) fn millis(self) -> i64 {
        self.nanos / 1_000_000
    }

    /// As a span; nothing if negative.
    pub(crate) fn span(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

/// Seconds as a decimal, or PromQL's `1h30m`.
pub(super) fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    if let Some(seconds) = parse_float(text) {
        let nanos = seconds * 1e9;
        if !nanos.is_finite() || nanos.abs() >= i64::MAX as f64 {
            let text = quoted(text);
            return Err(format!("cannot parse {text} to a valid duration. It overflows int64"));
        }
        return Ok(SignedDuration { nanos: nanos as i64 });
    }
    promql_duration(text)
        .map(|nanos| SignedDuration { nanos })
        .ok_or_else(|| format!("cannot parse {} to a valid duration", quoted(text)))
}

/// Units from large to small with their milliseconds; each may occur once, in this order.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

fn promql_duration(text: &str) -> Option<i64> {
    let (mut rest, mut next_unit, mut total_ms) = (text, 0, 0i64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: i64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = rest.get(..letters)?;
        rest = rest.get(letters..)?;
        let at = UNITS.iter().position(|(name, _)| *name == unit)?;
        if at < next_unit {
            return None;
        }
        next_unit = at + 1;
        total_ms = total_ms.checked_add(count.checked_mul(UNITS.get(at)?.1)?)?;
    }
    total_ms.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, ms) in [
            ("1795225176.123", 1_795_225_176_123),
            ("4", 4000),
            ("-1.02", -1020),
            ("1772438433000", 1_772_438_433_000_000),
            ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
            ("2026-01-02T03:04:05+02:00", 1_767_315_845_000),
            ("1_795_225.5_0", 1_795_225_500),
            ("-292273086-05-16T16:47:06Z", -9_223_309_901_257_974_000),
            ("292277025-08-18T07:12:54.999999999Z", 9_223_309_901_257_974_999),
        ] {
            assert_eq!(parse_time(text), Ok(Timestamp::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "x",
            "NaN",
            "Inf",
            "1e30",
            "0x10",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "_1",
            "1_",
            "1__0",
            "1_.5",
            "\0",
        ] {
            assert_eq!(
                parse_time(text),
                Err(format!("cannot parse {} to a valid timestamp", quoted(text)))
            );
        }
    }

    #[test]
    fn durations_are_seconds_or_promql() {
        for (text, ms) in [
            ("15", 15_000),
            ("0.5", 500),
            ("-5", -5000),
            ("2s", 2000),
            ("1m0s", 60_000),
            ("1h30m", 5_400_000),
            ("1d12h5ms", 129_600_005),
        ] {
            assert_eq!(parse_duration(text).map(SignedDuration::millis), Ok(ms), "{text}");
        }
        for text in [
            "",
            "x",
            "1",
            "s",
            "1s1m",
            "1s1s",
            "1.5h",
            "-1s",
            "99999999999999999999y",
            "9223372036854775807y",
            "1e400",
        ] {
            if text != "1" {
                assert_eq!(
                    parse_duration(text),
                    Err(format!("cannot parse {text:?} to a valid duration"))
                );
            }
        }
        assert_eq!(
            parse_duration("1e30"),
            Err("cannot parse \"1e30\" to a valid duration. It overflows int64".into())
        );
    }
}
