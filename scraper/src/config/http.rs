//! How servers are called: authentication, TLS, proxy, extra headers.

use super::refused::{Refused, SecretManager};
use super::secret::Secret;
use super::{Problem, is_false};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// Of a manager of secrets, which there is not.
    #[serde(skip_serializing)]
    pub username_ref: Refused<SecretManager>,
    /// Of a manager of secrets, which there is not.
    #[serde(skip_serializing)]
    pub password_ref: Refused<SecretManager>,
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
    /// Of a manager of secrets, which there is not.
    #[serde(skip_serializing)]
    pub credentials_ref: Refused<SecretManager>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            kind: "Bearer".to_owned(),
            credentials: Secret::default(),
            credentials_file: None,
            credentials_ref: Refused::default(),
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
    /// Of a manager of secrets, which there is not.
    #[serde(skip_serializing)]
    pub ca_ref: Refused<SecretManager>,
    /// Of a manager of secrets, which there is not.
    #[serde(skip_serializing)]
    pub cert_ref: Refused<SecretManager>,
    /// Of a manager of secrets, which there is not.
    #[serde(skip_serializing)]
    pub key_ref: Refused<SecretManager>,
    /// The name the server's certificate must be for, and that is sent as SNI, instead of the target's host.
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

/// `oauth2`: a token of the client-credentials grant, sent as `Authorization: Bearer`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth2 {
    /// Who we are.
    pub client_id: String,
    /// What proves it.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub client_secret: Secret,
    /// A file that holds it, read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// Of a manager of secrets, which there is not.
    #[serde(skip_serializing)]
    pub client_secret_ref: Refused<SecretManager>,
    /// What the token is to be good for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Where tokens are given out.
    #[serde(serialize_with = "url_without_password")]
    pub token_url: String,
    /// More parameters of the request for a token.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_params: BTreeMap<String, String>,
    /// For the call to `token_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    /// For the call to `token_url`, as are the other keys of a proxy.
    #[serde(skip_serializing_if = "String::is_empty", serialize_with = "url_without_password")]
    pub proxy_url: String,
    /// Hosts to call without the proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    /// Whether the environment names the proxy.
    #[serde(skip_serializing_if = "is_false")]
    pub proxy_from_environment: bool,
    /// Headers of `CONNECT`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

impl OAuth2 {
    /// The keys of the proxy.
    pub(crate) fn proxy(&self) -> ProxyConfig {
        ProxyConfig {
            url: self.proxy_url.clone(),
            except: self.no_proxy.clone(),
            from_environment: self.proxy_from_environment,
            connect_header: self.proxy_connect_header.clone(),
        }
    }
}

/// Which proxy to go through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyConfig {
    /// `proxy_url`: empty for none.
    pub url: String,
    /// `no_proxy`: hosts to call without it.
    pub except: String,
    /// `proxy_from_environment`.
    pub from_environment: bool,
    /// `proxy_connect_header`: headers of `CONNECT`.
    pub connect_header: BTreeMap<String, Vec<Secret>>,
}

/// Everything about calling a server. In the file these keys stand among those of the section that calls.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HttpConfig {
    /// `basic_auth`.
    pub basic_auth: Option<BasicAuth>,
    /// `authorization`, or what `bearer_token` and `bearer_token_file` amount to.
    pub authorization: Option<Authorization>,
    /// `oauth2`.
    pub oauth2: Option<OAuth2>,
    /// `tls_config`.
    pub tls_config: Option<TlsConfig>,
    /// `follow_redirects`.
    pub follow_redirects: bool,
    /// `enable_http2`.
    pub enable_http2: bool,
    /// `proxy_url` and the keys beside it.
    pub proxy: ProxyConfig,
    /// `http_headers`.
    pub http_headers: BTreeMap<String, HeaderValues>,
}

