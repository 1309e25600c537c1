//! Discovery of one job, run once to see what it finds: `tidegauge check sd`.

use super::{Context, Found, TargetGroup, UPDATES_WAITING};
use crate::config::ScrapeConfig;
use crate::manager::ScrapeOptions;
use crate::relabel;
use crate::target::{Made, Target, discovered_labels};
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{Clock, Labels, LabelsBuilder, reserved};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often it is looked whether a provider has given up.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Once all providers have said something, how long they may be silent before that is taken for all.
const SILENCE: Duration = Duration::from_millis(300);

/// What became of one thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// Which group it is in.
    pub source: String,
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// Labels after it, without those that discovery gave; none if relabelling dropped it, or it is no target.
    pub labels: Labels,
    /// Why it cannot be scraped.
    pub error: Option<String>,
}

/// What discovery found in the time.
#[derive(Debug, Clone, Default)]
pub struct Discovered {
    /// By source, then by labels; none twice.
    pub outcomes: Vec<Outcome>,
    /// What went wrong, a line for each provider.
    pub problems: Vec<String>,
    /// How many providers there are.
    pub providers: usize,
}

/// Runs the discovery of a job (complete, see [`crate::config::finish`]) until each of its providers has found
/// something or failed, or for as long as `wait`. Nothing is scraped.
pub async fn discover_once(
    job: &ScrapeConfig,
    options: &ScrapeOptions,
    clock: Arc<dyn Clock>,
    wait: Duration,
) -> Discovered {
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let context = Context::new(options, &Arc::default(), &clock, &TaskTracker::new(), &end);
    let deadline = Instant::now() + wait;
    let mut found = Found::new(&context.room);
    let started = found.configure(job, &context, &end);
    let (to, mut updates) = mpsc::channel(UPDATES_WAITING);
    // Dropped at the end, and with it whatever still runs.
    let mut running = JoinSet::new();
    for one in started {
        running.spawn(one.provider.run(one.number, to.clone(), Arc::clone(&context.metrics)));
    }
    loop {
        let silence = if found.all_heard() { SILENCE } else { LOOK_EVERY };
        match timeout_at(deadline.min(Instant::now() + silence), updates.recv()).await {
            Ok(Some(update)) => {
                found.take(update);
            }
            Ok(None) => break,
            Err(_) if found.all_heard() || Instant::now() >= deadline => break,
            Err(_) => {}
        }
    }
    let mut outcomes: Vec<Outcome> = found.groups().flat_map(|group| outcomes(job, group)).collect();
    outcomes.sort();
    outcomes.dedup();
    let silent = format!("no answer within {wait:?}");
    Discovered {
        outcomes,
        problems: found.problems(&silent),
        providers: found.status().len(),
    }
}

fn outcomes(job: &ScrapeConfig, group: &TargetGroup) -> Vec<Outcome> {
    group.targets.iter().map(|own| outcome(job, group, own)).collect()
}

fn outcome(job: &ScrapeConfig, group: &TargetGroup, own: &Labels) -> Outcome {
    let discovered_labels = discovered_labels(job, group, own);
    let (labels, error) = match Target::make(job, group, own) {
        Ok(Made::Target(_)) => (relabelled(job, &discovered_labels), None),
        Ok(Made::Dropped(_)) => (Labels::empty(), None),
        Err(problem) => (Labels::empty(), Some(problem)),
    };
    Outcome {
        source: group.source.clone(),
        discovered_labels,
        labels,
        error,
    }
}

/// The labels of a target, with those that say how it is scraped.
fn relabelled(job: &ScrapeConfig, discovered: &Labels) -> Labels {
    let kept = relabel::apply(&job.relabel_configs, discovered.clone()).unwrap_or_default();
    let mut labels = LabelsBuilder::from_labels(&kept);
    labels.retain(|name, _| !name.starts_with("__meta_"));
    if labels.get(reserved::INSTANCE).is_empty() {
        labels.set(reserved::INSTANCE, kept.value("__address__"));
    }
    labels.build()
}
