//! The best `k` of a group at each step, kept while series come.
//!
//! ```text
//!             step 0           step 1                   a heap per step: its first is the next to go
//!   values    w . . . | - -    w . | - - - -            (`limitk`: a plain list)
//!   slots     7 2 9 4 | - -    4 2 | - - - -            whose values they are; slots rise as series come
//!             <- room for each step ->
//! ```

use crate::functions::math::nan_first;
use crate::parser::AggregateOp;
use std::cmp::Ordering;

/// A value and whose it is.
type Entry = (f64, u32);

/// The heaps of all steps.
#[derive(Debug)]
pub(crate) struct Best {
    op: AggregateOp,
    lens: Vec<u32>,
    values: Vec<f64>,
    slots: Vec<u32>,
    /// How many entries each step has room for.
    room: usize,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Refused,
    /// There was a place left.
    Taken,
    /// The entry of this slot had to go.
    InsteadOf(u32),
}

/// Best first: NaN is last, who came first wins a tie.
fn rank_order(op: AggregateOp, a: Entry, b: Entry) -> Ordering {
    let by_value = match (a.0.is_nan(), b.0.is_nan()) {
        (false, false) if op == AggregateOp::Bottomk => nan_first(a.0, b.0),
        _ => nan_first(b.0, a.0),
    };
    by_value.then(a.1.cmp(&b.1))
}

/// Whether `a` goes before `b`: NaN first, then the lesser (`topk`) or the greater (`bottomk`), then who came last.
fn goes_first(op: AggregateOp, a: Entry, b: Entry) -> bool {
    rank_order(op, a, b) == Ordering::Greater
}

impl Best {
    pub(crate) fn new(op: AggregateOp, width: usize) -> Self {
        Self {
            op,
            lens: vec![0; width],
            values: Vec::new(),
            slots: Vec::new(),
            room: 0,
        }
    }

    /// The bytes that one more place at each step takes.
    pub(crate) const PLACE_BYTES: usize = size_of::<f64>() + size_of::<u32>();

    /// Whether a value would be taken at a step that keeps `k`. Only said of series that come after all others.
    pub(crate) fn wants(&self, step: usize, k: usize, value: f64) -> bool {
        if (self.lens[step] as usize) < k {
            return true;
        }
        let last = (value, u32::MAX);
        match self.lens[step] {
            0 => false,
            _ if self.op == AggregateOp::Limitk => false,
            _ => {
                let at = step * self.room;
                goes_first(self.op, (self.values[at], self.slots[at]), last)
            }
        }
    }

    /// How many more places at each step the next offer to this step needs; 0 if there is room.
    pub(crate) fn room_needed(&self, step: usize, k: usize) -> usize {
        let full = self.lens[step] as usize == self.room && self.room < k;
        if full { self.room.max(1).min(k - self.room) } else { 0 }
    }

    /// Makes room at each step.
    pub(crate) fn grow(&mut self, places: usize) {
        let room = self.room + places;
        let mut values = vec![0.0; self.lens.len() * room];
        let mut slots = vec![0; self.lens.len() * room];
        for (step, len) in self.lens.iter().enumerate() {
            let (from, to, len) = (step * self.room, step * room, *len as usize);
            values[to..to + len].copy_from_slice(&self.values[from..from + len]);
            slots[to..to + len].copy_from_slice(&self.slots[from..from + len]);
        }
        (self.values, self.slots, self.room) = (values, slots, room);
    }

    /// Takes a value if it is among the best `k`. There is room: see [`Best::room_needed`].
    pub(crate) fn offer(&mut self, step: usize, k: usize, entry: Entry) -> Offer {
        let len = self.lens[step] as usize;
        let start = step * self.room;
        if len < k {
            self.lens[step] += 1;
            let op = self.op;
            let mut heap = self.heap(start, len + 1);
            heap.set(len, entry);
            if op != AggregateOp::Limitk {
                heap.rise(op);
            }
            return Offer::Taken;
        }
        if len == 0 || self.op == AggregateOp::Limitk {
            return Offer::Refused;
        }
        let op = self.op;
        let mut heap = self.heap(start, len);
        let worst = heap.get(0);
        if !goes_first(op, worst, entry) {
            return Offer::Refused;
        }
        heap.set(0, entry);
        heap.sink(op);
        Offer::InsteadOf(worst.1)
    }

