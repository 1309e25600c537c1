//! Sums that keep what rounding loses, quantiles, and functions of one number.

use crate::parser::Function;
use std::f64::consts::{LN_2, LOG10_E};

/// A Kahan–Neumaier sum.
///
/// # Reference
/// Prometheus `util/kahansum`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kahan {
    pub(crate) sum: f64,
    pub(crate) lost: f64,
}

impl Kahan {
    /// Starts with a first value.
    pub(crate) fn new(sum: f64) -> Self {
        Self { sum, lost: 0.0 }
    }

    /// Adds a value. An infinite sum has lost nothing.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        // Choices instead of ways to go, so that loops can take several sums at once.
        let (large, small) = if self.sum.abs() >= value.abs() {
            (self.sum, value)
        } else {
            (value, self.sum)
        };
        let lost = self.lost + ((large - total) + small);
        self.lost = if total.is_infinite() { 0.0 } else { lost };
        self.sum = total;
    }

    /// The sum with what was lost.
    #[inline]
    pub(crate) fn total(self) -> f64 {
        self.sum + self.lost
    }

    /// As [`Kahan::total`], but an infinite sum stays as it is.
    #[inline]
    pub(crate) fn total_of_range(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.total() }
    }
}

/// A mean: of the sum while that is finite, else updated value by value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    /// The sum, or the mean so far.
    acc: Kahan,
    pub(crate) count: f64,
    incremental: bool,
}

impl Mean {
    /// Starts with a first value.
    #[inline]
    pub(crate) fn new(first: f64) -> Self {
        Self {
            acc: Kahan::new(first),
            count: 1.0,
            incremental: false,
        }
    }

    /// Adds a value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.acc;
            next.add(value);
            if !next.sum.is_infinite() {
                self.acc = next;
                return;
            }
            self.become_incremental(self.count - 1.0);
        }
        let share = (self.count - 1.0) / self.count;
        self.acc.sum *= share;
        self.acc.lost *= share;
        self.acc.add(value / self.count);
    }

    /// What it is made of: see [`Mean::parts`].
    #[inline]
    pub(crate) fn from_parts(acc: Kahan, count: f64, incremental: bool) -> Self {
        Self {
            acc,
            count,
            incremental,
        }
    }

    /// The sum, or the mean so far; and whether it is the mean.
    #[inline]
    pub(crate) fn parts(&self) -> (Kahan, bool) {
        (self.acc, self.incremental)
    }

    fn become_incremental(&mut self, count: f64) {
        if !self.incremental {
            self.incremental = true;
            self.acc.sum /= count;
            self.acc.lost /= count;
        }
    }

    /// Adds the values of another.
    pub(crate) fn merge(&mut self, mut other: Self) {
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let mut next = self.acc;
            next.add(other.acc.sum);
            next.lost += other.acc.lost;
            if !next.sum.is_infinite() {
                self.acc = next;
                self.count = count;
                return;
            }
        }
        self.become_incremental(self.count);
        other.become_incremental(other.count);
        let (mine, theirs) = (self.count / count, other.count / count);
        self.acc.sum *= mine;
        self.acc.lost *= mine;
        self.acc.add(other.acc.sum * theirs);
        self.acc.lost += other.acc.lost * theirs;
        self.count = count;
    }

    /// The mean.
    #[inline]
    pub(crate) fn value(&self) -> f64 {
        if self.incremental {
            self.acc.total()
        } else {
            self.acc.sum / self.count + self.acc.lost / self.count
        }
    }
}

/// Orders values with NaN below all others.
pub(crate) fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// The q-quantile of values, which are left in some other order.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (values.len() - 1) as f64;
    let below = rank.floor();
    let weight = rank - below;
    let (_, lower, above) = values.select_nth_unstable_by(below as usize, |a, b| nan_first(*a, *b));
    let lower = *lower;
    let upper = above.iter().copied().min_by(|a, b| nan_first(*a, *b)).unwrap_or(lower);
    lower * (1.0 - weight) + upper * weight
}

/// Go's `math.Max`: infinity before NaN before numbers.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

/// Go's `math.Min`: infinity before NaN before numbers.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

