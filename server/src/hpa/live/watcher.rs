//! Looks at every autoscaler of the cluster once a sync period, as the controller does, so that what its windows and
//! policies look back on is known here too.
//!
//! Looks are spread over the period by name, and few are under way at a time. What the API server refuses is said on the
//! board; all else goes on.

use super::autoscalers::{Autoscalers, LookOnce};
use super::board::{Board, Id, Options};
use super::looker::Looker;
use super::object::Shown;
use crate::kubeapi::Sources;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tidegauge_scraper::{Document, Watching};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

/// Looks under way at a time.
const AT_A_TIME: usize = 4;
/// Time that looks have to end at shutdown.
const GRACE: Duration = Duration::from_secs(1);
/// How often problems of the watch are looked for, which nobody tells of.
const PROBLEMS_EVERY: Duration = Duration::from_secs(2);

/// Looks at the autoscalers of a cluster.
#[derive(Debug)]
pub struct Watcher {
    sources: Arc<Sources>,
    autoscalers: Watching<Document>,
    board: Arc<Board>,
    looker: Arc<Looker>,
    begun: Instant,
    period: Duration,
    plan: BTreeMap<Id, Planned>,
}

/// When an autoscaler is looked at next.
#[derive(Debug, Clone, Copy)]
struct Planned {
    due: Instant,
    /// Of its JSON: what has not changed is not read again.
    hash: u64,
}

impl Watcher {
    /// Begins to watch. To be called within a tokio runtime.
    pub fn new(sources: Arc<Sources>, options: Options) -> Self {
        let period = u64::try_from(options.settings.sync_ms).unwrap_or(1).max(1);
        let board = Arc::new(Board::new(options));
        Self {
            autoscalers: sources.cluster.autoscalers(),
            looker: Arc::new(Looker::new(Arc::clone(&sources), Arc::clone(&board))),
            sources,
            board,
            begun: Instant::now(),
            period: Duration::from_millis(period),
            plan: BTreeMap::new(),
        }
    }

    /// What the API has of it.
    pub fn autoscalers(&self) -> Autoscalers {
        let once: Arc<dyn LookOnce> = Arc::new(Arc::clone(&self.looker));
        Autoscalers {
            board: Arc::clone(&self.board),
            once: Some(once),
        }
    }

    /// Looks until it is told to stop.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut looks = JoinSet::new();
        loop {
            self.tell_problems();
            while looks.len() < AT_A_TIME
                && let Some(id) = self.take_due()
            {
                looks.spawn(Arc::clone(&self.looker).turn(id));
            }
            let next = self.next_wake(looks.len() < AT_A_TIME);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.autoscalers.changed() => self.take_in(),
                Some(ended) = looks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a look at an autoscaler ended before its time");
                    }
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
        // What is under way may end, so that nothing reads a store that is closed; what waits for the API server is let go.
        let all = async { while looks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(GRACE, all).await);
    }

    fn tell_problems(&self) {
        let unseen = |problem: String| format!("autoscalers are not seen: {problem}");
        let mut problems: Vec<String> = self.autoscalers.problem().map(unseen).into_iter().collect();
        let pods = self.sources.pods.problem();
        problems.extend(pods.map(|problem| format!("the pods are not seen: {problem}")));
        self.board.set_problems(problems);
    }

    /// Reads what has changed.
    fn take_in(&mut self) {
        let mut known = BTreeSet::new();
        let mut changed = Vec::new();
        self.autoscalers.each(|document| {
            let id = Id::new(document.meta().namespace(), document.meta().name());
            let hash = xxh3_64(document.json().as_bytes());
            if self.plan.get(&id).is_none_or(|planned| planned.hash != hash) {
                changed.push((id.clone(), hash, document.json().to_owned()));
            }
            known.insert(id);
        });
        self.plan.retain(|id, _| known.contains(id));
        self.looker.keep(|id| known.contains(id));
        self.board.keep(&known, 0);
        let mut refused = 0;
        // Always the same ones where there is no place for all.
        changed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (id, hash, json) in changed {
            if !self.board.show(&id, Shown::read(&json)) {
                refused += 1;
                continue;
            }
            // One that is new is looked at at once, and then when its turn comes.
            let due = self.plan.get(&id).map_or_else(Instant::now, |planned| planned.due);
            self.plan.insert(id, Planned { due, hash });
        }
        self.board.keep(&known, refused);
    }

    /// An autoscaler whose time has come, the one that has waited longest.
    fn take_due(&mut self) -> Option<Id> {
        let now = Instant::now();
        let (id, planned) = self.plan.iter_mut().min_by_key(|(_, planned)| planned.due)?;
        if planned.due > now {
            return None;
        }
        planned.due = turn_after(id, now, self.begun, self.period);
        Some(id.clone())
    }

    fn next_wake(&self, has_place: bool) -> Instant {
        let later = Instant::now() + PROBLEMS_EVERY;
        let due = self.plan.values().map(|planned| planned.due).min();
        due.filter(|_| has_place).map_or(later, |due| due.min(later))
    }
}

/// The next moment of an autoscaler: at a distance from the beginning of each period that its name tells.
fn turn_after(id: &Id, now: Instant, begun: Instant, period: Duration) -> Instant {
    let period_nanos = period.as_nanos().max(1);
    let offset = u128::from(xxh3_64(id.to_string().as_bytes())) % period_nanos;
    let since = now.saturating_duration_since(begun).as_nanos();
    let behind = (since + period_nanos - offset) % period_nanos;
    let wait = u64::try_from(period_nanos - behind).unwrap_or(u64::MAX);
    now + Duration::from_nanos(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_once_a_period_and_are_spread() {
        let (begun, period) = (Instant::now(), Duration::from_secs(15));
        let mut firsts = BTreeSet::new();
        for no in 0..50 {
            let id = Id::new("shop", &no.to_string());
            let first = turn_after(&id, begun, begun, period);
            assert!(first > begun && first <= begun + period);
            let mut now = first;
            for _ in 0..3 {
                let next = turn_after(&id, now, begun, period);
                assert_eq!(next - now, period);
                // Late looks do not move the later ones.
                let late = now + Duration::from_secs(2);
                assert_eq!(turn_after(&id, late, begun, period), next);
                now = next;
            }
            firsts.insert((first - begun).as_secs());
        }
        assert!(firsts.len() > 10, "{firsts:?}");
    }
}
