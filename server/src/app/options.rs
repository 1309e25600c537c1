//! What a start is told by the command line.

use crate::access::AccessFiles;
use crate::config::PromDuration;
use crate::http::CorsOrigin;
#[cfg(feature = "kubernetes")]
use crate::kubeapi;
use crate::preset;
use crate::remote::ProtoMessage;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use tidegauge_scraper::DiscoveryOptions;

/// What `interval` means for the log.
const SYNC_INTERVAL: PromDuration = PromDuration::from_millis(1000);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// The configuration file; `None` for the built-in configuration.
    pub config_file: Option<PathBuf>,
    /// Presets that the command line asks for.
    pub presets: preset::Flags,
    /// The cluster's autoscalers and metrics APIs.
    #[cfg(feature = "kubernetes")]
    pub kubernetes: kubeapi::Options,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Addresses to listen on, as `host:port`; port 0 takes a free one.
    pub listen: Vec<String>,
    /// The URL users know.
    pub external_url: Option<String>,
    /// Prefix of all routes, instead of the external URL's path.
    pub route_prefix: Option<String>,
    /// Whose pages may read the answers of the API.
    pub cors_origin: CorsOrigin,
    /// Whether reload and quit are served.
    pub lifecycle: bool,
    /// Whether the admin API is served.
    pub admin_api: bool,
    /// Whether profiles are taken.
    pub profiling: bool,
    /// Whether remote write is taken.
    pub remote_write_receiver: bool,
    /// The messages of remote write that are taken.
    pub remote_write_messages: Vec<ProtoMessage>,
    /// Most connections on each address.
    pub max_connections: usize,
    /// Bytes of path and parameters that a URL may have.
    pub max_url_bytes: usize,
    /// Bytes that the head of a request may have.
    pub max_head_bytes: usize,
    /// Bytes that a form may have.
    pub max_form_bytes: usize,
    /// Bytes that a request of remote write may have, as it comes and unpacked.
    pub max_write_bytes: usize,
    /// Longest time for a request's head.
    pub read_timeout: PromDuration,
    /// Longest time in which a client takes nothing of its answer.
    pub write_timeout: PromDuration,
    /// Who may ask.
    pub access: AccessFiles,
    /// Whether each request is logged.
    pub access_log: bool,
    /// How long samples are kept; `None`: for ever.
    pub retention: Option<PromDuration>,
    /// How many bytes may be stored; 0 sets no limit.
    pub retention_bytes: u64,
    /// Time in a block of the head.
    pub min_block: PromDuration,
    /// Time in a merged block at most; `None`: as the retention suggests.
    pub max_block: Option<PromDuration>,
    /// When the log is synced.
    pub fsync: FsyncChoice,
    /// How values are encoded.
    pub encoding: Encoding,
    /// Most series in the head; 0: no limit.
    pub max_series: u64,
    /// Most series of one target in the head; 0: no limit.
    pub max_series_per_target: u64,
    /// Most buckets of a native histogram.
    pub max_histogram_buckets: usize,
    /// Most deleted intervals in the head and in each block; 0: no limit.
    pub max_tombstones: u64,
    /// The memory of all parts together.
    pub memory_limit_bytes: u64,
    /// Who set it, for the log.
    pub memory_source: &'static str,
    /// How far from its planned time a scrape is stamped with it.
    pub timestamp_tolerance: PromDuration,
    /// Whether targets on this machine are asked for compressed bodies as well.
    pub compress_nearby: bool,
    /// Most metric families of a target whose metadata is kept.
    pub max_metadata: usize,
    /// How far back an instant selector looks.
    pub lookback: PromDuration,
    /// Longest time of a query.
    pub query_timeout: PromDuration,
    /// Most samples of a query.
    pub max_samples: u64,
    /// Most queries at a time.
    pub max_concurrency: usize,
    /// Names of features, as upstream calls them.
    pub features: Vec<String>,
    /// How targets are found.
    pub discovery: DiscoveryOptions,
    /// Every flag with the value in effect, for `/api/v1/status/flags`.
    pub flags: BTreeMap<String, String>,
}

/// When the log is forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsyncChoice {
    /// Before a commit returns.
    Always,
    /// At most this often.
    Every(PromDuration),
    /// When the system likes.
    Never,
}

impl FromStr for FsyncChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            "interval" => Ok(Self::Every(SYNC_INTERVAL)),
            other => other
                .parse()
                .map(Self::Every)
                .map_err(|e| format!("`always`, `interval`, `never` or a duration is expected: {e}")),
        }
    }
}

/// How values are encoded on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    /// The smallest of all.
    Auto,
    /// Gorilla's, for every column.
    Gorilla,
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn fsync_is_a_word_or_a_duration() {
        assert_eq!("always".parse(), Ok(FsyncChoice::Always));
        assert_eq!("never".parse(), Ok(FsyncChoice::Never));
        assert_eq!("interval".parse(), "1s".parse::<FsyncChoice>());
        assert_eq!("500ms".parse(), Ok(FsyncChoice::Every(PromDuration::from_millis(500))));
        assert!("sometimes".parse::<FsyncChoice>().is_err());
    }
}
