//! The section `global`.

use super::{ByteSize, ConfigError, Problem, PromDuration, check_names, check_protocols, is_false, is_zero};
use crate::naming::{EscapingScheme, NameScheme};
use crate::parse::ScrapeProtocol;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The section `global`. As read, what was not given is zero, empty or `None`; [`GlobalConfig::finish`] fills it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalConfig {
    /// How often targets are scraped.
    #[serde(skip_serializing_if = "PromDuration::is_zero")]
    pub scrape_interval: PromDuration,
    /// When a scrape is given up.
    #[serde(skip_serializing_if = "PromDuration::is_zero")]
    pub scrape_timeout: PromDuration,
    /// Formats asked for, the most wanted first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// How often rules are evaluated.
    #[serde(skip_serializing_if = "PromDuration::is_zero")]
    pub evaluation_interval: PromDuration,
    /// How far back in time rules are evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_query_offset: Option<PromDuration>,
    /// Where queries are logged.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query_log_file: String,
    /// Where failed scrapes are logged.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scrape_failure_log_file: String,
    /// Labels for everything that leaves this server.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_labels: BTreeMap<String, String>,
    /// The longest body, inflated; 0: no limit of the user's.
    #[serde(skip_serializing_if = "ByteSize::is_zero")]
    pub body_size_limit: ByteSize,
    /// The most samples of a scrape; 0: no limit, as in the limits below.
    #[serde(skip_serializing_if = "is_zero")]
    pub sample_limit: u64,
    /// The most targets of a job.
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
    /// How many dropped targets are kept to be shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub keep_dropped_targets: u64,
    /// Which names are valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_name_validation_scheme: Option<NameScheme>,
    /// How targets are asked to escape others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_name_escaping_scheme: Option<EscapingScheme>,
    /// Whether native histograms are scraped as such; then protobuf is asked for first, unless told otherwise.
    #[serde(skip_serializing_if = "is_false")]
    pub scrape_native_histograms: bool,
    /// Whether classic histograms become native ones with custom bounds.
    #[serde(skip_serializing_if = "is_false")]
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether the classic part of native histograms is scraped as well.
    #[serde(skip_serializing_if = "is_false")]
    pub always_scrape_classic_histograms: bool,
    /// Whether each scrape also reports its timeout, limits and body size.
    #[serde(skip_serializing_if = "is_false")]
    pub extra_scrape_metrics: bool,
    /// Whether `scrape_protocols` are those that hold where nobody says, so that a job's wish for native histograms
    /// may change them.
    #[serde(skip)]
    pub protocols_by_default: bool,
}

const DEFAULT_INTERVAL: PromDuration = PromDuration::from_secs(60);
const DEFAULT_TIMEOUT: PromDuration = PromDuration::from_secs(10);

impl GlobalConfig {
    /// What holds when the file has no section `global`.
    pub fn absent() -> Self {
        let mut global = Self {
            metric_name_validation_scheme: Some(NameScheme::Utf8),
            metric_name_escaping_scheme: Some(EscapingScheme::AllowUtf8),
            ..Self::default()
        };
        global.fill();
        global
    }

    fn fill(&mut self) {
        if self.scrape_interval.is_zero() {
            self.scrape_interval = DEFAULT_INTERVAL;
        }
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = DEFAULT_TIMEOUT.min(self.scrape_interval);
        }
        if self.evaluation_interval.is_zero() {
            self.evaluation_interval = DEFAULT_INTERVAL;
        }
        if self.scrape_protocols.is_empty() {
            self.scrape_protocols = ScrapeProtocol::by_default(self.scrape_native_histograms).to_vec();
            self.protocols_by_default = true;
        }
    }

    /// Fills what was not given and checks the whole. To be called once, before [`super::finish`].
    ///
    /// # Errors
    /// [`ConfigError::Global`].
    pub fn finish(mut self) -> Result<Self, ConfigError> {
        self.fill();
        if self.scrape_timeout > self.scrape_interval {
            let problem = Problem::from("global scrape timeout greater than scrape interval");
            return Err(ConfigError::Global(problem.below("scrape_timeout")));
        }
        check_protocols(&self.scrape_protocols)
            .map_err(|problem| ConfigError::Global(problem.told(|said| format!("{said} for global config"))))?;
        check_names(self.metric_name_validation_scheme, self.metric_name_escaping_scheme)
            .map_err(ConfigError::Global)?;
        Ok(self)
    }

    /// Takes relative paths as seen from the folder of the file. To be called once the jobs have inherited theirs.
    pub fn set_directory(&mut self, folder: &Path) {
        for path in [&mut self.query_log_file, &mut self.scrape_failure_log_file] {
            if !path.is_empty() {
                *path = folder.join(&*path).to_string_lossy().into_owned();
            }
        }
    }
}
