//! Request parameters: from the URL and a form body, merged, then typed.
//!
//! As upstream, a form body's values come before the URL's, the first value of a name counts where one is wanted,
//! unknown names are ignored, and a pair that cannot be unescaped is as if it were not there.

use super::error::ApiError;
use crate::http::Peer;
use axum::body::Body;
use axum::http::{Method, Request, header};
use percent_encoding::percent_decode;
use std::hash::{Hash, Hasher};
use std::time::Duration;
use tidegauge_model::{TimeRange, Timestamp};

/// The parameters of one request.
#[derive(Debug, Default)]
pub(crate) struct Params {
    path: String,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    bad_escape: Option<String>,
    peer: Option<Peer>,
}

impl Params {
    /// Reads them from a request; the body only of a form post, up to `form_bytes`.
    pub(crate) async fn read(request: Request<Body>, form_bytes: usize) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut params = Self {
            path: parts.uri.path().to_owned(),
            peer: parts.extensions.get::<Peer>().cloned(),
            ..Self::default()
        };
        let is_form = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        if is_form && matches!(parts.method, Method::POST | Method::PUT) {
            let bytes = axum::body::to_bytes(body, form_bytes).await.map_err(|_| {
                ApiError::too_large(format!(
                    "the form body is larger than {form_bytes} bytes or was cut off"
                ))
            })?;
            params.extend(&bytes);
        }
        params.extend(parts.uri.query().unwrap_or_default().as_bytes());
        Ok(params)
    }

    /// Who asks, where that is known of.
    pub(crate) fn peer(&self) -> Option<Peer> {
        self.peer.clone()
    }

    /// Hashes what is asked for, but of its times only what lies between them.
    pub(super) fn hash_without_times(&self, hasher: &mut impl Hasher) {
        self.path.hash(hasher);
        for pair in &self.pairs {
            if !matches!(pair.0.as_slice(), b"start" | b"end" | b"time") {
                pair.hash(hasher);
            }
        }
        let (start, end) = (self.time("start").ok(), self.time("end").ok());
        let span = start
            .zip(end)
            .map(|(start, end)| end.millis().wrapping_sub(start.millis()));
        span.hash(hasher);
    }

    fn extend(&mut self, query: &[u8]) {
        for pair in query.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = (
                pair.get(..at).unwrap_or_default(),
                pair.get(at + 1..).unwrap_or_default(),
            );
            match (unescape(name), unescape(value)) {
                (Ok(name), Ok(value)) => self.pairs.push((name, value)),
                (Err(bad), _) | (_, Err(bad)) => {
                    self.bad_escape.get_or_insert(bad);
                }
            }
        }
    }

    /// Fails if some pair could not be unescaped, for the endpoints that look.
    pub(crate) fn well_formed(&self) -> Result<(), ApiError> {
        match &self.bad_escape {
            Some(bad) => Err(ApiError::bad_data(format!(
                "error parsing form values: invalid URL escape {bad:?}"
            ))),
            None => Ok(()),
        }
    }

    /// The first value of a name; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> Result<&str, ApiError> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name.as_bytes())
            .map_or(Ok(""), |(_, value)| utf8(name, value))
    }

    /// All values of a name.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<&str>, ApiError> {
        self.pairs
            .iter()
            .filter(|(n, _)| n == name.as_bytes())
            .map(|(_, value)| utf8(name, value))
            .collect()
    }

    /// `limit`: 0 means none.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let text = self.text("limit")?;
        if text.is_empty() {
            return Ok(0);
        }
        let limit = parse_int(text).map_err(|why| ApiError::parameter("limit", format!("strconv.Atoi: {why}")))?;
        usize::try_from(limit).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }

    /// A time that must be there (`query_range`).
    pub(crate) fn time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.text(name)?).map_err(|why| ApiError::parameter(name, why))
    }

    /// A time with a default.
    pub(crate) fn time_or(&self, name: &str, default: Timestamp) -> Result<Timestamp, ApiError> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(default);
        }
        parse_time(text).map_err(|why| ApiError::parameter(name, format!("invalid time value for '{name}': {why}")))
    }

    /// `start` and `end`, by default all of time.
    pub(crate) fn range(&self) -> Result<TimeRange, ApiError> {
        let start = self.time_or("start", Timestamp::MIN)?;
        let end = self.time_or("end", Timestamp::MAX)?;
        Ok(TimeRange::new(start, end))
    }

    /// A duration that must be there.
    pub(crate) fn duration(&self, name: &str) -> Result<SignedDuration, ApiError> {
        parse_duration(self.text(name)?).map_err(|why| ApiError::parameter(name, why))
    }

    /// A duration that may be left out.
    pub(crate) fn optional_duration(&self, name: &str) -> Result<Option<SignedDuration>, ApiError> {
        if self.text(name)?.is_empty() {
            Ok(None)
        } else {
            self.duration(name).map(Some)
        }
    }
}

