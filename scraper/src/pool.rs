//! One job: its target groups, the targets they make, and a loop for each.
//!
//! A target that stays is not touched, whatever else changes. One whose interval changed, or whose job did, gets
//! another loop that takes over what the old one knew ([`Live`]). One that vanished is kept as *leaving* until its
//! series are marked stale, so that it can come back as if nothing had been.
//!
//! What discovery finds is taken at once and makes targets soon: the first that a provider says at once, more of it at
//! most every few seconds, so that a source that changes all the time costs no more than that.

use crate::config::ScrapeConfig;
use crate::discovery::{Found, ProviderStatus, Started, Taken, UPDATES_WAITING, Update};
use crate::failure_log::FailureLog;
use crate::fetch::JobClient;
use crate::manager::{Shared, TargetMetadata};
use crate::report::ReportKind;
use crate::sample::SampleRules;
use crate::scrape_loop::ScrapeLoop;
use crate::target::{DroppedTarget, Live, Made, Target, TargetStatus};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tidegauge_model::Labels;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

/// What the loops of a job share. Made anew when the job changes.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) config: ScrapeConfig,
    pub(crate) rules: Arc<SampleRules>,
    pub(crate) client: JobClient,
    /// Where failed scrapes are written.
    pub(crate) failures: Option<FailureLog>,
    /// Why all scrapes of this job fail without being tried.
    forced_error: Mutex<Option<String>>,
}

fn failure_log(path: &str) -> Result<Option<FailureLog>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let opened = FailureLog::open(path.as_ref());
    opened
        .map(Some)
        .map_err(|problem| format!("scrape_failure_log_file: cannot open {path}: {problem}"))
}

impl Job {
    /// # Errors
    /// Why its HTTP client cannot be made.
    pub(crate) fn new(config: ScrapeConfig, shared: &Shared) -> Result<Self, String> {
        let report = if shared.options.extra_metrics {
            ReportKind::Extra
        } else {
            ReportKind::Usual
        };
        Ok(Self {
            name: config.job_name.clone(),
            rules: Arc::new(SampleRules::new(&config, report)),
            client: JobClient::new(&config, &shared.options)?,
            failures: failure_log(&config.scrape_failure_log_file)?,
            config,
            forced_error: Mutex::new(None),
        })
    }

    pub(crate) fn forced_error(&self) -> Option<String> {
        self.forced_error.lock().clone()
    }
}

/// One job's targets and loops. Clones of the `Arc` around it: the manager's and the discovery task's.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// Held for as long as it takes to compare targets; never across an await.
    inner: Mutex<Inner>,
    /// What providers send into.
    to: mpsc::Sender<Update>,
    /// Told when a reload has left groups behind that are to go.
    reconfigured: Notify,
    /// Cancelled when the job goes, or everything does: ends its discovery.
    end: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    job: Arc<Job>,
    found: Found,
    running: BTreeMap<u64, Running>,
    leaving: BTreeMap<u64, Running>,
    dropped: Vec<Labels>,
    dropped_count: usize,
    /// How many targets have the labels of another.
    doubles: usize,
    /// Hashes of what was wrong with targets that could not be made: each is told once.
    told: HashSet<u64>,
}

#[derive(Debug)]
struct Running {
    target: Arc<Target>,
    live: Arc<Live>,
    cancel: CancellationToken,
    vanished: CancellationToken,
}

impl Pool {
    /// Starts a job.
    pub(crate) fn start(shared: &Arc<Shared>, job: Job) -> Arc<Self> {
        let inner = Inner {
            job: Arc::new(job),
            found: Found::new(&shared.discovery.room),
            running: BTreeMap::new(),
            leaving: BTreeMap::new(),
            dropped: Vec::new(),
            dropped_count: 0,
            doubles: 0,
            told: HashSet::new(),
        };
        let (to, updates) = mpsc::channel(UPDATES_WAITING);
        let pool = Arc::new(Self {
            shared: Arc::clone(shared),
            inner: Mutex::new(inner),
            to,
            reconfigured: Notify::new(),
            end: shared.shutdown.child_token(),
        });
        shared.metrics.pools.inc();
        shared.metrics.jobs.begun.inc();
        pool.discover();
        let follower = Arc::clone(&pool);
        shared.tasks.spawn(async move {
            let end = follower.end.clone();
            end.run_until_cancelled(follower.follow(updates)).await
        });
        pool
    }

    /// The job's configuration now.
    pub(crate) fn job(&self) -> Arc<Job> {
        Arc::clone(&self.inner.lock().job)
    }

