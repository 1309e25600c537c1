//! Which blocks are merged next: decided on their times alone.
//!
//! Blocks that share time come first: late samples make some, and a query that meets two blocks at once is slow. Then,
//! from the narrowest range of time to the widest, blocks whose common range is complete are merged into one; ranges
//! are multiples of the window of the head, each three times the one before (2 h, 6 h, 18 h, ...). The youngest block
//! is left alone, so that whoever copies blocks has a window's time to do so.

use crate::block::BlockId;

/// How much wider each range is than the one before.
const STEP: i64 = 3;
/// A block is widened at most this far unless told otherwise: 31 days.
pub(crate) const MAX_BLOCK_MS: i64 = 31 * 24 * 3600 * 1000;
/// As many parents as a block can name.
const MAX_PARENTS: usize = 255;

/// What the planner knows of a block: the time it answers for, its end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: BlockId,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// It cannot be merged, nor those beside it in a range: one in the middle of another is slow to read.
    pub(crate) damaged: bool,
}

/// The widest block: as told, or a tenth of what is kept, and never above [`MAX_BLOCK_MS`] by itself.
pub(crate) fn max_block_ms(told: i64, retention_ms: i64) -> i64 {
    match (told, retention_ms) {
        (told, _) if told > 0 => told,
        (_, kept) if kept > 0 => (kept / 10).min(MAX_BLOCK_MS),
        _ => MAX_BLOCK_MS,
    }
}

/// The widths of blocks, rising; the first is that of the head's windows.
pub(crate) fn widths(block_ms: i64, max_ms: i64) -> Vec<i64> {
    let wider = |width: &i64| width.checked_mul(STEP).filter(|w| *w <= max_ms);
    std::iter::successors(Some(block_ms.max(1)), wider).collect()
}

/// The blocks to merge next; none if nothing is due.
pub(crate) fn plan(blocks: &[Candidate], widths: &[i64]) -> Vec<BlockId> {
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(|b| (b.start, b.end, b.id));
    let sound: Vec<Candidate> = blocks.iter().filter(|b| !b.damaged).copied().collect();
    let due = overlapping(&sound).or_else(|| {
        let older = blocks.split_last().map_or(&[][..], |(_, older)| older);
        widths.iter().skip(1).find_map(|width| complete(older, *width))
    });
    let due = due.unwrap_or_default();
    due.iter().take(MAX_PARENTS).map(|b| b.id).collect()
}

/// The first blocks that hang together by shared time.
fn overlapping(blocks: &[Candidate]) -> Option<&[Candidate]> {
    let mut rest = blocks;
    while let Some(first) = rest.first() {
        let mut end = first.end;
        let more = rest.iter().skip(1).take_while(|b| {
            let shares = b.start < end;
            end = end.max(b.end);
            shares
        });
        let (group, behind) = rest.split_at_checked(1 + more.count())?;
        if group.len() > 1 {
            return Some(group);
        }
        rest = behind;
    }
    None
}

