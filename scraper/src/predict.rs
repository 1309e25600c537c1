//! What the last body of a target said, in order, so that the next one need hardly be parsed.
//!
//! ```text
//!   arena   node_load1 node_load5 node_cpu{cpu="0"} ...      series parts, end to end
//!   ends             10         20               37 ...
//!   slots   Series(7)  Series(8)  Dropped           ...
//!                      ^ cursor: what the next sample line should be
//! ```
//!
//! A body that says what the last one said costs one comparison per line and changes nothing here. At the first line
//! that differs, the pass begins to write the next generation, and looks for the line where it probably is (a few
//! lines on, if some were removed) and then in a table of all lines, which is only then made. Between scrapes nothing
//! is kept but the three columns above: the bytes of the series parts and 13 bytes per line.

use tidegauge_model::SeriesRef;

/// How many lines behind the cursor are tried before the table is asked.
const LOOK_AHEAD: usize = 4;

/// What a series part stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Nothing: relabelling dropped it.
    Dropped,
    /// A column of the store. If it vanishes it has gone stale.
    Series(SeriesRef),
    /// A column whose samples carry timestamps of their own, for which no stale marker is due when it vanishes.
    Stamped(SeriesRef),
}

/// Whether a series part is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predicted {
    /// It is, and stands for this.
    Known(Slot),
    /// It is not: take the slow path, then [`Pass::insert`] what it came to.
    New,
}

/// What a body changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Lines that were known.
    pub known: usize,
    /// Lines that were inserted.
    pub added: usize,
    /// Series that went stale.
    pub vanished: usize,
}

/// The memory of a target's last body.
#[derive(Debug, Default)]
pub struct Prediction {
    lines: Lines,
    /// Whether the last scrape succeeded, so that its series are not stale yet.
    live: bool,
}

impl Prediction {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the walk over a body. Dropping the pass leaves the prediction as it was.
    pub fn begin(&mut self) -> Pass<'_> {
        Pass {
            prediction: self,
            cursor: 0,
            last: 0,
            changes: Changes::default(),
            diverged: None,
        }
    }

    /// Tells of a scrape that failed: calls `vanished` for each series that was live until now. The lines are
    /// remembered, since the target probably comes back with them.
    pub fn fail(&mut self, mut vanished: impl FnMut(SeriesRef)) -> usize {
        if !std::mem::take(&mut self.live) {
            return 0;
        }
        let mut gone: Vec<SeriesRef> = self.lines.slots().filter_map(tracked).collect();
        gone.sort_unstable();
        gone.dedup();
        gone.iter().copied().for_each(&mut vanished);
        gone.len()
    }

    /// Forgets everything: for when what series parts stand for has changed (relabelling, target labels, the store).
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many lines are remembered.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether no line is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it holds on the heap, for meters.
    pub fn heap_bytes(&self) -> usize {
        let lines = &self.lines;
        lines.arena.capacity()
            + lines.ends.capacity() * size_of::<u32>()
            + lines.refs.capacity() * size_of::<u64>()
            + lines.tags.capacity()
    }
}

/// The walk over one body.
#[derive(Debug)]
pub struct Pass<'p> {
    prediction: &'p mut Prediction,
    /// The line of the last body that should come next.
    cursor: usize,
    /// The line resolved last: of this body if it has diverged, else of the last one.
    last: usize,
    changes: Changes,
    /// What there is once this body says something else than the last one.
    diverged: Option<Box<Diverged>>,
}

#[derive(Debug)]
struct Diverged {
    /// This body's lines so far.
    next: Lines,
    /// Which lines of the last body this one has, a bit each.
    seen: Vec<u64>,
    /// The last body's lines by their bytes, made when first needed.
    table: Option<Table>,
}

