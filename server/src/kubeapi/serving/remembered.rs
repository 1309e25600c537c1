//! Answers that are remembered for a while, under keyed hashes of what was asked.
//!
//! Neither a token nor a name is kept: whoever reads this process's memory finds hashes under a key that is new at each
//! start. What is asked by several at a time is asked once; the others wait for the answer.

use parking_lot::Mutex;
use ring::{hmac, rand};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A question's keyed hash.
pub(super) type Tag = [u8; 32];

/// Hashes questions; the key is new at each start.
#[derive(Debug)]
pub(super) struct Tagger(hmac::Key);

impl Tagger {
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn new() -> Result<Self, String> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map(Self)
            .map_err(|_| "the system gives no random numbers".to_owned())
    }

    /// Hashes texts; where one ends and the next begins counts.
    pub(super) fn tag<'a>(&self, texts: impl IntoIterator<Item = &'a [u8]>) -> Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for text in texts {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text);
        }
        let mut tag = Tag::default();
        for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        tag
    }
}

/// A bounded number of answers, the oldest of which makes room.
#[derive(Debug)]
pub(super) struct Remembered<V> {
    most: usize,
    keep: Duration,
    inner: Mutex<Inner<V>>,
    found: AtomicU64,
    asked: AtomicU64,
}

#[derive(Debug)]
struct Inner<V> {
    answers: HashMap<Tag, (Instant, V)>,
    /// In order of time.
    order: VecDeque<(Instant, Tag)>,
    /// Those that are being asked now.
    running: HashMap<Tag, Arc<tokio::sync::Mutex<()>>>,
}

impl<V: Clone> Remembered<V> {
    /// Room for `most` answers, each kept for `keep`.
    pub(super) fn new(most: usize, keep: Duration) -> Self {
        Self {
            most: most.max(1),
            keep,
            inner: Mutex::new(Inner {
                answers: HashMap::new(),
                order: VecDeque::new(),
                running: HashMap::new(),
            }),
            found: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }
    }

    /// The answer to a question: a remembered one, or what `ask` says. Failures are not remembered.
    ///
    /// # Errors
    /// Those of `ask`.
    pub(super) async fn or_ask<E>(&self, tag: Tag, ask: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        if let Some(answer) = self.get(&tag) {
            return Ok(answer);
        }
        let turn = Arc::clone(self.inner.lock().running.entry(tag).or_default());
        let _forget = Forget { of: self, tag };
        let _turn = turn.lock().await;
        // Whoever was before us may have asked the same.
        if let Some(answer) = self.get(&tag) {
            return Ok(answer);
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = ask.await?;
        self.put(tag, answer.clone());
        Ok(answer)
    }

    /// What is remembered of a question.
    pub(super) fn get(&self, tag: &Tag) -> Option<V> {
        let inner = self.inner.lock();
        let (at, answer) = inner.answers.get(tag)?;
        if at.elapsed() >= self.keep {
            return None;
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        Some(answer.clone())
    }

    /// Remembers an answer.
    pub(super) fn put(&self, tag: Tag, answer: V) {
        let (now, mut inner) = (Instant::now(), self.inner.lock());
        inner.answers.insert(tag, (now, answer));
        inner.order.push_back((now, tag));
        while let Some((at, oldest)) = inner.order.front().copied() {
            if inner.order.len() <= self.most && now.duration_since(at) < self.keep {
                break;
            }
            inner.order.pop_front();
            // It may have been asked anew since.
            if inner.answers.get(&oldest).is_some_and(|(then, _)| *then == at) {
                inner.answers.remove(&oldest);
            }
        }
    }

    /// How often an answer was remembered, and how often not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.found.load(Ordering::Relaxed), self.asked.load(Ordering::Relaxed))
    }

    /// How many answers are held.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().answers.len()
    }
}

/// Takes a question out of those that are being asked, also when its asker goes away.
struct Forget<'a, V> {
    of: &'a Remembered<V>,
    tag: Tag,
}

impl<V> Drop for Forget<'_, V> {
    fn drop(&mut self) {
        let mut inner = self.of.inner.lock();
        // Ours and the map's: nobody else waits.
        if inner
            .running
            .get(&self.tag)
            .is_some_and(|turn| Arc::strong_count(turn) <= 2)
        {
            inner.running.remove(&self.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn tag(n: u8) -> Tag {
        [n; 32]
    }

    #[tokio::test]
    async fn what_was_asked_is_remembered_and_the_oldest_makes_room() {
        let known = Remembered::new(2, Duration::from_secs(3600));
        let ask = async |n: u8| {
            known
                .or_ask(tag(n), async move { Ok::<_, Infallible>(n) })
                .await
                .unwrap()
        };
        for n in [1, 2, 1, 2, 3, 2, 1] {
            assert_eq!(ask(n).await, n);
        }
        // 1, 2 and 3 were asked, 1 and 2 remembered, 3 drove 1 out.
        assert_eq!((known.counts(), known.len()), ((3, 4), 2));
        assert!(known.inner.lock().running.is_empty());
    }

    #[tokio::test]
    async fn failures_and_old_answers_are_asked_anew() {
        let known = Remembered::new(2, Duration::ZERO);
        assert_eq!(known.or_ask(tag(1), async { Ok::<_, u8>(1) }).await, Ok(1));
        assert_eq!(known.or_ask(tag(1), async { Err::<u8, _>(7) }).await, Err(7));
        let kept = Remembered::new(2, Duration::from_secs(3600));
        assert_eq!(kept.or_ask(tag(1), async { Err::<u8, _>(7) }).await, Err(7));
        assert_eq!(kept.or_ask(tag(1), async { Ok::<_, u8>(2) }).await, Ok(2));
        assert_eq!(kept.counts(), (0, 2));
    }

    #[tokio::test]
    async fn those_who_ask_the_same_at_a_time_ask_once() {
        let known = Remembered::new(4, Duration::from_secs(3600));
        let ask = || {
            known.or_ask(tag(1), async {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(1)
            })
        };
        let answers = tokio::join!(ask(), ask(), ask());
        assert_eq!(answers, (Ok(1), Ok(1), Ok(1)));
        assert_eq!(known.counts(), (2, 1));
        assert!(known.inner.lock().running.is_empty());
    }

    #[test]
    fn a_tag_tells_where_texts_end() {
        let tagger = Tagger::new().unwrap();
        let of = |texts: &[&str]| tagger.tag(texts.iter().map(|text| text.as_bytes()));
        assert_eq!(of(&["a", "bc"]), of(&["a", "bc"]));
        assert_ne!(of(&["a", "bc"]), of(&["ab", "c"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
        assert_ne!(of(&["a"]), Tagger::new().unwrap().tag([b"a".as_slice()]));
    }
}
