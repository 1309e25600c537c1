//! Columns: four bytes of count, then the column.

use crate::block::MAX_CHUNK_VALUES;
use crate::column::{self, Codec, EncodingChoice, MAX_VALUES};
use tidegauge_model::{STALE_BITS, Timestamp};

pub(super) fn split(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes.split_first_chunk::<4>() {
        Some((count, rest)) => (u32::from_le_bytes(*count) as usize, rest),
        None => (0, &[]),
    }
}

pub(super) fn joined(count: usize, column: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    out.extend_from_slice(column);
    out
}

pub(super) fn run(bytes: &[u8]) {
    let (count, column) = split(bytes);
    // Whoever reads a chunk has its count from a span, which bounds it.
    let mut out = vec![1.0];
    let decoded = column::decode(column, count % (MAX_CHUNK_VALUES + 1), &mut out);
    let expected = if decoded.is_ok() {
        1 + count % (MAX_CHUNK_VALUES + 1)
    } else {
        1
    };
    assert_eq!(out.len(), expected, "as many values as were asked for, or none");
}

pub(super) fn run_timestamps(bytes: &[u8]) {
    let (count, column) = split(bytes);
    let mut out = Vec::new();
    let decoded = column::decode_timestamps(column, count, &mut out);
    assert_eq!(out.len(), if decoded.is_ok() { count } else { 0 });
    assert!(decoded.is_err() || count <= MAX_VALUES);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let counter = (0..300).map(|i| f64::from(i * i % 97));
    let decimal = (0..200).map(|i| f64::from(i) * 0.25);
    let marked = (0..120).map(|i| {
        if i == 70 {
            f64::from_bits(STALE_BITS)
        } else {
            f64::from(i)
        }
    });
    let sums = (0..200).scan(0.0, |sum, i| {
        *sum += f64::from(i % 7) * 0.01;
        Some(*sum)
    });
    let wild = (1u64..90).map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let runs: Vec<Vec<f64>> = vec![
        counter.collect(),
        decimal.collect(),
        marked.collect(),
        sums.collect(),
        wild.collect(),
        vec![0.1 + 0.2; 9],
        vec![7.0; MAX_CHUNK_VALUES],
    ];
    let mut out = Vec::new();
    for run in &runs {
        for choice in [EncodingChoice::Auto, EncodingChoice::Gorilla] {
            let mut column = Vec::new();
            column::encode(run, choice, &mut column);
            debug_assert!(Codec::of(&column).is_some());
            out.push(joined(run.len(), &column));
        }
    }
    out
}

pub(super) fn timestamp_seeds() -> Vec<Vec<u8>> {
    let regular = (0..2000i64).map(|i| 1_760_000_000_000 + 15_000 * i);
    let jitter = (0..500i64).map(|i| 1_760_000_000_000 + 5000 * i + (i * 7919) % 5 - 2);
    let holes = (0..500i64).filter(|i| i % 90 > 5).map(|i| 15_000 * i);
    let lists: Vec<Vec<i64>> = vec![
        regular.collect(),
        jitter.collect(),
        holes.collect(),
        vec![i64::MIN, 0, i64::MAX],
    ];
    lists
        .iter()
        .map(|list| {
            let times: Vec<Timestamp> = list.iter().copied().map(Timestamp::from_millis).collect();
            let mut column = Vec::new();
            column::encode_timestamps(&times, &mut column);
            joined(list.len(), &column)
        })
        .collect()
}
