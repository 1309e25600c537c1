//! Which format to ask for, and which one came.

use std::fmt;

use crate::naming::EscapingScheme;

/// A format that can be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The Prometheus text format, 0.0.4 or 1.0.0.
    PrometheusText,
    /// The OpenMetrics text format.
    OpenMetrics,
    /// The delimited protobuf format.
    Protobuf,
}

/// A protocol as `scrape_protocols` and `fallback_scrape_protocol` name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// The delimited protobuf format, the only one with native histograms.
    PrometheusProto,
    /// The text format everyone knows.
    PrometheusText0_0_4,
    /// The text format with names in quotes.
    PrometheusText1_0_0,
    /// OpenMetrics as it was first proposed.
    OpenMetricsText0_0_1,
    /// OpenMetrics.
    OpenMetricsText1_0_0,
}

impl ScrapeProtocol {
    /// All of them, in upstream's order.
    pub const ALL: [Self; 5] = [
        Self::OpenMetricsText0_0_1,
        Self::OpenMetricsText1_0_0,
        Self::PrometheusProto,
        Self::PrometheusText0_0_4,
        Self::PrometheusText1_0_0,
    ];

    /// What is asked for where the configuration does not say.
    pub fn by_default(native_histograms: bool) -> &'static [Self] {
        if native_histograms {
            &Self::WITH_NATIVE_HISTOGRAMS
        } else {
            &Self::DEFAULT
        }
    }

    /// What is asked for where neither formats nor native histograms are.
    pub const DEFAULT: [Self; 4] = [
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    /// What is asked for where native histograms are, and formats are not.
    pub const WITH_NATIVE_HISTOGRAMS: [Self; 5] = [
        Self::PrometheusProto,
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
        }
    }

    /// The protocol with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == name)
    }

    fn accepted(self) -> &'static str {
        match self {
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Self::PrometheusText1_0_0 => "text/plain;version=1.0.0",
            Self::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::PrometheusProto => PROTOBUF,
            Self::PrometheusText0_0_4 | Self::PrometheusText1_0_0 => TEXT,
            Self::OpenMetricsText0_0_1 | Self::OpenMetricsText1_0_0 => OPENMETRICS,
        }
    }
}

impl fmt::Display for ScrapeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const TEXT: &str = "text/plain";
const OPENMETRICS: &str = "application/openmetrics-text";
const PROTOBUF: &str = "application/vnd.google.protobuf";
/// What nearly all targets send, letter by letter: taken without being parsed.
const USUAL: [(&str, Format); 6] = [
    ("text/plain; version=0.0.4; charset=utf-8", Format::PrometheusText),
    (
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        Format::PrometheusText,
    ),
    (
        "text/plain; version=0.0.4; charset=utf-8; escaping=values",
        Format::PrometheusText,
    ),
    ("text/plain; version=0.0.4", Format::PrometheusText),
    (
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Format::OpenMetrics,
    ),
    (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        Format::OpenMetrics,
    ),
];

/// The `Accept` header for these protocols, the most wanted first, with upstream's weights.
pub fn accept_header(protocols: &[ScrapeProtocol], escaping: EscapingScheme) -> String {
    use std::fmt::Write as _;

    let mut header = String::new();
    let mut weight = ScrapeProtocol::ALL.len() + 1;
    for protocol in protocols {
        header.push_str(protocol.accepted());
        if matches!(
            protocol,
            ScrapeProtocol::PrometheusText1_0_0 | ScrapeProtocol::OpenMetricsText1_0_0
        ) {
            header.push_str(";escaping=");
            header.push_str(escaping.as_str());
        }
        let _ = write!(header, ";q=0.{weight},");
        weight = weight.saturating_sub(1);
    }
    let _ = write!(header, "*/*;q=0.{weight}");
    header
}

/// The format of a body, and what was odd about how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The format to parse in.
    pub format: Format,
    /// The fallback had to be used, and why: worth a debug line.
    pub warning: Option<ContentTypeError>,
}

/// Why the content type of an answer does not name a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentTypeError {
    /// There is none.
    #[error("non-compliant scrape target sending blank Content-Type{}", after_blank(.fallback))]
    Blank {
        /// The fallback's media type.
        fallback: Option<&'static str>,
    },
    /// It is no media type.
    #[error("{}: mime: {reason}", cannot_parse(.content_type, .fallback))]
    Malformed {
        /// What came.
        content_type: String,
        /// What is wrong with it.
        reason: &'static str,
        /// The fallback's media type.
        fallback: Option<&'static str>,
    },
    /// It is a media type of something else.
    #[error("received unsupported Content-Type {content_type:?}{}", after_unsupported(.fallback))]
    Unsupported {
        /// What came.
        content_type: String,
        /// The fallback's media type.
        fallback: Option<&'static str>,
    },
}

