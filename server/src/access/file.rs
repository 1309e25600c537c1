//! What the file of `--web.config.file` says, before any other file is read.

use super::hash::Hash;
use super::rate::Rate;
use crate::config::{Fault, Node, Place, read};
use axum::http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file as it is written, secrets and all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    tls_server_config: TlsSection,
    http_server_config: HttpSection,
    rate_limit: RateSection,
    basic_auth_users: BTreeMap<String, String>,
}

/// `tls_server_config`; a text that is empty counts as not given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    cert: String,
    key: String,
    client_ca: String,
    cert_file: String,
    key_file: String,
    pub(super) client_auth_type: String,
    client_ca_file: String,
    pub(super) cipher_suites: Vec<String>,
    pub(super) curve_preferences: Vec<String>,
    pub(super) min_version: String,
    pub(super) max_version: String,
    pub(super) prefer_server_cipher_suites: bool,
    pub(super) client_allowed_sans: Option<Vec<String>>,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            cert: String::new(),
            key: String::new(),
            client_ca: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            client_auth_type: String::new(),
            client_ca_file: String::new(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            min_version: "TLS12".to_owned(),
            max_version: "TLS13".to_owned(),
            prefer_server_cipher_suites: true,
            client_allowed_sans: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpSection {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            http2: true,
            headers: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateSection {
    interval: String,
    burst: f64,
}

/// A text of the file, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// May be a secret.
    Inline(String),
    File(PathBuf),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(<secret>)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// TLS as the file asks for it.
#[derive(Debug, Clone)]
pub(super) struct TlsWanted {
    pub(super) section: TlsSection,
    pub(super) cert: Origin,
    pub(super) key: Origin,
    pub(super) client_ca: Option<Origin>,
    /// Where the section and its keys stand.
    places: Places,
}

/// The places of a section's keys, for errors that are found later.
#[derive(Debug, Clone)]
struct Places {
    section: Place,
    keys: Vec<(String, Place)>,
}

impl TlsWanted {
    /// What is wrong with a key of the section.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        self.places.fault(key, message)
    }

    /// The one of two keys that was given: the file before the text, as upstream.
    pub(super) fn key_of(&self, text: &'static str, file: &'static str) -> &'static str {
        let given = |name: &str| self.places.keys.iter().any(|(key, _)| key == name);
        if given(file) || !given(text) { file } else { text }
    }
}

impl Places {
    fn of(section: Option<&Node>, root: &Node) -> Self {
        let node = section.unwrap_or(root);
        let keys = node.entries().iter().map(|(key, value)| (key.text.clone(), value.at));
        Self {
            section: node.at,
            keys: keys.collect(),
        }
    }

    fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        let at = self.keys.iter().find(|(name, _)| name == key).map(|(_, at)| *at);
        let fault = Fault::new(at.unwrap_or(self.section), message);
        match at {
            Some(at) => fault.below_key(key, at),
            None => fault,
        }
        .below_key("tls_server_config", self.section)
    }
}

/// The file, read and checked, but for what other files hold.
#[derive(Debug, Default)]
pub(super) struct WebConfig {
    pub(super) tls: Option<TlsWanted>,
    pub(super) http2: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) rate: Option<Rate>,
    pub(super) users: BTreeMap<String, Hash>,
}

impl WebConfig {
    /// Reads a text; paths in it are seen from `folder`.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, Fault> {
        let root = Node::parse(text)?;
        let written: Written = read(&root)?;
        let section = root.get("tls_server_config").filter(|n| !n.is_null());
        Ok(Self {
            tls: tls(written.tls_server_config, Places::of(section, &root), folder)?,
            http2: written.http_server_config.http2,
            headers: headers(&written.http_server_config.headers, &root)?,
            rate: rate(&written.rate_limit, &root)?,
            users: users(&written.basic_auth_users, &root)?,
        })
    }
}

/// TLS is asked for by any key that names a certificate or a policy; the others alone do not.
fn tls(mut section: TlsSection, places: Places, folder: &Path) -> Result<Option<TlsWanted>, Fault> {
    let origin = |file: &str, text: &str| match (file.is_empty(), text.is_empty()) {
        (false, _) => Some(Origin::File(folder.join(file))),
        (true, false) => Some(Origin::Inline(text.to_owned())),
        (true, true) => None,
    };
    let cert = origin(&section.cert_file, &section.cert);
    let key = origin(&section.key_file, &section.key);
    let client_ca = origin(&section.client_ca_file, &section.client_ca);
    version(&section.min_version).map_err(|why| places.fault("min_version", why))?;
    version(&section.max_version).map_err(|why| places.fault("max_version", why))?;
    if cert.is_none() && key.is_none() && client_ca.is_none() && section.client_auth_type.is_empty() {
        return Ok(None);
    }
    let Some(cert) = cert else {
        return Err(places.fault("cert_file", "missing one of cert or cert_file"));
    };
    let Some(key) = key else {
        return Err(places.fault("key_file", "missing one of key or key_file"));
    };
    // From here on it is where its place is not forgotten: in an `Origin`.
    section.key.clear();
    Ok(Some(TlsWanted {
        section,
        cert,
        key,
        client_ca,
        places,
    }))
}

/// Fails for what is no version of TLS at all.
fn version(text: &str) -> Result<(), String> {
    match text {
        "TLS10" | "TLS11" | "TLS12" | "TLS13" => Ok(()),
        other => Err(format!("unknown TLS version: {other}")),
    }
}

/// The headers that may be set, and the values of those that have few. Upstream keeps the list short on purpose.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

