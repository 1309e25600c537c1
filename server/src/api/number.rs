//! Numbers as upstream writes them into JSON.
//!
//! A value is the shortest decimal that reads back as the same float. In vectors and matrices it has an exponent if
//! `|v| < 1e-6` or `|v| >= 1e21`, in scalars never. Times are seconds: beside the samples of vectors, matrices and exemplars
//! with three decimals or none, elsewhere with as many as are needed.

use tidegauge_model::Timestamp;

/// Beyond this not every integer is a float, and the shortest decimal is not the integer itself.
const EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// The magnitudes whose shortest decimal is written without an exponent by the formatter too. Fewer than it takes.
const PLAIN: std::ops::Range<f64> = 1e-3..1e15;

/// A value of a vector or matrix, without quotes.
pub(crate) fn push_value(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if let Some(whole) = whole(value) {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if PLAIN.contains(&magnitude) {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) && value.is_finite() {
        push_exponent(out, value);
    } else {
        push_plain(out, value);
    }
}

/// The integer that a value is, if its shortest decimal is the integer itself.
fn whole(value: f64) -> Option<i64> {
    let whole = value as i64;
    let same = (whole as f64).to_bits() == value.to_bits();
    (same && value.abs() < EXACT_INTEGER).then_some(whole)
}

/// A value without an exponent, as scalars have it.
pub(crate) fn push_plain(out: &mut Vec<u8>, value: f64) {
    if push_odd(out, value) {
        return;
    }
    if let Some(whole) = whole(value) {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if !text.contains('e') {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        return;
    }
    let decimal = Decimal::read(text);
    if decimal.negative {
        out.push(b'-');
    }
    decimal.push_plain(out);
}

/// A value with an exponent of a sign and at least two digits, as very small and very large ones (and alerts) have it.
pub(crate) fn push_exponent(out: &mut Vec<u8>, value: f64) {
    if push_odd(out, value) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let decimal = Decimal::read(buffer.format_finite(value));
    if decimal.negative {
        out.push(b'-');
    }
    decimal.push_exponent(out);
}

/// A time in seconds, as it stands beside a sample: with three decimals, or none if they were zeros.
pub(crate) fn push_time(out: &mut Vec<u8>, at: Timestamp) {
    let ms = at.millis();
    if ms < 0 {
        out.push(b'-');
    }
    let magnitude = ms.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(magnitude / 1000).as_bytes());
    let fraction = magnitude % 1000;
    if fraction != 0 {
        let digit = |place| b'0' + (fraction / place % 10) as u8;
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }
}

/// A time in seconds with as many decimals as are needed.
pub(crate) fn push_seconds(out: &mut Vec<u8>, at: Timestamp) {
    push_time(out, at);
    if at.millis() % 1000 != 0 {
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Writes NaN and the infinities; says whether it did.
fn push_odd(out: &mut Vec<u8>, value: f64) -> bool {
    let text: &[u8] = match value {
        v if v.is_nan() => b"NaN",
        f64::INFINITY => b"+Inf",
        f64::NEG_INFINITY => b"-Inf",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

/// The shortest digits of a float: `0.DIGITS * 10^point`, without zeros at either end.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    point: i32,
}

impl Decimal {
    /// Reads `-12.5e-7`, the form that the formatter writes.
    fn read(text: &str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let leading = digits.iter().take_while(|d| **d == b'0').count();
        digits.drain(..leading);
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let mut point = exponent + i32::try_from(whole.len()).unwrap_or(0) - i32::try_from(leading).unwrap_or(0);
        if digits.is_empty() {
            (digits, point) = (vec![b'0'], 1);
        }
        Self {
            negative,
            digits,
            point,
        }
    }

    fn push_plain(&self, out: &mut Vec<u8>) {
        let point = usize::try_from(self.point).unwrap_or(0);
        let (whole, fraction) = self.digits.split_at(point.min(self.digits.len()));
        if whole.is_empty() {
            out.push(b'0');
        }
        out.extend_from_slice(whole);
        out.extend(std::iter::repeat_n(b'0', point.saturating_sub(self.digits.len())));
        if !fraction.is_empty() {
            out.push(b'.');
            out.extend(std::iter::repeat_n(b'0', usize::try_from(-self.point).unwrap_or(0)));
            out.extend_from_slice(fraction);
        }
    }

    fn push_exponent(&self, out: &mut Vec<u8>) {
        let (first, rest) = self.digits.split_at(1.min(self.digits.len()));
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        let exponent = self.point - 1;
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_upstream_writes_them() {
        for (value, vector, scalar) in [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (1.0, "1", "1"),
            (-1.5, "-1.5", "-1.5"),
            (21.5, "21.5", "21.5"),
            (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
            (1.0 / 3.0, "0.3333333333333333", "0.3333333333333333"),
            (1e-6, "0.000001", "0.000001"),
            (0.000_001_23, "0.00000123", "0.00000123"),
            (9.99e-7, "9.99e-07", "0.000000999"),
            (1e-7, "1e-07", "0.0000001"),
            (-1.25e-10, "-1.25e-10", "-0.000000000125"),
            (12_345_678.9, "12345678.9", "12345678.9"),
            (123_456_789_012_345_680.0, "123456789012345680", "123456789012345680"),
            (9_007_199_254_740_993.0, "9007199254740992", "9007199254740992"),
            (1e20, "100000000000000000000", "100000000000000000000"),
            (1e21, "1e+21", "1000000000000000000000"),
            (-1.5e22, "-1.5e+22", "-15000000000000000000000"),
            (f64::NAN, "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
        ] {
            assert_eq!(text(|out| push_value(out, value)), vector, "{value:e} in a vector");
            assert_eq!(text(|out| push_plain(out, value)), scalar, "{value:e} as a scalar");
        }
        assert_eq!(text(|out| push_value(out, 5e-324)), "5e-324");
        assert_eq!(text(|out| push_value(out, f64::MAX)), "1.7976931348623157e+308");
        assert_eq!(text(|out| push_plain(out, f64::MAX)).len(), 309);
        assert_eq!(text(|out| push_plain(out, 5e-324)), format!("0.{}5", "0".repeat(323)));
        assert_eq!(text(|out| push_exponent(out, 0.0)), "0e+00");
        // In the middle between two decimals: the even one, as upstream.
        assert_eq!(
            text(|out| push_plain(out, 872_546_895_973_662.0 + 0.25)),
            "872546895973662.2"
        );
        assert_eq!(
            text(|out| push_plain(out, 872_546_895_973_662.0 + 0.75)),
            "872546895973662.8"
        );
        assert_eq!(text(|out| push_exponent(out, 1500.0)), "1.5e+03");
    }

    #[test]
    fn times_have_three_decimals_or_as_many_as_are_needed() {
        for (ms, beside_samples, elsewhere) in [
            (0, "0", "0"),
            (1000, "1", "1"),
            (100_000, "100", "100"),
            (1100, "1.100", "1.1"),
            (1010, "1.010", "1.01"),
            (1001, "1.001", "1.001"),
            (-1020, "-1.020", "-1.02"),
            (-5, "-0.005", "-0.005"),
            (1_795_225_170_442, "1795225170.442", "1795225170.442"),
        ] {
            let at = Timestamp::from_millis(ms);
            assert_eq!(text(|out| push_time(out, at)), beside_samples);
            assert_eq!(text(|out| push_seconds(out, at)), elsewhere);
        }
        text(|out| push_time(out, Timestamp::MIN));
    }

    proptest! {
        #[test]
        fn any_float_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for push in [push_value, push_plain, push_exponent] {
                let written = text(|out| push(out, value));
                prop_assert_eq!(written.parse::<f64>().unwrap().to_bits(), bits, "{}", written);
            }
            // The standard library writes as many digits, never with an exponent. The last one differs where the float
            // lies in the middle between two decimals of that length.
            let (ours, theirs) = (text(|out| push_plain(out, value)), value.to_string());
            prop_assert_eq!(ours.len(), theirs.len(), "{} {}", ours, theirs);
        }
    }
}