/// Declares a section of the file that holds the keys of an HTTP client among its own: those before and those after,
/// and the defaults of both. Serde wants all keys of a section in one struct, to name the place of an unknown one.
macro_rules! http_section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            before { $($before:tt)* }
            after { $($after:tt)* }
            defaults { $($field:ident: $value:expr),* $(,)? }
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($before)*
            /// A user and password.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub basic_auth: Option<$crate::config::BasicAuth>,
            /// A header `Authorization`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub authorization: Option<$crate::config::Authorization>,
            /// A token that another server gives out.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub oauth2: Option<$crate::config::OAuth2>,
            /// The older way to write `authorization`.
            #[serde(skip_serializing_if = "crate::config::Secret::is_empty")]
            pub bearer_token: $crate::config::Secret,
            /// The older way to write `authorization`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub bearer_token_file: Option<std::path::PathBuf>,
            /// For `https`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub tls_config: Option<$crate::config::TlsConfig>,
            /// Whether redirects are followed.
            pub follow_redirects: bool,
            /// Whether HTTP/2 is spoken to servers with TLS that offer it.
            pub enable_http2: bool,
            /// A proxy to go through.
            #[serde(
                skip_serializing_if = "String::is_empty",
                serialize_with = "crate::config::http::url_without_password"
            )]
            pub proxy_url: String,
            /// Hosts to call without the proxy.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub no_proxy: String,
            /// Whether the environment names the proxy.
            #[serde(skip_serializing_if = "crate::config::is_false")]
            pub proxy_from_environment: bool,
            /// Headers of `CONNECT`.
            #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
            pub proxy_connect_header: std::collections::BTreeMap<String, Vec<$crate::config::Secret>>,
            /// More headers to send.
            #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
            pub http_headers: std::collections::BTreeMap<String, $crate::config::HeaderValues>,
            $($after)*
        }

        /// What serde starts from: nothing given, but the switches that are on unless turned off.
        impl Default for $name {
            fn default() -> Self {
                Self {
                    basic_auth: None,
                    authorization: None,
                    oauth2: None,
                    bearer_token: $crate::config::Secret::default(),
                    bearer_token_file: None,
                    tls_config: None,
                    follow_redirects: true,
                    enable_http2: true,
                    proxy_url: String::new(),
                    no_proxy: String::new(),
                    proxy_from_environment: false,
                    proxy_connect_header: std::collections::BTreeMap::new(),
                    http_headers: std::collections::BTreeMap::new(),
                    $($field: $value,)*
                }
            }
        }

        impl $name {
            /// How servers are called.
            pub fn http(&self) -> $crate::config::HttpConfig {
                let older = (&self.bearer_token, &self.bearer_token_file);
                $crate::config::HttpConfig {
                    basic_auth: self.basic_auth.clone(),
                    authorization: $crate::config::http::authorization(&self.authorization, older),
                    oauth2: self.oauth2.clone(),
                    tls_config: self.tls_config.clone(),
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    proxy: $crate::config::ProxyConfig {
                        url: self.proxy_url.clone(),
                        except: self.no_proxy.clone(),
                        from_environment: self.proxy_from_environment,
                        connect_header: self.proxy_connect_header.clone(),
                    },
                    http_headers: self.http_headers.clone(),
                }
            }

            /// What is wrong with the keys of the client, in upstream's words.
            pub(crate) fn check_http(&self) -> Result<(), $crate::config::Problem> {
                let older = (&self.bearer_token, &self.bearer_token_file);
                $crate::config::http::check_older(older, &self.basic_auth, &self.oauth2, &self.authorization)?;
                $crate::config::http::check(&self.http())
            }

            /// Turns the older keys into the newer one, as upstream shows them.
            pub(crate) fn settle_http(&mut self) {
                self.authorization = self.http().authorization;
                self.bearer_token = $crate::config::Secret::default();
                self.bearer_token_file = None;
            }

            /// Takes relative paths as seen from this folder.
            pub(crate) fn set_http_directory(&mut self, folder: &std::path::Path) {
                $crate::config::http::set_directory(
                    folder,
                    &mut self.basic_auth,
                    &mut self.authorization,
                    &mut self.oauth2,
                    &mut self.tls_config,
                    &mut self.http_headers,
                );
            }
        }
    };
}
pub(super) use http_section;

