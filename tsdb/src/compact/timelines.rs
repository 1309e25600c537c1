//! Timelines of blocks that are merged: those that continue each other become one, cut in pieces of a chunk's length.
//!
//! ```text
//!   block A   timeline 3  ─────┐
//!   block B   timeline 0       ├─ series go from A 3 to B 1 to C 4:  one chain   |..piece..|..piece..|..piece..|
//!             timeline 1  ─────┤
//!   block C   timeline 4  ─────┘
//! ```
//!
//! Whoever has most series in common continues a timeline. A piece is one column of timestamps of the new block, and
//! what a series has on it is one chunk: a query for an hour of a month reads few of either.

use super::Stopped;
use super::walk::Walk;
use crate::Error;
use crate::block::{BlockReader, BlockWriter, MAX_CHUNK_VALUES};
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// A timeline of an input.
type Source = (usize, u32);

/// Where the rows of the inputs' timelines go.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// By input and timeline: its chain, and the row of the chain that is its first.
    places: Vec<Vec<Place>>,
    chains: Vec<Chain>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    chain: u32,
    base: u32,
}

#[derive(Debug, Default)]
struct Chain {
    members: Vec<Source>,
    rows: u32,
    /// The pieces' numbers in the new block, once they are used.
    pieces: Vec<Option<u32>>,
}

/// Rows of a timeline of the new block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) timeline: u32,
    pub(super) first_row: u32,
    pub(super) rows: u32,
}

/// How many rows a piece has: about equally many each, and no more than a chunk takes.
pub(super) fn piece_rows(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(MAX_CHUNK_VALUES).max(1)).max(1)
}

impl Chains {
    /// Walks over all series once to see who continues whom.
    pub(super) fn find(inputs: &[Arc<BlockReader>], stop: &dyn Fn() -> bool) -> Result<Result<Self, Stopped>, Error> {
        let mut votes: HashMap<(Source, Source), u32> = HashMap::new();
        let mut parts: Vec<(Timestamp, Source)> = Vec::new();
        let mut walk = Walk::new(inputs)?;
        while let Some(series) = walk.next()? {
            if stop() {
                return Ok(Err(Stopped));
            }
            parts.clear();
            for (input, runs) in series.runs() {
                let Some(block) = inputs.get(input) else { continue };
                for run in runs {
                    let span = block.span(run.span)?;
                    parts.push((span.first, (input, span.timeline)));
                }
            }
            parts.sort();
            parts.dedup_by_key(|p| p.1);
            for (a, b) in parts.iter().zip(parts.iter().skip(1)) {
                *votes.entry((a.1, b.1)).or_default() += 1;
            }
        }
        Self::link(inputs, votes).map(Ok)
    }

    fn link(inputs: &[Arc<BlockReader>], votes: HashMap<(Source, Source), u32>) -> Result<Self, Error> {
        let mut links: Vec<(Source, Source, u32)> = votes.into_iter().map(|((a, b), n)| (a, b, n)).collect();
        // The pair breaks ties, so that equal inputs give equal blocks.
        links.sort_by_key(|(a, b, n)| (std::cmp::Reverse(*n), *a, *b));
        let (mut next, mut has_before) = (HashMap::new(), HashMap::new());
        for (a, b, _) in links {
            let (Some(from), Some(to)) = (inputs.get(a.0), inputs.get(b.0)) else {
                continue;
            };
            let rise = from.timeline_bounds(a.1)?.last < to.timeline_bounds(b.1)?.first;
            if rise && !next.contains_key(&a) && !has_before.contains_key(&b) {
                next.insert(a, b);
                has_before.insert(b, ());
            }
        }
        let mut chains = Self::default();
        for input in inputs {
            let blank = Place { chain: 0, base: 0 };
            chains.places.push(vec![blank; input.meta().timelines as usize]);
        }
        for (i, input) in inputs.iter().enumerate() {
            for timeline in 0..input.meta().timelines {
                if !has_before.contains_key(&(i, timeline)) {
                    chains.lay(inputs, (i, timeline), &next)?;
                }
            }
        }
        Ok(chains)
    }

    fn lay(&mut self, inputs: &[Arc<BlockReader>], first: Source, next: &HashMap<Source, Source>) -> Result<(), Error> {
        let mut chain = Chain::default();
        let mut at = Some(first);
        while let Some(source) = at {
            let Some(input) = inputs.get(source.0) else { break };
            let place = self.places.get_mut(source.0).and_then(|p| p.get_mut(source.1 as usize));
            if let Some(place) = place {
                (place.chain, place.base) = (self.chains.len() as u32, chain.rows);
            }
            chain.members.push(source);
            let rows = input.timeline_bounds(source.1)?.rows;
            chain.rows = chain.rows.checked_add(rows).ok_or(Error::Limit {
                what: "rows of a timeline",
                limit: u64::from(u32::MAX),
            })?;
            at = next.get(&source).copied();
        }
        let pieces = (chain.rows as usize).div_ceil(piece_rows(chain.rows as usize));
        chain.pieces = vec![None; pieces];
        self.chains.push(chain);
        Ok(())
    }

    /// Calls `each` with where rows of an input's timeline are in the new block, in order.
    pub(super) fn targets(
        &mut self,
        inputs: &[Arc<BlockReader>],
        writer: &mut BlockWriter,
        (input, timeline): Source,
        rows: Range<u32>,
        mut each: impl FnMut(Target),
    ) -> Result<(), Error> {
        let place = self.places.get(input).and_then(|p| p.get(timeline as usize)).copied();
        let Some((place, chain)) = place.and_then(|p| Some((p, self.chains.get_mut(p.chain as usize)?))) else {
            return Err(outside());
        };
        let piece_rows = piece_rows(chain.rows as usize) as u32;
        let mut at = place.base.saturating_add(rows.start);
        let end = place.base.saturating_add(rows.end);
        while at < end {
            let piece = at / piece_rows;
            let here = (end - at).min((piece + 1) * piece_rows - at);
            each(Target {
                timeline: chain.piece(inputs, writer, piece)?,
                first_row: at % piece_rows,
                rows: here,
            });
            at += here;
        }
        Ok(())
    }
}

fn outside() -> Error {
    Error::Invalid {
        what: "rows outside their timeline".to_owned(),
    }
}

impl Chain {
    /// The number of a piece in the new block; it is written when it is first used.
    fn piece(&mut self, inputs: &[Arc<BlockReader>], writer: &mut BlockWriter, piece: u32) -> Result<u32, Error> {
        let known = self.pieces.get(piece as usize).copied().ok_or_else(outside)?;
        if let Some(number) = known {
            return Ok(number);
        }
        let rows = piece_rows(self.rows as usize);
        let wanted = piece as usize * rows..((piece as usize + 1) * rows).min(self.rows as usize);
        let mut times: Vec<Timestamp> = Vec::with_capacity(wanted.len());
        let mut start = 0;
        for (input, timeline) in &self.members {
            let Some(input) = inputs.get(*input) else { continue };
            let end = start + input.timeline_bounds(*timeline)?.rows as usize;
            if start < wanted.end && wanted.start < end {
                let own = input.timestamps(*timeline)?;
                let part = wanted.start.saturating_sub(start)..(wanted.end - start).min(end - start);
                times.extend_from_slice(own.get(part).unwrap_or_default());
            }
            start = end;
        }
        let number = writer.timeline(&times)?;
        if let Some(place) = self.pieces.get_mut(piece as usize) {
            *place = Some(number);
        }
        Ok(number)
    }
}