impl Pass<'_> {
    /// The series part that should come next; empty if there is no telling.
    #[inline]
    pub fn expected(&self) -> &[u8] {
        self.prediction.lines.series(self.cursor).unwrap_or_default()
    }

    /// Resolves the series part of the next sample line. After [`Predicted::New`], say by [`Pass::insert`] what it
    /// stands for; if nothing is said, it is new again next time.
    #[inline]
    pub fn next(&mut self, series: &[u8]) -> Predicted {
        let lines = &self.prediction.lines;
        if lines.series(self.cursor) != Some(series) {
            return self.search(series);
        }
        let at = self.cursor;
        self.cursor += 1;
        self.take(at, series)
    }

    /// Remembers what a new series part stands for.
    pub fn insert(&mut self, series: &[u8], slot: Slot) {
        self.changes.added += 1;
        let next = &mut self.diverge().next;
        next.push(series, slot);
        self.last = next.len() - 1;
    }

    /// Changes what the series part resolved last stands for: the store let its column go, or its samples now carry
    /// timestamps of their own. After [`Predicted::New`] this is for after the insertion.
    pub fn update(&mut self, slot: Slot) {
        let last = self.last;
        match &mut self.diverged {
            Some(diverged) => diverged.next.set(last, slot),
            None => self.prediction.lines.set(last, slot),
        }
    }

    /// Ends a body that was good: calls `vanished` for each series that the last good one had and this one has not,
    /// and remembers this one.
    pub fn finish(mut self, vanished: impl FnMut(SeriesRef)) -> Changes {
        let gone = self.gone();
        let prediction = self.prediction;
        if prediction.live {
            self.changes.vanished = gone.len();
            gone.into_iter().for_each(vanished);
        }
        match self.diverged {
            Some(diverged) => prediction.lines = diverged.next,
            None => prediction.lines.truncate(self.cursor),
        }
        prediction.lines.shrink();
        prediction.live = true;
        self.changes
    }

    /// Takes a line of the last body over.
    #[inline]
    fn take(&mut self, at: usize, series: &[u8]) -> Predicted {
        self.changes.known += 1;
        let slot = self.prediction.lines.slot(at).unwrap_or(Slot::Dropped);
        match &mut self.diverged {
            None => self.last = at,
            Some(diverged) => {
                diverged.mark(at);
                diverged.next.push(series, slot);
                self.last = diverged.next.len() - 1;
            }
        }
        Predicted::Known(slot)
    }

    #[cold]
    fn search(&mut self, series: &[u8]) -> Predicted {
        self.diverge();
        let cursor = self.cursor;
        let lines = &self.prediction.lines;
        let near = (cursor + 1..=cursor + LOOK_AHEAD).find(|&at| lines.series(at) == Some(series));
        if let Some(at) = near {
            self.cursor = at + 1;
            return self.take(at, series);
        }
        let Some(diverged) = &mut self.diverged else {
            return Predicted::New;
        };
        let table = diverged.table.get_or_insert_with(|| Table::of(lines));
        let Some(at) = table.find(lines, series) else {
            return Predicted::New;
        };
        // Lines behind one that moved have probably moved with it.
        if at >= cursor || !diverged.has(at + 1) {
            self.cursor = at + 1;
        }
        self.take(at, series)
    }

    /// Begins the next generation with the lines that were as expected.
    fn diverge(&mut self) -> &mut Diverged {
        let lines = &self.prediction.lines;
        let cursor = self.cursor;
        self.diverged.get_or_insert_with(|| {
            let mut seen = vec![0; lines.len() / 64 + 1];
            for (word, bits) in seen.iter_mut().enumerate() {
                let below = cursor.saturating_sub(word * 64);
                *bits = if below >= 64 { u64::MAX } else { (1 << below) - 1 };
            }
            Box::new(Diverged {
                next: lines.head(cursor),
                seen,
                table: None,
            })
        })
    }

    /// The series of the last body that this one has not, each once, under whatever line they were.
    fn gone(&self) -> Vec<SeriesRef> {
        let old = &self.prediction.lines;
        let unseen = |at: &usize| match &self.diverged {
            Some(diverged) => !diverged.has(*at),
            None => *at >= self.cursor,
        };
        let mut gone: Vec<SeriesRef> = (0..old.len())
            .filter(unseen)
            .filter_map(|at| old.slot(at).and_then(tracked))
            .collect();
        if gone.is_empty() {
            return gone;
        }
        gone.sort_unstable();
        gone.dedup();
        let (now, count) = match &self.diverged {
            Some(diverged) => (&diverged.next, diverged.next.len()),
            None => (old, self.cursor),
        };
        // Two lines may stand for one series: the line is gone, the series may not be.
        let mut still = vec![false; gone.len()];
        for slot in now.slots().take(count) {
            if let Slot::Series(series) | Slot::Stamped(series) = slot
                && let Ok(at) = gone.binary_search(&series)
                && let Some(still) = still.get_mut(at)
            {
                *still = true;
            }
        }
        let mut still = still.into_iter();
        gone.retain(|_| !still.next().unwrap_or_default());
        gone
    }
}

/// The series of a slot for which a stale marker is due.
fn tracked(slot: Slot) -> Option<SeriesRef> {
    match slot {
        Slot::Series(series) => Some(series),
        Slot::Dropped | Slot::Stamped(_) => None,
    }
}