fn headers(given: &BTreeMap<String, String>, root: &Node) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let mut headers = Vec::new();
    for (name, value) in given {
        let fail = |message: String| fault_at(root, &["http_server_config", "headers", name], message);
        let Some((_, values)) = HEADERS.iter().find(|(known, _)| known == name) else {
            return Err(fail(format!("HTTP header {name:?} can not be configured")));
        };
        if !values.is_empty() && !values.contains(&value.as_str()) {
            return Err(fail(format!(
                "invalid value for {name}. Expected one of: {values:?}, but got: {value:?}"
            )));
        }
        // A line break would begin another header; upstream takes it and sends a space.
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| {
            fail(format!(
                "the value of {name} holds a line break or another control character"
            ))
        })?;
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|e| fail(e.to_string()))?;
        if !value.is_empty() {
            headers.push((header, value));
        }
    }
    Ok(headers)
}

fn rate(section: &RateSection, root: &Node) -> Result<Option<Rate>, Fault> {
    let nanos = go_duration(&section.interval).ok_or_else(|| {
        let message = format!("cannot unmarshal {:?} into a duration", section.interval);
        fault_at(root, &["rate_limit", "interval"], message)
    })?;
    // A negative one bounds nothing, as upstream.
    let interval = u64::try_from(nanos).unwrap_or(0);
    Ok((interval > 0).then(|| Rate {
        interval: Duration::from_nanos(interval),
        // As upstream, the fraction is cut off; the cast also bounds it.
        burst: section.burst as u32,
    }))
}

/// A duration as Go writes them (`1h30m`, `1.5s`, `-2ms`), or a number of nanoseconds; empty is none. In nanoseconds.
fn go_duration(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    if let Ok(nanos) = text.parse::<i64>() {
        return Some(nanos);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * nanos;
        rest = tail;
    }
    (text.len() > 1 && total < i64::MAX as f64).then_some((sign * total) as i64)
}

fn users(given: &BTreeMap<String, String>, root: &Node) -> Result<BTreeMap<String, Hash>, Fault> {
    let mut users = BTreeMap::new();
    for (name, hash) in given {
        let hash = Hash::parse(hash).map_err(|why| fault_at(root, &["basic_auth_users", name], why))?;
        users.insert(name.clone(), hash);
    }
    Ok(users)
}

/// A fault at the value that keys lead to, as far as they lead.
fn fault_at(root: &Node, keys: &[&str], message: impl Into<String>) -> Fault {
    let mut node = root;
    let mut trail = Vec::new();
    for key in keys {
        let Some(next) = node.get(key) else { break };
        node = next;
        trail.push((*key, next.at));
    }
    let fault = Fault::new(node.at, message);
    trail
        .into_iter()
        .rev()
        .fold(fault, |fault, (key, at)| fault.below_key(key, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<WebConfig, String> {
        WebConfig::parse(text, Path::new("/etc/web")).map_err(|fault| {
            let at = fault.at.unwrap_or_default();
            format!("{}:{}: {}: {}", at.line, at.column, fault.path, fault.message)
        })
    }

    #[test]
    fn an_empty_file_asks_for_nothing_and_keys_beside_a_certificate_for_no_tls() {
        for text in ["", "tls_server_config:\n", "tls_server_config: {min_version: TLS12}\n"] {
            let config = parse(text).unwrap();
            assert!(config.tls.is_none() && config.users.is_empty() && config.rate.is_none());
            assert!(config.http2 && config.headers.is_empty());
        }
    }

    #[test]
    fn paths_are_seen_from_the_folder_of_the_file_and_a_file_comes_before_a_text() {
        let config = parse("tls_server_config: {cert_file: a.pem, cert: x, key: y}\n").unwrap();
        let tls = config.tls.unwrap();
        assert_eq!(tls.cert, Origin::File("/etc/web/a.pem".into()));
        assert_eq!(tls.key, Origin::Inline("y".into()));
    }

    #[test]
    fn errors_name_place_and_key() {
        for (text, error) in [
            (
                "tls_server_config:\n  cert_file: a\n",
                "2:3: tls_server_config: missing one of key or key_file",
            ),
            (
                "tls_server_config: {min_version: TLS14}\n",
                "1:34: tls_server_config.min_version: unknown TLS version: TLS14",
            ),
            (
                "http_server_config:\n  headers:\n    X-Foo: a\n",
                "3:12: http_server_config.headers.X-Foo: HTTP header \"X-Foo\" can not be configured",
            ),
            (
                "http_server_config: {headers: {X-Frame-Options: DENY}}\n",
                "1:49: http_server_config.headers.X-Frame-Options: invalid value for X-Frame-Options. Expected one of: \
                 [\"deny\", \"sameorigin\"], but got: \"DENY\"",
            ),
            (
                "http_server_config: {headers: {X-XSS-Protection: \"1\\r\\nSet-Cookie: a=b\"}}\n",
                "1:50: http_server_config.headers.X-XSS-Protection: the value of X-XSS-Protection holds a line break or \
                 another control character",
            ),
            (
                "basic_auth_users:\n  a: secret\n",
                "2:6: basic_auth_users.a: the hash is too short to be one of bcrypt",
            ),
            (
                "rate_limit: {interval: 1d}\n",
                "1:24: rate_limit.interval: cannot unmarshal \"1d\" into a duration",
            ),
            ("tidegauge: {}\n", "1:1: tidegauge: field tidegauge not found here"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("", Some(0)),
            ("0", Some(0)),
            ("7", Some(7)),
            ("1s", Some(1_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("1h2m", Some(3_720_000_000_000)),
            ("-1s", Some(-1_000_000_000)),
            ("1us", Some(1000)),
            ("1d", None),
            ("s", None),
            ("1.2.3s", None),
            ("-", None),
            ("1s2", None),
        ] {
            assert_eq!(go_duration(text), nanos, "{text}");
        }
    }
}
