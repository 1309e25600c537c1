//! The flags of Prometheus 3.5: which are obeyed here, which are taken without effect, and the pass over the command
//! line that tells them apart before clap sees it.
//!
//! Written as Prometheus' own parser takes them: `--name value`, `--name=value`, and for switches `--name` and
//! `--no-name`. A flag that neither of us has is refused, with the nearest known name.

use std::collections::BTreeMap;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// Nothing: on when named, off when named with `no-` before it.
    Switch,
    /// A value; the last one counts.
    Value,
    /// A value each time it is named; all count.
    Repeated,
}

/// What a flag does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What its description says.
    Obeyed,
    /// Nothing: it is taken so that existing command lines work, with a warning.
    None,
    /// Ours: Prometheus has no such flag.
    Own,
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: FlagKind,
    /// What `/api/v1/status/flags` shows where it is not given.
    pub default: &'static str,
    /// What it does here.
    pub effect: Effect,
}

const fn switch(name: &'static str, default: &'static str, effect: Effect) -> Flag {
    Flag {
        name,
        kind: FlagKind::Switch,
        default,
        effect,
    }
}

const fn value(name: &'static str, default: &'static str, effect: Effect) -> Flag {
    Flag {
        name,
        kind: FlagKind::Value,
        default,
        effect,
    }
}

const fn repeated(name: &'static str, default: &'static str, effect: Effect) -> Flag {
    Flag {
        name,
        kind: FlagKind::Repeated,
        default,
        effect,
    }
}

use Effect::{None as NoEffect, Obeyed, Own};

