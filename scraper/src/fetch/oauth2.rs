//! Tokens by the client-credentials grant: fetched when needed, kept until they end.
//!
//! # Reference
//! RFC 6749, 4.4, 5.1 and 5.2. How the client says who it is is found out as upstream's library does: by `Basic` first,
//! and if the server does not like that, by parameters; what worked is remembered.

use super::client::{ClientOptions, HttpClient, HttpError, HttpRequest};
use super::secrets::{Part, basic};
use crate::config::{HttpConfig, OAuth2, Secret};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

/// A token is given up this long before it ends, as upstream does.
const EARLY: Duration = Duration::from_secs(10);
/// The longest answer of a token server.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Where a client's tokens come from.
pub(super) struct TokenSource {
    config: OAuth2,
    url: Url,
    secret: Part,
    http: HttpClient,
    /// Held while a token is fetched: who else wants one waits for it.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    style: Option<Style>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    /// Nothing if it does not end.
    until: Option<Instant>,
    /// What it was fetched with: another secret means another token.
    secret: Secret,
}

/// How the client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Header,
    Parameters,
}

/// The URL may have a password in it: it is not shown.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("client_id", &self.config.client_id)
            .field("secret", &self.secret)
            .field("http", &self.http)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl TokenSource {
    /// # Errors
    /// What in the section cannot be obeyed.
    pub(super) fn new(config: &OAuth2, options: &ClientOptions) -> Result<Self, String> {
        let http = HttpConfig {
            tls_config: config.tls_config.clone(),
            proxy: config.proxy(),
            follow_redirects: true,
            ..HttpConfig::default()
        };
        let url = Url::parse(&config.token_url).map_err(|problem| format!("oauth2 token_url: {problem}"))?;
        Ok(Self {
            url,
            secret: Part::new(&config.client_secret, config.client_secret_file.as_ref()),
            http: HttpClient::new(http, options).map_err(|problem| format!("oauth2: {problem}"))?,
            config: config.clone(),
            state: Mutex::default(),
        })
    }

    /// The value of `Authorization`.
    pub(super) async fn header(&self) -> Result<HeaderValue, HttpError> {
        let secret = self.secret.read("oauth2 client secret").await?;
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.secret == secret
            && token.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(token.header.clone());
        }
        let styles: &[Style] = match &state.style {
            Some(known) => &[*known],
            None => &[Style::Header, Style::Parameters],
        };
        let mut last = HttpError::Setup("oauth2: cannot fetch token".to_owned());
        for style in styles {
            match self.fetch(&secret, *style).await {
                Ok(token) => {
                    let header = token.header.clone();
                    *state = State {
                        token: Some(token),
                        style: Some(*style),
                    };
                    return Ok(header);
                }
                Err(problem) => last = problem,
            }
        }
        Err(last)
    }

    fn request(&self, secret: &Secret, style: Style) -> HttpRequest {
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        let mut body = Serializer::new(String::new());
        body.append_pair("grant_type", "client_credentials");
        if !self.config.scopes.is_empty() {
            body.append_pair("scope", &self.config.scopes.join(" "));
        }
        match style {
            Style::Header => {
                let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let both = basic(&encode(&self.config.client_id), &encode(secret.expose()));
                if let Ok(mut value) = HeaderValue::from_str(both.expose()) {
                    value.set_sensitive(true);
                    headers.insert(header::AUTHORIZATION, value);
                }
            }
            Style::Parameters => {
                body.append_pair("client_id", &self.config.client_id);
                if !secret.is_empty() {
                    body.append_pair("client_secret", secret.expose());
                }
            }
        }
        body.extend_pairs(&self.config.endpoint_params);
        HttpRequest {
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body: Some(Bytes::from(body.finish())),
        }
    }

    async fn fetch(&self, secret: &Secret, style: Style) -> Result<Token, HttpError> {
        // A client of its own, whose requests need no token: this is as deep as it goes.
        let mut response = Box::pin(self.http.send(self.request(secret, style))).await?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(failed("the answer is too long"));
            }
            answer.extend_from_slice(&chunk);
        }
        let kind = response
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        token(response.status, kind.unwrap_or_default(), &answer, secret)
    }
}

fn failed(problem: &str) -> HttpError {
    HttpError::Setup(format!("oauth2: cannot fetch token: {problem}"))
}

/// What a token server answers. A text where a number belongs is taken as one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: serde_json::Value,
    error: String,
    error_description: String,
}

impl Answer {
    fn read(kind: &str, body: &[u8]) -> Option<Self> {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !matches!(kind, "application/x-www-form-urlencoded" | "text/plain") {
            return serde_json::from_slice(body).ok();
        }
        let mut answer = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let value = value.into_owned();
            match &*name {
                "access_token" => answer.access_token = value,
                "token_type" => answer.token_type = value,
                "expires_in" => answer.expires_in = value.into(),
                "error" => answer.error = value,
                "error_description" => answer.error_description = value,
                _ => {}
            }
        }
        Some(answer)
    }

    fn lifetime(&self) -> Option<Duration> {
        let seconds = match &self.expires_in {
            serde_json::Value::Number(number) => number.as_u64()?,
            serde_json::Value::String(text) => text.parse().ok()?,
            _ => return None,
        };
        (seconds > 0).then(|| Duration::from_secs(seconds.min(u64::from(u32::MAX))))
    }
}

/// Reads an answer. It is not repeated in errors: it may hold what is secret.
fn token(status: StatusCode, kind: &str, body: &[u8], secret: &Secret) -> Result<Token, HttpError> {
    let answer = Answer::read(kind, body);
    if let Some(answer) = answer.as_ref().filter(|answer| !answer.error.is_empty()) {
        let mut problem = format!("oauth2: {:?}", answer.error);
        if !answer.error_description.is_empty() {
            problem.push_str(&format!(" {:?}", answer.error_description));
        }
        return Err(HttpError::Setup(problem));
    }
    if !status.is_success() {
        return Err(failed(&super::client::status_text(status)));
    }
    let answer = answer.ok_or_else(|| failed("the answer is not JSON"))?;
    if answer.access_token.is_empty() {
        return Err(HttpError::Setup(
            "oauth2: server response missing access_token".to_owned(),
        ));
    }
    let kind = match answer.token_type.as_str() {
        "" => "Bearer",
        known if known.eq_ignore_ascii_case("bearer") => "Bearer",
        known if known.eq_ignore_ascii_case("mac") => "MAC",
        known if known.eq_ignore_ascii_case("basic") => "Basic",
        other => other,
    };
    let mut header = HeaderValue::from_str(&format!("{kind} {}", answer.access_token))
        .map_err(|_| failed("the token holds characters that are not allowed"))?;
    header.set_sensitive(true);
    Ok(Token {
        header,
        until: answer
            .lifetime()
            .map(|lifetime| Instant::now() + lifetime.saturating_sub(EARLY)),
        secret: secret.clone(),
    })
}
