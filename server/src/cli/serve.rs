//! `tidegauge serve`, which is also what `tidegauge` alone does.

#[cfg(feature = "kubernetes")]
use super::metrics_apis::MetricsApis;
use super::{complain, flags::Sorted, memory, print};
use crate::access::AccessFiles;
use crate::app::{self, AppOptions, FsyncChoice, Started};
use crate::config::{ByteSize, PromDuration};
#[cfg(feature = "kubernetes")]
use crate::hpa;
use crate::http::{CorsOrigin, ServeOptions};
use crate::preset::{self, Annotations};
use crate::remote::ProtoMessage;
use crate::telemetry::{self, LogFormat, LogLevel};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
#[cfg(feature = "kubernetes")]
use std::path::Path;
use std::path::PathBuf;
use tidegauge_scraper::DiscoveryOptions;
use tidegauge_scraper::config::UnitError;
#[cfg(feature = "kubernetes")]
use tidegauge_scraper::{InCluster, KubernetesOptions};
use tidegauge_tsdb::column::MAX_BUCKETS;
use tokio_util::sync::CancellationToken;

const DEFAULT_RETENTION: &str = "15d";

/// The flags of `serve` that do something. The others of Prometheus never get here: see [`super::flags`].
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file (prometheus.yml as it is); without it a built-in one scrapes this process and a
    /// node_exporter on 127.0.0.1:9100
    #[arg(long = "config.file", value_name = "FILE", help_heading = "Configuration")]
    config_file: Option<PathBuf>,
    /// Scrape what a Kubernetes cluster has: API server, kubelets, kube-state-metrics, node_exporter, CoreDNS, and what
    /// asks for it by annotations (`prometheus.io/scrape` and its kin); `tidegauge config show --preset kubernetes`
    /// prints the jobs. Beside those of --config.file, or alone
    #[arg(long = "kubernetes", help_heading = "Configuration")]
    kubernetes: bool,
    /// Which pods --kubernetes scrapes for their annotations [default: opt-in, or as the file says]
    #[arg(
        long = "kubernetes.annotations",
        value_name = "WHICH",
        value_enum,
        help_heading = "Configuration"
    )]
    annotations: Option<Annotations>,
    /// How often the cluster's HorizontalPodAutoscalers are looked at, for /api/v1/hpa; the controller's
    /// --horizontal-pod-autoscaler-sync-period. 0: not at all
    #[cfg(feature = "kubernetes")]
    #[arg(
        long = "kubernetes.hpa-sync-period",
        value_name = "DURATION",
        default_value = "15s",
        help_heading = "Configuration"
    )]
    hpa_sync_period: PromDuration,
    /// Most HorizontalPodAutoscalers that are looked at; more are left out, counted and told of
    #[cfg(feature = "kubernetes")]
    #[arg(
        long = "kubernetes.max-hpas",
        value_name = "N",
        default_value_t = 1000,
        help_heading = "Configuration"
    )]
    max_hpas: usize,
    #[cfg(feature = "kubernetes")]
    #[command(flatten)]
    metrics_apis: MetricsApis,
    /// File with rules that make metrics for autoscalers of series, as prometheus-adapter has it; what is changed in it is
    /// taken without a restart
    #[cfg(feature = "kubernetes")]
    #[arg(
        long = "kubernetes.adapter-config",
        value_name = "FILE",
        help_heading = "Configuration"
    )]
    adapter_config: Option<PathBuf>,
    /// Features of Prometheus to turn on, by name, separated by commas; may be repeated
    #[arg(
        long = "enable-feature",
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "Configuration"
    )]
    features: Vec<String>,

    /// After a change of a job's targets, how long the next one waits
    #[arg(
        long = "scrape.discovery-reload-interval",
        value_name = "DURATION",
        default_value = "5s",
        help_heading = "Discovery"
    )]
    sync_interval: PromDuration,
    /// DNS server to ask for targets instead of those of /etc/resolv.conf; may be repeated
    #[arg(long = "discovery.dns-server", value_name = "IP:PORT", help_heading = "Discovery")]
    dns_servers: Vec<SocketAddr>,
    /// Longest answer of http_sd_configs and longest file of file_sd_configs; targets of a longer one stay as they were
    #[arg(
        long = "discovery.max-answer-size",
        value_name = "BYTES",
        default_value = "64MB",
        help_heading = "Discovery"
    )]
    max_answer: ByteSize,
    /// Most targets that discovery may find, of all jobs together; a group that would pass it is left out and told of.
    /// Those of static_configs are not counted
    #[arg(
        long = "discovery.max-targets",
        value_name = "N",
        default_value_t = 100_000,
        help_heading = "Discovery"
    )]
    max_targets: u64,
    /// Most that the labels of all these targets may take
    #[arg(
        long = "discovery.max-size",
        value_name = "BYTES",
        default_value = "64MB",
        help_heading = "Discovery"
    )]
    max_groups: ByteSize,
    /// Most Kubernetes objects that one watch holds; more are left out, counted and told of in the log
    #[cfg(feature = "kubernetes")]
    #[arg(
        long = "discovery.kubernetes-max-objects",
        value_name = "N",
        default_value_t = 100_000,
        help_heading = "Discovery"
    )]
    kubernetes_max_objects: usize,
    /// Where a pod finds its service account: the folder with token, ca.crt and namespace
    #[cfg(feature = "kubernetes")]
    #[arg(
        long = "discovery.kubernetes-service-account",
        value_name = "DIR",
        default_value = preset::SERVICE_ACCOUNT,
        help_heading = "Discovery"
    )]
    service_account: PathBuf,

    /// Address to listen on; may be repeated [default: 127.0.0.1:9090, or 0.0.0.0:9090 with
    /// --config.file or --kubernetes]
    #[arg(long = "web.listen-address", value_name = "HOST:PORT", help_heading = "Web")]
    listen: Vec<String>,
    /// URL under which users reach this server; its path becomes the prefix of all routes
    #[arg(long = "web.external-url", value_name = "URL", help_heading = "Web")]
    external_url: Option<String>,
    /// Prefix of all routes [default: the path of --web.external-url]
    #[arg(long = "web.route-prefix", value_name = "PATH", help_heading = "Web")]
    route_prefix: Option<String>,
    /// Regex for the whole of an origin whose pages a browser lets read what the API answers
    #[arg(
        long = "web.cors.origin",
        value_name = "REGEX",
        default_value = ".*",
        help_heading = "Web"
    )]
    cors_origin: CorsOrigin,
    /// Serve POST /-/reload and POST /-/quit
    #[arg(long = "web.enable-lifecycle", help_heading = "Web")]
    lifecycle: bool,
    /// Serve /api/v1/admin/tsdb/*
    #[arg(long = "web.enable-admin-api", help_heading = "Web")]
    admin_api: bool,
    /// Serve /debug/pprof/profile and /debug/pprof/heap; a profile of the processor takes some 100 MB of memory
    #[arg(long = "web.enable-profiling", help_heading = "Web")]
    profiling: bool,
    /// Serve POST /api/v1/write (remote write 1.0 and 2.0)
    #[arg(long = "web.enable-remote-write-receiver", help_heading = "Web")]
    remote_write_receiver: bool,
    /// File that says who may ask and over what, as Prometheus has it: TLS, users with passwords, headers, a rate; what is
    /// changed in it is taken without a restart
    #[arg(long = "web.config.file", value_name = "FILE", help_heading = "Web")]
    web_config: Option<PathBuf>,
    /// File with bearer tokens, one a line, whose holders may ask; with this or the next, nobody else may
    #[arg(long = "web.read-token-file", value_name = "FILE", help_heading = "Web")]
    read_tokens: Option<PathBuf>,
    /// File with bearer tokens, one a line, whose holders may also write, delete, reload and stop
    #[arg(long = "web.write-token-file", value_name = "FILE", help_heading = "Web")]
    write_tokens: Option<PathBuf>,
    /// Write a line to the log for each request
    #[arg(long = "web.access-log", help_heading = "Web")]
    access_log: bool,
    /// Messages of remote write that are taken; may be repeated [default: all]
    #[arg(
        long = "web.remote-write-receiver.accepted-protobuf-messages",
        value_name = "MESSAGE",
        help_heading = "Web"
    )]
    remote_write_messages: Vec<ProtoMessage>,
    /// Most connections at a time on each address; when all are taken, the longest idle one is closed for one that comes
    #[arg(
        long = "web.max-connections",
        value_name = "N",
        default_value = "512",
        help_heading = "Web"
    )]
    max_connections: usize,
    /// Largest URL of a request, path and parameters: 1KB to 64KB
    #[arg(
        long = "web.max-url-size",
        value_name = "BYTES",
        default_value = "64KB",
        value_parser = |text: &str| size_within(text, 1 << 10, 64 << 10),
        help_heading = "Web"
    )]
    max_url: ByteSize,
    /// Largest head of a request, its URL among it: 8KB to 16MB
    #[arg(
        long = "web.max-head-size",
        value_name = "BYTES",
        default_value = "128KB",
        value_parser = |text: &str| size_within(text, ServeOptions::MIN_HEAD_BYTES as u64, 16 << 20),
        help_heading = "Web"
    )]
    max_head: ByteSize,
    /// Largest form with parameters that is posted: 1KB to 1GB
    #[arg(
        long = "web.max-form-size",
        value_name = "BYTES",
        default_value = "10MB",
        value_parser = |text: &str| size_within(text, 1 << 10, 1 << 30),
        help_heading = "Web"
    )]
    max_form: ByteSize,
    /// Largest request of remote write, as it comes and unpacked: 1KB to 1GB
    #[arg(
        long = "web.remote-write-receiver.max-body-size",
        value_name = "BYTES",
        default_value = "32MB",
        value_parser = |text: &str| size_within(text, 1 << 10, 1 << 30),
        help_heading = "Web"
    )]
    max_write: ByteSize,
    /// Longest time a client may take to send a request's head, then its body, or keep an idle connection
    #[arg(
        long = "web.read-timeout",
        value_name = "DURATION",
        default_value = "5m",
        help_heading = "Web"
    )]
    read_timeout: PromDuration,
    /// Longest time a client may take no part of its answer
    #[arg(
        long = "web.write-timeout",
        value_name = "DURATION",
        default_value = "1m",
        help_heading = "Web"
    )]
    write_timeout: PromDuration,

    /// Folder of the data; it is made if there is none
    #[arg(
        long = "storage.tsdb.path",
        value_name = "DIR",
        default_value = "data/",
        help_heading = "Storage"
    )]
    data_dir: PathBuf,
    /// How long samples are kept; 0 is as if it were not given
    #[arg(
        long = "storage.tsdb.retention.time",
        value_name = "DURATION",
        default_value = DEFAULT_RETENTION,
        help_heading = "Storage"
    )]
    retention: PromDuration,
    /// How much blocks, log and head may take on disk; beyond it the oldest blocks go. 0 sets no limit; without
    /// --storage.tsdb.retention.time, nothing goes because of its age then
    #[arg(
        long = "storage.tsdb.retention.size",
        value_name = "BYTES",
        default_value = "0B",
        help_heading = "Storage"
    )]
    retention_size: ByteSize,
    /// How much time a block of the head holds
    #[arg(
        long = "storage.tsdb.min-block-duration",
        value_name = "DURATION",
        default_value = "2h",
        help_heading = "Storage"
    )]
    min_block: PromDuration,
    /// How much time blocks are merged to hold at most [default: a tenth of the retention, at most 31d]
    #[arg(
        long = "storage.tsdb.max-block-duration",
        value_name = "DURATION",
        help_heading = "Storage"
    )]
    max_block: Option<PromDuration>,
    /// When the log is forced to the disk: `always`, `never`, or in the background at most this often (`interval`
    /// means 1s); a crash of the process loses nothing in any case, a power cut at most this much
    #[arg(
        long = "storage.wal.fsync",
        value_name = "WHEN",
        default_value = "1s",
        help_heading = "Storage"
    )]
    fsync: FsyncChoice,
    /// How values are encoded on disk: `auto` takes the smallest for each column, `gorilla` the one of that paper
    #[arg(
        long = "storage.encoding",
        value_name = "NAME",
        default_value = "auto",
        help_heading = "Storage"
    )]
    encoding: app::Encoding,
    /// Most series in memory; a new one over it is refused, existing ones go on [0: no limit but memory]
    #[arg(
        long = "storage.max-series",
        value_name = "N",
        default_value = "0",
        help_heading = "Storage"
    )]
    max_series: u64,
    /// The same for each scraped target, its report (`up`, `scrape_*`) counted too [0: no limit]
    #[arg(
        long = "storage.max-series-per-target",
        value_name = "N",
        default_value = "0",
        help_heading = "Storage"
    )]
    max_series_per_target: u64,
    /// Most buckets in one native histogram; one with more is refused
    #[arg(
        long = "storage.max-histogram-buckets",
        value_name = "N",
        default_value = "1024",
        value_parser = clap::value_parser!(u32).range(1..=MAX_BUCKETS as i64),
        help_heading = "Storage"
    )]
    max_histogram_buckets: u32,
    /// Most deleted intervals, counted for each series, in the head and in each block; a deletion over it is refused
    /// [0: no limit but memory]
    #[arg(
        long = "storage.max-tombstones",
        value_name = "N",
        default_value = "4000000",
        help_heading = "Storage"
    )]
    max_tombstones: u64,
    /// Memory that all parts together may use [default: 9/10 of the control group's limit, else half of the machine's]
    #[arg(long = "memory.limit", value_name = "BYTES", help_heading = "Storage")]
    memory_limit: Option<ByteSize>,

    /// Stamp scrapes that start in time with their planned time, so that their timestamps compress well [default: true]
    #[arg(long = "scrape.adjust-timestamps", help_heading = "Scraping")]
    adjust_timestamps: bool,
    /// How far from its planned time a scrape may start to be stamped with it; at most a hundredth of the interval
    #[arg(
        long = "scrape.timestamp-tolerance",
        value_name = "DURATION",
        default_value = "2ms",
        help_heading = "Scraping"
    )]
    timestamp_tolerance: PromDuration,
    /// Ask targets on this machine for compressed bodies as well, which costs both sides more than the bytes do
    #[arg(long = "scrape.compress-nearby", help_heading = "Scraping")]
    compress_nearby: bool,
    /// Most metric families of a target whose type, help and unit are kept; further ones are scraped all the same
    #[arg(
        long = "scrape.max-metadata",
        value_name = "FAMILIES",
        default_value_t = 10_000,
        help_heading = "Scraping"
    )]
    max_metadata: usize,

    /// How far back an instant selector looks for a sample
    #[arg(
        long = "query.lookback-delta",
        value_name = "DURATION",
        default_value = "5m",
        help_heading = "Queries"
    )]
    lookback: PromDuration,
    /// Longest time a query may take
    #[arg(
        long = "query.timeout",
        value_name = "DURATION",
        default_value = "2m",
        help_heading = "Queries"
    )]
    query_timeout: PromDuration,
    /// Most samples a query may hold at a time
    #[arg(
        long = "query.max-samples",
        value_name = "N",
        default_value = "50000000",
        help_heading = "Queries"
    )]
    max_samples: u64,
    /// Most queries at a time; others wait
    #[arg(
        long = "query.max-concurrency",
        value_name = "N",
        default_value = "20",
        help_heading = "Queries"
    )]
    max_concurrency: usize,

    /// Least severity that is logged
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        value_enum,
        default_value = "info",
        help_heading = "Log"
    )]
    log_level: LogLevel,
    /// Form of the log, which goes to standard error
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        value_enum,
        default_value = "logfmt",
        help_heading = "Log"
    )]
    log_format: LogFormat,
}