fn utf8<'v>(name: &str, value: &'v [u8]) -> Result<&'v str, ApiError> {
    std::str::from_utf8(value).map_err(|_| ApiError::parameter(name, "not valid UTF-8"))
}

/// Turns `+` and `%xx` back; the offending escape otherwise.
fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| *b == b'%') {
        let escape = rest.get(at..).unwrap_or_default();
        let escape = escape.get(..escape.len().min(3)).unwrap_or_default();
        if escape.len() < 3 || !escape.iter().skip(1).all(u8::is_ascii_hexdigit) {
            return Err(String::from_utf8_lossy(escape).into_owned());
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    Ok(percent_decode(&spaced).collect())
}

/// An integer in the words of upstream's `strconv`.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            PosOverflow | NegOverflow => format!("parsing {text:?}: value out of range"),
            _ => format!("parsing {text:?}: invalid syntax"),
        })
}

/// A boolean in the words of upstream's `strconv`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Unix seconds as a decimal, or RFC 3339.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let bad = || format!("cannot parse {text:?} to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        if !ms.is_finite() || ms.abs() >= i64::MAX as f64 {
            return Err(bad());
        }
        return Ok(Timestamp::from_millis(ms as i64));
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
fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let nanos = seconds * 1e9;
        if !nanos.is_finite() || nanos.abs() >= i64::MAX as f64 {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(SignedDuration { nanos: nanos as i64 });
    }
    promql_duration(text)
        .map(|nanos| SignedDuration { nanos })
        .ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
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

    fn of(query: &str) -> Params {
        let mut params = Params::default();
        params.extend(query.as_bytes());
        params
    }

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, ms) in [
            ("1795225176.123", 1_795_225_176_123),
            ("4", 4000),
            ("-1.02", -1020),
            ("1772438433000", 1_772_438_433_000_000),
            ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
            ("2026-01-02T03:04:05+02:00", 1_767_315_845_000),
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
        ] {
            assert_eq!(
                parse_time(text),
                Err(format!("cannot parse {text:?} to a valid timestamp"))
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

    #[test]
    fn pairs_are_unescaped_and_the_first_counts() {
        let params = of("query=a%2Bb+c&query=2&match%5B%5D=x&match[]=y&empty&=v&bad=%zz&raw=%ff");
        assert_eq!(params.text("query").unwrap(), "a+b c");
        assert_eq!(params.all("match[]").unwrap(), ["x", "y"]);
        assert_eq!((params.text("empty").unwrap(), params.text("bad").unwrap()), ("", ""));
        assert!(
            params
                .text("raw")
                .unwrap_err()
                .to_string()
                .contains("invalid parameter \"raw\"")
        );
        assert_eq!(
            params.well_formed().unwrap_err().to_string(),
            "error parsing form values: invalid URL escape \"%zz\""
        );
        assert_eq!(
            of("a=%4").well_formed().unwrap_err().to_string(),
            "error parsing form values: invalid URL escape \"%4\""
        );
    }

    #[test]
    fn limits_are_plain_integers() {
        for (text, expected) in [
            (
                "limit=x",
                "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("limit=-1", "invalid parameter \"limit\": limit must be non-negative"),
            (
                "limit=99999999999999999999",
                "invalid parameter \"limit\": strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(of(text).limit().unwrap_err().to_string(), expected);
        }
        assert_eq!((of("").limit().unwrap(), of("limit=7").limit().unwrap()), (0, 7));
    }
}
