//! The sections `global` and `scrape_configs` of `prometheus.yml` as typed values.
//!
//! Reading has two steps. Serde reads a section strictly (an unknown key is an error, with its line); then
//! [`finish`] fills what a job left out from `global`, checks what needs both, and says so in upstream's words.
//! After that a [`ScrapeConfig`] is complete, and serialising it gives what `/api/v1/status/config` shows.
//!
//! # Reference
//! Prometheus 3.5, `config/config.go`; keys that later versions added are read as well.

mod client;
mod discovery;
mod global;
mod http;
mod job;
mod kubernetes;
mod problem;
mod protocol;
mod refused;
mod secret;
mod selector;
mod units;

pub use client::ClientConfig;
pub(crate) use discovery::Section;
pub use discovery::{DnsKind, DnsSdConfig, HttpSdConfig};
pub use global::GlobalConfig;
pub use http::{Authorization, BasicAuth, HeaderValues, HttpConfig, OAuth2, ProxyConfig, TlsConfig, TlsVersion};
pub use job::ScrapeConfig;
pub use kubernetes::{KubernetesAttach, KubernetesNamespaces, KubernetesRole, KubernetesSdConfig, KubernetesSelector};
pub use problem::{Problem, Step};
pub use refused::{Discovery, Reason, Refused, SecretManager};
pub use secret::{MASK, Opaque, Secret};
pub use units::{ByteSize, PromDuration, UnitError};

use crate::naming::{EscapingScheme, NameScheme};
use crate::parse::ScrapeProtocol;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with the configuration of scraping, once its YAML could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A job without content.
    #[error("empty or null scrape config section")]
    EmptyJob,
    /// A job without a name.
    #[error("job_name is empty")]
    NoJobName,
    /// Two jobs of one name.
    #[error("found multiple scrape configs with job name {0:?}")]
    DuplicateJob(String),
    /// `global` contradicts itself.
    #[error("{0}")]
    Global(Problem),
    /// A job contradicts itself or `global`.
    #[error("{problem} for scrape config with job name {job:?}")]
    Invalid {
        /// The job.
        job: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl ConfigError {
    /// The way from the job, or from `global`, to what is wrong.
    pub fn path(&self) -> &[Step] {
        match self {
            Self::Global(problem) | Self::Invalid { problem, .. } => &problem.path,
            Self::EmptyJob | Self::NoJobName | Self::DuplicateJob(_) => &[],
        }
    }
}

/// One of `static_configs`: targets and labels for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticConfig {
    /// Addresses, as `host:port`.
    pub targets: Vec<String>,
    /// Labels of these targets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl StaticConfig {
    fn check(&self) -> Result<(), Problem> {
        for (at, target) in self.targets.iter().enumerate() {
            check_address(target).map_err(|problem| Problem::from(problem).below(at).below("targets"))?;
        }
        if let Some((name, value)) = self.labels.iter().find(|(name, _)| name.is_empty()) {
            let problem = Problem::from(format!("\"\" is not a valid label name (its value is {value:?})"));
            return Err(problem.below(name.as_str()).below("labels"));
        }
        Ok(())
    }
}

/// One of `file_sd_configs`: files with target groups, in JSON or YAML.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// Paths, which may hold wildcards; `*` in the last part alone.
    #[serde(default)]
    pub files: Vec<String>,
    /// How often the files are looked at.
    #[serde(default = "default_refresh")]
    pub refresh_interval: PromDuration,
}

const fn default_refresh() -> PromDuration {
    PromDuration::from_secs(300)
}

/// Makes the jobs of a file complete: fills them from `global` (already [finished](GlobalConfig::finish)), checks
/// each, and that no name occurs twice. A `None` is a list item without content.
///
/// # Errors
/// The first thing that is wrong.
pub fn finish(jobs: Vec<Option<ScrapeConfig>>, global: &GlobalConfig) -> Result<Vec<ScrapeConfig>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut done = Vec::with_capacity(jobs.len());
    for job in jobs {
        let job = job.ok_or(ConfigError::EmptyJob)?.finish(global)?;
        if !names.insert(job.job_name.clone()) {
            return Err(ConfigError::DuplicateJob(job.job_name));
        }
        done.push(job);
    }
    Ok(done)
}

/// Whether a text can be a target's address: upstream only refuses what has a path.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    Ok(())
}

fn check_protocols(protocols: &[ScrapeProtocol]) -> Result<(), Problem> {
    for (at, protocol) in protocols.iter().enumerate() {
        if protocols.iter().take(at).any(|earlier| earlier == protocol) {
            let all: Vec<&str> = protocols.iter().map(|p| p.as_str()).collect();
            let message = format!("duplicated protocol in scrape_protocols, got [{}]", all.join(" "));
            return Err(Problem::from(message).below(at).below("scrape_protocols"));
        }
    }
    Ok(())
}

fn check_names(validation: Option<NameScheme>, escaping: Option<EscapingScheme>) -> Result<(), Problem> {
    if validation == Some(NameScheme::Legacy) && escaping == Some(EscapingScheme::AllowUtf8) {
        let problem = Problem::from("utf8 metric names requested but validation scheme is not set to UTF8");
        return Err(problem.below("metric_name_escaping_scheme"));
    }
    Ok(())
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
