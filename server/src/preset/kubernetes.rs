//! The preset `kubernetes`: what a cluster has to scrape, and whatever asks for it by annotations.

use super::template;
use crate::config::unknown;
use clap::ValueEnum;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use url::Url;

/// The jobs, as a template of [`super::template`].
const TEMPLATE: &str = include_str!("kubernetes.yml");

/// Where a pod finds the credentials of its service account.
pub(crate) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which pods are scraped for their annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Annotations {
    /// Those that say `prometheus.io/scrape: "true"`
    #[default]
    OptIn,
    /// All with a declared TCP port, but those that say `prometheus.io/scrape: "false"`
    OptOut,
}

/// The preset as it is wanted: `tidegauge.kubernetes` of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Which pods are scraped for their annotations.
    pub annotations: Annotations,
    /// The API server, if this process is in no pod.
    #[serde(deserialize_with = "url")]
    api_server: Option<String>,
    /// The folder with `token` and `ca.crt`, if it is not a pod's.
    pub(super) service_account: Option<String>,
    /// Whether the certificates of kubelets must be signed by the cluster's authority.
    verify_kubelets: bool,
    /// Names of jobs that are left out.
    #[serde(deserialize_with = "job_names")]
    without: Vec<String>,
}

impl Kubernetes {
    /// The preset for a process in a pod.
    pub fn in_a_pod(annotations: Annotations) -> Self {
        Self {
            annotations,
            ..Self::default()
        }
    }

    /// What is wrong with the settings together.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.service_account.is_some() && self.api_server.is_none() {
            return Err("service_account needs api_server: inside a pod both are known");
        }
        Ok(())
    }

    /// All jobs as a `prometheus.yml`, those that are left out too.
    pub fn yaml(&self) -> String {
        let holds = |word: &str| match word {
            "opt-in" => self.annotations == Annotations::OptIn,
            "opt-out" => self.annotations == Annotations::OptOut,
            "api-server" => self.api_server.is_some(),
            "unverified-kubelets" => !self.verify_kubelets,
            _ => false,
        };
        let account = self.service_account.as_deref().unwrap_or(SERVICE_ACCOUNT);
        let account = account.trim_end_matches('/');
        let (token, authority) = (format!("{account}/token"), format!("{account}/ca.crt"));
        let values = [
            ("@TOKEN_FILE@", token.as_str()),
            ("@CA_FILE@", authority.as_str()),
            ("@API_SERVER@", self.api_server.as_deref().unwrap_or_default()),
        ];
        template::fill(TEMPLATE, holds, &values)
    }

    /// Whether a job is wanted.
    pub(crate) fn has(&self, job: &str) -> bool {
        !self.without.iter().any(|name| name == job)
    }
}

/// The names of the preset's jobs, in order.
fn jobs() -> impl Iterator<Item = &'static str> {
    TEMPLATE
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- job_name: "))
}

fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    match Url::parse(&text) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => Ok(Some(text)),
        _ => Err(D::Error::custom(format_args!(
            "{text:?} is not the URL of an API server"
        ))),
    }
}

fn job_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    match names.iter().find(|name| !jobs().any(|job| job == *name)) {
        Some(name) => Err(D::Error::custom(unknown("job", name, jobs()))),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_template_has_its_word_and_every_name_its_value() {
        for line in TEMPLATE.lines() {
            if let Some((_, word)) = line.rsplit_once(" #? ") {
                let known = ["opt-in", "opt-out", "api-server", "unverified-kubelets"];
                assert!(known.contains(&word), "{line}");
            }
        }
        let preset = Kubernetes {
            api_server: Some("https://10.0.0.1".to_owned()),
            ..Kubernetes::default()
        };
        let filled = preset.yaml();
        assert!(!filled.contains('@') && !filled.contains("#?"), "{filled}");
        assert!(filled.contains("api_server: https://10.0.0.1\n"));
    }

    #[test]
    fn credentials_are_a_pods_unless_told() {
        let pod = Kubernetes::default().yaml();
        assert!(pod.contains("credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token\n"));
        assert!(!pod.contains("api_server"));
        let told: Kubernetes = serde_yaml_ng::from_str(
            "{api_server: 'http://127.0.0.1:1', service_account: /etc/tg/, verify_kubelets: true, annotations: opt-out}",
        )
        .unwrap();
        assert!(told.check().is_ok());
        let told = told.yaml();
        assert!(told.contains("credentials_file: /etc/tg/token\n") && told.contains("ca_file: /etc/tg/ca.crt"));
        assert!(
            told.contains("api_server: http://127.0.0.1:1\n") && !told.contains("insecure_skip_verify: true\n    kube")
        );
        let alone: Kubernetes = serde_yaml_ng::from_str("{service_account: /etc/tg}").unwrap();
        assert!(alone.check().unwrap_err().contains("needs api_server"));
    }
}
