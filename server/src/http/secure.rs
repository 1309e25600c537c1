//! What a listener agrees on with a connection before it serves it.

use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What holds for a new connection.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What is agreed on first; `None`: plain.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether HTTP/2 may be spoken without TLS; with it, the names that are offered say so.
    pub http2: bool,
}

/// Sets the terms of a listener's connections. They may be others for each.
pub trait Secure: fmt::Debug + Send + Sync {
    /// The terms of a connection that comes now.
    fn terms(self: Arc<Self>) -> BoxFuture<'static, Terms>;

    /// A connection ended before TLS was agreed on; without an error, it took too long.
    fn handshake_failed(&self, why: Option<&io::Error>);
}

/// The certificates that a client has shown, its own first: among the extensions of each of its requests.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "kubernetes"),
    allow(dead_code, reason = "the metrics APIs alone look at them")
)]
pub(crate) struct Presented(pub(crate) Arc<[CertificateDer<'static>]>);
