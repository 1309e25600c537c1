//! What the last body of a target said, in order, so that the next one need hardly be parsed.
//!
//! ```text
//!   body    node_load1 1.5   node_load5 1.2   node_cpu{cpu="0"} 7 ...
//!   lines   (hash, 10 bytes) (hash, 10 bytes) (hash, 17 bytes)    ...   fingerprints of the series parts
//!   slots   Series(7)        Series(8)        Dropped             ...
//!                            ^ cursor: what the next sample line should be
//! ```
//!
//! A body that says what the last one said costs one hash per line and changes nothing here. At the first line that
//! differs, the pass begins to write the next generation, and looks for the line where it probably is (a few lines on,
//! if some were removed) and then among all lines: one by one for the first few, then in a table of them, which is only
//! then made. Between scrapes nothing is kept
//! but the columns above: 20 bytes per line, whatever its length.

use crate::parse::Fingerprint;
use tidegauge_model::SeriesRef;

/// How many lines behind the cursor are tried before the table is asked.
const LOOK_AHEAD: usize = 4;

/// So many lines are looked for one by one before a table is made: where a few series come and go that takes less.
const SCANS: usize = 32;
/// Hashes that are compared without a branch between them.
const CHUNK: usize = 16;

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
            fresh: Fingerprint::NONE,
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
        lines.hashes.capacity() * size_of::<u64>()
            + lines.sizes.capacity() * size_of::<u32>()
            + lines.refs.capacity() * size_of::<u64>()
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
    /// The line that was new last, until it is inserted.
    fresh: Fingerprint,
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
    /// How many lines were looked for among all.
    searches: usize,
    /// The last body's lines by their bytes, made when many are looked for.
    table: Option<Table>,
}

