//! A section of the configuration at work, and the groups that it has found so far.

use super::super::Kind;
use super::super::hub::{Hub, KubernetesOptions};
use super::super::server::InCluster;
use crate::config::KubernetesSdConfig;
use crate::discovery::{Context, DiscoveryOptions, Report, SourceConfig, TargetGroup, Update};
use crate::manager::ScrapeOptions;
use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Clock, LabelsBuilder, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How long anything may take before it counts as lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing waits longer than it must.
pub(super) fn options() -> KubernetesOptions {
    KubernetesOptions {
        linger: Duration::ZERO,
        gather: Duration::ZERO,
        retry_base: Duration::from_millis(1),
        in_cluster: InCluster {
            service_account: PathBuf::from("/nowhere"),
            host: None,
            port: String::new(),
        },
        ..KubernetesOptions::default()
    }
}

/// What several sections share.
pub(super) struct Shared {
    context: Context,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tasks: TaskTracker,
    _end: DropGuard,
}

impl Shared {
    pub(super) fn new(options: KubernetesOptions) -> Self {
        let (metrics, tasks, shutdown) = (Arc::default(), TaskTracker::new(), CancellationToken::new());
        let options = ScrapeOptions {
            discovery: DiscoveryOptions {
                kubernetes: options,
                ..DiscoveryOptions::default()
            },
            ..ScrapeOptions::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(HandClock::at(Timestamp::from_millis(0)));
        Self {
            context: Context::new(&options, &metrics, &clock, &tasks, &shutdown),
            metrics,
            tasks,
            _end: shutdown.drop_guard(),
        }
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.context.kubernetes
    }
}

/// A section at work. It ends when this is dropped.
pub(super) struct Finder {
    pub(super) groups: BTreeMap<String, TargetGroup>,
    /// Updates taken.
    pub(super) updates: usize,
    report: Report,
    from: mpsc::Receiver<Update>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Finder {
    /// Begins the section, which speaks of no server, at this one.
    pub(super) fn start(shared: &Shared, url: &str, yaml: &str) -> Self {
        let mut config: KubernetesSdConfig = serde_yaml_ng::from_str(yaml).unwrap();
        if config.api_server.is_empty() && config.kubeconfig_file.is_none() {
            config.api_server = url.to_owned();
        }
        Self::start_config(shared, &config)
    }

    pub(super) fn start_config(shared: &Shared, config: &KubernetesSdConfig) -> Self {
        let source = SourceConfig::Kubernetes(Box::new(config.clone()));
        let report = Report::new("job", &source, &shared.context);
        let provider = source.provider(&shared.context, report.clone()).unwrap();
        let (to, from) = mpsc::channel(16);
        let task = tokio::spawn(provider.run(3, to, Arc::clone(&shared.metrics)));
        Self {
            groups: BTreeMap::new(),
            updates: 0,
            report,
            from,
            task,
        }
    }

    /// Takes the next update.
    pub(super) async fn next(&mut self) {
        let update = tokio::time::timeout(PATIENCE, self.from.recv()).await;
        let update = update.expect("an update in time").expect("discovery goes on");
        assert_eq!(update.provider, 3);
        self.updates += 1;
        for group in update.groups {
            if group.targets.is_empty() {
                let known = self.groups.remove(&group.source);
                assert!(known.is_some(), "{} was never there", group.source);
            } else {
                let before = self.groups.insert(group.source.clone(), group.clone());
                assert_ne!(before.as_ref(), Some(&group), "nothing is sent twice");
            }
        }
    }

    /// Whether there is nothing to take now.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.from.try_recv().is_err()
    }

    /// Takes updates until the groups are these.
    pub(super) async fn until(&mut self, expected: &BTreeMap<String, TargetGroup>) {
        while self.groups != *expected {
            let before = self.updates;
            let next = tokio::time::timeout(PATIENCE, self.next()).await;
            assert!(
                next.is_ok() && self.updates > before,
                "still other groups than expected: {:#?}",
                difference(expected, &self.groups)
            );
        }
    }

    /// Takes updates until the addresses are these.
    pub(super) async fn until_addresses(&mut self, expected: &[&str]) {
        while self.addresses() != expected {
            let next = tokio::time::timeout(PATIENCE, self.next()).await;
            assert!(next.is_ok(), "{expected:?} expected, {:?} found", self.addresses());
        }
    }

    /// What the API would show as the last error.
    pub(super) fn problem(&self) -> Option<String> {
        self.report.problem()
    }

    /// The addresses of all targets, sorted.
    pub(super) fn addresses(&self) -> Vec<String> {
        let targets = self.groups.values().flat_map(|group| &group.targets);
        let mut addresses: Vec<String> = targets.map(|target| target.value("__address__").to_owned()).collect();
        addresses.sort();
        addresses
    }

    /// A label of the first target of a group, or of the group.
    pub(super) fn label(&self, source: &str, name: &str) -> String {
        let group = &self.groups[source];
        let mut labels = LabelsBuilder::from_labels(&group.labels);
        for (name, value) in group.targets[0].iter() {
            labels.set(name, value);
        }
        labels.get(name).to_owned()
    }
}

/// The first group that is another.
fn difference(expected: &BTreeMap<String, TargetGroup>, found: &BTreeMap<String, TargetGroup>) -> String {
    let sources = expected.keys().chain(found.keys());
    for source in sources {
        let (a, b) = (expected.get(source), found.get(source));
        if a != b {
            return format!("{source}\nexpected {a:#?}\nfound {b:#?}");
        }
    }
    "none".to_owned()
}

/// Events counted of a kind.
pub(super) fn failures(shared: &Shared, kind: Kind) -> i64 {
    shared.metrics.kubernetes.failures.get(kind)
}
