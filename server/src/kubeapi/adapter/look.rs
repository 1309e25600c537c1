//! Which series there are for the rules: looked for when it is needed, kept once it was found.

use super::index::{self, Names};
use super::known::{Known, Seen};
use super::resource::Resources;
use super::rule::{Form, Group, Rule};
use super::{Adapter, discovery};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tidegauge_model::{Cancel, ReadContext, TimeRange};
use tidegauge_scraper::Cluster;

/// How old a list of all metrics may be.
const LIST_AGE: Duration = Duration::from_secs(30);
/// How long after a look the next one is taken for a metric that is not known.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look is followed by a pause of so many times what it took: looking takes at most one part in so many.
const PAUSE: u32 = 50;
/// How far back the first look for a rule goes.
const FIRST_LOOK_MS: i64 = 24 * 3600 * 1000;
/// How far back later looks go.
const LATER_LOOK_MS: i64 = 15 * 60 * 1000;
/// More names of series are not kept, for all rules together.
const MAX_NAMES: usize = 50_000;
/// How old the kinds of objects may be, and how long after a failure they are asked for again.
const KINDS_AGE: Duration = Duration::from_secs(600);
const KINDS_RETRY: Duration = Duration::from_secs(30);
/// What looking for series found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    rules: Vec<Arc<Rule>>,
    seen: Vec<Seen>,
    pub(super) at: Option<Instant>,
    took: Duration,
}

/// Names of series and how many series there are, or why that is not known.
type Found = Result<(Names, usize), String>;

impl Adapter {
    /// The metrics there are, as a list shows them.
    pub(crate) async fn all(self: &Arc<Self>, cluster: Option<&Cluster>) -> Arc<Known> {
        self.look(LIST_AGE, cluster).await
    }

    /// Looks for series, unless that was done a short time ago with the same rules.
    pub(super) async fn look(self: &Arc<Self>, age: Duration, cluster: Option<&Cluster>) -> Arc<Known> {
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
        let kept: usize = before.values().map(|seen| seen.names.len()).sum();
        let mut room = MAX_NAMES.saturating_sub(kept);
        // Rules often share a query: what it finds is found once.
        let mut found: HashMap<(&str, i64), Found> = HashMap::new();
        for rule in rules {
            let same = before.get(&(rule.group, rule.text.clone()));
            let mut seen = same.cloned().unwrap_or_default();
            if let Form::Series(told) = &rule.form {
                let back = if seen.looked { LATER_LOOK_MS } else { FIRST_LOOK_MS };
                let key = (told.series_query.as_str(), back);
                let found = found.entry(key).or_insert_with(|| {
                    let range = TimeRange::new(now.saturating_add(-back), now);
                    index::names(&*self.store, range, &told.matchers, &cx).map_err(|error| error.to_string())
                });
                merge(&mut seen, found, &mut room);
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
}

/// Adds what a look found to what was found before, as long as there is room for names.
fn merge(seen: &mut Seen, found: &Found, room: &mut usize) {
    match found {
        Ok((names, series)) => {
            seen.looked = true;
            seen.series = *series;
            seen.problem = None;
            for (name, labels) in names {
                match seen.names.get_mut(name) {
                    Some(known) if labels.is_subset(known) => {}
                    Some(known) => Arc::make_mut(known).extend(labels.iter().cloned()),
                    None if *room == 0 => {
                        seen.problem = Some(format!("more than {MAX_NAMES} names of series: new ones are left out"));
                    }
                    None => {
                        *room -= 1;
                        seen.names.insert(name.clone(), Arc::new(labels.clone()));
                    }
                }
            }
        }
        Err(problem) => seen.problem = Some(format!("its series cannot be looked for: {problem}")),
    }
}
