//! How a job's targets are called: authentication, TLS, proxy, extra headers.

use super::ConfigError;
use super::secret::Secret;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `basic_auth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The user's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// A file that holds it, read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_file: Option<PathBuf>,
    /// The password.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub password: Secret,
    /// A file that holds it, read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// `authorization`: a header of that name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// What stands before the credentials.
    #[serde(rename = "type")]
    pub kind: String,
    /// The credentials.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub credentials: Secret,
    /// A file that holds them, read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            kind: "Bearer".to_owned(),
            credentials: Secret::default(),
            credentials_file: None,
        }
    }
}

/// A version of TLS, by upstream's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum TlsVersion {
    /// TLS 1.0, which is read and raised to 1.2: nothing older is built in.
    #[serde(rename = "TLS10")]
    Tls10,
    /// TLS 1.1, likewise.
    #[serde(rename = "TLS11")]
    Tls11,
    /// TLS 1.2.
    #[serde(rename = "TLS12")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "TLS13")]
    Tls13,
}

/// `tls_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificates to trust instead of the system's, in PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// The client's certificate chain, in PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// The client's key, in PEM.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub key: Secret,
    /// A file for `ca`; like the other files it is read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A file for `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// A file for `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name the server's certificate must be for, instead of the target's host. Needs `ca` or `ca_file`. What is
    /// sent as SNI stays the target's host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
    /// The oldest version to speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// The newest version to speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
}

/// The values of one of `http_headers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderValues {
    /// Values shown in the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Values masked there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Files with a value each, read again when they change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// Everything about calling a target. In the file these keys stand among the job's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HttpConfig {
    /// `basic_auth`.
    pub basic_auth: Option<BasicAuth>,
    /// `authorization`, or what `bearer_token` and `bearer_token_file` amount to.
    pub authorization: Option<Authorization>,
    /// `tls_config`.
    pub tls_config: Option<TlsConfig>,
    /// `follow_redirects`.
    pub follow_redirects: bool,
    /// `enable_http2`.
    pub enable_http2: bool,
    /// `proxy_url`.
    pub proxy_url: String,
    /// `no_proxy`.
    pub no_proxy: String,
    /// `proxy_from_environment`.
    pub proxy_from_environment: bool,
    /// `http_headers`.
    pub http_headers: BTreeMap<String, HeaderValues>,
}

/// Headers that a job may not set by `http_headers`, since they are the scrape's own.
const RESERVED_HEADERS: [&str; 13] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-scrape-timeout-seconds",
];

/// The checks of upstream's `HTTPClientConfig.Validate`, in its words.
pub(super) fn check(job: &super::ScrapeConfig) -> Result<(), ConfigError> {
    let token = !job.bearer_token.is_empty();
    let token_file = job.bearer_token_file.is_some();
    let fail = |text: &str| {
        Err(ConfigError::Invalid {
            job: job.job_name.clone(),
            problem: text.to_owned(),
        })
    };
    if token && token_file {
        return fail("at most one of bearer_token & bearer_token_file must be configured");
    }
    if (job.basic_auth.is_some() || job.oauth2.is_some()) && (token || token_file) {
        return fail("at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured");
    }
    if let Some(basic) = &job.basic_auth {
        if !basic.username.is_empty() && basic.username_file.is_some() {
            return fail("at most one of basic_auth username & username_file must be configured");
        }
        if !basic.password.is_empty() && basic.password_file.is_some() {
            return fail("at most one of basic_auth password & password_file must be configured");
        }
    }
    if let Some(authorization) = &job.authorization {
        if token || token_file {
            return fail("authorization is not compatible with bearer_token & bearer_token_file");
        }
        if !authorization.credentials.is_empty() && authorization.credentials_file.is_some() {
            return fail("at most one of authorization credentials & credentials_file must be configured");
        }
        if authorization.kind.trim().eq_ignore_ascii_case("basic") {
            return fail("authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
        }
        if job.basic_auth.is_some() || job.oauth2.is_some() {
            return fail("at most one of basic_auth, oauth2 & authorization must be configured");
        }
    } else if job.basic_auth.is_some() && job.oauth2.is_some() {
        return fail("at most one of basic_auth, oauth2 & authorization must be configured");
    }
    if let Some(tls) = &job.tls_config {
        check_tls(tls).or_else(fail)?;
    }
    check_proxy(job).or_else(fail)?;
    for name in job.http_headers.keys() {
        if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return fail(&format!("setting header {name:?} is not allowed"));
        }
    }
    Ok(())
}

fn check_tls(tls: &TlsConfig) -> Result<(), &'static str> {
    if !tls.ca.is_empty() && tls.ca_file.is_some() {
        return Err("at most one of ca and ca_file must be configured");
    }
    if !tls.cert.is_empty() && tls.cert_file.is_some() {
        return Err("at most one of cert and cert_file must be configured");
    }
    if !tls.key.is_empty() && tls.key_file.is_some() {
        return Err("at most one of key and key_file must be configured");
    }
    let cert = !tls.cert.is_empty() || tls.cert_file.is_some();
    let key = !tls.key.is_empty() || tls.key_file.is_some();
    match (cert, key) {
        (true, false) => {
            Err("exactly one of key or key_file must be configured when a client certificate is configured")
        }
        (false, true) => Err("exactly one of cert or cert_file must be configured when a client key is configured"),
        _ => Ok(()),
    }
}

fn check_proxy(job: &super::ScrapeConfig) -> Result<(), &'static str> {
    if job.proxy_from_environment && !job.proxy_url.is_empty() {
        return Err("if proxy_from_environment is configured, proxy_url must not be configured");
    }
    if job.proxy_from_environment && !job.no_proxy.is_empty() {
        return Err("if proxy_from_environment is configured, no_proxy must not be configured");
    }
    if job.proxy_url.is_empty() && !job.no_proxy.is_empty() {
        return Err("if no_proxy is configured, proxy_url must also be configured");
    }
    Ok(())
}

/// Shows a URL without the password in it.
pub(super) fn url_without_password<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // Refused only for URLs that cannot have a password.
            let _ = url.set_password(Some("xxxxx"));
            to.serialize_str(url.as_str())
        }
        _ => to.serialize_str(text),
    }
}

impl super::ScrapeConfig {
    /// How this job's targets are called.
    pub fn http(&self) -> HttpConfig {
        let bearer = (!self.bearer_token.is_empty() || self.bearer_token_file.is_some()).then(|| Authorization {
            credentials: self.bearer_token.clone(),
            credentials_file: self.bearer_token_file.clone(),
            ..Authorization::default()
        });
        HttpConfig {
            basic_auth: self.basic_auth.clone(),
            authorization: self.authorization.clone().or(bearer),
            tls_config: self.tls_config.clone(),
            follow_redirects: self.follow_redirects,
            enable_http2: self.enable_http2,
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            http_headers: self.http_headers.clone(),
        }
    }
}
