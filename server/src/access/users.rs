//! Names and passwords: `basic_auth_users`.
//!
//! A hash takes tens of milliseconds on purpose, so what was found is remembered, under a keyed hash of all that was
//! compared. One hash is computed at a time, on a thread of its own; a few may wait.

use super::hash::Hash;
use super::metrics::Metrics;
use parking_lot::Mutex;
use ring::hmac;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What is remembered of passwords that fitted, and of those that did not.
const REMEMBERED: usize = 256;
/// Checks that may wait for the one that is computed.
const WAITING: usize = 32;
/// What nobody's password costs, where there is nobody to compare with.
const USUAL_COST: u32 = 10;

/// Users and their hashes.
#[derive(Debug, Clone, Default)]
pub(super) struct Users {
    hashes: Arc<BTreeMap<String, Hash>>,
    /// For names that are not known: as costly as the costliest.
    nobody: Option<Hash>,
}

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, Hash>) -> Self {
        let cost = hashes.values().map(Hash::cost).max();
        Self {
            nobody: Some(Hash::nobody(cost.unwrap_or(USUAL_COST))),
            hashes: Arc::new(hashes),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    Fits,
    Wrong,
    /// Too many wait already.
    Busy,
}

/// Checks passwords.
#[derive(Debug)]
pub(super) struct Checker {
    known: Mutex<Known>,
    /// One hash at a time: more would take the processor from those who need no check.
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Answers by the keyed hash of the question, oldest first out. Wrong passwords, of which there can be any number, do
/// not drive out right ones.
#[derive(Debug, Default)]
struct Known {
    right: Remembered,
    wrong: Remembered,
}

#[derive(Debug, Default)]
struct Remembered {
    tags: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Remembered {
    fn insert(&mut self, tag: [u8; 32]) {
        if !self.tags.insert(tag) {
            return;
        }
        self.order.push_back(tag);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.tags.remove(&oldest);
        }
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            running: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }
}

impl Checker {
    /// Whether a name has a password. A name that is not known takes as long as one that is.
    pub(super) async fn check(
        &self,
        users: &Users,
        name: &str,
        password: &[u8],
        key: &hmac::Key,
        metrics: &Arc<Metrics>,
    ) -> Checked {
        let known = users.hashes.get(name);
        let Some(hash) = known.or(users.nobody.as_ref()) else {
            return Checked::Wrong;
        };
        let tag = tag(key, name, hash, password);
        if let Some(answer) = self.remembered(&tag) {
            metrics.remembered();
            return answer;
        }
        let Ok(_waiting) = self.waiting.clone().try_acquire_owned() else {
            return Checked::Busy;
        };
        let Ok(running) = self.running.clone().acquire_owned().await else {
            return Checked::Busy;
        };
        // Whoever was before us may have asked the same.
        if let Some(answer) = self.remembered(&tag) {
            metrics.remembered();
            return answer;
        }
        let (hash, password, exists) = (hash.clone(), password.to_vec(), known.is_some());
        let metrics = Arc::clone(metrics);
        let work = tokio::task::spawn_blocking(move || {
            // Held here, so that a client that goes away does not have the next one compute beside this.
            let _running = running;
            metrics.computed();
            hash.fits(&password) && exists
        });
        let Ok(fits) = work.await else {
            return Checked::Wrong;
        };
        let mut known = self.known.lock();
        if fits {
            known.right.insert(tag);
            Checked::Fits
        } else {
            known.wrong.insert(tag);
            Checked::Wrong
        }
    }

    fn remembered(&self, tag: &[u8; 32]) -> Option<Checked> {
        let known = self.known.lock();
        if known.right.tags.contains(tag) {
            return Some(Checked::Fits);
        }
        known.wrong.tags.contains(tag).then_some(Checked::Wrong)
    }
}

/// All that an answer depends on; each part with its length, so that none runs into the next.
fn tag(key: &hmac::Key, name: &str, hash: &Hash, password: &[u8]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in [name.as_bytes(), hash.text().as_bytes(), password] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.iter_mut()
        .zip(context.sign().as_ref())
        .for_each(|(to, from)| *to = *from);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        // The password is `test`, at the least cost there is.
        let salt = [9; 16];
        let hash = crate::access::hash::Hash::made(4, salt, b"test");
        Users::new(BTreeMap::from([("alice".to_owned(), hash)]))
    }

    #[tokio::test]
    async fn an_unknown_name_costs_what_a_known_one_costs_and_answers_are_remembered() {
        let (checker, users, metrics) = (Checker::default(), users(), Arc::new(Metrics::default()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let check = async |name: &str, password: &str| {
            let before = metrics.computed_total();
            let checked = checker.check(&users, name, password.as_bytes(), &key, &metrics).await;
            (checked, metrics.computed_total() - before)
        };
        assert_eq!(check("alice", "test").await, (Checked::Fits, 1));
        assert_eq!(check("alice", "test").await, (Checked::Fits, 0));
        assert_eq!(check("alice", "wrong").await, (Checked::Wrong, 1));
        assert_eq!(check("alice", "wrong").await, (Checked::Wrong, 0));
        assert_eq!(check("bob", "test").await, (Checked::Wrong, 1));
        assert_eq!(check("", "").await, (Checked::Wrong, 1));
        // Any number of wrong ones leaves the right one remembered.
        for i in 0..REMEMBERED + 10 {
            assert_eq!(check("alice", &i.to_string()).await, (Checked::Wrong, 1));
        }
        assert_eq!(check("alice", "test").await, (Checked::Fits, 0));
        assert_eq!(
            check("alice", "0").await,
            (Checked::Wrong, 1),
            "the oldest was forgotten"
        );
    }

    #[tokio::test]
    async fn what_does_not_fit_in_the_line_is_turned_away() {
        let (checker, users, metrics) = (Checker::default(), users(), Arc::new(Metrics::default()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let _line = checker.waiting.clone().try_acquire_many_owned(WAITING as u32).unwrap();
        let checked = checker.check(&users, "alice", b"test", &key, &metrics).await;
        assert_eq!((checked, metrics.computed_total()), (Checked::Busy, 0));
    }

    #[test]
    fn parts_of_a_question_do_not_run_into_each_other() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let hash = Hash::nobody(4);
        assert_ne!(tag(&key, "ab", &hash, b"c"), tag(&key, "a", &hash, b"bc"));
    }
}
