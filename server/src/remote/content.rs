//! Which message a request carries, by its headers.
//!
//! # Reference
//! Remote write 1.0 and 2.0, sections Protocol; Prometheus 3.5.3 for the words of refusals.

use axum::http::{HeaderMap, header};
use std::str::FromStr;

/// The media type of all messages.
const MEDIA_TYPE: &str = "application/x-protobuf";

/// A message of remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtoMessage {
    /// `prometheus.WriteRequest`: remote write 1.0.
    V1,
    /// `io.prometheus.write.v2.Request`: remote write 2.0.
    V2,
}

impl ProtoMessage {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The name in `Content-Type` and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

/// A name that is none of a message of remote write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown remote write protobuf message {0}, supported: {v1}, {v2}",
    v1 = ProtoMessage::V1.name(),
    v2 = ProtoMessage::V2.name()
)]
pub struct UnknownMessage(String);

impl FromStr for ProtoMessage {
    type Err = UnknownMessage;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|message| message.name() == name);
        known.ok_or_else(|| UnknownMessage(name.to_owned()))
    }
}

/// The message of a request that is accepted; else why not, in upstream's words.
pub(super) fn negotiate(headers: &HeaderMap, accepted: &[ProtoMessage]) -> Result<ProtoMessage, String> {
    let of = |name| headers.get(name).map_or(Ok(""), |value| value.to_str()).unwrap_or("?");
    let message = message(of(header::CONTENT_TYPE).trim())?;
    if !accepted.contains(&message) {
        let names: Vec<&str> = accepted.iter().map(|message| message.name()).collect();
        return Err(format!(
            "{} protobuf message is not accepted by this server; accepted [{}]",
            message.name(),
            names.join(" ")
        ));
    }
    let encoding = of(header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        return Err(format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ));
    }
    Ok(message)
}

/// What a content type names; without one it is 1.0, as senders of old have it.
fn message(content_type: &str) -> Result<ProtoMessage, String> {
    let mut parts = content_type.split(';');
    if !matches!(parts.next(), None | Some("" | MEDIA_TYPE)) {
        return Err(format!(
            "expected {MEDIA_TYPE} as the first (media) part, got {content_type} content-type"
        ));
    }
    for parameter in parts {
        let pair: Vec<&str> = parameter.split('=').collect();
        let [name, value] = pair.as_slice() else {
            return Err(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {parameter} in {content_type} content-type"
            ));
        };
        // A space before a parameter is allowed. Upstream takes ` proto` for another name, and a message of 2.0 then for an
        // empty one of 1.0.
        if name.trim() == "proto" {
            return value
                .parse()
                .map_err(|error| format!("got {content_type} content type; {error}"));
        }
    }
    Ok(ProtoMessage::V1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn ask(content_type: &str, encoding: &str, accepted: &[ProtoMessage]) -> Result<ProtoMessage, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::CONTENT_TYPE, content_type),
            (header::CONTENT_ENCODING, encoding),
        ] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        negotiate(&headers, accepted)
    }

    #[test]
    fn a_content_type_names_the_message() {
        for (content_type, expected) in [
            ("", ProtoMessage::V1),
            ("application/x-protobuf", ProtoMessage::V1),
            ("application/x-protobuf;proto=prometheus.WriteRequest", ProtoMessage::V1),
            ("application/x-protobuf;charset=x;a=b", ProtoMessage::V1),
            (
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                ProtoMessage::V2,
            ),
            (
                " application/x-protobuf; proto=io.prometheus.write.v2.Request ",
                ProtoMessage::V2,
            ),
        ] {
            assert_eq!(
                ask(content_type, "snappy", &ProtoMessage::ALL),
                Ok(expected),
                "{content_type}"
            );
            assert_eq!(
                ask(content_type, "", &ProtoMessage::ALL),
                Ok(expected),
                "{content_type}"
            );
            assert_eq!(
                ask(content_type, "SNAPPY", &ProtoMessage::ALL),
                Ok(expected),
                "{content_type}"
            );
        }
    }

    #[test]
    fn what_is_not_accepted_is_refused_in_upstreams_words() {
        let refused =
            |content_type, encoding, accepted: &[ProtoMessage]| ask(content_type, encoding, accepted).unwrap_err();
        let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        assert_eq!(
            refused(v2, "", &[ProtoMessage::V1]),
            "io.prometheus.write.v2.Request protobuf message is not accepted by this server; accepted [prometheus.WriteRequest]"
        );
        assert_eq!(
            refused(v2, "zstd", &ProtoMessage::ALL),
            "zstd encoding (compression) is not accepted by this server; only snappy is acceptable"
        );
        assert_eq!(
            refused("application/x-protobuf;proto=foo", "", &ProtoMessage::ALL),
            "got application/x-protobuf;proto=foo content type; unknown remote write protobuf message foo, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"
        );
        assert!(refused("application/x-protobuf;a=b=c", "", &ProtoMessage::ALL).contains("got a=b=c in"));
        assert!(refused("application/x-protobuf ;a=b", "", &ProtoMessage::ALL).starts_with("expected application"));
    }
}