/// Every flag there is, in order of name.
pub const FLAGS: &[Flag] = &[
    switch("agent", "false", NoEffect),
    switch("alertmanager.drain-notification-queue-on-shutdown", "true", NoEffect),
    value("alertmanager.notification-batch-size", "256", NoEffect),
    value("alertmanager.notification-queue-capacity", "10000", NoEffect),
    switch("auto-gomaxprocs", "true", NoEffect),
    switch("auto-gomemlimit", "true", NoEffect),
    value("auto-gomemlimit.ratio", "0.9", NoEffect),
    value("config.auto-reload-interval", "30s", NoEffect),
    value("config.file", "", Obeyed),
    repeated("discovery.dns-server", "", Own),
    #[cfg(feature = "kubernetes")]
    value("discovery.kubernetes-max-objects", "100000", Own),
    #[cfg(feature = "kubernetes")]
    value(
        "discovery.kubernetes-service-account",
        crate::preset::SERVICE_ACCOUNT,
        Own,
    ),
    value("discovery.max-answer-size", "64MB", Own),
    value("discovery.max-size", "64MB", Own),
    value("discovery.max-targets", "100000", Own),
    repeated("enable-feature", "", Obeyed),
    switch("kubernetes", "false", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.adapter-config", "", Own),
    value("kubernetes.annotations", "", Own),
    #[cfg(feature = "kubernetes")]
    repeated("kubernetes.api.groups", "metrics,custom,external", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.api.listen-address", "", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.api.max-connections", "128", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.api.max-reviews", "4096", Own),
    #[cfg(feature = "kubernetes")]
    switch("kubernetes.api.register", "false", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.api.service", "", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.api.tls-ca-file", "", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.api.tls-cert-file", "", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.api.tls-private-key-file", "", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.hpa-sync-period", "15s", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.kubeconfig", "", Own),
    #[cfg(feature = "kubernetes")]
    value("kubernetes.max-hpas", "1000", Own),
    value("log.format", "logfmt", Obeyed),
    value("log.level", "info", Obeyed),
    value("memory.limit", "", Own),
    value("query.lookback-delta", "5m", Obeyed),
    value("query.max-concurrency", "20", Obeyed),
    value("query.max-samples", "50000000", Obeyed),
    value("query.timeout", "2m", Obeyed),
    value("rules.alert.for-grace-period", "10m", NoEffect),
    value("rules.alert.for-outage-tolerance", "1h", NoEffect),
    value("rules.alert.resend-delay", "1m", NoEffect),
    value("rules.max-concurrent-evals", "4", NoEffect),
    switch("scrape.adjust-timestamps", "true", Obeyed),
    switch("scrape.compress-nearby", "false", Own),
    value("scrape.discovery-reload-interval", "5s", Obeyed),
    value("scrape.max-metadata", "10000", Own),
    value("scrape.timestamp-tolerance", "2ms", Obeyed),
    switch("storage.agent.no-lockfile", "false", NoEffect),
    value("storage.agent.path", "data-agent/", NoEffect),
    value("storage.agent.retention.max-time", "0s", NoEffect),
    value("storage.agent.retention.min-time", "0s", NoEffect),
    switch("storage.agent.wal-compression", "true", NoEffect),
    value("storage.agent.wal-compression-type", "snappy", NoEffect),
    value("storage.agent.wal-segment-size", "0B", NoEffect),
    value("storage.agent.wal-truncate-frequency", "0s", NoEffect),
    value("storage.encoding", "auto", Own),
    value("storage.max-histogram-buckets", "1024", Own),
    value("storage.max-series", "0", Own),
    value("storage.max-series-per-target", "0", Own),
    value("storage.max-tombstones", "4000000", Own),
    value("storage.remote.flush-deadline", "1m", NoEffect),
    value("storage.remote.read-concurrent-limit", "10", NoEffect),
    value("storage.remote.read-max-bytes-in-frame", "1048576", NoEffect),
    value("storage.remote.read-sample-limit", "50000000", NoEffect),
    switch("storage.tsdb.allow-overlapping-compaction", "true", NoEffect),
    value("storage.tsdb.delayed-compaction.max-percent", "10", NoEffect),
    value("storage.tsdb.head-chunks-write-queue-size", "0", NoEffect),
    value("storage.tsdb.max-block-chunk-segment-size", "0B", NoEffect),
    value("storage.tsdb.max-block-duration", "1d12h", Obeyed),
    value("storage.tsdb.min-block-duration", "2h", Obeyed),
    switch("storage.tsdb.no-lockfile", "false", NoEffect),
    value("storage.tsdb.path", "data/", Obeyed),
    value("storage.tsdb.retention.size", "0B", Obeyed),
    value("storage.tsdb.retention.time", "15d", Obeyed),
    value("storage.tsdb.samples-per-chunk", "120", NoEffect),
    switch("storage.tsdb.wal-compression", "true", NoEffect),
    value("storage.tsdb.wal-compression-type", "snappy", NoEffect),
    value("storage.tsdb.wal-segment-size", "0B", NoEffect),
    value("storage.wal.fsync", "1s", Own),
    switch("web.access-log", "false", Own),
    value("web.config.file", "", Obeyed),
    value("web.console.libraries", "console_libraries", NoEffect),
    value("web.console.templates", "consoles", NoEffect),
    value("web.cors.origin", ".*", Obeyed),
    switch("web.enable-admin-api", "false", Obeyed),
    switch("web.enable-lifecycle", "false", Obeyed),
    switch("web.enable-profiling", "false", Own),
    switch("web.enable-remote-write-receiver", "false", Obeyed),
    value("web.external-url", "", Obeyed),
    repeated("web.listen-address", "", Obeyed),
    value("web.local-assets", "", NoEffect),
    value("web.max-connections", "512", Obeyed),
    value("web.max-form-size", "10MB", Own),
    value("web.max-head-size", "128KB", Own),
    value("web.max-notifications-subscribers", "16", NoEffect),
    value("web.max-url-size", "64KB", Own),
    value(
        "web.page-title",
        "Prometheus Time Series Collection and Processing Server",
        NoEffect,
    ),
    value("web.read-timeout", "5m", Obeyed),
    value("web.read-token-file", "", Own),
    repeated(
        "web.remote-write-receiver.accepted-protobuf-messages",
        "prometheus.WriteRequest,io.prometheus.write.v2.Request",
        Obeyed,
    ),
    value("web.remote-write-receiver.max-body-size", "32MB", Own),
    value("web.route-prefix", "", Obeyed),
    value("web.user-assets", "", NoEffect),
    value("web.write-timeout", "1m", Own),
    value("web.write-token-file", "", Own),
];

/// A command line after the pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// What clap is to parse: only flags that are obeyed, switches in their positive form.
    pub obeyed: Vec<String>,
    /// Flags without effect that were given.
    pub ignored: Vec<&'static str>,
    /// The values of all flags that were given, as they were written.
    pub given: BTreeMap<&'static str, String>,
}

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// Neither Prometheus nor we have such a flag.
    #[error("unknown flag --{name}{}", .nearest.map(|n| format!("; did you mean --{n}?")).unwrap_or_default())]
    Unknown {
        /// As given, without dashes.
        name: String,
        /// The nearest known name.
        nearest: Option<&'static str>,
    },
    /// A flag that needs a value stands last.
    #[error("flag --{0} needs a value")]
    NoValue(&'static str),
    /// A switch was given something else than `true` or `false`.
    #[error("flag --{name} takes no value (--{name} or --no-{name}), got {got:?}")]
    SwitchValue {
        /// The switch.
        name: &'static str,
        /// What was given.
        got: String,
    },
    /// An argument that is no flag.
    #[error("unexpected argument {0:?}; `tidegauge --help` shows what there is")]
    Positional(String),
}

/// Sorts the arguments of `serve`.
///
/// # Errors
/// [`FlagError`]: the first argument that cannot be understood.
pub fn sort(args: impl IntoIterator<Item = String>) -> Result<Sorted, FlagError> {
    let mut sorted = Sorted::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if matches!(arg.as_str(), "-h" | "--help" | "-V" | "--version") {
            sorted.obeyed.push(arg);
            continue;
        }
        let Some(body) = arg.strip_prefix("--").filter(|b| !b.is_empty()) else {
            return Err(positional(arg));
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let (flag, negated) = find(name)?;
        let value = match flag.kind {
            FlagKind::Switch => switch_value(flag, negated, inline)?,
            FlagKind::Value | FlagKind::Repeated => {
                inline.or_else(|| args.next()).ok_or(FlagError::NoValue(flag.name))?
            }
        };
        sorted.take(flag, value);
    }
    // A switch is handed on once, by its last word.
    for flag in FLAGS
        .iter()
        .filter(|f| f.kind == FlagKind::Switch && f.effect != NoEffect)
    {
        if sorted.given.get(flag.name).is_some_and(|v| v == "true") {
            sorted.obeyed.push(format!("--{}", flag.name));
        }
    }
    Ok(sorted)
}

impl Sorted {
    fn take(&mut self, flag: &'static Flag, value: String) {
        if flag.effect == NoEffect {
            if !self.ignored.contains(&flag.name) {
                self.ignored.push(flag.name);
            }
        } else if flag.kind != FlagKind::Switch {
            self.obeyed.push(format!("--{}={value}", flag.name));
        }
        match self.given.get_mut(flag.name) {
            Some(before) if flag.kind == FlagKind::Repeated => {
                before.push(',');
                before.push_str(&value);
            }
            _ => {
                self.given.insert(flag.name, value);
            }
        }
    }

    /// Every flag with the value in effect, as `/api/v1/status/flags` shows them.
    pub fn effective(&self) -> BTreeMap<String, String> {
        FLAGS
            .iter()
            .map(|f| {
                let value = self.given.get(f.name).map_or(f.default, String::as_str);
                (f.name.to_owned(), value.to_owned())
            })
            .collect()
    }
}

/// The flag of this name, and whether it was named with `no-`.
fn find(name: &str) -> Result<(&'static Flag, bool), FlagError> {
    let by_name = |name: &str| FLAGS.iter().find(|f| f.name == name);
    if let Some(flag) = by_name(name) {
        return Ok((flag, false));
    }
    if let Some(flag) = name.strip_prefix("no-").and_then(by_name)
        && flag.kind == FlagKind::Switch
    {
        return Ok((flag, true));
    }
    Err(FlagError::Unknown {
        name: name.to_owned(),
        nearest: nearest(name, FLAGS.iter().map(|f| f.name)),
    })
}

fn switch_value(flag: &'static Flag, negated: bool, inline: Option<String>) -> Result<String, FlagError> {
    let on = match inline.as_deref() {
        None | Some("true") => !negated,
        Some("false") => negated,
        Some(_) => {
            return Err(FlagError::SwitchValue {
                name: flag.name,
                got: inline.unwrap_or_default(),
            });
        }
    };
    Ok(on.to_string())
}

/// A single dash before a name that is known with two is worth telling.
fn positional(arg: String) -> FlagError {
    let name = arg.trim_start_matches('-');
    let name = name.split_once('=').map_or(name, |(n, _)| n);
    if arg.starts_with('-') && name.len() > 1 {
        return FlagError::Unknown {
            name: name.to_owned(),
            nearest: nearest(name, FLAGS.iter().map(|f| f.name)),
        };
    }
    FlagError::Positional(arg)
}

/// The candidate most like `name`, if any is like it at all.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(name, c), strsim::jaro_winkler(name, c), c))
        .filter(|(edits, likeness, c)| *edits <= 2.max(c.len() / 4) || *likeness > 0.88)
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Sorted, FlagError> {
        sort(args.iter().map(|&a| a.to_owned()))
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(FLAGS.windows(2).all(|w| w[0].name < w[1].name));
    }

    /// What is obeyed gets through to the parser, and what the parser knows is obeyed.
    #[test]
    fn flags_that_do_something_are_those_of_the_parser() {
        let command = <crate::cli::serve::ServeArgs as clap::Args>::augment_args(clap::Command::new("serve"));
        let mut parsed: Vec<&str> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        parsed.sort_unstable();
        let listed: Vec<&str> = FLAGS.iter().filter(|f| f.effect != NoEffect).map(|f| f.name).collect();
        assert_eq!(parsed, listed);
    }

    #[test]
    fn both_ways_to_give_a_value_are_taken() {
        for args in [&["--config.file=a.yml"][..], &["--config.file", "a.yml"]] {
            assert_eq!(run(args).unwrap().obeyed, ["--config.file=a.yml"]);
        }
        assert_eq!(run(&["--config.file"]), Err(FlagError::NoValue("config.file")));
    }

    #[test]
    fn a_switch_follows_its_last_word() {
        let on = run(&["--no-web.enable-lifecycle", "--web.enable-lifecycle"]).unwrap();
        assert_eq!(on.obeyed, ["--web.enable-lifecycle"]);
        let off = run(&["--web.enable-lifecycle", "--no-web.enable-lifecycle"]).unwrap();
        assert!(off.obeyed.is_empty());
        assert_eq!(off.effective()["web.enable-lifecycle"], "false");
        assert!(run(&["--web.enable-lifecycle=maybe"]).is_err());
    }

    #[test]
    fn a_flag_without_effect_is_taken_once_with_its_value() {
        let s = run(&[
            "--storage.tsdb.wal-compression",
            "--web.page-title",
            "x",
            "--web.page-title=y",
        ])
        .unwrap();
        assert_eq!(s.ignored, ["storage.tsdb.wal-compression", "web.page-title"]);
        assert_eq!(s.effective()["web.page-title"], "y");
        assert!(s.obeyed.is_empty());
    }

    #[test]
    fn an_unknown_flag_names_the_nearest() {
        for (given, nearest) in [
            ("--storage.tsdb.retentiontime=1d", Some("storage.tsdb.retention.time")),
            ("--web.listen-adress=:1", Some("web.listen-address")),
            ("-config.file=x", Some("config.file")),
            ("--qqqqqqqq", None),
        ] {
            match run(&[given]).unwrap_err() {
                FlagError::Unknown { nearest: got, .. } => assert_eq!(got, nearest, "{given}"),
                other => panic!("{given}: {other}"),
            }
        }
        assert!(matches!(run(&["stray"]), Err(FlagError::Positional(_))));
    }

    #[test]
    fn repeated_values_add_up() {
        let s = run(&["--web.listen-address=a:1", "--web.listen-address", "b:2"]).unwrap();
        assert_eq!(s.obeyed.len(), 2);
        assert_eq!(s.effective()["web.listen-address"], "a:1,b:2");
    }
}
