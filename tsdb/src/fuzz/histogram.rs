//! Native histograms: a column of them, and the codes of the head's chains and the log.

use super::chunk::{joined, split};
use crate::block::MAX_CHUNK_VALUES;
use crate::codec::Cursor;
use crate::column::{Encoder, EncodingChoice, MAX_WEIGHT, decode_histograms, histogram_weight};
use crate::head::histogram_code;
use std::sync::Arc;
use tidegauge_model::{Histogram, ResetHint, Span};

pub(super) fn run(bytes: &[u8]) {
    let (count, column) = split(bytes);
    let count = count % (MAX_CHUNK_VALUES + 1);
    let mut out = Vec::new();
    let decoded = decode_histograms(column, count, &mut out);
    assert_eq!(out.len(), if decoded.is_ok() { count } else { 0 });
    assert!(out.iter().map(|h| histogram_weight(h)).sum::<usize>() <= MAX_WEIGHT);
    drop(out);
    let mut cursor = Cursor::new(column);
    let mut before = None;
    while let Ok(next) = histogram_code::get(&mut cursor, before.as_ref()) {
        before = Some(next);
    }
}

fn histogram(step: u32) -> Histogram {
    let base = f64::from(step);
    Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 2.0,
        count: 5.0 + 3.0 * base,
        sum: base * 0.75,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        positive_buckets: vec![1.0 + base, 1.0 + base, 1.0 + base],
        reset_hint: if step.is_multiple_of(9) {
            ResetHint::Reset
        } else {
            ResetHint::NotReset
        },
        ..Histogram::default()
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (count, choice) in [
        (3, EncodingChoice::Auto),
        (60, EncodingChoice::Auto),
        (20, EncodingChoice::Gorilla),
    ] {
        let all: Vec<Arc<Histogram>> = (0..count).map(|step| Arc::new(histogram(step))).collect();
        let mut column = Vec::new();
        Encoder::new(choice).encode_histograms(&all, &mut column);
        out.push(joined(all.len(), &column));
    }
    let (mut codes, mut before) = (Vec::new(), None);
    for step in 0..20 {
        let next = histogram(step);
        histogram_code::put(&mut codes, before.as_ref(), &next);
        before = Some(next);
    }
    out.push(joined(20, &codes));
    out
}
