//! What is in force, exchanged when its files change.

use super::metrics::Metrics;
use super::rate::Bucket;
use super::sources::{InForce, Sources};
use super::users::Checker;
use crate::api::Listing;
use crate::config::ConfigError;
use crate::http::{Secure, Terms};
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use ring::{hmac, rand};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegauge_model::{Clock, MetricKind, Timestamp};

/// How old what is in force may be before its files are looked at again.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The files that say who may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessFiles {
    /// `--web.config.file`
    pub web_config: Option<PathBuf>,
    /// `--web.read-token-file`
    pub read_tokens: Option<PathBuf>,
    /// `--web.write-token-file`
    pub write_tokens: Option<PathBuf>,
}

/// Lets connections and requests in, or keeps them out.
#[derive(Debug)]
pub struct Access {
    files: AccessFiles,
    clock: Arc<dyn Clock>,
    in_force: RwLock<Arc<InForce>>,
    /// Milliseconds from `begun` to the last look at the files.
    looked: AtomicU64,
    begun: Instant,
    /// Admits one look at a time; written through it alone.
    looking: tokio::sync::Mutex<Looked>,
    loads: Mutex<Loads>,
    /// Under which what clients say is hashed; new at each start.
    pub(super) key: hmac::Key,
    pub(super) bucket: Mutex<Bucket>,
    pub(super) passwords: Checker,
    pub(super) metrics: Arc<Metrics>,
}

/// What the last look found.
#[derive(Debug, Default)]
struct Looked {
    digest: Vec<u8>,
    /// What was wrong; told once.
    problem: Option<String>,
}

impl Secure for Access {
    fn terms(self: Arc<Self>) -> BoxFuture<'static, Terms> {
        Box::pin(async move {
            let in_force = self.current().await;
            Terms {
                tls: in_force.tls().cloned(),
                http2: in_force.http2(),
            }
        })
    }

    fn handshake_failed(&self, _why: Option<&std::io::Error>) {
        self.metrics.handshake_failed();
    }
}

/// How loading went.
#[derive(Debug, Clone, Copy)]
struct Loads {
    successful: bool,
    at: Timestamp,
    failures: u64,
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// The first thing that is wrong with any of them.
    pub fn open(files: AccessFiles, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<Self>> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let sources = Sources::read(&files)?;
        let digest = sources.digest.clone();
        let in_force = sources.build(&files, &key)?;
        let at = clock.now();
        Ok(Arc::new(Self {
            files,
            clock,
            in_force: RwLock::new(Arc::new(in_force)),
            looked: AtomicU64::new(0),
            begun: Instant::now(),
            looking: tokio::sync::Mutex::new(Looked { digest, problem: None }),
            loads: Mutex::new(Loads {
                successful: true,
                at,
                failures: 0,
            }),
            key,
            bucket: Mutex::default(),
            passwords: Checker::default(),
            metrics: Arc::default(),
        }))
    }

    /// Whether connections are to agree on TLS first. Does not change while the process runs.
    pub fn uses_tls(&self) -> bool {
        self.in_force.read().tls.is_some()
    }

    /// Whether anyone who can connect may ask.
    pub fn is_open(&self) -> bool {
        let in_force = self.in_force.read();
        in_force.is_open() && !in_force.wants_certificate
    }

    /// What is in force, at most [`LOOK_EVERY`] old.
    pub(crate) async fn current(self: &Arc<Self>) -> Arc<InForce> {
        if self.age() >= LOOK_EVERY {
            let mut looked = self.looking.lock().await;
            // Whoever was before us may have looked.
            if self.age() >= LOOK_EVERY {
                drop(self.look(&mut looked).await);
            }
        }
        Arc::clone(&self.in_force.read())
    }

    /// Looks at the files now.
    ///
    /// # Errors
    /// What is wrong with them, in words; what was in force stays.
    pub async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let mut looked = self.looking.lock().await;
        // What was told may be told again to who asks.
        looked.problem = None;
        self.look(&mut looked).await
    }

    fn age(&self) -> Duration {
        let looked = Duration::from_millis(self.looked.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(looked)
    }

    async fn look(self: &Arc<Self>, looked: &mut Looked) -> Result<(), String> {
        let (this, digest) = (Arc::clone(self), looked.digest.clone());
        let found = tokio::task::spawn_blocking(move || this.find(&digest))
            .await
            .unwrap_or_else(|e| Err(e.to_string()));
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.looked.store(now, Ordering::Relaxed);
        let mut loads = self.loads.lock();
        match found {
            Ok(Some((in_force, digest))) => {
                *self.in_force.write() = Arc::new(in_force);
                looked.digest = digest;
                tracing::info!("web configuration loaded");
            }
            Ok(None) if looked.problem.is_none() && loads.successful => return Ok(()),
            // As it was before something was wrong with it.
            Ok(None) => {}
            Err(problem) => {
                loads.successful = false;
                if looked.problem.as_ref() != Some(&problem) {
                    loads.failures += 1;
                    tracing::error!(
                        error = problem,
                        "web configuration not loaded; the one before stays in force"
                    );
                    looked.problem = Some(problem.clone());
                }
                return Err(problem);
            }
        }
        looked.problem = None;
        loads.successful = true;
        loads.at = self.clock.now();
        Ok(())
    }

    /// What the files hold now, if it is not what they held.
    fn find(&self, digest: &[u8]) -> Result<Option<(InForce, Vec<u8>)>, String> {
        let told = |e: ConfigError| e.to_string();
        let sources = Sources::read(&self.files).map_err(told)?;
        if sources.digest == digest {
            return Ok(None);
        }
        let digest = sources.digest.clone();
        let found = sources.build(&self.files, &self.key).map_err(told)?;
        if found.tls.is_some() != self.uses_tls() {
            return Err("whether TLS is used cannot change while the server runs: start it anew".to_owned());
        }
        Ok(Some((found, digest)))
    }

    /// For `/metrics`.
    pub fn list(&self) -> Vec<Listing> {
        let loads = *self.loads.lock();
        let one = |value| vec![(Vec::new(), value)];
        let mut listings = self.metrics.list();
        listings.extend([
            (
                "tidegauge_web_config_last_reload_successful",
                "Whether the files of --web.config.file and of tokens could be used when they were last looked at.",
                MetricKind::Gauge,
                one(f64::from(u8::from(loads.successful))),
            ),
            (
                "tidegauge_web_config_last_reload_success_timestamp_seconds",
                "When what these files say was last taken, in Unix seconds.",
                MetricKind::Gauge,
                one(loads.at.seconds()),
            ),
            (
                "tidegauge_web_config_reload_failures_total",
                "Changes of these files that could not be taken.",
                MetricKind::Counter,
                one(loads.failures as f64),
            ),
        ]);
        listings
    }
}
