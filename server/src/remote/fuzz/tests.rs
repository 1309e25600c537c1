//! The targets on stable: seeds as they are, then seeds changed by chance.

use super::*;
use proptest::prelude::*;
use tidegauge_model::testing::{found_once, has_file, mutate};

/// One change of a message.
#[derive(Debug, Clone)]
enum Change {
    /// Pieces that messages are made of.
    Insert(usize, Vec<u8>),
    /// A stretch gone, or twice.
    Remove(usize, usize),
    Repeat(usize, usize),
    /// A byte that is anything, or one that is a little more.
    Byte(usize, u8),
    More(usize),
}

const PIECES: &[&[u8]] = &[
    b"\x80",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0a\x00",
    b"\x12\x00",
    b"\x12\x02\x10\x05",
    b"\x1a\x00",
    b"\x22\x00",
    b"\x22\x01\xff",
    b"\x2a\x00",
    b"\x2a\x06\x0a\x04\x01\x02\x03\x04",
    b"\x0a\x03\x01\x02\x63",
    b"\x08\x01",
    b"\x30\x05",
    b"\x62\x02\x02\x02",
    b"\x0b",
];

fn change() -> impl Strategy<Value = Change> {
    let piece = prop::sample::select(PIECES).prop_map(<[u8]>::to_vec);
    prop_oneof![
        4 => (any::<usize>(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (any::<usize>(), 1usize..24).prop_map(|(at, len)| Change::Remove(at, len)),
        2 => (any::<usize>(), 1usize..60).prop_map(|(at, len)| Change::Repeat(at, len)),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => any::<usize>().prop_map(Change::More),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let len = bytes.len().max(1);
    let stretch = |at: usize, count: usize| (at % len).min(bytes.len())..(at % len + count).min(bytes.len());
    match change {
        Change::Insert(at, piece) => drop(bytes.splice(stretch(*at, 0), piece.iter().copied())),
        Change::Remove(at, count) => drop(bytes.drain(stretch(*at, *count))),
        Change::Repeat(at, count) => {
            let again = bytes[stretch(*at, *count)].to_vec();
            drop(bytes.splice(stretch(*at, 0), again));
        }
        Change::Byte(at, byte) => bytes.iter_mut().skip(at % len).take(1).for_each(|b| *b = *byte),
        Change::More(at) => {
            let place = bytes.iter_mut().skip(at % len).take(1);
            place.for_each(|b| *b = b.wrapping_add(1));
        }
    }
}

/// Cases for each target and seed.
const CASES: u32 = 1500;

fn run_target(name: &str) {
    let target = super::target(name).unwrap();
    mutate(name, (target.seeds)(), change(), apply, CASES, target.run);
    for len in [0, 1, 3, 64, 4096] {
        for byte in [0, 0x0a, 0x12, 0x22, 0x2a, 0x80, 0xff] {
            (target.run)(&vec![byte; len]);
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run_target(stringify!($name));
        })*

        #[test]
        fn every_target_has_its_test_and_its_file() {
            let tested = [$(stringify!($name)),*];
            let known: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            assert_eq!(known, tested);
            for name in tested {
                assert!(has_file(env!("CARGO_MANIFEST_DIR"), name), "a file runs {name}");
            }
        }
    };
}
targets!(remote_write_v1 remote_write_v2 remote_write_body);

/// The seeds are good messages, or changing them would be of little use.
#[test]
fn seeds_are_messages() {
    for (version, seeds, expected) in [
        (ProtoMessage::V1, v1_seeds(), [2, 1, 2]),
        (ProtoMessage::V2, v2_seeds(), [3, 2, 2]),
    ] {
        for (seed, expected) in seeds.iter().zip(expected) {
            let taken = receiver().0.store(&MemoryStore::new(), version, seed).unwrap();
            assert_eq!(taken.samples, expected, "{version:?}: {taken:?}");
            assert_eq!(taken.histograms, 0, "{version:?}: {taken:?}");
        }
    }
}

/// What proptest or a fuzzer found once, kept.
#[test]
fn what_was_found_once_stays_harmless() {
    for target in TARGETS {
        for bytes in found_once(env!("CARGO_MANIFEST_DIR"), target.name) {
            (target.run)(&bytes);
        }
    }
}
