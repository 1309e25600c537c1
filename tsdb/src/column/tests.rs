//! Each codec by its bytes, then all of them by properties.

use super::*;
use proptest::prelude::*;

fn encoded(values: &[f64], choice: EncodingChoice) -> Vec<u8> {
    let mut out = Vec::new();
    encode(values, choice, &mut out);
    out
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[track_caller]
fn check(values: &[f64]) -> Codec {
    let mut codec = Codec::Raw;
    for choice in [EncodingChoice::Gorilla, EncodingChoice::Auto] {
        let bytes = encoded(values, choice);
        let mut back = vec![7.0];
        decode(&bytes, values.len(), &mut back).unwrap();
        assert_eq!(bits(&back[1..]), bits(values), "{choice:?} {:?}", Codec::of(&bytes));
        codec = Codec::of(&bytes).unwrap();
        assert!(choice == EncodingChoice::Gorilla || bytes.len() <= 1 + 8 * values.len());
    }
    codec
}

const STALE: f64 = f64::from_bits(STALE_BITS);

#[test]
fn bytes_are_as_drawn() {
    for (values, bytes) in [
        // decimal, exponent 0, linear order 0, 5
        (vec![5.0; 300], &[0, 0x20, 10][..]),
        // decimal, exponent 2, linear order 1 from 0 by 25
        ((0..100).map(|i| f64::from(i) / 4.0).collect(), &[2, 0x21, 49, 50]),
        // patched: one exception at place 2, the stale marker, among the line 1 2 3
        (vec![1.0, 2.0, STALE, 3.0], &[0x20, 1, 2, 0, 0x21, 0, 2]),
        (
            vec![0.1 + 0.2; 9],
            &[0x80, 0x34, 0x33, 0x33, 0x33, 0x33, 0x33, 0xd3, 0x3f],
        ),
        (vec![f64::NEG_INFINITY; 9], &[0x80, 0, 0, 0, 0, 0, 0, 0xf0, 0xff]),
    ] {
        assert_eq!(encoded(&values, EncodingChoice::Auto), bytes, "{values:?}");
        check(&values);
    }
    assert_eq!(
        encoded(&[1.0, 1.0], EncodingChoice::Gorilla),
        [0x60, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn odd_values_round_trip() {
    for values in [
        vec![],
        vec![-0.0],
        vec![0.0, -0.0, 0.0, -0.0],
        vec![STALE, STALE],
        vec![STALE, 1.0, 2.0],
        vec![f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001), STALE],
        vec![f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN],
        vec![f64::from_bits(1), f64::MIN_POSITIVE, 5e-310],
        vec![
            9_007_199_254_740_991.0,
            9_007_199_254_740_992.0,
            9_007_199_254_740_994.0,
        ],
        vec![1e300, 1e-300, 1e17, 1e18],
        vec![0.1, 0.2, 0.1 + 0.2],
    ] {
        check(&values);
    }
}

#[test]
fn codecs_are_chosen_where_they_fit() {
    let mut counter: Vec<f64> = (0..480).map(|i| 1e6 + f64::from(i * i % 97)).collect();
    assert_eq!(check(&counter), Codec::Decimal);
    let clean = encoded(&counter, EncodingChoice::Auto).len();
    counter.push(STALE);
    assert_eq!(check(&counter), Codec::Patched);
    let marked = encoded(&counter, EncodingChoice::Auto).len();
    assert!(marked < clean + 8, "{clean} {marked}");
    let mut sum = 0.0;
    let sums: Vec<f64> = (0..480)
        .map(|i| {
            sum += f64::from(i % 7) * 0.01;
            sum
        })
        .collect();
    assert_eq!(check(&sums), Codec::Corrected);
    let wild: Vec<f64> = (1u64..300)
        .map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    check(&wild);
    let close: Vec<f64> = (0..300).map(|i| (f64::from(i) * 0.7).sin()).collect();
    check(&close);
}

#[test]
fn foreign_bytes_are_refused() {
    for (bytes, count) in [
        (&[][..], 0),
        (&[0xff], 1),
        (&[31, 0x20, 0], 1),
        (&[0, 0x20, 10, 0], 3),
        (&[0x20, 9, 1, 1], 3),
        (&[0x20, 1, 3, 0, 0x20, 2], 3),
        (&[0x20, 3, 0, 0, 0, 0, 0, 0], 3),
        (&[0x60, 1], 100),
        (&[0x80, 1], 1),
        (&[0xc0, 1, 2, 3], 1),
        (&[0, 0x20, 10], MAX_VALUES + 1),
    ] {
        let mut out = vec![1.0];
        assert!(decode(bytes, count, &mut out).is_err(), "{bytes:?}");
        assert_eq!(out, [1.0]);
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(f64::from),
        2 => (-100_000i32..100_000, 0i32..6).prop_map(|(m, k)| f64::from(m) / 10f64.powi(k)),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![0.0, -0.0, STALE, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324]),
        1 => any::<f64>(),
    ]
}

/// Runs as metrics make them: levels, walks and sums, with odd values strewn in.
fn run() -> impl Strategy<Value = Vec<f64>> {
    let walk = (value(), prop::collection::vec(value(), 1..8), 1usize..300).prop_map(|(start, steps, n)| {
        let mut at = start;
        let walk = (0..n).map(|i| {
            at += steps[i % steps.len()];
            at
        });
        walk.collect::<Vec<_>>()
    });
    let level = prop::collection::vec((value(), 1usize..80), 1..12)
        .prop_map(|parts| parts.into_iter().flat_map(|(v, n)| std::iter::repeat_n(v, n)).collect());
    let wild = prop::collection::vec(value(), 0..200);
    (
        prop_oneof![walk, level, wild],
        prop::collection::vec((any::<usize>(), value()), 0..3),
    )
        .prop_map(|(mut run, odd)| {
            for (at, value) in odd {
                if !run.is_empty() {
                    let at = at % run.len();
                    run[at] = value;
                }
            }
            run
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1000 }))]

    #[test]
    fn every_run_round_trips_by_bits(values in run()) {
        check(&values);
    }

    #[test]
    fn every_codec_round_trips_by_bits(values in run(), exponent in 0u8..=18) {
        for codec in Codec::ALL {
            if codec == Codec::Constant {
                continue;
            }
            let mut bytes = Vec::new();
            if values.is_empty() && codec == Codec::Bits {
                continue;
            }
            Encoder::default().put(codec, exponent, &values, &mut bytes);
            let mut back = Vec::new();
            decode(&bytes, values.len(), &mut back).unwrap();
            prop_assert_eq!(bits(&back), bits(&values));
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, count in 0usize..2000) {
        let _ = decode(&bytes, count, &mut Vec::new());
    }

    #[test]
    fn damaged_runs_are_decoded_or_refused(values in run(), at: usize, bit in 0u8..8) {
        let mut bytes = encoded(&values, EncodingChoice::Auto);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = decode(&bytes, values.len(), &mut Vec::new());
    }
}

/// Values that only their bits tell apart, or that no arithmetic may touch.
const ODD: [u64; 14] = [
    0x7ff0_0000_0000_0001,
    STALE_BITS,
    0x7ff8_0000_0000_0000,
    0x7ff8_dead_beef_0001,
    0xfff8_0000_0000_0001,
    0xffff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0,
    1,
    0x8000_0000_0000_0001,
    0x000f_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 100 }))]

    /// Every codec, forced, at lengths around and beyond those of blocks of 64 and of chunks.
    #[test]
    fn every_codec_round_trips_at_any_length(
        pattern in run(), len in 0usize..5000, exponent in 0u8..=18,
        odd in prop::collection::vec((any::<usize>(), prop::sample::select(ODD.to_vec())), 0..40),
    ) {
        let len = if cfg!(miri) { len % 200 } else { len };
        let mut values: Vec<f64> = pattern.iter().copied().cycle().take(len).collect();
        if !values.is_empty() {
            for (at, bits) in odd {
                let at = at % values.len();
                values[at] = f64::from_bits(bits);
            }
        }
        check(&values);
        for codec in Codec::ALL.into_iter().filter(|c| !matches!(c, Codec::Constant | Codec::Histogram)) {
            if values.is_empty() && codec == Codec::Bits {
                continue;
            }
            let mut bytes = Vec::new();
            Encoder::default().put(codec, exponent, &values, &mut bytes);
            let mut back = Vec::new();
            decode(&bytes, values.len(), &mut back).unwrap();
            prop_assert_eq!(bits(&back), bits(&values), "{:?}", codec);
        }
    }

    #[test]
    fn a_constant_of_any_bits_round_trips(bits in prop_oneof![any::<u64>(), prop::sample::select(ODD.to_vec())], len in 1usize..5000) {
        let values = vec![f64::from_bits(bits); if cfg!(miri) { len % 100 + 1 } else { len }];
        check(&values);
    }
}
