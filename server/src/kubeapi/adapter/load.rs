//! Rules come into force: at the start, with the configuration, and when their file changes.

use super::Adapter;
use super::rule::Group;
use super::rules::Rules;
use crate::config::HpaMetrics;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tidegauge_model::Timestamp;
use tidegauge_query::ParseOptions;

/// How often it is looked whether the file has changed.
const FILE_EVERY: Duration = Duration::from_secs(5);

/// How the rules were loaded.
#[derive(Debug, Default)]
pub(super) struct Loading {
    own: HpaMetrics,
    /// What the file looked like when it was read last.
    stamp: Option<Stamp>,
    pub(super) looked: Option<Instant>,
    pub(super) at: Timestamp,
    /// What is wrong with the file as it is now; the rules before it stay.
    pub(super) problem: Option<String>,
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

impl Adapter {
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
    pub(super) async fn look_at_file(self: &Arc<Self>) {
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
}
