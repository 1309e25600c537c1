//! Sums, quantiles, and floats as Go prints and reads them.

/// A Kahan–Neumaier sum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sum = Self::default();
        values.iter().for_each(|v| sum.add(*v));
        sum
    }

    /// A sum that starts with the first value instead of zero, which keeps the sign of a zero.
    pub(super) fn from_first(values: &[f64]) -> Self {
        let mut sum = Self {
            sum: values[0],
            lost: 0.0,
        };
        values[1..].iter().for_each(|v| sum.add(*v));
        sum
    }

    pub(super) fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.lost + ((self.sum - sum) + value)
        } else {
            self.lost + ((value - sum) + self.sum)
        };
        self.sum = sum;
    }

    pub(super) fn total(self) -> f64 {
        self.sum + self.lost
    }

    pub(super) fn infinite_or_total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.total() }
    }
}

/// The mean: sum by count while the sum is finite, from then on moved by each value.
pub(super) fn mean(values: &[f64]) -> f64 {
    let mut sum = Sum {
        sum: values[0],
        lost: 0.0,
    };
    let mut moving = false;
    for (i, value) in values.iter().enumerate().skip(1) {
        let count = (i + 1) as f64;
        if !moving {
            let mut next = sum;
            next.add(*value);
            if next.sum.is_finite() || next.sum.is_nan() {
                sum = next;
                continue;
            }
            moving = true;
            sum.sum /= count - 1.0;
            sum.lost /= count - 1.0;
        }
        let share = (count - 1.0) / count;
        sum.sum *= share;
        sum.lost *= share;
        sum.add(value / count);
    }
    let count = values.len() as f64;
    if moving {
        sum.total()
    } else {
        sum.sum / count + sum.lost / count
    }
}

/// Values from least to greatest, NaN first.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(b).unwrap(),
        (a, b) => b.cmp(&a),
    });
    sorted
}

/// The q-quantile, between two values on the line.
pub(super) fn quantile(q: f64, values: &[f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let sorted = sorted(values);
    let rank = q * (sorted.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    sorted[below] * (1.0 - weight) + sorted[above] * weight
}

/// Go's `math.Max`.
pub(super) fn max(a: f64, b: f64) -> f64 {
    match (a, b) {
        _ if a == f64::INFINITY || b == f64::INFINITY => f64::INFINITY,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        _ if a == 0.0 && b == 0.0 => {
            if a.is_sign_negative() {
                b
            } else {
                a
            }
        }
        _ if a > b => a,
        _ => b,
    }
}

/// Go's `math.Min`.
pub(super) fn min(a: f64, b: f64) -> f64 {
    match (a, b) {
        _ if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY => f64::NEG_INFINITY,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        _ if a == 0.0 && b == 0.0 => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        _ if a < b => a,
        _ => b,
    }
}

/// Go's `math.Log2`, to the last digit: `count_values` shows them all.
pub(super) fn log2(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return value.log2();
    }
    // The fraction, from a half to one, and the power of two.
    let (mut fraction, mut exponent) = (value, 0.0);
    while fraction >= 1.0 {
        (fraction, exponent) = (fraction / 2.0, exponent + 1.0);
    }
    while fraction < 0.5 {
        (fraction, exponent) = (fraction * 2.0, exponent - 1.0);
    }
    if fraction == 0.5 {
        return exponent - 1.0;
    }
    fraction.ln() * (1.0 / std::f64::consts::LN_2) + exponent
}

/// Without an exponent, the fewest digits that say which float it is.
pub(super) fn plain(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => format!("{value}"),
    }
}

/// As `%g` has it, and with a point if it would look like an integer.
pub(super) fn open_metrics(value: f64) -> String {
    let magnitude = value.abs();
    let text = if value == 0.0 || !value.is_finite() || (1e-4..1e21).contains(&magnitude) {
        plain(value)
    } else {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap();
        let exponent: i32 = exponent.parse().unwrap();
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    };
    if text.contains(['.', 'e', 'N', 'I']) {
        text
    } else {
        text + ".0"
    }
}

/// A float as Go's `ParseFloat` reads it.
pub(super) fn read(text: &str) -> Option<f64> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = without_separators(&body.to_ascii_lowercase())?;
    let value = match lower.as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => return (!negative && !text.starts_with('+')).then_some(f64::NAN),
        _ => match lower.strip_prefix("0x") {
            Some(hex) => read_hex(hex)?,
            // What is left to Rust are digits, a point and an exponent.
            None if lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') => lower.parse().ok()?,
            None => return None,
        },
    };
    Some(if negative { -value } else { value })
}

/// Digits may be kept apart by underscores, the first from `0x` too.
fn without_separators(text: &str) -> Option<String> {
    let hex = text.starts_with("0x");
    let bytes = text.as_bytes();
    let is_digit = |b: Option<&u8>| b.is_some_and(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() });
    for (i, _) in text.match_indices('_') {
        let after_digit = i > 0 && is_digit(bytes.get(i - 1)) || hex && i == 2;
        if !after_digit || !is_digit(bytes.get(i + 1)) {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

/// `1.8p-2`: the mantissa's digits, and the power of two that must follow.
fn read_hex(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    if digits.is_empty() || digits.len() > 12 {
        return None;
    }
    let value = u64::from_str_radix(&digits, 16).ok()? as f64;
    Some(value * 2f64.powi(exponent - 4 * fraction.len() as i32))
}

#[test]
fn floats_are_read_and_printed_as_go_does() {
    assert_eq!(read("0x1p-2"), Some(0.25));
    assert_eq!(
        (read("1_000"), read("1__0"), read("0x_1p0")),
        (Some(1000.0), None, Some(1.0))
    );
    assert_eq!(read("0x1.8p1"), Some(3.0));
    assert_eq!(
        (read("+Inf"), read("-inf"), read("1e1")),
        (Some(f64::INFINITY), Some(f64::NEG_INFINITY), Some(10.0))
    );
    assert_eq!(
        (read("_1"), read("abc"), read(""), read("-nan")),
        (None, None, None, None)
    );
    assert_eq!(
        (open_metrics(0.5), open_metrics(1.0), open_metrics(1e-7)),
        ("0.5".into(), "1.0".into(), "1e-07".into())
    );
}