    fn heap(&mut self, start: usize, len: usize) -> Heap<'_> {
        Heap {
            values: &mut self.values[start..start + len],
            slots: &mut self.slots[start..start + len],
        }
    }

    /// What a step has kept, in no order.
    pub(crate) fn at(&self, step: usize) -> impl Iterator<Item = Entry> {
        let (start, len) = (step * self.room, self.lens[step] as usize);
        let values = self.values[start..start + len].iter().copied();
        values.zip(self.slots[start..start + len].iter().copied())
    }

    /// What a step has kept, best first.
    pub(crate) fn ranked(&self, step: usize) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.at(step).collect();
        if self.op != AggregateOp::Limitk {
            entries.sort_by(|a, b| rank_order(self.op, *a, *b));
        }
        entries
    }
}

/// The entries of a step.
struct Heap<'h> {
    values: &'h mut [f64],
    slots: &'h mut [u32],
}

impl Heap<'_> {
    fn get(&self, at: usize) -> Entry {
        (self.values[at], self.slots[at])
    }

    fn set(&mut self, at: usize, (value, slot): Entry) {
        (self.values[at], self.slots[at]) = (value, slot);
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.values.swap(a, b);
        self.slots.swap(a, b);
    }

    /// Puts the last entry in its place.
    fn rise(&mut self, op: AggregateOp) {
        let mut at = self.values.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !goes_first(op, self.get(at), self.get(parent)) {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
    }

    /// Puts the first entry in its place.
    fn sink(&mut self, op: AggregateOp) {
        let mut at = 0;
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.values.len() && goes_first(op, self.get(child), self.get(first)) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.swap(at, first);
            at = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_sort_puts_first(
            values in proptest::collection::vec(prop_oneof![4 => (-3i32..3).prop_map(f64::from), 1 => Just(f64::NAN)], 0..40),
            k in 0usize..9, cut in 0usize..40,
        ) {
            for op in [AggregateOp::Topk, AggregateOp::Bottomk, AggregateOp::Limitk] {
                // The second step sees the values from the other end.
                let steps: [Vec<f64>; 2] = [values.clone(), values.iter().rev().copied().collect()];
                let mut parts = [Best::new(op, 2), Best::new(op, 2)];
                for slot in 0..values.len() {
                    let best = &mut parts[usize::from(slot >= cut)];
                    for (step, values) in steps.iter().enumerate() {
                        let wanted = best.wants(step, k, values[slot]);
                        if wanted {
                            let places = best.room_needed(step, k);
                            if places > 0 {
                                best.grow(places);
                            }
                        }
                        let offer = best.offer(step, k, (values[slot], slot as u32));
                        prop_assert_eq!(offer != Offer::Refused, wanted);
                    }
                }
                // What two parts kept, offered to the first.
                let [mut best, later] = parts;
                for step in 0..2 {
                    let mut more: Vec<Entry> = later.at(step).collect();
                    more.sort_by_key(|entry| entry.1);
                    for entry in more {
                        let places = best.room_needed(step, k);
                        if places > 0 {
                            best.grow(places);
                        }
                        best.offer(step, k, entry);
                    }
                }
                for (step, values) in steps.iter().enumerate() {
                    let mut all: Vec<Entry> = values.iter().copied().zip(0..).collect();
                    if op != AggregateOp::Limitk {
                        all.sort_by(|a, b| rank_order(op, *a, *b));
                    }
                    all.truncate(k);
                    let slots = |entries: &[Entry]| entries.iter().map(|e| e.1).collect::<Vec<_>>();
                    prop_assert_eq!(slots(&best.ranked(step)), slots(&all));
                }
            }
        }
    }
}