impl ServeArgs {
    /// Serves until told to stop.
    pub(crate) fn run(self, sorted: &Sorted) -> anyhow::Result<()> {
        telemetry::init(self.log_level, self.log_format);
        memory::use_small_pages();
        raise_open_files();
        for name in &sorted.ignored {
            tracing::warn!(
                flag = *name,
                "this flag of Prometheus is accepted and has no effect here"
            );
        }
        let options = self.into_options(sorted);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let shutdown = CancellationToken::new();
        let done = runtime.block_on(async {
            app::stop_on_signals(&shutdown)?;
            app::run(options, shutdown.clone(), announce).await
        });
        // A blocking task that does not end (a query in a long loop) must not keep the process.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        done
    }

    /// How long samples are kept, as upstream has it: who bounds the size alone keeps them however old they are, who
    /// bounds neither has the default, and a time of 0 is none.
    fn kept(&self, sorted: &Sorted) -> Option<PromDuration> {
        let given = sorted.given.contains_key("storage.tsdb.retention.time");
        let by_size = self.retention_size.bytes() > 0;
        let by_time = !self.retention.is_zero() && (given || !by_size);
        match (by_time, by_size) {
            (true, _) => Some(self.retention),
            (false, true) => None,
            (false, false) => {
                tracing::info!(
                    kept = DEFAULT_RETENTION,
                    "neither a time nor a size bounds what is kept: the default does"
                );
                DEFAULT_RETENTION.parse().ok()
            }
        }
    }

