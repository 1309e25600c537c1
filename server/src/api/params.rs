//! Request parameters: from the URL and a form body, merged, then typed.
//!
//! As upstream, a form body's values come before the URL's, the first value of a name counts where one is wanted,
//! unknown names are ignored, and a pair that cannot be unescaped or has a semicolon is as if it were not there.

use super::error::{ApiError, ErrorKind};
use super::values::{SignedDuration, parse_duration, parse_int, parse_time};
use crate::http::{Peer, is_too_slow};
use crate::quoted::quoted;
use axum::body::{Body, HttpBody};
use axum::http::{Method, Request, header};
use futures_util::StreamExt;
use percent_encoding::percent_decode;
use std::hash::{Hash, Hasher};
use tidegauge_model::{Lease, Meter, OverBudget, TimeRange, Timestamp};

/// The parameters of one request.
#[derive(Debug, Default)]
pub(crate) struct Params {
    path: String,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is wrong with pairs that were left out.
    malformed: Option<String>,
    peer: Option<Peer>,
    /// Pays for the form.
    _lease: Option<Lease>,
}

impl Params {
    /// Reads them from a request; the body only of a form post, up to `form_bytes`, paid for out of `memory`.
    pub(crate) async fn read(request: Request<Body>, form_bytes: usize, memory: &Meter) -> Result<Self, ApiError> {
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
            let (bytes, lease) = form(body, form_bytes, memory).await?;
            params.extend(&bytes);
            params._lease = Some(lease);
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
        let mut malformed = None;
        for pair in query.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            // Once it stood between pairs, and who takes it for that reads another query.
            if pair.contains(&b';') {
                malformed = Some("invalid semicolon separator in query".to_owned());
                continue;
            }
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = (
                pair.get(..at).unwrap_or_default(),
                pair.get(at + 1..).unwrap_or_default(),
            );
            match (unescape(name), unescape(value)) {
                (Ok(name), Ok(value)) => self.pairs.push((name, value)),
                (Err(bad), _) | (_, Err(bad)) => {
                    malformed.get_or_insert_with(|| format!("invalid URL escape {}", quoted(bad)));
                }
            }
        }
        if self.malformed.is_none() {
            self.malformed = malformed;
        }
    }

    /// Fails if some pair had to be left out, for the endpoints that look.
    pub(crate) fn well_formed(&self) -> Result<(), ApiError> {
        match &self.malformed {
            Some(why) => Err(ApiError::bad_data(format!("error parsing form values: {why}"))),
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

/// A form body, and the memory that it takes.
async fn form(body: Body, most: usize, memory: &Meter) -> Result<(Vec<u8>, Lease), ApiError> {
    let too_large = || {
        ApiError::too_large(format!(
            "the form body is larger than {most} bytes (--web.max-form-size)"
        ))
    };
    let over = |error: OverBudget| ApiError::new(ErrorKind::Busy, error.to_string());
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut lease = memory.lease(0).map_err(over)?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| match is_too_slow(&error) {
            true => ApiError::new(
                ErrorKind::Slow,
                "the form body did not come in time (--web.read-timeout)",
            ),
            false => ApiError::bad_data("the form body was cut off"),
        })?;
        if bytes.len() + chunk.len() > most {
            return Err(too_large());
        }
        lease.grow(chunk.len() as u64).map_err(over)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, lease))
}

fn utf8<'v>(name: &str, value: &'v [u8]) -> Result<&'v str, ApiError> {
    std::str::from_utf8(value).map_err(|_| ApiError::parameter(name, "not valid UTF-8"))
}

/// Turns `+` and `%xx` back; the offending escape otherwise.
fn unescape(text: &[u8]) -> Result<Vec<u8>, &[u8]> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| *b == b'%') {
        let escape = rest.get(at..).unwrap_or_default();
        let escape = escape.get(..escape.len().min(3)).unwrap_or_default();
        if escape.len() < 3 || !escape.iter().skip(1).all(u8::is_ascii_hexdigit) {
            return Err(escape);
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    Ok(percent_decode(&spaced).collect())
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
        let params = of("query=1;time=4&a=%zz&limit=5&b=;");
        assert_eq!(
            (params.text("query").unwrap(), params.text("limit").unwrap()),
            ("", "5")
        );
        assert_eq!(
            params.well_formed().unwrap_err().to_string(),
            "error parsing form values: invalid semicolon separator in query"
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
