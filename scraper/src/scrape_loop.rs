//! One target's loop: waits for its turn, fetches, and appends: there and then if that is little work, else by one
//! blocking call.
//!
//! ```text
//!   wait for the turn --> fetch (bounded, deadline) --> append (small, or [permit] and blocking) --> wait ...
//!         | target vanished                                 cancelled: ends at once, no stale markers
//!         v
//!   a turn, and another, and a tenth of one --> stale markers, unless the target came back
//! ```

use crate::append::{Append, Failure};
use crate::fetch::{Encoding, Fetched, Link};
use crate::manager::Shared;
use crate::pool::Job;
use crate::target::{Live, Target};
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{Clock, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A body up to this length, most of whose lines are known, is appended where it was fetched: some 200 µs.
const SMALL_BYTES: usize = 1 << 20;
/// How much longer a body usually is than its packed form.
const USUAL_RATIO: usize = 12;

/// One target's loop. It owns nothing that another loop for the same target could not take over.
#[derive(Debug)]
pub(crate) struct ScrapeLoop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) job: Arc<Job>,
    pub(crate) target: Arc<Target>,
    pub(crate) live: Arc<Live>,
    /// Ends the loop at once: shutdown, or another loop takes over.
    pub(crate) cancel: CancellationToken,
    /// The target is gone: scrape no more, mark its series stale later.
    pub(crate) vanished: CancellationToken,
}

impl ScrapeLoop {
    /// Runs until cancelled, or until the vanished target's series are marked stale.
    pub(crate) async fn run(self) {
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.scrape_until_vanished() => {}
        }
    }

    async fn scrape_until_vanished(&self) {
        let offset = self.target.offset(self.shared.offset_seed());
        let mut turns = Turns::new(
            &*self.shared.clock,
            self.target.interval,
            offset,
            self.shared.options.timestamp_tolerance,
        );
        let mut link = Link::default();
        let mut last: Option<Instant> = None;
        loop {
            let at = tokio::select! {
                biased;
                () = self.vanished.cancelled() => break,
                at = turns.next() => at,
            };
            // A loop that took over from another may find its first turn done already.
            if self.live.last().at != Some(at) {
                let now = Instant::now();
                if let Some(last) = last.replace(now) {
                    let jobs = &self.shared.metrics.jobs;
                    jobs.scraped_after(self.target.interval, now - last);
                }
                self.scrape(&mut link, at).await;
            }
            self.shared.metrics.skipped.add(turns.skip_missed());
        }
        drop(link);
        self.end(&mut turns).await;
    }

    async fn scrape(&self, link: &mut Link, at: Timestamp) {
        let began = Instant::now();
        let fetched = match self.job.forced_error() {
            Some(problem) => Err(Failure::Forced(problem)),
            None => {
                let buffer = || self.shared.raw_buffers.take();
                let fetch = self.job.client.get(link, &self.target, buffer);
                fetch.await.map_err(Failure::from)
            }
        };
        if self.is_small(&fetched) {
            self.turn(at, began).finish(fetched);
            return;
        }
        // Closed only at the end of the process.
        let Ok(permit) = Arc::clone(&self.shared.permits).acquire_owned().await else {
            return;
        };
        let turn = self.turn(at, began);
        let appended = self.shared.tasks.spawn_blocking(move || {
            turn.finish(fetched);
            drop(permit);
        });
        if let Err(problem) = appended.await {
            tracing::error!(pool = %self.job.name, url = %self.target.url, %problem, "a scrape ended abnormally");
        }
    }

    /// Whether a scrape takes so little work that handing it to another thread would be a good part of it.
    fn is_small(&self, fetched: &Result<Fetched, Failure>) -> bool {
        match fetched {
            Ok(fetched) => {
                let bytes = match fetched.encoding {
                    Encoding::Plain => fetched.body().len(),
                    Encoding::Gzip | Encoding::Deflate | Encoding::Zstd => fetched.body().len() * USUAL_RATIO,
                };
                bytes <= SMALL_BYTES && (self.live.is_predicted() || bytes <= SMALL_BYTES / 16)
            }
            Err(_) => true,
        }
    }

    fn turn(&self, at: Timestamp, began: Instant) -> Turn {
        Turn {
            shared: Arc::clone(&self.shared),
            job: Arc::clone(&self.job),
            target: Arc::clone(&self.target),
            live: Arc::clone(&self.live),
            at,
            began,
        }
    }

    /// Waits until the series would have been seen again if the target had only moved to another loop.
    async fn end(&self, turns: &mut Turns<'_>) {
        if self.live.last().at.is_none() {
            return;
        }
        let at = turns.next().await;
        turns.next().await;
        tokio::time::sleep(self.target.interval / 10).await;
        let turn = self.turn(at, Instant::now());
        let marked = self.shared.tasks.spawn_blocking(move || turn.append().gone());
        if let Err(problem) = marked.await {
            tracing::error!(pool = %self.job.name, url = %self.target.url, %problem, "marking stale ended abnormally");
        }
    }
}

/// One turn of a target, to be appended wherever there is a thread for it.
struct Turn {
    shared: Arc<Shared>,
    job: Arc<Job>,
    target: Arc<Target>,
    live: Arc<Live>,
    at: Timestamp,
    began: Instant,
}