    fn into_options(self, sorted: &Sorted) -> AppOptions {
        let retention = self.kept(sorted);
        let memory = match self.memory_limit {
            Some(limit) => memory::Limit {
                bytes: limit.bytes(),
                source: "--memory.limit",
            },
            None => memory::default_limit(),
        };
        let configured = self.config_file.is_some() || self.kubernetes;
        let listen = match (self.listen.is_empty(), configured) {
            (false, _) => self.listen,
            (true, true) => vec!["0.0.0.0:9090".to_owned()],
            (true, false) => vec!["127.0.0.1:9090".to_owned()],
        };
        let mut flags = sorted.effective();
        flags.insert("web.listen-address".to_owned(), listen.join(","));
        flags.insert("memory.limit".to_owned(), format!("{}B", memory.bytes));
        let shown = retention.map_or("0s".to_owned(), |time| time.to_string());
        flags.insert("storage.tsdb.retention.time".to_owned(), shown);
        flags.insert(
            "storage.tsdb.retention.size".to_owned(),
            self.retention_size.to_string(),
        );
        AppOptions {
            config_file: self.config_file,
            presets: preset::Flags {
                kubernetes: self.kubernetes,
                annotations: self.annotations,
                #[cfg(feature = "kubernetes")]
                service_account: (self.service_account != Path::new(preset::SERVICE_ACCOUNT))
                    .then(|| self.service_account.display().to_string()),
                #[cfg(not(feature = "kubernetes"))]
                service_account: None,
            },
            #[cfg(feature = "kubernetes")]
            autoscalers: (!self.hpa_sync_period.is_zero()).then(|| hpa::live::Options {
                max_autoscalers: self.max_hpas,
                settings: hpa::Settings {
                    sync_ms: i64::try_from(self.hpa_sync_period.millis()).unwrap_or(i64::MAX),
                    ..hpa::Settings::default()
                },
            }),
            #[cfg(feature = "kubernetes")]
            metrics_apis: self.metrics_apis.into_options(),
            adapter_config: given(self.adapter_config),
            data_dir: self.data_dir,
            listen,
            external_url: self.external_url,
            route_prefix: self.route_prefix,
            cors_origin: self.cors_origin,
            lifecycle: self.lifecycle,
            admin_api: self.admin_api,
            profiling: self.profiling,
            remote_write_receiver: self.remote_write_receiver,
            remote_write_messages: match self.remote_write_messages.as_slice() {
                [] => ProtoMessage::ALL.to_vec(),
                given => given.to_vec(),
            },
            max_connections: self.max_connections,
            max_url_bytes: bytes(self.max_url),
            max_head_bytes: bytes(self.max_head),
            max_form_bytes: bytes(self.max_form),
            max_write_bytes: bytes(self.max_write),
            read_timeout: self.read_timeout,
            write_timeout: self.write_timeout,
            access: AccessFiles {
                web_config: given(self.web_config),
                read_tokens: given(self.read_tokens),
                write_tokens: given(self.write_tokens),
            },
            access_log: self.access_log,
            retention,
            retention_bytes: self.retention_size.bytes(),
            min_block: self.min_block,
            max_block: self.max_block,
            fsync: self.fsync,
            encoding: self.encoding,
            max_series: self.max_series,
            max_series_per_target: self.max_series_per_target,
            max_histogram_buckets: self.max_histogram_buckets as usize,
            max_tombstones: self.max_tombstones,
            memory_limit_bytes: memory.bytes,
            memory_source: memory.source,
            timestamp_tolerance: match sorted.given.get("scrape.adjust-timestamps") {
                Some(adjusted) if adjusted == "false" && !self.adjust_timestamps => PromDuration::from_millis(0),
                _ => self.timestamp_tolerance,
            },
            compress_nearby: self.compress_nearby,
            max_metadata: self.max_metadata,
            lookback: self.lookback,
            query_timeout: self.query_timeout,
            max_samples: self.max_samples,
            max_concurrency: self.max_concurrency,
            features: self.features,
            discovery: DiscoveryOptions {
                sync_interval: self.sync_interval.get(),
                max_answer_bytes: bytes(self.max_answer),
                max_targets: self.max_targets,
                max_groups_bytes: self.max_groups.bytes(),
                dns_servers: self.dns_servers,
                #[cfg(feature = "kubernetes")]
                kubernetes: KubernetesOptions {
                    max_objects_per_watch: self.kubernetes_max_objects,
                    in_cluster: InCluster {
                        service_account: self.service_account,
                        ..InCluster::default()
                    },
                    ..KubernetesOptions::default()
                },
                ..DiscoveryOptions::default()
            },
            flags,
        }
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

/// A size between two bounds, both allowed.
fn size_within(text: &str, least: u64, most: u64) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: UnitError| error.to_string())?;
    if !(least..=most).contains(&size.bytes()) {
        let (least, most) = (ByteSize::from_bytes(least), ByteSize::from_bytes(most));
        return Err(format!("{least} to {most} is allowed"));
    }
    Ok(size)
}

