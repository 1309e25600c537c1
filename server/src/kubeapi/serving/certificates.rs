//! What the listener shows: certificates made here, or those of files that somebody else keeps.

use super::own::{Own, bounded};
use super::pair::Read;
use super::trusted::{Clients, Trusted};
use crate::api::Listing;
use crate::http::{Secure, Terms};
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use ring::digest;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegauge_model::{Clock, MetricKind};

/// How old what is in use may be before its files are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many reasons for which there is no agreement on TLS are told.
const MAX_REASONS: usize = 16;

/// Where certificates come from.
#[derive(Debug)]
pub(super) enum Source {
    /// They are made here.
    Own(Own),
    /// Somebody else keeps these files.
    Given(Given),
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// `--kubernetes.api.tls-cert-file`: the certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// `--kubernetes.api.tls-private-key-file`
    pub key: PathBuf,
    /// `--kubernetes.api.tls-ca-file`: what callers are to trust.
    pub ca: Option<PathBuf>,
}

/// What new connections are shown.
#[derive(Debug)]
pub(super) struct InUse {
    tls: Arc<ServerConfig>,
    /// What callers are to trust, in PEM; `None` where somebody else tells them.
    pub(super) bundle: Option<String>,
    /// The last second in which the certificate is good.
    until: i64,
    /// Of the files.
    digest: Vec<u8>,
}

/// The listener's certificates, exchanged when their files change or their time comes.
#[derive(Debug)]
pub(super) struct Certificates {
    clock: Arc<dyn Clock>,
    clients: Arc<Clients>,
    in_use: RwLock<Arc<InUse>>,
    /// Milliseconds from `begun` to the last look.
    looked: AtomicU64,
    begun: Instant,
    /// Admits one look at a time; others go on with what is in use. Held only by threads that may block.
    looking: Mutex<Looking>,
    handshakes_failed: AtomicU64,
    /// Why, as far as it has been told: each once.
    reasons: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct Looking {
    source: Source,
    /// What was wrong; told once.
    problem: Option<String>,
}

impl Certificates {
    /// Makes or reads the first ones. Blocks.
    ///
    /// # Errors
    /// What is wrong with the files, or what kept them from being made.
    pub(super) fn open(mut source: Source, trusted: &Arc<Trusted>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, String> {
        let clients = Arc::new(Clients::new(Arc::clone(trusted)));
        let first = source.look(&[], &clients, &*clock)?.ok_or("there is no certificate")?;
        Ok(Arc::new(Self {
            clock,
            clients,
            in_use: RwLock::new(Arc::new(first)),
            looked: AtomicU64::new(0),
            begun: Instant::now(),
            looking: Mutex::new(Looking { source, problem: None }),
            handshakes_failed: AtomicU64::new(0),
            reasons: Mutex::default(),
        }))
    }

    /// What is in use, at most [`LOOK_EVERY`] old.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<InUse> {
        if self.age() >= LOOK_EVERY {
            let this = Arc::clone(self);
            drop(tokio::task::spawn_blocking(move || this.look()).await);
        }
        Arc::clone(&self.in_use.read())
    }