/// The function of one number that a PromQL function is, if it is one.
pub(crate) fn elementwise(function: Function) -> Option<fn(f64) -> f64> {
    use Function as F;
    Some(match function {
        F::Abs => f64::abs,
        F::Ceil => f64::ceil,
        F::Floor => f64::floor,
        F::Exp => f64::exp,
        F::Sqrt => f64::sqrt,
        F::Ln => f64::ln,
        F::Log2 => log2,
        F::Log10 => |v| v.ln() * LOG10_E,
        F::Sin => f64::sin,
        F::Cos => f64::cos,
        F::Tan => f64::tan,
        F::Asin => f64::asin,
        F::Acos => f64::acos,
        F::Atan => f64::atan,
        F::Sinh => f64::sinh,
        F::Cosh => f64::cosh,
        F::Tanh => f64::tanh,
        F::Asinh => asinh,
        F::Acosh => acosh,
        F::Atanh => f64::atanh,
        F::Rad => |v| v * std::f64::consts::PI / 180.0,
        F::Deg => |v| v * 180.0 / std::f64::consts::PI,
        F::Sgn => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        other => return super::time::of_seconds(other),
    })
}

/// Go's logarithm: of the part below 1 and the exponent apart, which is less exact near 1 than it could be. Its last digits are
/// what people compare.
fn log2(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return value.log2();
    }
    let (part, exponent) = split_exponent(value);
    if part == 0.5 {
        return exponent - 1.0;
    }
    part.ln() * (1.0 / LN_2) + exponent
}

/// A positive number as a part from a half to below 1, and the power of two that it is multiplied with.
fn split_exponent(value: f64) -> (f64, f64) {
    const EXPONENT_BITS: u64 = 0x7ff << 52;
    /// Where the exponent of a half stands.
    const HALF: u64 = 0x3fe << 52;
    // Numbers below the smallest normal one have no exponent of their own.
    let (value, shift) = if value < f64::MIN_POSITIVE {
        (value * 2f64.powi(54), 54.0)
    } else {
        (value, 0.0)
    };
    let bits = value.to_bits();
    let exponent = ((bits & EXPONENT_BITS) >> 52) as f64 - 1022.0 - shift;
    (f64::from_bits(bits & !EXPONENT_BITS | HALF), exponent)
}

/// Beyond this a square is so large that 1 more or less makes no difference.
const LARGE: f64 = (1u64 << 28) as f64;

/// The standard library's doubles its argument, which is too much for the largest.
fn asinh(value: f64) -> f64 {
    if value.is_finite() && value.abs() > LARGE {
        (value.abs().ln() + LN_2).copysign(value)
    } else {
        value.asinh()
    }
}

/// As [`asinh`].
fn acosh(value: f64) -> f64 {
    if value.is_finite() && value > LARGE {
        value.ln() + LN_2
    } else {
        value.acosh()
    }
}

/// A float as Go's `%g` and `%v` print it: with an exponent from a million on.
pub(crate) fn go_float(value: f64) -> String {
    go_float_below(1e6, value)
}

/// A float as Go's `%g` prints it, with an exponent from `large` on.
pub(crate) fn go_float_below(large: f64, value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "+Inf".to_owned()
        } else {
            "-Inf".to_owned()
        };
    }
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..large).contains(&magnitude) {
        return value.to_string();
    }
    let text = scientific(value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A float as Go's `'f'` form with the fewest digits: never an exponent.
pub(crate) fn plain_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 {
            "+Inf".to_owned()
        } else {
            "-Inf".to_owned()
        };
    }
    let text = scientific(value);
    if !value.is_finite() || text == format!("{value:e}") {
        return value.to_string();
    }
    in_full(&text).unwrap_or_else(|| value.to_string())
}

/// The fewest digits that say a float: the nearest to it, and of two as near the even ones, as Go has it. The standard
/// library takes the greater of the two.
fn scientific(value: f64) -> String {
    let shortest = format!("{value:e}");
    let digits = shortest
        .bytes()
        .take_while(|b| *b != b'e')
        .filter(u8::is_ascii_digit)
        .count();
    let rounded = format!("{value:.*e}", digits.saturating_sub(1));
    if rounded.parse() == Ok(value) {
        rounded
    } else {
        shortest
    }
}