impl Diverged {
    fn mark(&mut self, at: usize) {
        if let Some(bits) = self.seen.get_mut(at / 64) {
            *bits |= 1 << (at % 64);
        }
    }

    /// Whether the line was seen; one that does not exist counts as seen.
    fn has(&self, at: usize) -> bool {
        self.seen.get(at / 64).is_none_or(|bits| bits >> (at % 64) & 1 == 1)
    }
}

/// Series parts in order, and what they stand for.
#[derive(Debug, Default)]
struct Lines {
    /// The series parts, end to end.
    arena: Vec<u8>,
    /// Where each ends. A body has less than 4 GiB, so its series parts have.
    ends: Vec<u32>,
    refs: Vec<u64>,
    tags: Vec<u8>,
}

const DROPPED: u8 = 0;
const SERIES: u8 = 1;
const STAMPED: u8 = 2;

fn pack(slot: Slot) -> (u64, u8) {
    match slot {
        Slot::Dropped => (0, DROPPED),
        Slot::Series(series) => (series.bits(), SERIES),
        Slot::Stamped(series) => (series.bits(), STAMPED),
    }
}

fn unpack(bits: u64, tag: u8) -> Slot {
    match tag {
        SERIES => Slot::Series(SeriesRef::from_bits(bits)),
        STAMPED => Slot::Stamped(SeriesRef::from_bits(bits)),
        _ => Slot::Dropped,
    }
}

impl Lines {
    fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    fn series(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)?;
        let start = match at {
            0 => 0,
            _ => *self.ends.get(at - 1)?,
        };
        self.arena.get(start as usize..end as usize)
    }

    #[inline]
    fn slot(&self, at: usize) -> Option<Slot> {
        Some(unpack(*self.refs.get(at)?, *self.tags.get(at)?))
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.refs.iter().zip(&self.tags).map(|(&bits, &tag)| unpack(bits, tag))
    }

    fn set(&mut self, at: usize, slot: Slot) {
        let (bits, tag) = pack(slot);
        if let (Some(to_bits), Some(to_tag)) = (self.refs.get_mut(at), self.tags.get_mut(at)) {
            (*to_bits, *to_tag) = (bits, tag);
        }
    }

    fn push(&mut self, series: &[u8], slot: Slot) {
        // Never taken for bodies that `Entries` yields; beyond it a line is just not remembered.
        let Ok(end) = u32::try_from(self.arena.len() + series.len()) else {
            return;
        };
        let (bits, tag) = pack(slot);
        self.arena.extend_from_slice(series);
        self.ends.push(end);
        self.refs.push(bits);
        self.tags.push(tag);
    }

    /// The first lines, with room for as many as there are here.
    fn head(&self, count: usize) -> Self {
        let mut head = Self {
            arena: Vec::with_capacity(self.arena.len()),
            ends: Vec::with_capacity(self.len()),
            refs: Vec::with_capacity(self.len()),
            tags: Vec::with_capacity(self.len()),
        };
        let bytes = count
            .checked_sub(1)
            .and_then(|last| self.ends.get(last))
            .map_or(0, |&end| end as usize);
        head.arena.extend(self.arena.iter().take(bytes));
        head.ends.extend(self.ends.iter().take(count));
        head.refs.extend(self.refs.iter().take(count));
        head.tags.extend(self.tags.iter().take(count));
        head
    }

    fn truncate(&mut self, count: usize) {
        if count >= self.len() {
            return;
        }
        *self = self.head(count);
    }

    /// Gives back room that growing left.
    fn shrink(&mut self) {
        if self.arena.capacity() > self.arena.len() + self.arena.len() / 16 {
            self.arena.shrink_to_fit();
        }
        if self.ends.capacity() > self.ends.len() + self.ends.len() / 16 {
            self.ends.shrink_to_fit();
            self.refs.shrink_to_fit();
            self.tags.shrink_to_fit();
        }
    }
}

/// Finds lines by their bytes: open addressing, of equal lines the first only.
#[derive(Debug)]
struct Table {
    /// The line's number plus one in the low half, the upper half of its hash in the high one; 0 is free.
    cells: Vec<u64>,
    seed: u64,
}

const NUMBER: u64 = 0xffff_ffff;

impl Table {
    fn of(lines: &Lines) -> Self {
        use std::hash::{BuildHasher as _, RandomState};

        let cells = (lines.len() * 2).next_power_of_two();
        let mut table = Self {
            cells: vec![0; cells],
            // A hostile target must not be able to choose lines that collide.
            seed: RandomState::new().hash_one(cells),
        };
        let mut start = 0;
        for (number, &end) in (1u64..).zip(&lines.ends) {
            let series = lines.arena.get(start..end as usize).unwrap_or_default();
            start = end as usize;
            if let Err((cell, tag)) = table.probe(lines, series)
                && let Some(cell) = table.cells.get_mut(cell)
            {
                *cell = tag | number;
            }
        }
        table
    }

