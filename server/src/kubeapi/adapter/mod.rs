//! Custom and external metrics: rules make them of series, as prometheus-adapter does, reading its file as it is.
//!
//! ```text
//!   adapter file, tidegauge.hpa_metrics, automatic --load--> Rules
//!                                                              |  look: which series does the index have?
//!                                                              v
//!   kind, name, namespace, objects --find--> Metric --fill--> PromQL --engine--> rows --find--> thousandths by object
//! ```
//!
//! A metric is there as soon as its series are: what is not known is looked for, at most once a second. One that was
//! there stays as long as its rule does. A row that is not the one value of one object is never made into one: what came
//! of each query is kept, and `/api/v1/hpa/metrics` tells it.

mod answer;
mod asking;
mod condition;
mod discovery;
mod file;
mod index;
mod journal;
mod known;
mod mapping;
mod mend;
mod naming;
mod report;
mod resource;
mod rule;
mod rules;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use asking::Problem;
pub(crate) use known::Known;
pub(crate) use resource::{Resource, Resources};

use crate::api::Listing;
use crate::config::HpaMetrics;
use index::Names;
use journal::Journal;
use known::Seen;
use parking_lot::{Mutex, RwLock};
use rule::{Form, Group, Rule};
use rules::Rules;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tidegauge_model::{Cancel, Clock, MetricKind, Queryable, ReadContext, TimeRange, Timestamp};
use tidegauge_query::{Engine, ParseOptions};
use tidegauge_scraper::Cluster;
use tokio::sync::Semaphore;

/// How old a list of all metrics may be.
const LIST_AGE: Duration = Duration::from_secs(10);
/// How long after a look the next one is taken for a metric that is not known.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look is followed by a pause of so many times what it took: looking takes at most one part in so many.
const PAUSE: u32 = 50;
/// How far back the first look for a rule goes.
const FIRST_LOOK_MS: i64 = 24 * 3600 * 1000;
/// How far back later looks go.
const LATER_LOOK_MS: i64 = 15 * 60 * 1000;
/// More names of series are not kept for one rule.
const MAX_NAMES: usize = 20_000;
/// How old the kinds of objects may be, and how long after a failure they are asked for again.
const KINDS_AGE: Duration = Duration::from_secs(600);
const KINDS_RETRY: Duration = Duration::from_secs(30);
/// How often it is looked whether the file has changed.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// Queries at a time. They are short, and scrapes need the threads too.
const PLACES: usize = 4;

/// Makes metrics of series.
pub struct Adapter {
    store: Arc<dyn Queryable>,
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    /// `--kubernetes.adapter-config`
    file: Option<PathBuf>,
    in_force: RwLock<Arc<Rules>>,
    loading: Mutex<Loading>,
    /// Written by whoever holds `looked`.
    known: RwLock<Arc<Known>>,
    looked: Arc<tokio::sync::Mutex<Looked>>,
    resources: RwLock<Arc<Resources>>,
    /// When the kinds were asked for, and whether they were told.
    learned: tokio::sync::Mutex<Option<(Instant, bool)>>,
    parsed: Mutex<asking::Parsed>,
    journal: Mutex<Journal>,
    places: Semaphore,
    counts: Counts,
}

/// Reads a file of rules as a start would, and says what is in it.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check_rules(file: &Path) -> Result<String, String> {
    let own = HpaMetrics {
        automatic: Some(false),
        ..HpaMetrics::default()
    };
    let rules = Rules::load(Some(file), &own, &ParseOptions::default())?;
    let custom = rules.all.iter().filter(|rule| rule.group == Group::Custom).count();
    let mut told = format!(
        "{custom} rules for custom and {} for external metrics",
        rules.all.len() - custom
    );
    for note in &rules.notes {
        told.push_str("\n  ");
        told.push_str(note);
    }
    Ok(told)
}

/// How the rules were loaded.
#[derive(Debug, Default)]
struct Loading {
    own: HpaMetrics,
    /// What the file looked like when it was read last.
    stamp: Option<Stamp>,
    looked: Option<Instant>,
    at: Timestamp,
    /// What is wrong with the file as it is now; the rules before it stay.
    problem: Option<String>,
}