impl Turn {
    fn append(&self) -> Append<'_> {
        Append {
            shared: &self.shared,
            job: &self.job,
            target: &self.target,
            live: &self.live,
            at: self.at,
            began: self.began,
        }
    }

    fn finish(&self, fetched: Result<Fetched, Failure>) {
        if let Some(raw) = self.append().run(fetched) {
            self.shared.raw_buffers.give(raw);
        }
    }
}

/// The turns of one target: the times `offset + n * interval` since the epoch.
///
/// They are planned by the wall clock, so that a process that restarts goes on in the same rhythm, and each wait is
/// measured anew, so that nothing drifts. A wall clock that jumps makes the plan start over.
struct Turns<'c> {
    clock: &'c dyn Clock,
    interval_ms: i64,
    offset_ms: i64,
    tolerance_ms: i64,
    due: i64,
}

impl<'c> Turns<'c> {
    fn new(clock: &'c dyn Clock, interval: Duration, offset: Duration, tolerance: Duration) -> Self {
        let ms = |duration: Duration| {
            i64::try_from(duration.as_millis())
                .unwrap_or(i64::MAX / 4)
                .min(i64::MAX / 4)
        };
        let interval_ms = ms(interval).max(1);
        let mut turns = Self {
            clock,
            interval_ms,
            offset_ms: ms(offset),
            // Upstream's bound: never more than a hundredth of the interval.
            tolerance_ms: ms(tolerance).min(interval_ms / 100),
            due: 0,
        };
        turns.due = turns.after(clock.now().millis());
        turns
    }

    /// The first turn after a time.
    fn after(&self, now: i64) -> i64 {
        let since = now.wrapping_sub(self.offset_ms).rem_euclid(self.interval_ms);
        now.saturating_add(self.interval_ms - since)
    }

    /// Waits for the next turn; gives the time to stamp its row with: the planned one if we are near enough.
    async fn next(&mut self) -> Timestamp {
        let now = self.clock.now().millis();
        // A turn may have come a little early: only what is clearly too far off says that the clock has jumped.
        if (self.due - now).abs() > self.interval_ms + self.interval_ms / 2 + 2 {
            self.due = self.after(now);
        }
        // Timers fire up to a millisecond late, never early: this halves the distance to the planned time.
        let wait_ms = u64::try_from(self.due - now - 1).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let now = self.clock.now().millis();
        let at = if (now - self.due).abs() <= self.tolerance_ms {
            self.due
        } else {
            now
        };
        self.due += self.interval_ms;
        Timestamp::from_millis(at)
    }

    /// Leaves out the turns that passed while the last one was busy; gives how many.
    fn skip_missed(&mut self) -> u64 {
        let now = self.clock.now().millis();
        if now < self.due {
            return 0;
        }
        let next = self.after(now);
        let missed = (next - self.due) / self.interval_ms;
        self.due = next;
        u64::try_from(missed).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::testing::HandClock;

    /// A wall clock that follows tokio's paused time, a little late or early as told.
    #[derive(Debug)]
    struct PausedClock {
        began: Instant,
        at: i64,
    }

    impl Clock for PausedClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.at + self.began.elapsed().as_millis() as i64)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_the_offset_of_each_interval() {
        let clock = PausedClock {
            began: Instant::now(),
            at: 1_000_300,
        };
        let ms = Duration::from_millis;
        let mut turns = Turns::new(&clock, ms(1000), ms(250), ms(2));
        for expected in [1_001_250, 1_002_250, 1_003_250] {
            assert_eq!(turns.next().await.millis(), expected);
        }
        tokio::time::sleep(ms(2100)).await;
        assert_eq!(turns.skip_missed(), 2);
        assert_eq!(turns.next().await.millis(), 1_006_250);
        assert_eq!(turns.skip_missed(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_late_within_the_tolerance_is_stamped_as_planned() {
        let ms = Duration::from_millis;
        // A wall clock that runs late against the timer: by 2 ms at the first turn.
        for (tolerance, interval, stamped) in [(2, 1000, 1_001_250), (1, 1000, 1_001_252), (2, 100, 1_000_352)] {
            let clock = PausedClock {
                began: Instant::now(),
                at: 1_000_300,
            };
            let mut turns = Turns::new(&clock, ms(interval), ms(250 % interval), ms(tolerance));
            let late = PausedClock {
                at: clock.at + 2,
                ..clock
            };
            turns.clock = &late;
            let due = turns.due;
            tokio::time::sleep(ms(u64::try_from(due - clock.at).unwrap())).await;
            assert_eq!(turns.next().await.millis(), stamped, "{tolerance} {interval}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_makes_a_new_plan() {
        let clock = HandClock::at(Timestamp::from_millis(10_000));
        let ms = Duration::from_millis;
        let mut turns = Turns::new(&clock, ms(1000), ms(0), ms(2));
        // A clock that stands still: the planned time never comes, and the row gets the time it is.
        assert_eq!(turns.next().await.millis(), 10_000);
        clock.set(Timestamp::from_millis(500_400));
        let began = Instant::now();
        assert_eq!(turns.next().await.millis(), 500_400);
        assert!(began.elapsed() <= ms(1000));
        clock.set(Timestamp::from_millis(7_100));
        assert_eq!(turns.next().await.millis(), 7_100);
    }
}