    fn find(&self, lines: &Lines, series: &[u8]) -> Option<usize> {
        self.probe(lines, series).ok()
    }

    /// The number of a line, else the free cell where it would be, with the tag it would have.
    fn probe(&self, lines: &Lines, series: &[u8]) -> Result<usize, (usize, u64)> {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(series, self.seed);
        let tag = hash & !NUMBER;
        let mask = self.cells.len() - 1;
        let mut cell = hash as usize & mask;
        loop {
            let held = self.cells.get(cell).copied().unwrap_or(0);
            if held == 0 {
                return Err((cell, tag));
            }
            let number = (held & NUMBER) as usize - 1;
            if held & !NUMBER == tag && lines.series(number) == Some(series) {
                return Ok(number);
            }
            cell = (cell + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn series(n: u64) -> Slot {
        Slot::Series(SeriesRef::from_bits(n))
    }

    /// Runs one good body through a prediction, giving each new line the slot that `slot` says.
    fn run(
        prediction: &mut Prediction,
        body: &[&str],
        slot: impl Fn(&str) -> Slot,
    ) -> (Vec<Predicted>, Vec<u64>, Changes) {
        let mut pass = prediction.begin();
        let mut answers = Vec::new();
        for line in body {
            let answer = pass.next(line.as_bytes());
            if answer == Predicted::New {
                pass.insert(line.as_bytes(), slot(line));
            }
            answers.push(answer);
        }
        let mut vanished = Vec::new();
        let changes = pass.finish(|series| vanished.push(series.bits()));
        (answers, vanished, changes)
    }

    /// A slot by the line's text: `x...` is dropped, `t...` is stamped, others go by their first letter, so that
    /// `a1` and `a2` stand for the same series.
    fn by_letter(line: &str) -> Slot {
        let letter = line.bytes().next().unwrap_or(0);
        let series = SeriesRef::from_bits(u64::from(letter));
        match letter {
            b'x' => Slot::Dropped,
            b't' => Slot::Stamped(series),
            _ => Slot::Series(series),
        }
    }

    #[test]
    fn bodies_are_told_apart_line_by_line() {
        for (name, before, after, added, vanished) in [
            ("unchanged", "a b c d", "a b c d", 0, ""),
            ("cut short", "a b c d", "a b", 0, "cd"),
            ("went on", "a b", "a b c d", 2, ""),
            ("removed in the middle", "a b c d e", "a d e", 0, "bc"),
            ("many removed", "a b c d e f g h i", "a i", 0, "bcdefgh"),
            ("inserted in the middle", "a b", "a c d b", 2, ""),
            ("replaced", "a b c", "a z c", 1, "b"),
            ("all replaced", "a b c", "p q r", 3, "abc"),
            ("swapped", "a b c d", "b a d c", 0, ""),
            ("a block moved", "a b c d e f g h", "e f g h a b c d", 0, ""),
            ("reversed", "a b c d e f g h", "h g f e d c b a", 0, ""),
            ("emptied", "a b", "", 0, "ab"),
            ("first body", "", "a b", 2, ""),
            ("a line twice", "a b", "a a b", 0, ""),
            ("no longer twice", "a b a", "a b", 0, ""),
            ("two lines, one series", "a1 a2 b", "a2 b", 0, ""),
            ("another line, same series", "a1 b", "a2 b", 1, ""),
            ("dropped lines do not vanish", "x1 a x2", "a", 0, ""),
            ("stamped series do not go stale", "t1 a", "a", 0, ""),
        ] {
            let mut prediction = Prediction::new();
            let split = |body: &'static str| body.split_whitespace().collect::<Vec<_>>();
            run(&mut prediction, &split(before), by_letter);
            let (answers, mut gone, changes) = run(&mut prediction, &split(after), by_letter);
            gone.sort_unstable();
            let news = answers.iter().filter(|answer| **answer == Predicted::New).count();
            assert_eq!(
                (news, changes.added, changes.vanished),
                (added, added, vanished.len()),
                "{name}"
            );
            assert_eq!(gone, vanished.bytes().map(u64::from).collect::<Vec<_>>(), "{name}");
            let (answers, gone, _) = run(&mut prediction, &split(after), by_letter);
            assert!(gone.is_empty() && !answers.contains(&Predicted::New), "{name}");
            assert_eq!(prediction.len(), split(after).len(), "{name}");
        }
    }

    #[test]
    fn a_failed_scrape_ends_all_series_once() {
        let mut prediction = Prediction::new();
        let fail = |prediction: &mut Prediction| {
            let mut gone = Vec::new();
            prediction.fail(|series| gone.push(series.bits()));
            gone
        };
        assert!(fail(&mut prediction).is_empty());
        run(&mut prediction, &["a1", "b", "x", "t", "a2"], by_letter);
        assert_eq!(fail(&mut prediction), [97, 98]);
        assert!(fail(&mut prediction).is_empty());
        // It comes back without one of its lines: that one is stale already.
        let (answers, gone, _) = run(&mut prediction, &["a1", "x", "t", "a2"], by_letter);
        assert!(gone.is_empty() && !answers.contains(&Predicted::New));
    }

    #[test]
    fn a_pass_that_is_dropped_changes_nothing() {
        let mut prediction = Prediction::new();
        run(&mut prediction, &["a", "b", "c"], by_letter);
        let mut pass = prediction.begin();
        assert_eq!(pass.next(b"c"), Predicted::Known(by_letter("c")));
        assert_eq!(pass.next(b"z"), Predicted::New);
        pass.insert(b"z", by_letter("z"));
        drop(pass);
        let (answers, gone, changes) = run(&mut prediction, &["a", "b", "c"], by_letter);
        assert!(gone.is_empty() && answers.len() == 3 && changes.known == 3);
    }

    #[test]
    fn a_slot_can_be_exchanged() {
        let mut prediction = Prediction::new();
        run(&mut prediction, &["a", "b"], by_letter);
        for body in [&["a", "b"][..], &["b", "a"][..]] {
            let mut pass = prediction.begin();
            for line in body {
                pass.next(line.as_bytes());
                if *line == "a" {
                    pass.update(series(body.len() as u64 + 5));
                }
            }
            let mut gone = 0;
            pass.finish(|_| gone += 1);
            assert_eq!(gone, 0);
        }
        let mut pass = prediction.begin();
        assert_eq!(pass.next(b"b"), Predicted::Known(by_letter("b")));
        assert_eq!(pass.next(b"a"), Predicted::Known(series(7)));
    }

    #[test]
    fn what_is_kept_is_the_bytes_and_little_more() {
        let mut prediction = Prediction::new();
        let lines: Vec<String> = (0..1000)
            .map(|n| format!("metric_with_a_name{{label=\"{n:040}\"}}"))
            .collect();
        let body: Vec<&str> = lines.iter().map(String::as_str).collect();
        run(&mut prediction, &body, |line| series(line.len() as u64));
        let bytes: usize = lines.iter().map(String::len).sum();
        let over = prediction.heap_bytes() - bytes;
        assert!(over < 1000 * 24, "{over} bytes over {bytes}");
        run(&mut prediction, &body[500..], |line| series(line.len() as u64));
        assert!(prediction.heap_bytes() < bytes * 2 / 3);
    }

    proptest! {
        /// Whatever bodies say, each line is known exactly if the last body had it (or this one had it before), its
        /// slot is the one given, and what vanishes is the difference of the sets.
        #[test]
        fn agrees_with_sets(bodies in proptest::collection::vec(proptest::collection::vec("[a-e]{1,2}", 0..24), 1..8)) {
            let mut prediction = Prediction::new();
            let mut slots: BTreeMap<String, u64> = BTreeMap::new();
            let mut last: BTreeSet<String> = BTreeSet::new();
            for body in &bodies {
                let now: BTreeSet<String> = body.iter().cloned().collect();
                for line in body {
                    let next = slots.len() as u64;
                    slots.entry(line.clone()).or_insert(next);
                }
                let lines: Vec<&str> = body.iter().map(String::as_str).collect();
                let (answers, gone, _) = run(&mut prediction, &lines, |line| series(slots[line]));
                for (line, answer) in body.iter().zip(&answers) {
                    match answer {
                        Predicted::Known(slot) => prop_assert_eq!(*slot, series(slots[line])),
                        Predicted::New => prop_assert!(!last.contains(line)),
                    }
                }
                let want: BTreeSet<u64> = last.difference(&now).map(|line| slots[line]).collect();
                prop_assert_eq!(gone.len(), want.len());
                prop_assert_eq!(gone.into_iter().collect::<BTreeSet<_>>(), want);
                prop_assert_eq!(prediction.len(), body.len());
                last = now;
            }
        }
    }
}