/// A flag with an empty text is as one that is not given, as upstream.
fn given(file: Option<PathBuf>) -> Option<PathBuf> {
    file.filter(|path| !path.as_os_str().is_empty())
}

/// Lets this process have as many files and connections open as the system allows it: the usual bound is for programs
/// that hold few.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let most = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, most) {
            tracing::warn!(%error, "cannot raise the number of files that may be open");
        }
    }
}

/// Three lines that say where to look.
fn announce(started: &Started) {
    let base = started.url.as_str().trim_end_matches('/');
    print(format_args!(
        "UI     {base}/\ntry    curl '{base}/api/v1/query?query=up'\ndata   {}\n",
        started.data_dir.display()
    ));
    if started.addresses.is_empty() {
        complain("no listener is open");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, flags};
    use super::*;
    use clap::Parser;

    fn options(given: &[String]) -> Result<AppOptions, clap::Error> {
        let sorted = flags::sort(given.iter().cloned()).unwrap();
        let args = std::iter::once("tidegauge".to_owned()).chain(sorted.obeyed.clone());
        Ok(Cli::try_parse_from(args)?.serve.into_options(&sorted))
    }

    #[test]
    fn bounds_of_the_store_are_as_given() {
        let buckets = |n: &str| options(&[format!("--storage.max-histogram-buckets={n}")]);
        assert_eq!(buckets("8192").unwrap().max_histogram_buckets, 8192);
        for bad in ["0", "8193", "x"] {
            let told = buckets(bad).unwrap_err().to_string();
            assert!(told.contains("--storage.max-histogram-buckets"), "{told}");
        }
        let defaults = (options(&[]).unwrap(), tidegauge_tsdb::Options::default());
        assert_eq!(defaults.0.max_histogram_buckets, defaults.1.max_histogram_buckets);
        assert_eq!(defaults.0.max_tombstones, defaults.1.max_tombstones);
    }

    #[test]
    fn bounds_of_requests_are_as_given() {
        let given = [
            "--web.max-url-size=2KB",
            "--web.max-head-size=16KB",
            "--web.max-form-size=1MB",
            "--web.remote-write-receiver.max-body-size=3MB",
        ]
        .map(str::to_owned);
        let given = options(&given).unwrap();
        let of = |o: &AppOptions| [o.max_url_bytes, o.max_head_bytes, o.max_form_bytes, o.max_write_bytes];
        assert_eq!(of(&given), [2 << 10, 16 << 10, 1 << 20, 3 << 20]);
        let (listener, api) = (ServeOptions::default(), crate::api::ApiLimits::default());
        let defaults = [api.uri_bytes, listener.max_head_bytes, api.form_bytes, api.write_bytes];
        assert_eq!(of(&options(&[]).unwrap()), defaults);
        for (bad, told) in [
            ("--web.max-url-size=65KB", "1KiB to 64KiB is allowed"),
            ("--web.max-head-size=1KB", "8KiB to 16MiB is allowed"),
            ("--web.max-form-size=0", "1KiB to 1GiB is allowed"),
            (
                "--web.remote-write-receiver.max-body-size=x",
                "--web.remote-write-receiver.max-body-size",
            ),
        ] {
            let error = options(&[bad.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_bounds_the_retention_is_decided_as_upstream() {
        let (time, size) = ("--storage.tsdb.retention.time", "--storage.tsdb.retention.size");
        for (given, kept) in [
            (vec![], "15d"),
            (vec![format!("{time}=2d")], "2d"),
            (vec![format!("{time}=0s")], "15d"),
            (vec![format!("{time}=0")], "15d"),
            (vec![format!("{time}=0s"), format!("{size}=0")], "15d"),
            (vec![format!("{size}=1GB")], "0s"),
            (vec![format!("{time}=0s"), format!("{size}=1GB")], "0s"),
            (vec![format!("{time}=2d"), format!("{size}=1GB")], "2d"),
            (vec![format!("{time}=15d"), format!("{size}=1GB")], "15d"),
        ] {
            let options = options(&given).unwrap();
            assert_eq!(options.flags["storage.tsdb.retention.time"], kept, "{given:?}");
            let expected: PromDuration = kept.parse().unwrap();
            let bound = options.retention;
            assert_eq!(bound.unwrap_or(PromDuration::from_millis(0)), expected, "{given:?}");
            assert_eq!(
                bound.is_none(),
                expected.is_zero(),
                "{given:?}: 0 would be none to the store, too"
            );
        }
    }
}