/// A number without its exponent.
fn in_full(text: &str) -> Option<String> {
    let (mantissa, exponent) = text.split_once('e')?;
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    let point = exponent
        .parse::<isize>()
        .ok()?
        .checked_add(whole.len().try_into().ok()?)?;
    let Ok(point) = usize::try_from(point) else {
        return Some(format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs())));
    };
    Some(match digits.split_at_checked(point) {
        Some(("", part)) => format!("{sign}0.{part}"),
        Some((whole, "")) => format!("{sign}{whole}"),
        Some((whole, part)) => format!("{sign}{whole}.{part}"),
        None => format!("{sign}{digits:0<point$}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_rounding_loses() {
        let mut sum = Kahan::default();
        for v in [1.0, 1e100, 1.0, -1e100] {
            sum.add(v);
        }
        assert_eq!(sum.total(), 2.0);
        let mut mean = Mean::new(f64::MAX);
        mean.add(f64::MAX);
        assert_eq!(mean.value(), f64::MAX);
        let mut other = Mean::new(0.0);
        other.add(0.0);
        mean.merge(other);
        assert_eq!((mean.value(), mean.count), (f64::MAX / 2.0, 4.0));
    }

    #[test]
    fn quantiles_interpolate_and_nan_is_least() {
        assert_eq!(quantile(0.5, &mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(quantile(1.0, &mut [4.0, 1.0]), 4.0);
        assert_eq!(quantile(0.75, &mut [0.0, f64::NAN, 1.0]), 0.5);
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert!(quantile(f64::NAN, &mut [1.0]).is_nan() && quantile(0.5, &mut []).is_nan());
    }

    #[test]
    fn logarithms_are_go_s() {
        for power in [-1074, -1022, -1, 0, 1, 3, 1023] {
            let value = 2f64.powi(power / 2) * 2f64.powi(power - power / 2);
            assert_eq!(log2(value), f64::from(power));
        }
        for value in [0.1, 3.0, 1e300, 1e-310, 7.5] {
            let (part, exponent) = split_exponent(value);
            assert!((0.5..1.0).contains(&part), "{value}");
            assert!((log2(value) - value.log2()).abs() < 1e-12, "{value} {exponent}");
        }
        assert_eq!(log2(0.0), f64::NEG_INFINITY);
        assert!(log2(-1.0).is_nan() && log2(f64::NAN).is_nan());
        // As Prometheus 3.5.3 has it.
        assert_eq!(log2(1.0 + 2.0 * f64::EPSILON), 6.661_338_147_750_939e-16);
    }

    #[test]
    fn exponents_are_written_out() {
        for (text, expect) in [
            ("1.25e1", "12.5"),
            ("-1.25e0", "-1.25"),
            ("1.25e-1", "0.125"),
            ("1.25e-3", "0.00125"),
            ("1.25e2", "125"),
            ("1.25e4", "12500"),
            ("5e0", "5"),
        ] {
            assert_eq!(in_full(text).as_deref(), Some(expect), "{text}");
        }
    }

    #[test]
    fn floats_print_as_go_prints_them() {
        for (value, g, f) in [
            (1.0, "1", "1"),
            (1.5, "1.5", "1.5"),
            (999_999.5, "999999.5", "999999.5"),
            (1_700_000_000.0, "1.7e+09", "1700000000"),
            (1e21, "1e+21", "1000000000000000000000"),
            (1e-5, "1e-05", "0.00001"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
            (-0.0, "-0", "-0"),
            // As near to ...4.3.
            (
                5_832_062_933_118_657.0 / 4.0,
                "1.4580157332796642e+15",
                "1458015733279664.2",
            ),
            (
                -5_832_062_933_118_657.0 / 4.0,
                "-1.4580157332796642e+15",
                "-1458015733279664.2",
            ),
            (5e-324, "5e-324", &format!("0.{}5", "0".repeat(323))),
        ] {
            assert_eq!((go_float(value).as_str(), plain_float(value).as_str()), (g, f));
        }
    }
}
