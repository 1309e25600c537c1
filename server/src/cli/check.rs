//! `tidegauge check`: the code that a start and a reload use, without starting anything.

use super::{complain, print};
use crate::access;
use crate::clock::SystemClock;
use crate::config::{self, PromDuration};
#[cfg(feature = "kubernetes")]
use crate::kubeapi;
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tidegauge_model::Labels;
use tidegauge_scraper::{Outcome, ScrapeOptions, discover_once};

/// What can be checked.
#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// Read configuration files as a start would, and say what is wrong with them
    Config {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Read files of --web.config.file as a start would, with the certificates they name
    WebConfig {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Read files of --kubernetes.adapter-config as a start would
    #[cfg(feature = "kubernetes")]
    Adapter {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Run the discovery of a job once and print what it finds, before and after relabelling; nothing is scraped
    Sd(Sd),
}

/// `tidegauge check sd`.
#[derive(Debug, Args)]
pub(crate) struct Sd {
    /// The job
    #[arg(value_name = "JOB")]
    job: String,
    /// Configuration file
    #[arg(long = "config.file", value_name = "FILE", default_value = "prometheus.yml")]
    config_file: PathBuf,
    /// How long discovery may take
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: PromDuration,
    /// DNS server to ask instead of those of /etc/resolv.conf; may be repeated
    #[arg(long = "discovery.dns-server", value_name = "IP:PORT")]
    dns_servers: Vec<SocketAddr>,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Config { files } => check_files(&files),
            Self::WebConfig { files } => check_web(&files),
            #[cfg(feature = "kubernetes")]
            Self::Adapter { files } => check_adapter(&files),
            Self::Sd(sd) => sd.run(),
        }
    }
}

fn check_files(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut bad = 0usize;
    for file in files {
        match config::load(file) {
            Ok(config) if !kubeconfigs_can_be_used(file, &config) => bad += 1,
            Ok(config) => print(format_args!(
                "{}: ok, {}\n{}",
                file.display(),
                config.summary(),
                notes(&config)
            )),
            Err(error) => {
                bad += 1;
                complain(error);
            }
        }
    }
    if bad > 0 {
        bail!("{bad} of {} configuration files cannot be used", files.len());
    }
    Ok(())
}

/// Whether the kubeconfigs that a file names can be used; tells what is wrong with those that cannot. A server takes such
/// a file all the same, as they may come later.
#[cfg(feature = "kubernetes")]
fn kubeconfigs_can_be_used(file: &std::path::Path, config: &config::Config) -> bool {
    let sections = config.jobs().iter().flat_map(|job| {
        let sections = job.kubernetes_sd_configs.iter();
        sections.map(|section| (&job.job_name, section))
    });
    let mut good = true;
    for (job, section) in sections {
        let problem = section
            .kubeconfig_file
            .as_deref()
            .map(tidegauge_scraper::check_kubeconfig);
        if let Some(Err(problem)) = problem {
            good = false;
            complain(format_args!(
                "{}: job {job:?}: kubernetes_sd_configs: {problem}",
                file.display()
            ));
        }
    }
    good
}

#[cfg(not(feature = "kubernetes"))]
fn kubeconfigs_can_be_used(_file: &std::path::Path, _config: &config::Config) -> bool {
    true
}

#[cfg(feature = "kubernetes")]
fn check_adapter(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut bad = 0usize;
    for file in files {
        match kubeapi::check_rules(file) {
            Ok(told) => print(format_args!("{}: ok, {told}\n", file.display())),
            Err(error) => {
                bad += 1;
                complain(error);
            }
        }
    }
    if bad > 0 {
        bail!("{bad} of {} files cannot be used", files.len());
    }
    Ok(())
}

fn check_web(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut bad = 0usize;
    for file in files {
        match access::check(file) {
            Ok(()) => print(format_args!("{}: ok\n", file.display())),
            Err(error) => {
                bad += 1;
                complain(error);
            }
        }
    }
    if bad > 0 {
        bail!("{bad} of {} web configuration files cannot be used", files.len());
    }
    Ok(())
}

fn notes(config: &config::Config) -> String {
    config
        .unsupported()
        .iter()
        .map(|u| {
            format!(
                "  line {}: {} is valid but has no effect in this version\n",
                u.line, u.section
            )
        })
        .collect()
}

impl Sd {
    fn run(self) -> anyhow::Result<()> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let config = config::load(&self.config_file)?;
        let Some(job) = config.jobs().iter().find(|job| job.job_name == self.job) else {
            let names: Vec<&str> = config.jobs().iter().map(|job| job.job_name.as_str()).collect();
            bail!(
                "there is no job {:?} in {}; its jobs are: {}",
                self.job,
                self.config_file.display(),
                names.join(", ")
            );
        };
        let mut options = ScrapeOptions::default();
        options.discovery.dns_servers = self.dns_servers;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = runtime.block_on(discover_once(job, &options, Arc::new(SystemClock), self.timeout.get()));
        // What still waits for a server must not keep us.
        runtime.shutdown_background();
        let shown: Vec<Shown<'_>> = found.outcomes.iter().map(Shown::of).collect();
        let text = serde_json::to_string_pretty(&shown).context("cannot print what was found")?;
        print(format_args!("{text}\n"));
        for problem in &found.problems {
            complain(problem);
        }
        if !found.problems.is_empty() {
            bail!(
                "{} of the {} of job {:?} failed",
                found.problems.len(),
                sections(found.providers),
                self.job
            );
        }
        Ok(())
    }
}

/// A number of sections of discovery in words.
fn sections(count: usize) -> String {
    match count {
        1 => "1 section of discovery".to_owned(),
        n => format!("{n} sections of discovery"),
    }
}

/// One thing found, as promtool's `check service-discovery` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'o> {
    discovered_labels: BTreeMap<&'o str, &'o str>,
    labels: BTreeMap<&'o str, &'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'o str>,
}

impl<'o> Shown<'o> {
    fn of(outcome: &'o Outcome) -> Self {
        let map = |labels: &'o Labels| labels.iter().collect();
        Self {
            discovered_labels: map(&outcome.discovered_labels),
            labels: map(&outcome.labels),
            error: outcome.error.as_deref(),
        }
    }
}