/// Headers that may not be set by `http_headers`, since they are the call's own.
const RESERVED_HEADERS: [&str; 18] = [
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
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// `bearer_token` and `bearer_token_file`.
type Older<'c> = (&'c Secret, &'c Option<PathBuf>);

/// `authorization`, or what the older keys amount to; its type is never empty.
pub(crate) fn authorization(given: &Option<Authorization>, (token, file): Older<'_>) -> Option<Authorization> {
    let older = || Authorization {
        credentials: token.clone(),
        credentials_file: file.clone(),
        ..Authorization::default()
    };
    let mut authorization = match given {
        Some(given) => given.clone(),
        None => (!token.is_empty() || file.is_some()).then(older)?,
    };
    authorization.kind = match authorization.kind.trim() {
        "" => Authorization::default().kind,
        kind => kind.to_owned(),
    };
    Some(authorization)
}

/// The older keys stand alone.
pub(crate) fn check_older(
    (token, file): Older<'_>,
    basic_auth: &Option<BasicAuth>,
    oauth2: &Option<OAuth2>,
    authorization: &Option<Authorization>,
) -> Result<(), &'static str> {
    if !token.is_empty() && file.is_some() {
        return Err("at most one of bearer_token & bearer_token_file must be configured");
    }
    if token.is_empty() && file.is_none() {
        return Ok(());
    }
    if basic_auth.is_some() || oauth2.is_some() {
        return Err("at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured");
    }
    if authorization.is_some() {
        return Err("authorization is not compatible with bearer_token & bearer_token_file");
    }
    Ok(())
}

/// The checks of upstream's `HTTPClientConfig.Validate`, in its words.
pub(crate) fn check(http: &HttpConfig) -> Result<(), Problem> {
    check_authentication(http)?;
    if let Some(oauth2) = &http.oauth2 {
        check_oauth2(oauth2).map_err(|problem| problem.below("oauth2"))?;
    }
    if let Some(tls) = &http.tls_config {
        check_tls(tls)?;
    }
    check_proxy(&http.proxy)?;
    check_headers(&http.http_headers)
}

fn check_authentication(http: &HttpConfig) -> Result<(), Problem> {
    let fail = |key: &str, message: &str| Err(Problem::from(message).below(key));
    if let Some(basic) = &http.basic_auth {
        if !basic.username.is_empty() && basic.username_file.is_some() {
            return fail(
                "basic_auth",
                "at most one of basic_auth username, username_file & username_ref must be configured",
            );
        }
        if !basic.password.is_empty() && basic.password_file.is_some() {
            return fail(
                "basic_auth",
                "at most one of basic_auth password, password_file & password_ref must be configured",
            );
        }
    }
    if let Some(authorization) = &http.authorization {
        if !authorization.credentials.is_empty() && authorization.credentials_file.is_some() {
            return fail(
                "authorization",
                "at most one of authorization credentials & credentials_file must be configured",
            );
        }
        if authorization.kind.eq_ignore_ascii_case("basic") {
            return fail(
                "authorization",
                "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
            );
        }
    }
    let ways = [
        http.basic_auth.is_some(),
        http.oauth2.is_some(),
        http.authorization.is_some(),
    ];
    if ways.iter().filter(|given| **given).count() > 1 {
        return Err("at most one of basic_auth, oauth2 & authorization must be configured".into());
    }
    Ok(())
}

fn check_oauth2(oauth2: &OAuth2) -> Result<(), Problem> {
    let fail = |text: &str| Err(text.into());
    if oauth2.client_id.is_empty() {
        return fail("oauth2 client_id must be configured");
    }
    if oauth2.token_url.is_empty() {
        return fail("oauth2 token_url must be configured");
    }
    if !oauth2.client_secret.is_empty() && oauth2.client_secret_file.is_some() {
        return fail("at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured");
    }
    if let Some(tls) = &oauth2.tls_config {
        check_tls(tls)?;
    }
    check_proxy(&oauth2.proxy())
}

fn check_headers(headers: &BTreeMap<String, HeaderValues>) -> Result<(), Problem> {
    for (name, values) in headers {
        let fail = |message: String| Err(Problem::from(message).below(name.as_str()).below("http_headers"));
        if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return fail(format!("setting header {name:?} is not allowed"));
        }
        if name.parse::<HeaderName>().is_err() {
            return fail(format!("{name:?} is not the name of a header"));
        }
        if let Some(at) = values
            .values
            .iter()
            .position(|text| HeaderValue::from_str(text).is_err())
        {
            return fail(format!("value {at} of header {name:?} cannot be sent"));
        }
    }
    Ok(())
}

