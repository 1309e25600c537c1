//! Threads that help with heavy queries.
//!
//! ```text
//!   caller's thread   part 0 | part 2 | part 3 |        each takes the next part nobody has taken
//!   a helper          . part 1         |                lent to one query at a time
//! ```
//!
//! A query never waits for a helper: it works itself from the start, and with whoever is free. When others run heavy
//! queries too, a helper goes home after its part, so that each query has a thread and the system shares the cores
//! between them.

use crate::error::QueryError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that queries share.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    /// None if one thread is all a query may use.
    pool: Option<rayon::ThreadPool>,
    /// How many are with nobody. Whoever takes one gets a thread that does nothing else.
    free: AtomicUsize,
    /// How many queries are at work on something heavy.
    heavy: AtomicUsize,
}

impl Helpers {
    /// Helpers so that one query may use this many threads, its own among them. If they cannot be started there are none.
    pub(crate) fn new(threads: usize) -> Self {
        let helpers = threads.saturating_sub(1);
        let pool = (helpers > 0)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(helpers)
                    .thread_name(|i| format!("query-{i}"))
                    .build()
                    .inspect_err(|error| tracing::warn!(%error, "no threads for heavy queries"))
                    .ok()
            })
            .flatten();
        Self {
            free: AtomicUsize::new(pool.as_ref().map_or(0, |_| helpers)),
            pool,
            heavy: AtomicUsize::new(0),
        }
    }

    /// Does each of `count` parts of some work and gives the first error in order of part. Parts are begun in order.
    pub(crate) fn share(
        &self,
        count: usize,
        part: impl Fn(usize) -> Result<(), QueryError> + Sync,
    ) -> Result<(), QueryError> {
        let Some(pool) = self.pool.as_ref().filter(|_| count > 1) else {
            return (0..count).try_for_each(part);
        };
        let _heavy = Counted::one(&self.heavy);
        let work = Work {
            next: AtomicUsize::new(0),
            count,
            failed: Mutex::new(None),
            part,
        };
        let borrowed = Borrowed::most(&self.free, count - 1);
        if borrowed.0 == 0 {
            work.go_on(|| true);
        } else {
            pool.in_place_scope(|scope| {
                for _ in 0..borrowed.0 {
                    scope.spawn(|_| work.go_on(|| self.heavy.load(Ordering::Relaxed) <= 1));
                }
                work.go_on(|| true);
            });
        }
        work.failed.into_inner().map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// The parts of some work.
struct Work<F> {
    next: AtomicUsize,
    count: usize,
    /// The first part, in their order, that failed.
    failed: Mutex<Option<(usize, QueryError)>>,
    part: F,
}

impl<F: Fn(usize) -> Result<(), QueryError>> Work<F> {
    /// Does one part after another until none is left, one has failed, or `stay` says so.
    fn go_on(&self, stay: impl Fn() -> bool) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return;
            }
            if let Err(error) = (self.part)(index) {
                let mut failed = self.failed.lock();
                if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                    *failed = Some((index, error));
                }
                // Parts before it have been begun by others, and may fail too; those after it need not begin.
                self.next.store(self.count, Ordering::Relaxed);
                return;
            }
            if !stay() {
                return;
            }
        }
    }
}

/// Counts one for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn one(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Helpers taken until it is dropped.
struct Borrowed<'a>(usize, &'a AtomicUsize);

impl<'a> Borrowed<'a> {
    /// As many as are free, but no more than `most`.
    fn most(free: &'a AtomicUsize, most: usize) -> Self {
        let taken = free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n - n.min(most)))
            .map_or(0, |before| before.min(most));
        Self(taken, free)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.1.fetch_add(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn each_part_is_done_once() {
        for threads in [1, 2, 4] {
            let helpers = Helpers::new(threads);
            for count in [0, 1, 2, 7] {
                let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                helpers
                    .share(count, |part| {
                        done[part].fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    })
                    .unwrap();
                assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
            assert_eq!(helpers.free.load(Ordering::Relaxed), threads - 1);
            assert_eq!(helpers.heavy.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_helper_works_beside_the_caller() {
        let helpers = Helpers::new(2);
        // Neither of the first two parts ends before the other has begun.
        let both = Barrier::new(2);
        helpers
            .share(2, |_| {
                both.wait();
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn who_finds_no_helper_works_alone() {
        let helpers = Helpers::new(2);
        let taken = Borrowed::most(&helpers.free, 3);
        assert_eq!(taken.0, 1);
        let caller = std::thread::current().id();
        helpers
            .share(4, |_| {
                assert_eq!(std::thread::current().id(), caller);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_helper_goes_home_when_others_are_at_work() {
        let helpers = Helpers::new(2);
        let _other = Counted::one(&helpers.heavy);
        let caller = std::thread::current().id();
        let helped = AtomicUsize::new(0);
        let both = Barrier::new(2);
        helpers
            .share(6, |part| {
                if part < 2 {
                    both.wait();
                }
                if std::thread::current().id() != caller {
                    helped.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(helped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_part_that_panics_leaves_no_helper_behind() {
        let helpers = Helpers::new(2);
        for broken in [0, 1] {
            let both = Barrier::new(2);
            let shared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                helpers.share(2, |part| {
                    // One part on each thread, whichever.
                    both.wait();
                    assert!(part != broken, "on purpose");
                    Ok(())
                })
            }));
            assert!(shared.is_err());
            assert_eq!(helpers.free.load(Ordering::Relaxed), 1);
            assert_eq!(helpers.heavy.load(Ordering::Relaxed), 0);
        }
        assert!(helpers.share(7, |_| Ok(())).is_ok());
    }

    #[test]
    fn the_first_error_in_order_of_part_is_given() {
        let helpers = Helpers::new(2);
        let both = Barrier::new(2);
        let result = helpers.share(3, |part| {
            if part < 2 {
                both.wait();
            }
            Err(QueryError::execution(format!("part {part}")))
        });
        assert_eq!(
            result.unwrap_err().to_string(),
            QueryError::execution("part 0").to_string()
        );
    }
}
