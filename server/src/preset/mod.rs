//! Presets: scrape jobs that tidegauge brings, so that nobody has to write them.
//!
//! ```text
//!   --kubernetes, --kubernetes.annotations --.
//!                                            +--> Kubernetes --template--> YAML --> jobs beside the file's own
//!   tidegauge: {presets, kubernetes} --------'                    |
//!                                                                 '--> tidegauge config show --preset kubernetes
//! ```
//!
//! A preset is YAML as a user would write it, read by the code that reads the user's. What it cannot know is told in the
//! file's section `tidegauge`, or by flags, which win.

mod kubernetes;
mod template;

#[cfg(feature = "kubernetes")]
pub(crate) use kubernetes::SERVICE_ACCOUNT;
pub use kubernetes::{Annotations, Kubernetes};

use crate::config::{ConfigError, Fault, Node, Place, jobs, read};
use clap::ValueEnum;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::Path;
use tidegauge_scraper::config::{GlobalConfig, ScrapeConfig};

/// The presets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// What a Kubernetes cluster has to scrape
    Kubernetes,
}

/// What the command line says about presets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--kubernetes`.
    pub kubernetes: bool,
    /// `--kubernetes.annotations`.
    pub annotations: Option<Annotations>,
    /// `--discovery.kubernetes-service-account`, where it says another folder than that of every pod.
    pub service_account: Option<String>,
}

/// The section `tidegauge`: what is ours alone.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    presets: Vec<Name>,
    kubernetes: Option<Kubernetes>,
    // These two are the configuration's own to read.
    #[serde(rename = "hpa_metrics")]
    _hpa_metrics: IgnoredAny,
    #[serde(rename = "hpa_automatic")]
    _hpa_automatic: IgnoredAny,
}

/// The preset that a file's section `tidegauge` and the flags ask for, if they ask for one.
pub(crate) fn wanted(section: Option<&Node>, flags: &Flags) -> Result<Option<Kubernetes>, Fault> {
    let (at, said) = match section.filter(|node| !node.is_null()) {
        Some(node) => (
            node.at,
            read::<Section>(node).map_err(|f| f.below_key("tidegauge", node.at))?,
        ),
        None => Default::default(),
    };
    if !flags.kubernetes && !said.presets.contains(&Name::Kubernetes) {
        if said.kubernetes.is_some() || flags.annotations.is_some() {
            tracing::warn!(
                "neither --kubernetes nor tidegauge.presets asks for the preset: what is said about it has no effect"
            );
        }
        return Ok(None);
    }
    if !cfg!(feature = "kubernetes") {
        let wrong = "the preset kubernetes (--kubernetes, or presets here): this program was built without discovery in \
                     Kubernetes";
        return Err(Fault::new(at, wrong).below_key("tidegauge", at));
    }
    let mut preset = said.kubernetes.unwrap_or_default();
    if let Some(annotations) = flags.annotations {
        preset.annotations = annotations;
    }
    let placed = |wrong: &str| {
        Fault::new(at, wrong)
            .below_key("kubernetes", at)
            .below_key("tidegauge", at)
    };
    preset.check().map_err(placed)?;
    if preset.service_account.is_none() {
        preset.service_account.clone_from(&flags.service_account);
    }
    Ok(Some(preset))
}

/// A job of the file must not have the name of one that a preset brings.
pub(crate) fn check_names(brought: &[(ScrapeConfig, Place)], own: &[(ScrapeConfig, Place)]) -> Result<(), Fault> {
    for (job, at) in own {
        let name = &job.job_name;
        if brought.iter().any(|(other, _)| other.job_name == *name) {
            let message = format!(
                "job name {name:?} is that of a job of the preset kubernetes, too: rename this one, or leave that one out by \
                 tidegauge: {{kubernetes: {{without: [{name}]}}}}"
            );
            return Err(Fault::new(*at, message).below_key("scrape_configs", *at));
        }
    }
    Ok(())
}

impl Kubernetes {
    /// The jobs that are wanted, complete, in a file with this `global` section. They are scraped as often as `global`
    /// says, if it does, else as often as the preset says. Paths are seen from `folder`.
    pub(crate) fn jobs(
        &self,
        root: &Node,
        global: &GlobalConfig,
        folder: &Path,
    ) -> Result<Vec<(ScrapeConfig, Place)>, ConfigError> {
        let path = Path::new("(preset kubernetes)");
        let wrong = |fault: Fault| ConfigError::at(path, &fault);
        let text = self.yaml();
        let preset = Node::parse(&text).map_err(wrong)?;
        let mut global = global.clone();
        let says = |key: &str| {
            root.get("global")
                .and_then(|g| g.get(key))
                .is_some_and(|n| !n.is_null())
        };
        if let Some(paced) = preset.get("global").filter(|_| !says("scrape_interval")) {
            let paced: GlobalConfig = read(paced).map_err(wrong)?;
            global.scrape_interval = paced.scrape_interval;
            if !says("scrape_timeout") {
                global.scrape_timeout = paced.scrape_timeout;
            }
        }
        let Some(list) = preset.get("scrape_configs") else {
            return Ok(Vec::new());
        };
        let mut jobs = jobs(list, &global).map_err(wrong)?;
        jobs.retain(|(job, _)| self.has(&job.job_name));
        // What is told about such a job is told of the line that asks for it.
        let asked = root.get("tidegauge").map_or(Place::default(), |node| node.at);
        for (job, at) in &mut jobs {
            job.set_directory(folder);
            *at = asked;
        }
        Ok(jobs)
    }
}

#[cfg(test)]
#[cfg(feature = "kubernetes")]
mod tests;