/// Rules that were read and are not in force yet.
#[derive(Debug)]
pub struct Loaded {
    rules: Rules,
    own: HpaMetrics,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

/// What looking for series found.
#[derive(Debug, Default)]
struct Looked {
    rules: Vec<Arc<Rule>>,
    seen: Vec<Seen>,
    at: Option<Instant>,
    took: Duration,
}

/// Names of series and how many series there are, or why that is not known.
type Found = Result<(Names, usize), String>;

#[derive(Debug, Default)]
struct Counts {
    custom: AtomicU64,
    external: AtomicU64,
    custom_failed: AtomicU64,
    external_failed: AtomicU64,
    looks: AtomicU64,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// What is wrong with the rules, and where.
    pub fn open(
        store: Arc<dyn Queryable>,
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        file: Option<PathBuf>,
        own: HpaMetrics,
    ) -> Result<Arc<Self>, String> {
        let adapter = Self {
            store,
            engine,
            clock,
            file,
            in_force: RwLock::default(),
            loading: Mutex::default(),
            known: RwLock::default(),
            looked: Arc::default(),
            resources: RwLock::default(),
            learned: tokio::sync::Mutex::default(),
            parsed: Mutex::default(),
            journal: Mutex::default(),
            places: Semaphore::new(PLACES),
            counts: Counts::default(),
        };
        adapter.take(adapter.load(own)?);
        Ok(Arc::new(adapter))
    }

    /// Reads the file anew, for this configuration. Blocks on the disk.
    ///
    /// # Errors
    /// What is wrong with the rules, and where; those in force stay.
    pub fn load(&self, own: HpaMetrics) -> Result<Loaded, String> {
        let mut loading = self.loading.lock();
        // Before it is read: what is written meanwhile is seen as a change later.
        loading.stamp = self.stamp();
        loading.looked = Some(Instant::now());
        match Rules::load(self.file.as_deref(), &own, &self.parse_options()) {
            Ok(rules) => Ok(Loaded { rules, own }),
            Err(problem) => {
                loading.problem = Some(problem.clone());
                Err(problem)
            }
        }
    }

    /// Puts rules in force.
    pub fn take(&self, Loaded { rules, own }: Loaded) {
        for note in &rules.notes {
            tracing::warn!(file = ?self.file, note, "rules of metrics");
        }
        let mut loading = self.loading.lock();
        loading.own = own;
        loading.at = self.clock.now();
        loading.problem = None;
        *self.in_force.write() = Arc::new(rules);
    }

    /// Takes the file anew if it has changed.
    async fn look_at_file(self: &Arc<Self>) {
        let due = |loading: &Loading| loading.looked.is_none_or(|at| at.elapsed() >= FILE_EVERY);
        if self.file.is_none() || !due(&self.loading.lock()) {
            return;
        }
        let adapter = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || {
            let stamp = adapter.stamp();
            let own = {
                let mut loading = adapter.loading.lock();
                let changed = loading.stamp != stamp;
                loading.looked = Some(Instant::now());
                match changed {
                    true => loading.own.clone(),
                    false => return,
                }
            };
            match adapter.load(own) {
                Ok(loaded) => {
                    adapter.take(loaded);
                    tracing::info!(file = ?adapter.file, "rules of metrics loaded anew");
                }
                Err(problem) => tracing::error!(problem, "rules of metrics not loaded; those before stay in force"),
            }
        });
        // It has no panic to pass on, and what is in force stays.
        drop(look.await);
    }

    fn stamp(&self) -> Option<Stamp> {
        let meta = std::fs::metadata(self.file.as_deref()?).ok()?;
        Some(Stamp {
            modified: meta.modified().ok(),
            bytes: meta.len(),
        })
    }

    fn parse_options(&self) -> ParseOptions {
        ParseOptions {
            features: self.engine.options().features,
            ..ParseOptions::default()
        }
    }

    /// The metrics there are, as a list shows them.
    pub(crate) async fn all(self: &Arc<Self>, cluster: Option<&Cluster>) -> Arc<Known> {
        self.look(LIST_AGE, cluster).await
    }

