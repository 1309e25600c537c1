//! Whom to believe now, and the check of certificates while connections agree on TLS.

use super::trust::Trust;
use parking_lot::RwLock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the cluster last said of whom to believe. Written by the one who follows it.
#[derive(Debug)]
pub(super) struct Trusted {
    now: RwLock<Result<Arc<Trust>, Arc<str>>>,
    /// Counts the changes.
    version: AtomicU64,
}

impl Default for Trusted {
    fn default() -> Self {
        Self {
            now: RwLock::new(Err("the ConfigMap has not been read yet".into())),
            version: AtomicU64::new(0),
        }
    }
}

impl Trusted {
    /// Whom to believe.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) fn now(&self) -> Result<Arc<Trust>, Arc<str>> {
        self.now.read().clone()
    }

    /// A number that is another once somebody else is to be believed.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, now: Result<Trust, String>) {
        *self.now.write() = now.map(Arc::new).map_err(Into::into);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// Turns certificates away that nobody is to believe. A client need not show one.
///
/// What passes is looked at again with each request: the cluster may say otherwise while a connection lives, and one that
/// takes an earlier session up again does not pass here.
#[derive(Debug)]
pub(super) struct Clients {
    trusted: Arc<Trusted>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    pub(super) fn new(trusted: Arc<Trusted>) -> Self {
        Self {
            trusted,
            algorithms: ring::default_provider().signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // They change, and clients written in Go show nothing to who names others.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Without knowing whom to believe, the request is told so.
        if let Ok(trust) = self.trusted.now() {
            let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
            trust.who(&chain, now)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
