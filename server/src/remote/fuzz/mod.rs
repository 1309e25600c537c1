//! The receiver under foreign bytes: what fuzz targets and their tests on stable feed.
//!
//! A target takes any bytes whatever. It must come back: no panic, no endless work, no more memory than it may have, and all
//! of that given back.
//!
//! A new one: write the function, add it to [`TARGETS`] with its seeds, and a file of five lines to `fuzz/fuzz_targets`.
//! The tests here pick it up from the table.

#[cfg(test)]
mod tests;

use super::content::ProtoMessage;
use super::write_in::Receiver;
use crate::api::ApiLimits;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Meter};

/// Something that meets foreign bytes, and what it is tried with.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name; that of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Feeds it. Must not panic, whatever the bytes.
    pub run: fn(&[u8]),
    /// Valid inputs, to be mutated.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "remote_write_v1",
        run: |bytes| message(ProtoMessage::V1, bytes),
        seeds: v1_seeds,
    },
    Target {
        name: "remote_write_v2",
        run: |bytes| message(ProtoMessage::V2, bytes),
        seeds: v2_seeds,
    },
    Target {
        name: "remote_write_body",
        run: body,
        seeds: || v2_seeds().iter().map(|seed| snappy(seed)).collect(),
    },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

/// Bytes that one message may take here.
const PENDING_BYTES: u64 = 1 << 20;

fn receiver() -> (Receiver, Meter) {
    let meter = Meter::new("fuzz", 8 * PENDING_BYTES);
    let limits = ApiLimits {
        write_memory: meter.clone(),
        write_pending_bytes: PENDING_BYTES,
        write_cached_series: 8,
        ..ApiLimits::default()
    };
    (Receiver::new(&limits, ProtoMessage::ALL.to_vec()), meter)
}

/// Stores a message twice: the second meets what the first left.
fn message(version: ProtoMessage, bytes: &[u8]) {
    let (receiver, meter) = receiver();
    let store = MemoryStore::new();
    for _ in 0..2 {
        if let Ok(taken) = receiver.store(&store, version, bytes) {
            assert!(taken.samples <= bytes.len() as u64 / 2, "{} samples", taken.samples);
            assert!(taken.stored_histograms <= taken.samples, "{taken:?}");
            assert!(version == ProtoMessage::V2 || taken.told.is_empty(), "{taken:?}");
            assert!(taken.told.text().len() < 80 << 10, "a long answer");
        }
    }
    for (name, metadata) in receiver.declared().list(None) {
        assert!(Labels::from_pairs([("n", &name)]).is_ok() && metadata.help.len() < 16 << 10);
    }
    drop(receiver);
    assert_eq!(meter.used(), 0, "bytes not given back");
}

/// A body as it comes: compressed, if it is.
fn body(bytes: &[u8]) {
    let (receiver, meter) = receiver();
    for version in ProtoMessage::ALL {
        if let Ok(lease) = meter.lease(bytes.len() as u64) {
            let _any_answer = receiver.take(&MemoryStore::new(), version, bytes, lease).is_ok();
        }
    }
    drop(receiver);
    assert_eq!(meter.used(), 0, "bytes not given back");
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap_or_default()
}

/// A field of bytes.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

fn double(number: u8, value: f64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn sample(value: f64, at: u8) -> Vec<u8> {
    bytes(2, &[double(1, value), vec![2 << 3, at]].concat())
}

/// Of integers: count 3, schema 1, two buckets, at a time.
fn histogram(number: u8, at: u8) -> Vec<u8> {
    let span = bytes(11, &[1 << 3, 0, 2 << 3, 2]);
    let fields = [
        &[1 << 3, 3, 4 << 3, 2][..],
        &double(3, 4.5),
        &span,
        &bytes(12, &[2, 2]),
        &[15 << 3, at],
    ];
    bytes(number, &fields.concat())
}

/// Of floats in buckets of its own.
fn custom_histogram(number: u8, at: u8) -> Vec<u8> {
    let span = bytes(11, &[1 << 3, 0, 2 << 3, 1]);
    let bounds = bytes(16, &[1.0f64.to_le_bytes(), 2.0f64.to_le_bytes()].concat());
    // 16 << 3 | 2 takes two bytes.
    let bounds = [&[0x82, 0x01], bounds.get(1..).unwrap_or_default()].concat();
    let counts = bytes(13, &3.0f64.to_le_bytes());
    let fields = [
        &double(2, 3.0)[..],
        &[4 << 3, 105],
        &span,
        &counts,
        &[15 << 3, at],
        &bounds,
    ];
    bytes(number, &fields.concat())
}

fn v1_seeds() -> Vec<Vec<u8>> {
    let label = |name: &[u8], value: &[u8]| bytes(1, &[bytes(1, name), bytes(2, value)].concat());
    let labels = [label(b"__name__", b"m"), label(b"job", b"a")].concat();
    let exemplar = bytes(3, &[label(b"id", b"x"), double(2, 1.0), vec![3 << 3, 5]].concat());
    let series = |rest: &[Vec<u8>]| bytes(1, &[labels.clone(), rest.concat()].concat());
    let metadata = bytes(3, &[&[1 << 3, 1][..], &bytes(2, b"m"), &bytes(4, b"Help.")].concat());
    vec![
        [series(&[sample(1.0, 5), sample(2.0, 6)]), metadata].concat(),
        [series(&[sample(1.0, 5), exemplar]), series(&[sample(3.0, 4)])].concat(),
        series(&[histogram(4, 5), custom_histogram(4, 6)]),
    ]
}

fn v2_seeds() -> Vec<Vec<u8>> {
    let symbols: Vec<u8> = [&b""[..], b"__name__", b"m", b"job", b"a", b"Help.", b"id"]
        .iter()
        .flat_map(|text| bytes(4, text))
        .collect();
    let exemplar = bytes(4, &[bytes(1, &[6, 4]), double(2, 1.0), vec![3 << 3, 5]].concat());
    let metadata = bytes(5, &[1 << 3, 1, 3 << 3, 5]);
    let series = |labels: &[u8], rest: &[Vec<u8>]| bytes(5, &[bytes(1, labels), rest.concat()].concat());
    let message = |all: &[Vec<u8>]| [symbols.clone(), all.concat()].concat();
    vec![
        message(&[
            series(&[1, 2, 3, 4], &[sample(1.0, 5), sample(2.0, 6), metadata.clone()]),
            series(&[1, 4], &[sample(1.0, 7), metadata, vec![6 << 3, 1]]),
        ]),
        message(&[
            series(&[1, 2], &[sample(1.0, 5), exemplar]),
            series(&[1, 2], &[sample(3.0, 4), sample(1.0, 9)]),
            series(&[3, 4], &[sample(3.0, 4)]),
        ]),
        message(&[series(
            &[1, 2, 3, 4],
            &[histogram(3, 5), custom_histogram(3, 6), histogram(3, 4)],
        )]),
    ]
}