    /// Looks for series, unless that was done a short time ago with the same rules.
    async fn look(self: &Arc<Self>, age: Duration, cluster: Option<&Cluster>) -> Arc<Known> {
        self.look_at_file().await;
        self.learn(cluster).await;
        let mut looked = Arc::clone(&self.looked).lock_owned().await;
        let rules = Arc::clone(&self.in_force.read());
        let same = looked.rules.len() == rules.all.len()
            && looked.rules.iter().zip(&rules.all).all(|(a, b)| Arc::ptr_eq(a, b));
        let pause = age.max(looked.took.saturating_mul(PAUSE));
        if same && looked.at.is_some_and(|at| at.elapsed() < pause) {
            return Arc::clone(&self.known.read());
        }
        let adapter = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            adapter.search(&rules.all, &mut looked);
            looked.took = begun.elapsed();
            looked.at = Some(Instant::now());
        });
        drop(look.await);
        Arc::clone(&self.known.read())
    }

    /// Looks for the series of all rules and makes metrics of them. Blocks on the store.
    fn search(&self, rules: &[Arc<Rule>], looked: &mut Looked) {
        let now = self.clock.now();
        let mut before: HashMap<(Group, String), Seen> = HashMap::new();
        for (rule, seen) in looked.rules.iter().zip(std::mem::take(&mut looked.seen)) {
            before.insert((rule.group, rule.text.clone()), seen);
        }
        let cx = ReadContext {
            cancel: Cancel::new(),
            meter: self.engine.options().memory.clone(),
        };
        // Rules often share a query: what it finds is found once.
        let mut found: HashMap<(&str, i64), Found> = HashMap::new();
        for rule in rules {
            let mut seen = before
                .get(&(rule.group, rule.text.clone()))
                .cloned()
                .unwrap_or_default();
            if let Form::Series(told) = &rule.form {
                let back = if seen.looked { LATER_LOOK_MS } else { FIRST_LOOK_MS };
                let key = (told.series_query.as_str(), back);
                let found = found.entry(key).or_insert_with(|| {
                    let range = TimeRange::new(now.saturating_add(-back), now);
                    index::names(&*self.store, range, &told.matchers, &cx).map_err(|error| error.to_string())
                });
                merge(&mut seen, found);
            }
            looked.seen.push(seen);
        }
        looked.rules = rules.to_vec();
        self.counts.looks.fetch_add(1, Ordering::Relaxed);
        let resources = Arc::clone(&self.resources.read());
        let known = Known::new(rules, &looked.seen, &resources, now);
        *self.known.write() = Arc::new(known);
    }

    /// Asks the API server which kinds of objects there are, if a rule needs that and it was not answered lately.
    async fn learn(&self, cluster: Option<&Cluster>) {
        let Some(cluster) = cluster.filter(|_| self.in_force.read().needs_discovery) else {
            return;
        };
        let mut learned = self.learned.lock().await;
        let due = match *learned {
            None => true,
            Some((at, true)) => at.elapsed() >= KINDS_AGE,
            Some((at, false)) => at.elapsed() >= KINDS_RETRY,
        };
        if !due {
            return;
        }
        let told = discovery::kinds(cluster).await;
        *learned = Some((Instant::now(), told.is_ok()));
        match told {
            Ok(kinds) => {
                *self.resources.write() = Arc::new(Resources::new(kinds));
                // What was found may now stand for other objects.
                self.looked.lock().await.at = None;
            }
            Err(problem) => tracing::warn!(problem, "the API server does not say which kinds of objects there are"),
        }
    }

    /// The kinds of objects that are known.
    pub(crate) fn resources(&self) -> Arc<Resources> {
        Arc::clone(&self.resources.read())
    }

    /// For `/metrics`.
    pub(crate) fn list(&self) -> Vec<Listing> {
        let counts = &self.counts;
        let groups = |custom: f64, external: f64| {
            vec![
                (vec![("group", "custom".to_owned())], custom),
                (vec![("group", "external".to_owned())], external),
            ]
        };
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let known = Arc::clone(&self.known.read());
        let good = self.loading.lock().problem.is_none();
        vec![
            (
                "tidegauge_hpa_metrics_known",
                "Custom and external metrics that there are.",
                MetricKind::Gauge,
                groups(known.custom.len() as f64, known.external.len() as f64),
            ),
            (
                "tidegauge_hpa_metrics_queries_total",
                "Queries for the values of custom and external metrics.",
                MetricKind::Counter,
                groups(of(&counts.custom), of(&counts.external)),
            ),
            (
                "tidegauge_hpa_metrics_failed_queries_total",
                "Queries for the values of custom and external metrics that gave no value.",
                MetricKind::Counter,
                groups(of(&counts.custom_failed), of(&counts.external_failed)),
            ),
            (
                "tidegauge_hpa_metrics_looks_total",
                "How often the series of all rules of metrics were looked for.",
                MetricKind::Counter,
                vec![(Vec::new(), of(&counts.looks))],
            ),
            (
                "tidegauge_hpa_metrics_rules_last_reload_successful",
                "Whether the last load of the rules of metrics succeeded.",
                MetricKind::Gauge,
                vec![(Vec::new(), f64::from(u8::from(good)))],
            ),
        ]
    }
}

/// Adds what a look found to what was found before.
fn merge(seen: &mut Seen, found: &Found) {
    match found {
        Ok((names, series)) => {
            seen.looked = true;
            seen.series = *series;
            seen.problem = None;
            for (name, labels) in names {
                let full = seen.names.len() >= MAX_NAMES;
                match seen.names.get_mut(name) {
                    Some(known) => {
                        let new: BTreeSet<String> = labels.difference(known).cloned().collect();
                        known.extend(new);
                    }
                    None if full => {
                        seen.problem = Some(format!("more than {MAX_NAMES} names of series: new ones are left out"));
                    }
                    None => {
                        seen.names.insert(name.clone(), labels.clone());
                    }
                }
            }
        }
        Err(problem) => seen.problem = Some(format!("its series cannot be looked for: {problem}")),
    }
}