    /// Goes on with another configuration. Targets keep what their loops knew.
    pub(crate) fn change(&self, job: Job) {
        self.shared.metrics.jobs.changed.inc();
        {
            let mut inner = self.inner.lock();
            inner.job = Arc::new(job);
            // Every loop is to run by the new job: stop all, and let `sync` take them up again.
            for (identity, running) in std::mem::take(&mut inner.running) {
                running.cancel.cancel();
                self.shared.metrics.targets.dec();
                inner.leaving.insert(identity, running);
            }
        }
        self.discover();
    }

    /// Ends the job: its targets have vanished.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        self.end.cancel();
        inner.found.clear();
        self.sync(&mut inner);
        self.shared.metrics.sd.forget_job(&inner.job.name);
        self.shared.metrics.jobs.forget(&inner.job.name);
        self.shared.metrics.pools.dec();
    }

    /// Brings the providers in line with the job, and the targets with what is known already.
    fn discover(&self) {
        let mut inner = self.inner.lock();
        let job = Arc::clone(&inner.job);
        let started = inner.found.configure(&job.config, &self.shared.discovery, &self.end);
        self.sync(&mut inner);
        if inner.found.has_retired() {
            self.reconfigured.notify_one();
        }
        drop(inner);
        self.run(started);
    }

    /// Has found once more what was left out for want of room, if there is some now. Whether something is left out.
    fn find_left_out(&self) -> bool {
        let mut inner = self.inner.lock();
        let is_airy = self.shared.discovery.room.is_airy();
        if !is_airy || !inner.found.has_left_out() || self.end.is_cancelled() {
            return inner.found.has_left_out();
        }
        let started = inner.found.find_left_out(&self.shared.discovery, &self.end);
        drop(inner);
        self.run(started);
        false
    }

    fn run(&self, started: Vec<Started>) {
        for one in started {
            let metrics = Arc::clone(&self.shared.metrics);
            let found = one.provider.run(one.number, self.to.clone(), metrics);
            self.shared
                .tasks
                .spawn(async move { one.stop.run_until_cancelled(found).await });
        }
    }

    /// Takes what providers find, and has targets made of it in time.
    async fn follow(self: Arc<Self>, mut updates: mpsc::Receiver<Update>) {
        let interval = self.shared.options.discovery.sync_interval;
        let room_interval = self.shared.options.discovery.room_interval;
        let mut last: Option<Instant> = None;
        let mut due: Option<Instant> = None;
        // When what a reload has left behind goes in any case.
        let mut give_up: Option<Instant> = None;
        // When it is looked whether there is room for what was left out.
        let mut look: Option<Instant> = None;
        loop {
            let wait = until(due);
            tokio::select! {
                biased;
                () = wait => {
                    let given_up = give_up.is_some_and(|at| Instant::now() >= at);
                    let pool = Arc::clone(&self);
                    // Thousands of targets take their time.
                    let synced = self.shared.tasks.spawn_blocking(move || pool.sync_found(given_up));
                    if synced.await.is_err() {
                        return;
                    }
                    if given_up {
                        give_up = None;
                    }
                    (last, due) = (Some(Instant::now()), give_up);
                }
                () = until(look) => look = self.find_left_out().then(|| Instant::now() + room_interval),
                () = self.reconfigured.notified() => {
                    let at = Instant::now() + interval;
                    give_up = Some(at);
                    due.get_or_insert(at);
                }
                Some(update) = updates.recv() => {
                    let now = Instant::now();
                    let at = match self.take(update, &mut updates) {
                        Taken::Nothing => continue,
                        Taken::First => now,
                        Taken::Another => last.map_or(now, |last| now.max(last + interval)),
                    };
                    if at > now {
                        self.shared.metrics.sd.delayed.inc();
                    }
                    due = Some(due.map_or(at, |due| due.min(at)));
                    if look.is_none() && self.inner.lock().found.has_left_out() {
                        look = Some(now + room_interval);
                    }
                }
            }
        }
    }

    /// Takes an update, and those that wait behind it.
    fn take(&self, first: Update, updates: &mut mpsc::Receiver<Update>) -> Taken {
        let mut inner = self.inner.lock();
        let mut all = Taken::Nothing;
        let mut next = Some(first);
        // No more than can wait, lest one that never stops keep the lock.
        for _ in 0..UPDATES_WAITING {
            let Some(update) = next else { break };
            self.shared.metrics.sd.received.inc();
            self.shared.metrics.sd_updates.add(update.groups.len() as u64);
            all = all.max(inner.found.take(update));
            next = updates.try_recv().ok();
        }
        if let Some(update) = next {
            all = all.max(inner.found.take(update));
        }
        all
    }

    /// Makes the targets those that have been found by now. `given_up` is whether what a reload has left behind goes
    /// although its successors have not been heard.
    fn sync_found(&self, given_up: bool) {
        let mut inner = self.inner.lock();
        if self.end.is_cancelled() {
            return;
        }
        if given_up || !inner.found.is_waiting() {
            inner.found.drop_retired();
        }
        self.sync(&mut inner);
    }

    /// Makes the loops those of the targets that the groups make now.
    fn sync(&self, inner: &mut Inner) {
        let begun = std::time::Instant::now();
        self.shared.metrics.sd.syncs.inc();
        self.shared
            .metrics
            .sd
            .set_targets(&inner.job.name, inner.found.targets());
        let found = self.make_targets(inner);
        let (targets, failed) = (found.len(), inner.told.len() as u64);
        self.enforce_target_limit(inner, found.len());
        // Those whose series have been marked stale, their loop having ended, need no memory of them.
        inner.leaving.retain(|identity, leaving| {
            let ended = leaving.vanished.is_cancelled() && Arc::strong_count(&leaving.live) == 1;
            !ended || found.contains_key(identity)
        });
        let gone: Vec<u64> = inner
            .running
            .keys()
            .filter(|identity| !found.contains_key(identity))
            .copied()
            .collect();
        for identity in gone {
            if let Some(running) = inner.running.remove(&identity) {
                running.vanished.cancel();
                self.shared.metrics.targets.dec();
                inner.leaving.insert(identity, running);
            }
        }
        for (identity, target) in found {
            let target = Arc::new(target);
            if let Some(running) = inner.running.get_mut(&identity) {
                let same = running.target.interval == target.interval && running.target.timeout == target.timeout;
                // Only what is shown may differ: the loop goes on with what it has.
                running.target = Arc::clone(&target);
                if same {
                    continue;
                }
            }
            self.start_loop(inner, target);
        }
        // What left because of a change of the job and did not come back has vanished.
        for leaving in inner.leaving.values_mut() {
            if leaving.cancel.is_cancelled() && !leaving.vanished.is_cancelled() {
                *leaving = self.spawn(&inner.job, Arc::clone(&leaving.target), Arc::clone(&leaving.live));
                leaving.vanished.cancel();
            }
        }
        let jobs = &self.shared.metrics.jobs;
        jobs.synced(&inner.job.config, begun, targets, failed);
    }

    /// Starts a target's loop, in the place of an older one if there is one.
    fn start_loop(&self, inner: &mut Inner, target: Arc<Target>) {
        let identity = target.identity;
        let older = match inner.running.remove(&identity) {
            Some(older) => {
                self.shared.metrics.targets.dec();
                Some(older)
            }
            None => inner.leaving.remove(&identity),
        };
        let live = match older {
            Some(older) => {
                older.cancel.cancel();
                older.live
            }
            None => Arc::default(),
        };
        self.shared.metrics.targets.inc();
        inner.running.insert(identity, self.spawn(&inner.job, target, live));
    }

    fn spawn(&self, job: &Arc<Job>, target: Arc<Target>, live: Arc<Live>) -> Running {
        let running = Running {
            target,
            live,
            cancel: self.shared.shutdown.child_token(),
            vanished: CancellationToken::new(),
        };
        let one = ScrapeLoop {
            shared: Arc::clone(&self.shared),
            job: Arc::clone(job),
            target: Arc::clone(&running.target),
            live: Arc::clone(&running.live),
            cancel: running.cancel.clone(),
            vanished: running.vanished.clone(),
        };
        self.shared.spawn_loop(one.run());
        running
    }

    /// The targets of all groups, each once; those that relabelling dropped are noted.
    fn make_targets(&self, inner: &mut Inner) -> BTreeMap<u64, Target> {
        let mut found = BTreeMap::new();
        let config = &inner.job.config;
        let keep = match config.keep_dropped_targets {
            0 => self.shared.options.max_dropped_targets,
            keep => usize::try_from(keep).unwrap_or(usize::MAX),
        };
        inner.dropped.clear();
        inner.dropped_count = 0;
        let (mut doubles, mut told) = (Doubles::default(), HashSet::new());
        for group in inner.found.groups() {
            for own in &group.targets {
                match Target::make(config, group, own) {
                    Ok(Made::Target(target)) => {
                        doubles.look(&target);
                        // Of several, what the last was discovered with is shown, as upstream does.
                        found.insert(target.identity, *target);
                    }
                    Ok(Made::Dropped(labels)) => {
                        inner.dropped_count += 1;
                        if inner.dropped.len() < keep {
                            inner.dropped.push(labels);
                        }
                    }
                    Err(problem) => {
                        let hash = xxh3_64(format!("{} {own} {problem}", group.source).as_bytes());
                        if told.insert(hash) && !inner.told.contains(&hash) {
                            self.shared.metrics.bad_targets.inc();
                            tracing::error!(pool = %inner.job.name, group = %group.source, target = %own, problem, "creating a target failed");
                        }
                    }
                }
            }
        }
        inner.told = told;
        self.shared.metrics.duplicate_targets.add(doubles.count as u64);
        self.shared.metrics.duplicate_targets.sub(inner.doubles as u64);
        if doubles.count > inner.doubles {
            doubles.tell(&inner.job.name);
        }
        inner.doubles = doubles.count;
        found
    }

    /// Over its limit a job fails as a whole, so that nobody takes a part for the whole.
    fn enforce_target_limit(&self, inner: &Inner, count: usize) {
        let limit = inner.job.config.target_limit;
        let over = limit > 0 && count as u64 > limit;
        if over {
            self.shared.metrics.over_target_limit.inc();
        }
        *inner.job.forced_error.lock() =
            over.then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"));
    }

    /// The targets being scraped, by labels.
    pub(crate) fn active(&self) -> Vec<TargetStatus> {
        let inner = self.inner.lock();
        let mut active: Vec<TargetStatus> = inner
            .running
            .values()
            .map(|running| running.target.status(&inner.job.name, &running.live))
            .collect();
        active.sort_by(|a, b| (&a.labels, &a.scrape_url).cmp(&(&b.labels, &b.scrape_url)));
        active
    }

    /// The targets that relabelling dropped, and how many there are in all.
    pub(crate) fn dropped(&self) -> (Vec<DroppedTarget>, usize) {
        let inner = self.inner.lock();
        let dropped = inner.dropped.iter().map(|labels| DroppedTarget {
            discovered_labels: labels.clone(),
            scrape_pool: inner.job.name.clone(),
        });
        (dropped.collect(), inner.dropped_count)
    }

    /// How the providers of this job fare.
    pub(crate) fn discovery(&self) -> Vec<ProviderStatus> {
        self.inner.lock().found.status()
    }

    /// How many metric families this job's targets have declared.
    pub(crate) fn metadata_entries(&self) -> usize {
        let inner = self.inner.lock();
        let live = inner.running.values().map(|running| running.live.families());
        live.map(|families| families.iter().count()).sum()
    }

    /// Adds what this job's targets declared of a metric, or of all.
    pub(crate) fn metadata(&self, metric: Option<&str>, to: &mut Vec<TargetMetadata>) {
        let inner = self.inner.lock();
        for running in inner.running.values() {
            let families = running.live.families();
            let wanted = families
                .iter()
                .filter(|family| metric.is_none_or(|metric| metric == &*family.name));
            to.extend(wanted.map(|family| TargetMetadata {
                target: running.target.labels.clone(),
                metric: Arc::clone(&family.name),
                metadata: Arc::clone(&family.metadata),
            }));
        }
    }
}

/// Waits until then; for ever if there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Targets that have the labels of another. With the same URL they are one target, as upstream has it; with another URL
/// both are scraped, and each sample that both have is stored for one of them only.
#[derive(Debug, Default)]
struct Doubles {
    /// The URL first seen with these labels.
    seen: HashMap<Labels, String>,
    count: usize,
    example: Option<(Labels, String, String)>,
}

impl Doubles {
    fn look(&mut self, target: &Target) {
        match self.seen.get(&target.labels) {
            None => {
                self.seen.insert(target.labels.clone(), target.url.clone());
            }
            Some(url) => {
                self.count += 1;
                if self.example.is_none() {
                    self.example = Some((target.labels.clone(), url.clone(), target.url.clone()));
                }
            }
        }
    }

    fn tell(&self, pool: &str) {
        let Some((labels, first, second)) = &self.example else {
            return;
        };
        if first == second {
            tracing::warn!(pool, count = self.count, %labels, url = %first, "targets with equal labels: each is scraped once");
        } else {
            tracing::error!(pool, count = self.count, %labels, url = %first, other_url = %second, "targets with equal labels: their samples get into each other's way");
        }
    }
}
