//! Quantities as Kubernetes writes them: `200m`, `1.5Gi`, `1e3`. Exact: a whole number of billionths.

use std::fmt;
use std::str::FromStr;

/// Billionths in one: the finest that Kubernetes keeps.
const ONE: i128 = 1_000_000_000;
/// Billionths in a thousandth.
const MILLI: i128 = 1_000_000;
/// Kubernetes keeps no larger number than this many ones.
const LARGEST: i128 = (i64::MAX as i128) * ONE;
/// A text longer than this is no quantity that anybody means.
const MAX_LENGTH: usize = 64;

/// Suffixes of powers of 1000 and their exponents of ten, from the largest.
const DECIMAL: [(&str, u32); 9] = [
    ("E", 27),
    ("P", 24),
    ("T", 21),
    ("G", 18),
    ("M", 15),
    ("k", 12),
    ("", 9),
    ("m", 6),
    ("u", 3),
];
/// The finest decimal suffix: billionths themselves.
const NANO: &str = "n";
/// Suffixes of powers of 1024 and their exponents of two, from the largest.
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

/// The family of suffixes that a quantity was written with, and is printed with again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Powers of 1000: `n`, `u`, `m`, none, `k`, `M`, `G`, `T`, `P`, `E`.
    Decimal,
    /// Powers of 1024: `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    Binary,
    /// Powers of ten: `e3`.
    Exponent,
}

/// An exact number with the form it is printed in. Two are equal if their numbers are.
///
/// # Reference
/// `k8s.io/apimachinery/pkg/api/resource`.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a quantity such as 200m, 1.5 or 64Mi")]
pub struct QuantityError {
    text: String,
}

impl Quantity {
    /// A number of thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(milli) * MILLI,
            format,
        }
    }

    /// A number of billionths.
    pub fn from_nano(nano: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(nano),
            format,
        }
    }

    /// A whole number.
    pub fn from_whole(whole: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(whole) * ONE,
            format,
        }
    }

    /// The thousandths, rounded away from zero; the largest or smallest `i64` beyond it.
    pub fn milli(self) -> i64 {
        let (whole, rest) = (self.nanos / MILLI, self.nanos % MILLI);
        let away = whole + rest.signum();
        i64::try_from(away).unwrap_or(if away > 0 { i64::MAX } else { i64::MIN })
    }

    /// The nearest float.
    pub fn approximate(self) -> f64 {
        self.nanos as f64 / ONE as f64
    }

    /// Whether it is above zero.
    pub fn is_positive(self) -> bool {
        self.nanos > 0
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text).ok_or_else(|| QuantityError {
            text: text.chars().take(MAX_LENGTH).collect(),
        })
    }
}

/// `[+-]digits[.digits]suffix`. What is finer than a billionth is rounded away from zero.
fn parse(text: &str) -> Option<Quantity> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at_checked(number)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (times, format) = multiplier(suffix)?;
    // No more digits than an i128 holds with every multiplier; what is beyond them is too large anyway.
    let mut digits: i128 = 0;
    let mut finer = false;
    let mut exponent = times.tens;
    for (digit, is_fraction) in whole
        .bytes()
        .map(|b| (b, false))
        .chain(fraction.bytes().map(|b| (b, true)))
    {
        if digits > LARGEST {
            // No room for more: they count only as places, and as something that is not zero.
            finer |= digit != b'0';
            exponent += i32::from(!is_fraction);
            continue;
        }
        digits = digits * 10 + i128::from(digit - b'0');
        exponent -= i32::from(is_fraction);
    }
    let mut nanos = digits.checked_mul(times.twos)?;
    while exponent > 0 && nanos != 0 && nanos <= LARGEST {
        nanos *= 10;
        exponent -= 1;
    }
    while exponent < 0 && nanos != 0 {
        finer |= nanos % 10 != 0;
        nanos /= 10;
        exponent += 1;
        if nanos == 0 {
            break;
        }
    }
    nanos = (nanos + i128::from(finer)).min(LARGEST);
    Some(Quantity {
        nanos: if negative { -nanos } else { nanos },
        format,
    })
}

/// What a suffix multiplies billionths by: a power of ten and a power of two.
struct Multiplier {
    tens: i32,
    twos: i128,
}

