//! The files of `--web.config.file` and of the tokens, read together: into what is in force, or into an error.

use super::current::AccessFiles;
use super::file::{Origin, TlsWanted, WebConfig};
use super::rate::Rate;
use super::role::Role;
use super::tls::{self, Pems};
use super::tokens::Tokens;
use super::users::Users;
use crate::config::{ConfigError, Fault, MAX_FILE_BYTES, Place, read_file};
use axum::http::{HeaderName, HeaderValue};
use ring::{digest, hmac};
use rustls::ServerConfig;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Files beside the configuration are at most this long.
const MAX_BYTES: u64 = 1 << 20;

/// What lets in and keeps out, ready to be used.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) http2: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) rate: Option<Rate>,
    pub(super) users: Users,
    pub(super) tokens: Tokens,
    /// Whether a client without a certificate is turned away.
    pub(super) wants_certificate: bool,
}

impl InForce {
    /// Whether HTTP/2 may be spoken.
    pub(crate) fn http2(&self) -> bool {
        self.http2
    }

    /// What new connections agree on.
    pub(crate) fn tls(&self) -> Option<&Arc<ServerConfig>> {
        self.tls.as_ref()
    }

    /// Whether anyone who can connect may ask.
    pub(super) fn is_open(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }
}

/// The texts of all files, of which only the first has been understood.
pub(super) struct Sources {
    web: Option<WebConfig>,
    pems: Pems,
    read_tokens: Option<String>,
    write_tokens: Option<String>,
    /// Of all the texts.
    pub(super) digest: Vec<u8>,
}

impl Sources {
    /// Reads them. Blocks.
    pub(super) fn read(files: &AccessFiles) -> Result<Self, ConfigError> {
        let mut seen = digest::Context::new(&digest::SHA256);
        let mut see = |bytes: &[u8]| {
            seen.update(&(bytes.len() as u64).to_le_bytes());
            seen.update(bytes);
        };
        let (mut web, mut pems) = (None, Pems::default());
        if let Some(path) = &files.web_config {
            let text = read_file(path, MAX_FILE_BYTES)?;
            see(text.as_bytes());
            let folder = path.parent().unwrap_or(Path::new(""));
            let config = WebConfig::parse(&text, folder).map_err(|f| ConfigError::at(path, &f))?;
            if let Some(tls) = &config.tls {
                pems = read_pems(tls).map_err(|f| ConfigError::at(path, &f))?;
                see(&pems.cert);
                see(&pems.key);
                see(pems.client_ca.as_deref().unwrap_or_default());
            }
            web = Some(config);
        }
        let mut tokens = |path: Option<&Path>| {
            let text = path.map(|path| read_file(path, MAX_FILE_BYTES)).transpose()?;
            see(text.as_deref().unwrap_or_default().as_bytes());
            Ok(text)
        };
        Ok(Self {
            web,
            pems,
            read_tokens: tokens(files.read_tokens.as_deref())?,
            write_tokens: tokens(files.write_tokens.as_deref())?,
            digest: seen.finish().as_ref().to_vec(),
        })
    }

    /// Makes of them what can be used.
    pub(super) fn build(self, files: &AccessFiles, key: &hmac::Key) -> Result<InForce, ConfigError> {
        let web = self.web.unwrap_or_default();
        let path = files.web_config.as_deref().unwrap_or(Path::new(""));
        let (mut tls_config, mut wants_certificate) = (None, false);
        if let Some(wanted) = &web.tls {
            let config = tls::set_up(wanted, &self.pems, web.http2).map_err(|f| ConfigError::at(path, &f))?;
            wants_certificate = wanted.section.client_auth_type == "RequireAndVerifyClientCert";
            tls_config = Some(config);
        }
        let mut tokens = Tokens::default();
        for (role, text, path) in [
            (Role::Read, &self.read_tokens, &files.read_tokens),
            (Role::Write, &self.write_tokens, &files.write_tokens),
        ] {
            let (Some(text), Some(path)) = (text, path) else {
                continue;
            };
            tokens.add(role, text, key).map_err(|(line, why)| {
                let place = Place { line, column: 1 };
                ConfigError::at(path, &Fault::new(place, why))
            })?;
        }
        Ok(InForce {
            tls: tls_config,
            http2: web.http2,
            headers: web.headers,
            rate: web.rate,
            users: Users::new(web.users),
            tokens,
            wants_certificate,
        })
    }
}

fn read_pems(wanted: &TlsWanted) -> Result<Pems, Fault> {
    let read = |origin: &Origin, key: &str| match origin {
        Origin::Inline(text) => Ok(text.as_bytes().to_vec()),
        Origin::File(path) => {
            bounded(path).map_err(|e| wanted.fault(key, format!("failed to read {key} ({}): {e}", path.display())))
        }
    };
    Ok(Pems {
        cert: read(&wanted.cert, "cert_file")?,
        key: read(&wanted.key, "key_file")?,
        client_ca: wanted
            .client_ca
            .as_ref()
            .map(|origin| read(origin, "client_ca_file"))
            .transpose()?,
    })
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "the file has more than the {MAX_BYTES} bytes allowed"
        )));
    }
    Ok(bytes)
}

/// Reads a file of `--web.config.file` as a start does.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(path: &Path) -> Result<(), ConfigError> {
    let files = AccessFiles {
        web_config: Some(path.to_owned()),
        ..AccessFiles::default()
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
    Sources::read(&files)?.build(&files, &key).map(drop)
}