    fn age(&self) -> Duration {
        let looked = Duration::from_millis(self.looked.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(looked)
    }

    fn look(&self) {
        let Some(mut looking) = self.looking.try_lock() else {
            return;
        };
        let before = Arc::clone(&self.in_use.read());
        let found = looking.source.look(&before.digest, &self.clients, &*self.clock);
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.looked.store(now, Ordering::Relaxed);
        match found {
            Ok(found) => {
                looking.problem = None;
                if let Some(found) = found {
                    *self.in_use.write() = Arc::new(found);
                    tracing::info!("new certificate for the Kubernetes metrics APIs");
                }
            }
            Err(problem) if looking.problem.as_ref() != Some(&problem) => {
                tracing::error!(
                    error = problem,
                    "cannot renew the certificate of the Kubernetes metrics APIs; the one before stays"
                );
                looking.problem = Some(problem);
            }
            Err(_) => {}
        }
    }

    /// For `/metrics`.
    pub(super) fn list(&self) -> Vec<Listing> {
        let until = self.in_use.read().until as f64;
        let failed = self.handshakes_failed.load(Ordering::Relaxed) as f64;
        vec![
            (
                "tidegauge_kubernetes_api_certificate_expiry_timestamp_seconds",
                "When the certificate of the Kubernetes metrics APIs is good no more, in Unix seconds.",
                MetricKind::Gauge,
                vec![(Vec::new(), until)],
            ),
            (
                "tidegauge_kubernetes_api_handshakes_failed_total",
                "Connections to the Kubernetes metrics APIs that ended before TLS was agreed on: a certificate that is not \
                 to be believed, or a caller that does not believe ours.",
                MetricKind::Counter,
                vec![(Vec::new(), failed)],
            ),
        ]
    }
}

impl Secure for Certificates {
    fn terms(self: Arc<Self>) -> BoxFuture<'static, Terms> {
        Box::pin(async move {
            Terms {
                tls: Some(Arc::clone(&self.current().await.tls)),
                http2: true,
            }
        })
    }

    fn handshake_failed(&self, why: Option<&io::Error>) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        let why = why.and_then(|why| why.get_ref()?.downcast_ref());
        // What is no TLS at all is nobody's mistake but the sender's.
        let why = match why {
            Some(why @ rustls::Error::InvalidCertificate(_)) => {
                format!("the caller's certificate is not believed: {why}")
            }
            Some(why @ rustls::Error::AlertReceived(_)) => format!("the caller does not take ours: {why}"),
            _ => return,
        };
        let mut told = self.reasons.lock();
        if told.len() < MAX_REASONS && told.insert(why.clone()) {
            tracing::warn!(
                why,
                "no agreement on TLS with a caller of the Kubernetes metrics APIs; told once"
            );
        }
    }
}

impl Source {
    /// What there is now, if it is not what the digest is of.
    fn look(&mut self, digest: &[u8], clients: &Arc<Clients>, clock: &dyn Clock) -> Result<Option<InUse>, String> {
        match self {
            Self::Own(own) => {
                own.tend(clock.now())?;
                let serving = own.serving().ok_or("there is no certificate")?;
                let ((cert, key), bundle) = (serving.parts(), own.bundle());
                let seen = digest_of(&[&cert, bundle.as_bytes()]);
                if seen == digest {
                    return Ok(None);
                }
                InUse::new(vec![cert], key, Some(bundle), seen, clients).map(Some)
            }
            Self::Given(given) => given.look(digest, clients),
        }
    }
}

impl Given {
    fn look(&self, digest: &[u8], clients: &Arc<Clients>) -> Result<Option<InUse>, String> {
        let (cert, key) = (read(&self.cert)?, read(&self.key)?);
        let ca = self.ca.as_deref().map(read).transpose()?;
        let seen = digest_of(&[&cert, &key, ca.as_deref().unwrap_or_default()]);
        if seen == digest {
            return Ok(None);
        }
        let at = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert).collect();
        let chain = chain.map_err(|e| at(&self.cert, &e))?;
        // What the library says of a key might repeat it.
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| at(&self.key, &"there is no private key in PEM"))?;
        let bundle = match (&self.ca, ca) {
            (Some(path), Some(ca)) => Some(bundle(&ca).map_err(|why| at(path, &why))?),
            _ => None,
        };
        let made = InUse::new(chain, key, bundle, seen, clients);
        made.map(Some).map_err(|why| at(&self.cert, &why))
    }
}

/// The text of an authority's file, if certificates are all that is in it.
fn bundle(pem: &[u8]) -> Result<String, String> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    if certs.map_err(|e| e.to_string())?.is_empty() {
        return Err("there is no certificate in PEM".to_owned());
    }
    let text = String::from_utf8(pem.to_vec()).map_err(|_| "it is no text")?;
    if text.contains("PRIVATE KEY") {
        return Err("there is a private key in it, and all of it would be told to callers".to_owned());
    }
    Ok(text)
}

