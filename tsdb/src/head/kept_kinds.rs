//! Histograms and exemplars in a checkpoint: what its sections hold of them.
//!
//! ```text
//!   histograms  [series varint] then for each of them
//!                 [number varint] [runs varint] run{runs} [open varint] [time: zigzag step from 0]{open}
//!                 [chain length varint] [chain]                    codes as in the head's chains (`histogram_code`)
//!     run         [first signed] [last signed] [count varint] [times length varint] [times] [column length varint] [column]
//!
//!   exemplars   [count varint] then for each, oldest first
//!                 [pairs of the series] [time signed] [flags u8: 1 its own time] [bits of the value u64] [pairs]
//!     pairs       [how many varint] { [length varint] [name] [length varint] [value] }
//! ```
//!
//! Which commit brought a histogram is not kept: views do not outlive the process.

use super::exemplar::{Exemplars, PendingExemplar, Stored};
use super::histogram::{Histograms, SavedSeries};
use crate::codec::varint::{put, put_signed};
use crate::codec::{Cursor, Malformed};
use std::sync::Arc;
use tidegauge_model::{Exemplar, Labels, Meter, Timestamp};

const OWN_TIME: u8 = 1;

/// Histograms and exemplars at one moment: shared, or copied as they are.
#[derive(Debug)]
pub(crate) struct KeptKinds {
    histograms: Vec<SavedSeries>,
    exemplars: Vec<Arc<Stored>>,
}

impl KeptKinds {
    /// Takes what there is. The caller holds the log.
    pub(crate) fn capture(histograms: &Histograms, exemplars: &Exemplars, flushed: i64) -> Self {
        Self {
            histograms: histograms.save(flushed),
            exemplars: exemplars.all(),
        }
    }

    /// The payload of the section of histograms.
    pub(crate) fn histograms(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.histograms.len() as u64);
        for series in &self.histograms {
            series.put(&mut out);
        }
        out
    }

    /// The payload of the section of exemplars.
    pub(crate) fn exemplars(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.exemplars.len() as u64);
        for one in &self.exemplars {
            put_pairs(&mut out, &one.series);
            put_signed(&mut out, one.at);
            out.push(if one.exemplar.at.is_some() { OWN_TIME } else { 0 });
            out.extend_from_slice(&one.exemplar.value.to_bits().to_le_bytes());
            put_pairs(&mut out, &one.exemplar.labels);
        }
        out
    }
}

fn put_pairs(out: &mut Vec<u8>, labels: &Labels) {
    put(out, labels.len() as u64);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        put(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn get_text<'b>(cursor: &mut Cursor<'b>) -> Result<&'b str, Malformed> {
    let left = cursor.remaining();
    let length = cursor.bounded(left, "a text is longer than what is left")?;
    std::str::from_utf8(cursor.take(length)?).map_err(|_| cursor.malformed("text is not UTF-8"))
}

fn get_pairs(cursor: &mut Cursor<'_>) -> Result<Labels, Malformed> {
    let left = cursor.remaining();
    let count = cursor.bounded(left, "a count is larger than what is left")?;
    let pairs = (0..count).map(|_| Ok((get_text(cursor)?, get_text(cursor)?)));
    let pairs = pairs.collect::<Result<Vec<_>, Malformed>>()?;
    Labels::from_pairs(pairs).map_err(|_| cursor.malformed("not a label set"))
}

/// An exemplar as a checkpoint gives it back.
#[derive(Debug)]
pub(crate) struct SavedExemplar {
    series: Labels,
    at: i64,
    exemplar: Exemplar,
}

/// Reads the section of exemplars.
pub(crate) fn get_exemplars(cursor: &mut Cursor<'_>) -> Result<Vec<SavedExemplar>, Malformed> {
    let left = cursor.remaining();
    let count = cursor.bounded(left, "a count is larger than what is left")?;
    let mut out = Vec::new();
    for _ in 0..count {
        let series = get_pairs(cursor)?;
        let at = cursor.signed()?;
        let own = cursor.u8()? & OWN_TIME != 0;
        let value = f64::from_bits(cursor.u64()?);
        let exemplar = Exemplar {
            labels: get_pairs(cursor)?,
            value,
            at: own.then_some(Timestamp::from_millis(at)),
        };
        out.push(SavedExemplar { series, at, exemplar });
    }
    Ok(out)
}

/// Puts exemplars back in the order they were kept.
pub(crate) fn restore_exemplars(ring: &mut Exemplars, saved: Vec<SavedExemplar>, meter: &Meter) {
    for one in saved {
        let pending = PendingExemplar {
            column: 0,
            at: one.at,
            exemplar: one.exemplar,
        };
        let plan = ring.plan(&[pending], |_| Some(one.series.clone()), meter);
        ring.apply(plan.stored);
    }
}