fn after_blank(fallback: &Option<&'static str>) -> String {
    match fallback {
        Some(fallback) => format!(", using fallback_scrape_protocol {fallback:?}"),
        None => " and no fallback_scrape_protocol specified for target".to_owned(),
    }
}

fn after_unsupported(fallback: &Option<&'static str>) -> String {
    after_blank(fallback)
}

fn cannot_parse(content_type: &str, fallback: &Option<&'static str>) -> String {
    match fallback {
        Some(fallback) => format!(
            "could not parse received Content-Type {content_type:?}, using fallback_scrape_protocol {fallback:?}"
        ),
        None => format!("cannot parse Content-Type {content_type:?} and no fallback_scrape_protocol for target"),
    }
}

impl Format {
    /// The format of a body by its `Content-Type`, else by `fallback_scrape_protocol`.
    ///
    /// # Errors
    /// Neither names a format that can be parsed: the scrape fails.
    pub fn negotiate(
        content_type: Option<&str>,
        fallback: Option<ScrapeProtocol>,
    ) -> Result<Negotiated, ContentTypeError> {
        let fallback = fallback.map(ScrapeProtocol::media_type);
        let content_type = content_type.unwrap_or_default();
        if let Some((_, format)) = USUAL.iter().find(|(text, _)| *text == content_type) {
            return Ok(Negotiated {
                format: *format,
                warning: None,
            });
        }
        let warning = match media_type(content_type) {
            _ if content_type.is_empty() => ContentTypeError::Blank { fallback },
            Ok(media_type) => {
                if let Some(format) = Self::of_media_type(&media_type) {
                    return Ok(Negotiated { format, warning: None });
                }
                let content_type = content_type.to_owned();
                ContentTypeError::Unsupported { content_type, fallback }
            }
            Err(reason) => ContentTypeError::Malformed {
                content_type: content_type.to_owned(),
                reason,
                fallback,
            },
        };
        match fallback.and_then(Self::of_media_type) {
            Some(format) => Ok(Negotiated {
                format,
                warning: Some(warning),
            }),
            None => Err(warning),
        }
    }

    fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            TEXT => Some(Self::PrometheusText),
            OPENMETRICS => Some(Self::OpenMetrics),
            PROTOBUF => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// The media type without its parameters, which are checked (RFC 2045, as Go's `mime` reads it).
fn media_type(content_type: &str) -> Result<String, &'static str> {
    let (base, mut rest) = content_type.split_at(content_type.find(';').unwrap_or(content_type.len()));
    let base = base.trim().to_ascii_lowercase();
    check_media_type(&base)?;
    let mut seen: Vec<String> = Vec::new();
    while !rest.trim().is_empty() {
        let Some((name, tail)) = parameter(rest) else {
            if rest.trim() == ";" {
                break;
            }
            return Err("invalid media parameter");
        };
        let name = name.to_ascii_lowercase();
        if seen.contains(&name) {
            return Err("duplicate parameter name");
        }
        seen.push(name);
        rest = tail;
    }
    Ok(base)
}

fn check_media_type(base: &str) -> Result<(), &'static str> {
    let (kind, rest) = split_token(base);
    if kind.is_empty() {
        return Err("no media type");
    }
    if rest.is_empty() {
        return Ok(());
    }
    let Some(rest) = rest.strip_prefix('/') else {
        return Err("expected slash after first token");
    };
    match split_token(rest) {
        ("", _) => Err("expected token after slash"),
        (_, "") => Ok(()),
        _ => Err("unexpected content after media subtype"),
    }
}

/// Splits `; name = value` off the front.
fn parameter(text: &str) -> Option<(&str, &str)> {
    let rest = text.trim_start().strip_prefix(';')?.trim_start();
    let (name, rest) = split_token(rest);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut escaped = false;
        for (at, c) in quoted.char_indices() {
            match c {
                '"' if !escaped => return Some((name, quoted.get(at + 1..)?)),
                '\r' | '\n' => return None,
                _ => escaped = c == '\\' && !escaped,
            }
        }
        return None;
    }
    let (value, rest) = split_token(rest);
    (!value.is_empty()).then_some((name, rest))
}

fn split_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}
