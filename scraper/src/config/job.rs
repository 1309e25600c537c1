//! One of `scrape_configs`: a job.

use super::discovery::sections;
use super::http::http_section;
use super::{
    ByteSize, ConfigError, Discovery, DnsSdConfig, FileSdConfig, GlobalConfig, HttpSdConfig, KubernetesSdConfig,
    Problem, PromDuration, Refused, Section, StaticConfig, check_names, check_protocols, is_false, is_zero,
};
use crate::naming::{EscapingScheme, NameScheme};
use crate::parse::ScrapeProtocol;
use crate::relabel::RelabelConfig;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

http_section! {
    /// One of `scrape_configs`. As read, what was not given and has its default in `global` is zero, empty or `None`;
    /// [`super::finish`] fills it.
    #[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct ScrapeConfig {
        before {
            /// The job's name: the label `job` unless relabelled, and the name of its scrape pool.
            pub job_name: String,
            /// Whether a body's labels win over the target's.
            #[serde(skip_serializing_if = "is_false")]
            pub honor_labels: bool,
            /// Whether a body's timestamps count.
            pub honor_timestamps: bool,
            /// Whether series with timestamps of their own get stale markers.
            pub track_timestamps_staleness: bool,
            /// Query parameters.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub params: BTreeMap<String, Vec<String>>,
            /// How often.
            #[serde(skip_serializing_if = "PromDuration::is_zero")]
            pub scrape_interval: PromDuration,
            /// When a scrape is given up.
            #[serde(skip_serializing_if = "PromDuration::is_zero")]
            pub scrape_timeout: PromDuration,
            /// Formats asked for, the most wanted first.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub scrape_protocols: Vec<ScrapeProtocol>,
            /// Whether those are the ones that hold where nobody says.
            #[serde(skip)]
            pub protocols_by_default: bool,
            /// The format of a body that does not say.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub fallback_scrape_protocol: Option<ScrapeProtocol>,
            /// Whether native histograms are scraped as such; otherwise only their classic part is.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub scrape_native_histograms: Option<bool>,
            /// Whether the classic part of native histograms is scraped as well.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub always_scrape_classic_histograms: Option<bool>,
            /// Whether classic histograms become native ones with custom bounds.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub convert_classic_histograms_to_nhcb: Option<bool>,
            /// Whether each scrape also reports its timeout, limits and body size.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub extra_scrape_metrics: Option<bool>,
            /// Where failed scrapes are logged.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub scrape_failure_log_file: String,
            /// The path.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub metrics_path: String,
            /// `http` or `https`.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub scheme: String,
            /// Whether gzip is asked for.
            pub enable_compression: bool,
            /// The longest body, inflated; 0: no limit of the user's.
            #[serde(skip_serializing_if = "ByteSize::is_zero")]
            pub body_size_limit: ByteSize,
            /// The most samples of a scrape; 0: no limit, as in the limits below.
            #[serde(skip_serializing_if = "is_zero")]
            pub sample_limit: u64,
            /// The most targets of this job.
            #[serde(skip_serializing_if = "is_zero")]
            pub target_limit: u64,
            /// The most labels of a sample.
            #[serde(skip_serializing_if = "is_zero")]
            pub label_limit: u64,
            /// The longest label name.
            #[serde(skip_serializing_if = "is_zero")]
            pub label_name_length_limit: u64,
            /// The longest label value.
            #[serde(skip_serializing_if = "is_zero")]
            pub label_value_length_limit: u64,
            /// The most buckets of a native histogram: neighbours are merged until it has no more, and if that cannot
            /// be the scrape fails; 0: no limit.
            #[serde(skip_serializing_if = "is_zero")]
            pub native_histogram_bucket_limit: u64,
            /// The least that buckets of native histograms grow by, one to the next: finer ones are merged.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub native_histogram_min_bucket_factor: Option<f64>,
            /// How many dropped targets are kept to be shown.
            #[serde(skip_serializing_if = "is_zero")]
            pub keep_dropped_targets: u64,
            /// Which names are valid.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub metric_name_validation_scheme: Option<NameScheme>,
            /// How targets are asked to escape others.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub metric_name_escaping_scheme: Option<EscapingScheme>,
        }
        after {
            /// What happens to targets before they are scraped.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "target_rules")]
            pub relabel_configs: Vec<RelabelConfig>,
            /// What happens to samples before they are stored.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "metric_rules")]
            pub metric_relabel_configs: Vec<RelabelConfig>,
            /// Targets written down here.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "static_groups")]
            pub static_configs: Vec<StaticConfig>,
            /// Targets written down in files.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "sections")]
            pub file_sd_configs: Vec<FileSdConfig>,
            /// Targets that a server tells.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "sections")]
            pub http_sd_configs: Vec<HttpSdConfig>,
            /// Targets by their names.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "sections")]
            pub dns_sd_configs: Vec<DnsSdConfig>,
            /// Targets of a cluster.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "sections")]
            pub kubernetes_sd_configs: Vec<KubernetesSdConfig>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub azure_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub consul_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub digitalocean_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub docker_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub dockerswarm_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub ec2_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub eureka_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub gce_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub hetzner_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub ionos_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub kuma_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub lightsail_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub linode_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub marathon_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub nerve_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub nomad_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub oci_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub openstack_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub outscale_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub ovhcloud_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub puppetdb_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub scaleway_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub serverset_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub stackit_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub triton_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub uyuni_sd_configs: Refused<Discovery>,
            /// Of a kind that is not built in.
            #[serde(skip_serializing)]
            pub vultr_sd_configs: Refused<Discovery>,
        }
        defaults {
            job_name: String::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            params: BTreeMap::new(),
            scrape_interval: PromDuration::default(),
            scrape_timeout: PromDuration::default(),
            scrape_protocols: Vec::new(),
            protocols_by_default: false,
            fallback_scrape_protocol: None,
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            extra_scrape_metrics: None,
            scrape_failure_log_file: String::new(),
            metrics_path: "/metrics".to_owned(),
            scheme: "http".to_owned(),
            enable_compression: true,
            body_size_limit: ByteSize::default(),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: None,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            azure_sd_configs: Refused::default(),
            consul_sd_configs: Refused::default(),
            digitalocean_sd_configs: Refused::default(),
            dns_sd_configs: Vec::new(),
            docker_sd_configs: Refused::default(),
            dockerswarm_sd_configs: Refused::default(),
            ec2_sd_configs: Refused::default(),
            eureka_sd_configs: Refused::default(),
            gce_sd_configs: Refused::default(),
            hetzner_sd_configs: Refused::default(),
            http_sd_configs: Vec::new(),
            ionos_sd_configs: Refused::default(),
            kubernetes_sd_configs: Vec::new(),
            kuma_sd_configs: Refused::default(),
            lightsail_sd_configs: Refused::default(),
            linode_sd_configs: Refused::default(),
            marathon_sd_configs: Refused::default(),
            nerve_sd_configs: Refused::default(),
            nomad_sd_configs: Refused::default(),
            oci_sd_configs: Refused::default(),
            openstack_sd_configs: Refused::default(),
            outscale_sd_configs: Refused::default(),
            ovhcloud_sd_configs: Refused::default(),
            puppetdb_sd_configs: Refused::default(),
            scaleway_sd_configs: Refused::default(),
            serverset_sd_configs: Refused::default(),
            stackit_sd_configs: Refused::default(),
            triton_sd_configs: Refused::default(),
            uyuni_sd_configs: Refused::default(),
            vultr_sd_configs: Refused::default(),
        }
    }
}