fn check_tls(tls: &TlsConfig) -> Result<(), Problem> {
    let fail = |text: &str| Err(Problem::from(text).below("tls_config"));
    if !tls.ca.is_empty() && tls.ca_file.is_some() {
        return fail("at most one of ca, ca_file & ca_ref must be configured");
    }
    if !tls.cert.is_empty() && tls.cert_file.is_some() {
        return fail("at most one of cert, cert_file & cert_ref must be configured");
    }
    if !tls.key.is_empty() && tls.key_file.is_some() {
        return fail("at most one of key and key_file must be configured");
    }
    let cert = !tls.cert.is_empty() || tls.cert_file.is_some();
    let key = !tls.key.is_empty() || tls.key_file.is_some();
    match (cert, key) {
        (true, false) => {
            return fail("exactly one of key or key_file must be configured when a client certificate is configured");
        }
        (false, true) => {
            return fail("exactly one of cert or cert_file must be configured when a client key is configured");
        }
        _ => {}
    }
    match (tls.min_version, tls.max_version) {
        (Some(min), Some(max)) if max < min => {
            fail("tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified")
        }
        (_, Some(TlsVersion::Tls10 | TlsVersion::Tls11)) => {
            fail("tls_config.max_version: nothing older than TLS12 is built in")
        }
        _ => Ok(()),
    }
}

fn check_proxy(proxy: &ProxyConfig) -> Result<(), Problem> {
    let fail = |key: &str, message: &str| Err(Problem::from(message).below(key));
    if !proxy.connect_header.is_empty() && !proxy.from_environment && proxy.url.is_empty() {
        return fail(
            "proxy_connect_header",
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
        );
    }
    if proxy.from_environment && !proxy.url.is_empty() {
        return fail(
            "proxy_from_environment",
            "if proxy_from_environment is configured, proxy_url must not be configured",
        );
    }
    if proxy.from_environment && !proxy.except.is_empty() {
        return fail(
            "proxy_from_environment",
            "if proxy_from_environment is configured, no_proxy must not be configured",
        );
    }
    if proxy.url.is_empty() && !proxy.except.is_empty() {
        return fail(
            "no_proxy",
            "if no_proxy is configured, proxy_url must also be configured",
        );
    }
    if let Some(name) = proxy
        .connect_header
        .keys()
        .find(|name| name.parse::<HeaderName>().is_err())
    {
        let problem = Problem::from(format!("proxy_connect_header: {name:?} is not the name of a header"));
        return Err(problem.below(name.as_str()).below("proxy_connect_header"));
    }
    Ok(())
}

/// Shows a URL without the password in it.
pub(crate) fn url_without_password<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // Refused only for URLs that cannot have a password.
            let _ = url.set_password(Some("xxxxx"));
            to.serialize_str(url.as_str())
        }
        _ => to.serialize_str(text),
    }
}

/// A relative path as seen from a folder.
pub(crate) fn in_folder(folder: &Path, path: &mut Option<PathBuf>) {
    if let Some(path) = path {
        *path = folder.join(&*path);
    }
}

