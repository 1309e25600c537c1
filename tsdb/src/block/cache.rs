//! What was read from blocks lately, bounded in bytes for all blocks together.

use super::frames::Frame;
use super::reader::HeadNumbersPage;
use crate::codec::ZstdPool;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::Timestamp;

/// Keeps decompressed frames and pages of series, decoded timelines, and what the head calls a block's series; those not
/// asked for since the last round go first.
pub struct BlockCache {
    kept: Mutex<Kept>,
    limit: usize,
    zstd: ZstdPool,
    next_owner: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Default)]
struct Kept {
    items: HashMap<Key, Slot>,
    /// The second-chance queue; each key of `items` is in it once.
    queue: VecDeque<Key>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) owner: u64,
    pub(super) part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Frame(u32),
    Timeline(u32),
    /// A page of series entries.
    Series(u32),
    /// The numbers of its series in the head.
    HeadNumbers(u32),
}

#[derive(Clone)]
pub(super) enum Item {
    Frame(Arc<Frame>),
    Timeline(Arc<[Timestamp]>),
    Series(Arc<[u8]>),
    HeadNumbers(Arc<HeadNumbersPage>),
}

struct Slot {
    item: Item,
    bytes: usize,
    used: bool,
}

/// What an item costs beside its content.
const ITEM_BYTES: usize = 128;

impl BlockCache {
    /// A cache of at most this many bytes.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            limit: limit_bytes,
            zstd: ZstdPool::default(),
            next_owner: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }

    /// Lookups that found what they wanted, and those that had to read.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    pub(super) fn new_owner(&self) -> u64 {
        self.next_owner.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self, key: Key) -> Option<Item> {
        let mut kept = self.kept.lock();
        let found = kept.items.get_mut(&key).map(|slot| {
            slot.used = true;
            slot.item.clone()
        });
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(super) fn put(&self, key: Key, item: Item) {
        let bytes = ITEM_BYTES
            + match &item {
                Item::Frame(frame) => frame.heap_bytes(),
                Item::Timeline(timestamps) => size_of_val::<[Timestamp]>(timestamps),
                Item::Series(page) => page.len(),
                Item::HeadNumbers(_) => size_of::<HeadNumbersPage>(),
            };
        if bytes > self.limit / 2 {
            return;
        }
        let mut kept = self.kept.lock();
        let slot = Slot {
            item,
            bytes,
            used: false,
        };
        kept.bytes += bytes;
        match kept.items.insert(key, slot) {
            Some(old) => kept.bytes -= old.bytes,
            None => kept.queue.push_back(key),
        }
        while kept.bytes > self.limit {
            let Some(oldest) = kept.queue.pop_front() else { return };
            match kept.items.get_mut(&oldest) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    kept.queue.push_back(oldest);
                }
                _ => kept.remove(&oldest),
            }
        }
    }

    /// Drops all that belongs to a block that is closed.
    pub(super) fn forget(&self, owner: u64) {
        let mut kept = self.kept.lock();
        let mut gone = 0;
        kept.items.retain(|key, slot| {
            let stays = key.owner != owner;
            gone += if stays { 0 } else { slot.bytes };
            stays
        });
        kept.bytes -= gone;
        kept.queue.retain(|key| key.owner != owner);
    }

    pub(super) fn zstd(&self) -> &ZstdPool {
        &self.zstd
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        if let Some(slot) = self.items.remove(key) {
            self.bytes -= slot.bytes;
        }
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockCache({} of {} bytes)", self.bytes(), self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: u64, no: u32) -> Key {
        Key {
            owner,
            part: Part::Timeline(no),
        }
    }

    fn timeline(rows: usize) -> Item {
        Item::Timeline(vec![Timestamp::MIN; rows].into())
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let cache = BlockCache::new(10 * (ITEM_BYTES + 800));
        for no in 0..10 {
            cache.put(key(1, no), timeline(100));
        }
        assert!(cache.get(key(1, 0)).is_some());
        for no in 10..15 {
            cache.put(key(2, no), timeline(100));
            assert!(cache.bytes() <= 10 * (ITEM_BYTES + 800));
        }
        assert!(cache.get(key(1, 0)).is_some() && cache.get(key(1, 1)).is_none());
        cache.put(key(3, 0), timeline(100_000));
        assert!(cache.get(key(3, 0)).is_none(), "too large to be kept");
        cache.put(key(2, 14), timeline(50));
        cache.forget(1);
        cache.forget(2);
        assert_eq!(cache.bytes(), 0);
    }
}