impl ScrapeConfig {
    /// Fills what this job left out from `global` and checks the whole.
    pub(super) fn finish(mut self, global: &GlobalConfig) -> Result<Self, ConfigError> {
        if self.job_name.is_empty() {
            return Err(ConfigError::NoJobName);
        }
        let job = self.job_name.clone();
        let invalid = |problem| ConfigError::Invalid {
            job: job.clone(),
            problem,
        };
        self.check_http().map_err(&invalid)?;
        self.settle_http();
        self.inherit(global);
        self.check().map_err(invalid)?;
        Ok(self)
    }

    /// Takes relative paths as seen from the folder of the file that holds this job.
    pub fn set_directory(&mut self, folder: &Path) {
        self.set_http_directory(folder);
        if !self.scrape_failure_log_file.is_empty() {
            self.scrape_failure_log_file = folder
                .join(&self.scrape_failure_log_file)
                .to_string_lossy()
                .into_owned();
        }
        self.file_sd_configs
            .iter_mut()
            .for_each(|section| section.set_directory(folder));
        self.http_sd_configs
            .iter_mut()
            .for_each(|section| section.set_directory(folder));
        self.kubernetes_sd_configs
            .iter_mut()
            .for_each(|section| section.set_directory(folder));
    }

    fn inherit(&mut self, global: &GlobalConfig) {
        if self.scrape_interval.is_zero() {
            self.scrape_interval = global.scrape_interval;
        }
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = global.scrape_timeout.min(self.scrape_interval);
        }
        if global.scrape_native_histograms {
            self.scrape_native_histograms.get_or_insert(true);
        }
        if self.scrape_protocols.is_empty() {
            self.protocols_by_default = global.protocols_by_default;
            self.scrape_protocols = if global.protocols_by_default {
                ScrapeProtocol::by_default(self.scrape_native_histograms == Some(true)).to_vec()
            } else {
                global.scrape_protocols.clone()
            };
        }
        if self.body_size_limit.is_zero() {
            self.body_size_limit = global.body_size_limit;
        }
        for (own, inherited) in [
            (&mut self.sample_limit, global.sample_limit),
            (&mut self.target_limit, global.target_limit),
            (&mut self.label_limit, global.label_limit),
            (&mut self.label_name_length_limit, global.label_name_length_limit),
            (&mut self.label_value_length_limit, global.label_value_length_limit),
            (&mut self.keep_dropped_targets, global.keep_dropped_targets),
        ] {
            if *own == 0 {
                *own = inherited;
            }
        }
        if self.scrape_failure_log_file.is_empty() {
            self.scrape_failure_log_file.clone_from(&global.scrape_failure_log_file);
        }
        self.always_scrape_classic_histograms
            .get_or_insert(global.always_scrape_classic_histograms);
        self.convert_classic_histograms_to_nhcb
            .get_or_insert(global.convert_classic_histograms_to_nhcb);
        if global.extra_scrape_metrics {
            self.extra_scrape_metrics.get_or_insert(true);
        }
        let validation = self
            .metric_name_validation_scheme
            .or(global.metric_name_validation_scheme)
            .unwrap_or_default();
        self.metric_name_validation_scheme = Some(validation);
        let inferred = match validation {
            NameScheme::Utf8 => EscapingScheme::AllowUtf8,
            NameScheme::Legacy => EscapingScheme::Underscores,
        };
        // What `global` allows does not bind a job whose own scheme has no room for it.
        let inherited = global
            .metric_name_escaping_scheme
            .filter(|escaping| check_names(Some(validation), Some(*escaping)).is_ok());
        self.metric_name_escaping_scheme
            .get_or_insert(inherited.unwrap_or(inferred));
    }

    /// The same where native histograms are scraped unless the job says otherwise
    /// (`--enable-feature=native-histograms`).
    #[must_use]
    pub(crate) fn with_native_histograms(mut self) -> Self {
        if self.scrape_native_histograms.is_none() {
            self.scrape_native_histograms = Some(true);
            if self.protocols_by_default {
                self.scrape_protocols = ScrapeProtocol::by_default(true).to_vec();
            }
        }
        self
    }

    fn check(&mut self) -> Result<(), Problem> {
        if self.scrape_timeout > self.scrape_interval {
            return Err(Problem::from("scrape timeout greater than scrape interval").below("scrape_timeout"));
        }
        check_protocols(&self.scrape_protocols)?;
        check_names(self.metric_name_validation_scheme, self.metric_name_escaping_scheme)?;
        let scheme = self.metric_name_validation_scheme.unwrap_or_default();
        for (key, rules) in [
            ("relabel_configs", &mut self.relabel_configs),
            ("metric_relabel_configs", &mut self.metric_relabel_configs),
        ] {
            for (at, rule) in rules.iter_mut().enumerate() {
                rule.set_scheme(scheme)
                    .map_err(|problem| Problem::from(problem.to_string()).below(at).below(key))?;
            }
        }
        for (at, group) in self.static_configs.iter().enumerate() {
            group
                .check()
                .map_err(|problem| problem.below(at).below("static_configs"))?;
        }
        self.check_kinds()
    }

    /// Whether all kinds of discovery that it names are built in.
    fn check_kinds(&self) -> Result<(), Problem> {
        if !cfg!(feature = "kubernetes") && !self.kubernetes_sd_configs.is_empty() {
            let problem = Problem::from("this program was built without discovery in Kubernetes");
            return Err(problem.below("kubernetes_sd_configs"));
        }
        Ok(())
    }
}

/// A list whose items may not be empty.
fn full_list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D, problem: &str) -> Result<Vec<T>, D::Error> {
    Option::<Vec<Option<T>>>::deserialize(from)?
        .unwrap_or_default()
        .into_iter()
        .map(|item| item.ok_or_else(|| serde::de::Error::custom(problem)))
        .collect()
}

fn target_rules<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RelabelConfig>, D::Error> {
    full_list(from, "empty or null target relabeling rule")
}

fn metric_rules<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RelabelConfig>, D::Error> {
    full_list(from, "empty or null metric relabeling rule")
}

fn static_groups<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<StaticConfig>, D::Error> {
    full_list(from, "empty or null section in static_configs")
}