impl Pass<'_> {
    /// The series part that should come next; [`Fingerprint::NONE`] if there is no telling.
    #[inline]
    pub fn expected(&self) -> Fingerprint {
        self.prediction.lines.line(self.cursor).unwrap_or(Fingerprint::NONE)
    }

    /// Resolves the next sample line, which is the expected one, as whoever compared it knows.
    #[inline]
    pub fn next_as_expected(&mut self) -> Slot {
        let at = self.cursor;
        self.cursor += 1;
        self.take(at)
    }

    /// Resolves the series part of the next sample line. After [`Predicted::New`], say by [`Pass::insert`] what it
    /// stands for; if nothing is said, it is new again next time.
    #[inline]
    pub fn next(&mut self, series: &[u8]) -> Predicted {
        self.next_line(Fingerprint::of(series))
    }

    /// As [`Pass::next`], for formats without series parts.
    #[inline]
    pub fn next_line(&mut self, line: Fingerprint) -> Predicted {
        if line.is_none() || line != self.expected() {
            return self.search(line);
        }
        Predicted::Known(self.next_as_expected())
    }

    /// Remembers what the series part that was new last stands for.
    pub fn insert(&mut self, slot: Slot) {
        self.changes.added += 1;
        let line = std::mem::replace(&mut self.fresh, Fingerprint::NONE);
        let next = &mut self.diverge().next;
        // One without a fingerprint is not remembered: it is new each time.
        if !line.is_none() {
            next.push(line, slot);
            self.last = next.len() - 1;
        }
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
    fn take(&mut self, at: usize) -> Slot {
        self.changes.known += 1;
        let slot = self.prediction.lines.slot(at).unwrap_or(Slot::Dropped);
        match &mut self.diverged {
            None => self.last = at,
            Some(diverged) => {
                diverged.mark(at);
                if let Some(line) = self.prediction.lines.line(at) {
                    diverged.next.push(line, slot);
                }
                self.last = diverged.next.len() - 1;
            }
        }
        slot
    }

    #[cold]
    fn search(&mut self, line: Fingerprint) -> Predicted {
        self.diverge();
        self.fresh = line;
        if line.is_none() {
            return Predicted::New;
        }
        let cursor = self.cursor;
        let lines = &self.prediction.lines;
        let near = (cursor + 1..=cursor + LOOK_AHEAD).find(|&at| lines.line(at) == Some(line));
        if let Some(at) = near {
            self.cursor = at + 1;
            return Predicted::Known(self.take(at));
        }
        let Some(diverged) = &mut self.diverged else {
            return Predicted::New;
        };
        let Some(at) = diverged.find(lines, line) else {
            return Predicted::New;
        };
        // Lines behind one that moved have probably moved with it.
        if at >= cursor || !diverged.has(at + 1) {
            self.cursor = at + 1;
        }
        Predicted::Known(self.take(at))
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
                searches: 0,
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
    /// Where the last body has this line first.
    fn find(&mut self, lines: &Lines, line: Fingerprint) -> Option<usize> {
        self.searches += 1;
        if self.searches <= SCANS {
            return lines.position(line);
        }
        self.table.get_or_insert_with(|| Table::of(lines)).find(lines, line)
    }

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
    hashes: Vec<u64>,
    /// The length of each, and in the two lowest bits what kind of slot it has.
    sizes: Vec<u32>,
    refs: Vec<u64>,
}

const DROPPED: u32 = 0;
const SERIES: u32 = 1;
const STAMPED: u32 = 2;
const KIND: u32 = 3;

fn pack(slot: Slot) -> (u64, u32) {
    match slot {
        Slot::Dropped => (0, DROPPED),
        Slot::Series(series) => (series.bits(), SERIES),
        Slot::Stamped(series) => (series.bits(), STAMPED),
    }
}

#[inline]
fn unpack(bits: u64, size: u32) -> Slot {
    match size & KIND {
        SERIES => Slot::Series(SeriesRef::from_bits(bits)),
        STAMPED => Slot::Stamped(SeriesRef::from_bits(bits)),
        _ => Slot::Dropped,
    }
}

impl Lines {
    fn len(&self) -> usize {
        self.hashes.len()
    }

    #[inline]
    fn line(&self, at: usize) -> Option<Fingerprint> {
        Some(Fingerprint::from_parts(
            *self.hashes.get(at)?,
            *self.sizes.get(at)? >> 2,
        ))
    }

    #[inline]
    fn slot(&self, at: usize) -> Option<Slot> {
        Some(unpack(*self.refs.get(at)?, *self.sizes.get(at)?))
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.refs
            .iter()
            .zip(&self.sizes)
            .map(|(&bits, &size)| unpack(bits, size))
    }

    /// The first that is this line.
    fn position(&self, line: Fingerprint) -> Option<usize> {
        let wanted = line.hash();
        let chunks = self.hashes.chunks(CHUNK).enumerate();
        let met = chunks.filter(|(_, hashes)| hashes.iter().fold(false, |met, hash| met | (*hash == wanted)));
        met.flat_map(|(chunk, _)| chunk * CHUNK..(chunk + 1) * CHUNK)
            .find(|at| self.line(*at) == Some(line))
    }

    fn set(&mut self, at: usize, slot: Slot) {
        let (bits, kind) = pack(slot);
        if let (Some(to_bits), Some(to_size)) = (self.refs.get_mut(at), self.sizes.get_mut(at)) {
            *to_bits = bits;
            *to_size = *to_size & !KIND | kind;
        }
    }

    fn push(&mut self, line: Fingerprint, slot: Slot) {
        let (bits, kind) = pack(slot);
        self.hashes.push(line.hash());
        self.sizes.push(line.bytes() << 2 | kind);
        self.refs.push(bits);
    }

    /// The first lines, with room for as many as there are here.
    fn head(&self, count: usize) -> Self {
        let mut head = Self {
            hashes: Vec::with_capacity(self.len()),
            sizes: Vec::with_capacity(self.len()),
            refs: Vec::with_capacity(self.len()),
        };
        head.hashes.extend(self.hashes.iter().take(count));
        head.sizes.extend(self.sizes.iter().take(count));
        head.refs.extend(self.refs.iter().take(count));
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
        if self.hashes.capacity() > self.len() + self.len() / 16 {
            self.hashes.shrink_to_fit();
            self.sizes.shrink_to_fit();
            self.refs.shrink_to_fit();
        }
    }
}

/// Finds lines: open addressing, of equal lines the first only. A hostile target cannot choose lines that collide, as
/// their hashes are seeded.
#[derive(Debug)]
struct Table {
    /// The line's number plus one in the low half, the upper half of its hash in the high one; 0 is free.
    cells: Vec<u64>,
}

const NUMBER: u64 = 0xffff_ffff;

impl Table {
    fn of(lines: &Lines) -> Self {
        let cells = (lines.len() * 2).next_power_of_two();
        let mut table = Self { cells: vec![0; cells] };
        for (number, (&hash, &size)) in (1u64..).zip(lines.hashes.iter().zip(&lines.sizes)) {
            let line = Fingerprint::from_parts(hash, size >> 2);
            if let Err((cell, tag)) = table.probe(lines, line)
                && let Some(cell) = table.cells.get_mut(cell)
            {
                *cell = tag | number;
            }
        }
        table
    }

    fn find(&self, lines: &Lines, line: Fingerprint) -> Option<usize> {
        self.probe(lines, line).ok()
    }

    /// The number of a line, else the free cell where it would be, with the tag it would have.
    fn probe(&self, lines: &Lines, line: Fingerprint) -> Result<usize, (usize, u64)> {
        let tag = line.hash() & !NUMBER;
        let mask = self.cells.len() - 1;
        let mut cell = line.hash() as usize & mask;
        loop {
            let held = self.cells.get(cell).copied().unwrap_or(0);
            if held == 0 {
                return Err((cell, tag));
            }
            let number = (held & NUMBER) as usize - 1;
            if held & !NUMBER == tag && lines.line(number) == Some(line) {
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
                pass.insert(slot(line));
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
        pass.insert(by_letter("z"));
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
    fn what_is_kept_does_not_grow_with_the_text() {
        let mut prediction = Prediction::new();
        let lines: Vec<String> = (0..1000)
            .map(|n| format!("metric_with_a_name{{label=\"{n:040}\"}}"))
            .collect();
        let body: Vec<&str> = lines.iter().map(String::as_str).collect();
        run(&mut prediction, &body, |line| series(line.len() as u64));
        assert!(prediction.heap_bytes() <= 1000 * 22, "{}", prediction.heap_bytes());
        run(&mut prediction, &body[500..], |line| series(line.len() as u64));
        assert!(prediction.heap_bytes() <= 500 * 22, "{}", prediction.heap_bytes());
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