fn multiplier(suffix: &str) -> Option<(Multiplier, Format)> {
    let tens = |tens| Multiplier { tens, twos: 1 };
    if suffix == NANO {
        return Some((tens(0), Format::Decimal));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((tens(i32::try_from(*exponent).ok()?), Format::Decimal));
    }
    if let Some((_, exponent)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        let twos = 1i128.checked_shl(*exponent)?;
        return Some((Multiplier { tens: 9, twos }, Format::Binary));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    // Beyond these every number is zero or too large; the bound keeps the loop above short.
    (-100..=100)
        .contains(&exponent)
        .then(|| (tens(9 + exponent), Format::Exponent))
}

impl fmt::Display for Quantity {
    /// Canonical: the largest suffix that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * ONE;
        match self.format {
            Format::Binary if !small => {
                // A fraction of one is rounded up, away from zero.
                let whole = self.nanos / ONE + (self.nanos % ONE).signum();
                for (suffix, exponent) in BINARY {
                    let unit = 1i128 << exponent;
                    if whole % unit == 0 {
                        return write!(f, "{}{suffix}", whole / unit);
                    }
                }
                write!(f, "{whole}")
            }
            Format::Binary | Format::Decimal => {
                for (suffix, exponent) in DECIMAL {
                    let unit = 10i128.pow(exponent);
                    if self.nanos % unit == 0 {
                        return write!(f, "{}{suffix}", self.nanos / unit);
                    }
                }
                write!(f, "{}{NANO}", self.nanos)
            }
            Format::Exponent => {
                for (_, exponent) in DECIMAL {
                    let unit = 10i128.pow(exponent);
                    if self.nanos % unit == 0 {
                        let whole = self.nanos / unit;
                        return match i64::from(exponent) - 9 {
                            0 => write!(f, "{whole}"),
                            power => write!(f, "{whole}e{power}"),
                        };
                    }
                }
                write!(f, "{}e-9", self.nanos)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_to_the_thousandth_and_printed_canonically() {
        for (text, milli, printed) in [
            ("0", 0, "0"),
            ("-0", 0, "0"),
            ("194m", 194, "194m"),
            ("0.1", 100, "100m"),
            (".5", 500, "500m"),
            ("1.", 1000, "1"),
            ("1500m", 1500, "1500m"),
            ("1000", 1_000_000, "1k"),
            ("1001", 1_001_000, "1001"),
            ("12.5", 12_500, "12500m"),
            ("+20k", 20_000_000, "20k"),
            ("-0.25", -250, "-250m"),
            ("100n", 1, "100n"),
            ("-100n", -1, "-100n"),
            ("1500u", 2, "1500u"),
            ("0.0000000001", 1, "1n"),
            ("268431997n", 269, "268431997n"),
            ("23Mi", 24_117_248_000, "23Mi"),
            ("1.5Gi", 1_610_612_736_000, "1536Mi"),
            ("1536", 1_536_000, "1536"),
            ("0.5Ki", 512_000, "512"),
            ("1.0001Ki", 1_024_103, "1025"),
            ("1e3", 1_000_000, "1e3"),
            ("1E3", 1_000_000, "1e3"),
            ("15e-1", 1500, "1500e-3"),
            ("1e-100", 1, "1e-9"),
            ("1E", i64::MAX, "1E"),
            ("8Ei", i64::MAX, "9223372036854775807"),
            (
                "99999999999999999999999999999999999999999",
                i64::MAX,
                "9223372036854775807",
            ),
            ("0.00000000000000000000000000000000000000000000000001", 1, "1n"),
        ] {
            let read: Quantity = text.parse().unwrap();
            assert_eq!((read.milli(), read.to_string().as_str()), (milli, printed), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "-", ".", "m", "1 ", " 1", "1.2.3", "1K", "1ki", "1mi", "1e", "1e1.5", "1e999", "0x10", "1_000", "NaN",
            "--1", "1Mi2", "١",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
        assert!("1".repeat(MAX_LENGTH + 1).parse::<Quantity>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(nano: i64, binary: bool) {
            let format = if binary { Format::Binary } else { Format::Decimal };
            let one = Quantity::from_nano(nano, format);
            let again: Quantity = one.to_string().parse().unwrap();
            // A binary form has no fractions above 1024; without a suffix nobody knows that it was one.
            prop_assert!(again == one || (binary && (again.nanos - one.nanos).abs() < ONE), "{one}");
            prop_assert!(binary || again.to_string() == one.to_string(), "{one}");
        }

        #[test]
        fn no_text_panics(text: String) {
            drop(text.parse::<Quantity>());
        }
    }
}
