//! What stands before every handler: the rate, who asks, and headers of every answer.

use super::current::Access;
use super::metrics::Refusal;
use super::role::Role;
use super::sources::InForce;
use super::users::Checked;
use crate::http::edge::text;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::sync::Arc;
use std::time::Instant;

impl Access {
    /// Answers a request by `run` if it is let in. `prefix` is what all routes lie below.
    pub(crate) async fn around<F: Future<Output = Response>>(
        self: &Arc<Self>,
        prefix: &str,
        request: Request,
        run: impl FnOnce(Request) -> F,
    ) -> Response {
        let in_force = self.current().await;
        if let Some(rate) = in_force.rate
            && !self.bucket.lock().admits(rate, Instant::now())
        {
            self.metrics.refused(Refusal::Rate);
            return text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n");
        }
        let path = request.uri().path();
        let needed = Role::needed(request.method(), path.strip_prefix(prefix).unwrap_or(path));
        let shown = Credentials::of(request.headers());
        let mut response = match self.admit(&in_force, needed, shown).await {
            Ok(()) => run(request).await,
            Err(refusal) => {
                self.metrics.refused(refusal);
                refused(refusal, &in_force)
            }
        };
        for (name, value) in &in_force.headers {
            // A handler's own comes first, as upstream.
            if !response.headers().contains_key(name) {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        response
    }

    /// Whether a request is let in: as anyone, by name and password, or by a token of the role it needs.
    async fn admit(&self, in_force: &InForce, needed: Role, shown: Option<Credentials>) -> Result<(), Refusal> {
        if in_force.is_open() {
            return Ok(());
        }
        let role = match shown {
            Some(Credentials::Basic(name, password)) if !in_force.users.is_empty() => {
                let checked = self
                    .passwords
                    .check(&in_force.users, &name, &password, &self.key, &self.metrics)
                    .await;
                match checked {
                    Checked::Fits => Role::Write,
                    Checked::Wrong => return Err(Refusal::Credentials),
                    Checked::Busy => return Err(Refusal::Busy),
                }
            }
            Some(Credentials::Bearer(token)) => in_force.tokens.role(&token, &self.key).ok_or(Refusal::Credentials)?,
            _ => return Err(Refusal::Credentials),
        };
        if role < needed {
            return Err(Refusal::Role);
        }
        Ok(())
    }
}

fn refused(refusal: Refusal, in_force: &InForce) -> Response {
    let mut response = match refusal {
        Refusal::Credentials => text(StatusCode::UNAUTHORIZED, "Unauthorized\n"),
        Refusal::Role => text(StatusCode::FORBIDDEN, "Forbidden\n"),
        Refusal::Rate => text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"),
        Refusal::Busy => text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n"),
    };
    let mut ask = |way: &'static str| {
        let headers = response.headers_mut();
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(way));
    };
    match refusal {
        Refusal::Credentials => {
            if !in_force.users.is_empty() {
                ask("Basic");
            }
            if !in_force.tokens.is_empty() {
                ask("Bearer");
            }
        }
        Refusal::Role => ask("Bearer error=\"insufficient_scope\""),
        Refusal::Rate | Refusal::Busy => {}
    }
    response
}

/// What a request says of who sends it.
enum Credentials {
    Basic(String, Vec<u8>),
    Bearer(Vec<u8>),
}

impl Credentials {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let space = value.iter().position(|b| *b == b' ')?;
        let (scheme, rest) = value.split_at(space);
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return Some(Self::Bearer(rest.to_vec()));
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let pair = BASE64_STANDARD.decode(rest).ok()?;
        let colon = pair.iter().position(|b| *b == b':')?;
        let (name, password) = pair.split_at(colon);
        Some(Self::Basic(
            std::str::from_utf8(name).ok()?.to_owned(),
            password.get(1..).unwrap_or_default().to_vec(),
        ))
    }
}