/// The first blocks that one range of that width holds, if nothing can be added to it any more.
fn complete(blocks: &[Candidate], width: i64) -> Option<&[Candidate]> {
    let newest = blocks.last()?.start;
    let range_of = |b: &Candidate| b.start.div_euclid(width);
    blocks
        .chunk_by(|a, b| range_of(a) == range_of(b))
        .filter_map(|group| {
            // One that reaches out of the range was merged in another raster, or is wider.
            let fits = |b: &&Candidate| b.end.saturating_sub(range_of(b).saturating_mul(width)) <= width;
            let skipped = group.iter().take_while(|b| !fits(b)).count();
            let group = group.get(skipped..)?;
            group.get(..group.iter().take_while(fits).count())
        })
        .filter(|group| group.len() > 1 && !group.iter().any(|b| b.damaged))
        .find(|group| {
            let (first, last) = (group.first().map_or(0, |b| b.start), group.last().map_or(0, |b| b.end));
            last.saturating_sub(first) == width || last <= newest
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks by their times in hours; each is named by its place.
    fn hours(times: &[(i64, i64)]) -> Vec<Candidate> {
        (0u128..)
            .zip(times)
            .map(|(n, (start, end))| Candidate {
                id: BlockId::from_bits(n),
                start: *start,
                end: *end,
                damaged: false,
            })
            .collect()
    }

    #[test]
    fn widths_are_thrice_the_one_before_up_to_the_bound() {
        const HOUR: i64 = 3_600_000;
        let of = |told, kept| widths(2 * HOUR, max_block_ms(told, kept));
        assert_eq!(of(0, 15 * 24 * HOUR), [2, 6, 18].map(|h| h * HOUR));
        assert_eq!(of(0, 0), [2, 6, 18, 54, 162, 486].map(|h| h * HOUR));
        assert_eq!(of(6 * HOUR, 0), [2, 6].map(|h| h * HOUR));
        assert_eq!(of(0, HOUR), [2 * HOUR]);
        assert_eq!(max_block_ms(0, i64::MAX), MAX_BLOCK_MS);
        assert_eq!(widths(i64::MAX / 2, i64::MAX), [i64::MAX / 2]);
    }

    #[test]
    fn a_table_of_plans() {
        let day: Vec<(i64, i64)> = (0..10).map(|n| (2 * n, 2 * n + 2)).collect();
        type Case<'a> = (&'a str, &'a [(i64, i64)], &'a [u128]);
        let cases: &[Case<'_>] = &[
            ("nothing", &[], &[]),
            ("one block", &[(0, 2)], &[]),
            ("two of three", &[(0, 2), (2, 4)], &[]),
            ("the youngest is left alone", &[(0, 2), (2, 4), (4, 6)], &[]),
            ("a full range", &[(0, 2), (2, 4), (4, 6), (6, 8)], &[0, 1, 2]),
            ("ranges are aligned", &[(2, 4), (4, 6), (6, 8), (8, 10)], &[0, 1]),
            ("a gap in a range that is over", &[(0, 2), (4, 6), (6, 8)], &[0, 1]),
            (
                "a gap at the end of a range that is over",
                &[(0, 2), (2, 4), (6, 8), (8, 10)],
                &[0, 1],
            ),
            ("a range that may still fill", &[(0, 2), (2, 4), (4, 6)], &[]),
            (
                "the narrow ranges first",
                &[(0, 6), (6, 12), (12, 14), (14, 16), (16, 18), (18, 20)],
                &[2, 3, 4],
            ),
            ("then the wide one", &[(0, 6), (6, 12), (12, 18), (18, 20)], &[0, 1, 2]),
            (
                "nothing above the widest",
                &[(0, 18), (18, 36), (36, 54), (54, 56)],
                &[],
            ),
            ("the oldest range first", &day, &[0, 1, 2]),
            (
                "shared time before all",
                &[(0, 2), (2, 4), (4, 6), (6, 8), (6, 8)],
                &[3, 4],
            ),
            ("the youngest too, if it shares time", &[(0, 2), (0, 2)], &[0, 1]),
            (
                "a chain of shared time",
                &[(0, 6), (4, 8), (7, 9), (9, 11), (10, 12)],
                &[0, 1, 2],
            ),
            (
                "one inside a wide one",
                &[(0, 18), (2, 4), (6, 8), (20, 22)],
                &[0, 1, 2],
            ),
            ("touching is not sharing", &[(0, 18), (18, 20), (18, 36)], &[1, 2]),
            ("before the epoch", &[(-6, -4), (-4, -2), (-2, 0), (0, 2)], &[0, 1, 2]),
            (
                "one that fits no range",
                &[(1, 7), (8, 10), (10, 12), (12, 14), (14, 16)],
                &[1, 2],
            ),
            (
                "one that may still get company",
                &[(1, 7), (8, 10), (10, 12), (12, 14)],
                &[],
            ),
            (
                "one out of the raster before others of the range",
                &[(5, 7), (8, 10), (10, 12), (12, 14), (14, 16)],
                &[1, 2],
            ),
            ("all of time", &[(i64::MIN, i64::MAX), (0, 2)], &[0, 1]),
        ];
        for (name, times, expected) in cases {
            let found: Vec<u128> = plan(&hours(times), &[2, 6, 18]).iter().map(|id| id.bits()).collect();
            assert_eq!(found, *expected, "{name}");
        }
        let mut damaged = hours(&day);
        damaged[1].damaged = true;
        assert_eq!(plan(&damaged, &[2, 6, 18]), [3, 4, 5].map(BlockId::from_bits));
        damaged.extend(hours(&[(2, 4)]));
        assert_eq!(plan(&damaged, &[2]), [], "shared time with a damaged block is let be");
        let many = hours(&vec![(0, 2); 300]);
        assert_eq!(plan(&many, &[2]).len(), 255);
    }

    #[test]
    fn plans_end() {
        let mut blocks: Vec<Candidate> = Vec::new();
        for n in 0..200 {
            blocks.push(Candidate {
                id: BlockId::from_bits(n as u128),
                start: 2 * n,
                end: 2 * n + 2,
                damaged: false,
            });
            for _ in 0..10 {
                let due = plan(&blocks, &[2, 6, 18]);
                let (merged, kept): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|b| due.contains(&b.id));
                blocks = kept;
                if let Some(first) = merged.first() {
                    blocks.push(Candidate {
                        id: BlockId::from_bits(1000 + first.id.bits()),
                        start: merged.iter().map(|b| b.start).min().unwrap(),
                        end: merged.iter().map(|b| b.end).max().unwrap(),
                        damaged: false,
                    });
                }
            }
            assert!(plan(&blocks, &[2, 6, 18]).is_empty());
        }
        assert!(blocks.len() < 30 && blocks.iter().all(|b| b.end - b.start <= 18));
    }
}