fn digest_of(texts: &[&[u8]]) -> Vec<u8> {
    let mut seen = digest::Context::new(&digest::SHA256);
    for text in texts {
        seen.update(&(text.len() as u64).to_le_bytes());
        seen.update(text);
    }
    seen.finish().as_ref().to_vec()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    match bounded(path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("there is no file {}", path.display())),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

impl InUse {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundle: Option<String>,
        digest: Vec<u8>,
        clients: &Arc<Clients>,
    ) -> Result<Self, String> {
        let own = chain.first().ok_or("there is no certificate in PEM")?;
        let until = Read::new(own)?.until;
        let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_client_cert_verifier(Arc::clone(clients) as _)
            .with_single_cert(chain, key)
            .map_err(|e| e.to_string())?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            bundle,
            until,
            digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pair::Pair;
    use super::*;
    use std::fs;
    use tidegauge_model::Timestamp;
    use tidegauge_model::testing::HandClock;

    fn clock() -> Arc<HandClock> {
        Arc::new(HandClock::at(Timestamp::from_millis(1_800_000_000_000)))
    }

    fn names() -> Vec<String> {
        vec!["a.b.svc".to_owned()]
    }

    #[tokio::test]
    async fn own_certificates_follow_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock();
        let own = Own::open(dir.path().to_owned(), names()).unwrap();
        let made = Certificates::open(Source::Own(own), &Arc::default(), clock.clone()).unwrap();
        let first = made.current().await;
        made.looked.store(0, Ordering::Relaxed);
        made.look();
        assert!(Arc::ptr_eq(&first, &made.current().await), "nothing is another");
        clock.advance(250 * 24 * 3600 * 1000);
        made.look();
        let second = made.current().await;
        assert!(second.until > first.until && second.bundle == first.bundle);
        assert!(made.list()[0].3[0].1 > 1_800_000_000.0);
    }

    #[tokio::test]
    async fn given_files_are_read_again_and_what_is_wrong_with_them_leaves_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let given = Given {
            cert: at("tls.crt"),
            key: at("tls.key"),
            ca: Some(at("ca.crt")),
        };
        let now = clock().now();
        let authority = Pair::authority(now).unwrap();
        let write = |pair: &Pair| {
            let (cert, pem) = (pair.cert_pem(), pair.pem());
            fs::write(at("tls.crt"), &cert).unwrap();
            fs::write(at("tls.key"), pem.replace(&cert, "")).unwrap();
            fs::write(at("ca.crt"), authority.cert_pem()).unwrap();
        };
        let opened = || Certificates::open(Source::Given(given.clone()), &Arc::default(), clock());
        let told = opened().unwrap_err();
        assert!(told.contains("there is no file") && told.contains("tls.crt"), "{told}");
        write(&authority.sign(&names(), now).unwrap());
        let certificates = opened().unwrap();
        let first = certificates.current().await;
        assert_eq!(first.bundle, Some(authority.cert_pem()));
        let next = authority.sign(&names(), now).unwrap();
        // The certificate without its key.
        fs::write(at("tls.crt"), next.cert_pem()).unwrap();
        certificates.look();
        assert!(Arc::ptr_eq(&first, &certificates.current().await));
        assert!(certificates.looking.lock().problem.is_some());
        write(&next);
        certificates.look();
        assert!(!Arc::ptr_eq(&first, &certificates.current().await));
        assert!(certificates.looking.lock().problem.is_none());
        for (file, text, why) in [
            ("ca.crt", authority.pem(), "private key"),
            ("ca.crt", String::new(), "no certificate"),
            ("tls.key", "x".to_owned(), "no private key in PEM"),
            ("tls.crt", String::new(), "no certificate"),
        ] {
            write(&next);
            fs::write(at(file), text).unwrap();
            let told = opened().unwrap_err();
            assert!(told.contains(why) && told.contains(file), "{told}");
        }
    }
}
