//! Places for connections: who has one, who makes room when all are taken.
//!
//! A connection that waits for a request, or has sent only part of its head, is *idle*: it gives up its place to one that
//! comes when there is none left, the longest idle first. One that is answering keeps its place; if all do, those that
//! come wait in the system's queue.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often it is looked for an idle connection while all are answering.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A number of places.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    begun: Instant,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, Arc<Place>>,
}

/// One connection's place, as its task and its requests see it.
#[derive(Debug)]
pub(super) struct Place {
    begun: Instant,
    /// Requests that are answered now.
    busy: AtomicU32,
    /// Milliseconds from `begun` to when the last of them ended.
    idle_from: AtomicU64,
    /// Asks the connection to go.
    pub(super) leave: CancellationToken,
}

/// A place that is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    places: Arc<Places>,
    id: u64,
    pub(super) place: Arc<Place>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Place>);

impl Places {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.max(1),
            begun: Instant::now(),
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes a place; if there is none, that of the longest idle connection, which is told in `made_room`.
    pub(super) async fn take(self: &Arc<Self>, made_room: impl Fn()) -> Held {
        let mut asked = false;
        loop {
            let freed = self.freed.notified();
            match self.try_take() {
                Ok(held) => return held,
                Err(idle) => {
                    if let Some(idle) = idle.filter(|_| !asked) {
                        asked = true;
                        idle.leave.cancel();
                        made_room();
                    }
                }
            }
            // Whom we asked may have begun to answer: then ask the next.
            if tokio::time::timeout(LOOK_EVERY, freed).await.is_err() {
                asked = false;
            }
        }
    }

    /// A place, or the longest idle connection.
    fn try_take(self: &Arc<Self>) -> Result<Held, Option<Arc<Place>>> {
        let mut taken = self.taken.lock();
        if taken.by.len() >= self.limit {
            let idle = taken.by.values().filter(|p| p.is_idle() && !p.leave.is_cancelled());
            return Err(idle.min_by_key(|p| p.idle_from.load(Ordering::Relaxed)).cloned());
        }
        let place = Arc::new(Place {
            begun: self.begun,
            busy: AtomicU32::new(0),
            idle_from: AtomicU64::new(millis(self.begun)),
            leave: CancellationToken::new(),
        });
        let id = taken.next;
        taken.next += 1;
        taken.by.insert(id, Arc::clone(&place));
        Ok(Held {
            places: Arc::clone(self),
            id,
            place,
        })
    }
}

fn millis(from: Instant) -> u64 {
    u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Place {
    /// A request has begun.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// For how long it has been idle; zero while it answers.
    pub(super) fn idle(&self) -> Duration {
        if !self.is_idle() {
            return Duration::ZERO;
        }
        let now = millis(self.begun);
        Duration::from_millis(now.saturating_sub(self.idle_from.load(Ordering::Relaxed)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_from.store(millis(self.0.begun), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.places.taken.lock().by.remove(&self.id);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_makes_room_and_who_answers_does_not() {
        let places = Places::new(2);
        let (first, second) = (places.take(|| panic!()).await, places.take(|| panic!()).await);
        let busy = first.place.begin();
        let mut coming = Box::pin(places.take(|| {}));
        tokio::select! {
            biased;
            _ = &mut coming => panic!("there is no place"),
            () = second.place.leave.cancelled() => {}
        }
        assert!(!first.place.leave.is_cancelled());
        drop(second);
        let third = coming.await;
        // Both answer: the next waits until one has ended.
        let also_busy = third.place.begin();
        let mut coming = Box::pin(places.take(|| {}));
        assert!(tokio::time::timeout(3 * LOOK_EVERY, &mut coming).await.is_err());
        assert!(!first.place.leave.is_cancelled() && !third.place.leave.is_cancelled());
        drop(busy);
        tokio::select! {
            _ = &mut coming => panic!("there is no place"),
            () = first.place.leave.cancelled() => {}
        }
        drop(first);
        drop((coming.await, also_busy));
    }

    #[tokio::test]
    async fn a_place_is_idle_from_the_end_of_its_last_request() {
        let places = Places::new(1);
        let held = places.take(|| {}).await;
        let (a, b) = (held.place.begin(), held.place.begin());
        drop(a);
        assert!(!held.place.is_idle() && held.place.idle() == Duration::ZERO);
        drop(b);
        assert!(held.place.is_idle());
    }
}