/// Takes the relative paths of a client as seen from a folder.
pub(crate) fn set_directory(
    folder: &Path,
    basic_auth: &mut Option<BasicAuth>,
    authorization: &mut Option<Authorization>,
    oauth2: &mut Option<OAuth2>,
    tls_config: &mut Option<TlsConfig>,
    http_headers: &mut BTreeMap<String, HeaderValues>,
) {
    if let Some(basic) = basic_auth {
        in_folder(folder, &mut basic.username_file);
        in_folder(folder, &mut basic.password_file);
    }
    if let Some(authorization) = authorization {
        in_folder(folder, &mut authorization.credentials_file);
    }
    let tls = |tls: &mut Option<TlsConfig>| {
        if let Some(tls) = tls {
            in_folder(folder, &mut tls.ca_file);
            in_folder(folder, &mut tls.cert_file);
            in_folder(folder, &mut tls.key_file);
        }
    };
    tls(tls_config);
    if let Some(oauth2) = oauth2 {
        in_folder(folder, &mut oauth2.client_secret_file);
        tls(&mut oauth2.tls_config);
    }
    for path in http_headers.values_mut().flat_map(|values| &mut values.files) {
        *path = folder.join(&*path);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{GlobalConfig, ScrapeConfig, finish};
    use std::path::Path;

    fn job(keys: &str) -> Result<ScrapeConfig, String> {
        let job = serde_yaml_ng::from_str(&format!("{{job_name: a, {keys}}}")).map_err(|e| e.to_string())?;
        let jobs = finish(vec![Some(job)], &GlobalConfig::absent()).map_err(|e| e.to_string())?;
        Ok(jobs.into_iter().next().unwrap())
    }

    #[test]
    fn contradictions_are_told_in_upstreams_words() {
        for (keys, problem) in [
            (
                "oauth2: {client_id: a, token_url: b}, basic_auth: {username: c}",
                "at most one of basic_auth, oauth2 & authorization must be configured",
            ),
            ("oauth2: {token_url: b}", "oauth2 client_id must be configured"),
            ("oauth2: {client_id: a}", "oauth2 token_url must be configured"),
            (
                "oauth2: {client_id: a, token_url: b, client_secret: c, client_secret_file: d}",
                "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured",
            ),
            (
                "oauth2: {client_id: a, token_url: b, no_proxy: c}",
                "if no_proxy is configured, proxy_url must also be configured",
            ),
            (
                "proxy_connect_header: {a: [b]}",
                "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
            ),
            (
                "proxy_from_environment: true, proxy_url: 'http://a'",
                "if proxy_from_environment is configured, proxy_url must not be configured",
            ),
            (
                "tls_config: {min_version: TLS13, max_version: TLS12}",
                "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified",
            ),
            (
                "tls_config: {max_version: TLS11}",
                "tls_config.max_version: nothing older than TLS12 is built in",
            ),
            (
                "tls_config: {cert: a}",
                "exactly one of key or key_file must be configured when a client certificate is configured",
            ),
            (
                "http_headers: {Authorization: {values: [a]}}",
                "setting header \"Authorization\" is not allowed",
            ),
            (
                "http_headers: {X-Amz-Date: {values: [a]}}",
                "setting header \"X-Amz-Date\" is not allowed",
            ),
            (
                "http_headers: {'a b': {values: [a]}}",
                "\"a b\" is not the name of a header",
            ),
            ("basic_auth: {password_ref: a}", "cannot use secret ref without manager"),
        ] {
            let said = job(keys).unwrap_err();
            assert!(said.contains(problem), "{keys}: {said}");
        }
    }

    #[test]
    fn the_older_keys_become_the_newer_one() {
        let authorization = |keys: &str| job(keys).unwrap().authorization.unwrap();
        assert_eq!(authorization("bearer_token: x").credentials.expose(), "x");
        assert_eq!(
            authorization("bearer_token_file: x").credentials_file.as_deref(),
            Some(Path::new("x"))
        );
        assert_eq!(authorization("bearer_token: x").kind, "Bearer");
        assert_eq!(
            authorization("authorization: {type: '', credentials: x}").kind,
            "Bearer"
        );
        assert_eq!(
            authorization("authorization: {type: ' Own ', credentials: x}").kind,
            "Own"
        );
        assert!(job("bearer_token: x").unwrap().bearer_token.is_empty());
    }

    #[test]
    fn a_client_is_shown_as_upstream_shows_it() {
        let keys = "oauth2: {client_id: a, client_secret: hunter2, token_url: b, tls_config: {ca_file: c}}, \
                    proxy_url: 'http://me:hunter2@p/', proxy_connect_header: {X: [hunter2]}";
        let shown = serde_yaml_ng::to_string(&job(keys).unwrap()).unwrap();
        let expected = "oauth2:\n  client_id: a\n  client_secret: <secret>\n  token_url: b\n  tls_config:\n    ca_file: c\n    \
                        insecure_skip_verify: false\nfollow_redirects: true\nenable_http2: true\nproxy_url: http://me:xxxxx@p/\n\
                        proxy_connect_header:\n  X:\n  - <secret>\n";
        assert!(shown.contains(expected), "{shown}");
    }
}
