//! Floats as decimals: integers over a shared power of ten.
//!
//! A value belongs to exponent `k` if `m / 10^k` gives it back bit by bit for an integer `m` below 2^53: both operands
//! of the division are exact then, so its correctly rounded quotient is the same on every machine. Negative zero, NaNs,
//! infinities and values with too many digits do not belong to any exponent.

/// The powers of ten that a double holds exactly, as far as they are used.
const POWERS: [f64; 19] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
];

/// The largest exponent.
pub(super) const MAX_EXPONENT: u8 = 18;

/// Integers from here on are not all doubles.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// `10^exponent`; 1 beyond [`MAX_EXPONENT`].
pub(super) fn power(exponent: u8) -> f64 {
    POWERS.get(usize::from(exponent)).copied().unwrap_or(1.0)
}

/// The integer that stands for a value, if the value belongs to the exponent.
#[inline]
pub(super) fn mantissa(value: f64, power: f64) -> Option<i64> {
    let nearest = nearest(value, power)?;
    ((nearest as f64 / power).to_bits() == value.to_bits()).then_some(nearest)
}

/// The integer nearest to the value over this exponent, whether or not it gives the value back.
#[inline]
pub(super) fn nearest(value: f64, power: f64) -> Option<i64> {
    let scaled = value * power;
    // Not `>=`: a NaN is out as well.
    (scaled.abs() < EXACT).then(|| scaled.round_ties_even() as i64)
}

/// The least exponent a value belongs to.
fn least_exponent(value: f64) -> Option<u8> {
    (0..=MAX_EXPONENT).find(|k| mantissa(value, power(*k)).is_some())
}

/// A run as decimals of one exponent, and the values that are not.
#[derive(Debug, Default)]
pub(super) struct Decimals {
    pub(super) exponent: u8,
    pub(super) mantissas: Vec<i64>,
    /// Places and bits of the values that are none; they have no mantissa.
    pub(super) exceptions: Vec<(usize, u64)>,
}

impl Decimals {
    /// Takes a run apart; `false` if too many values are no decimals for this to be of use.
    pub(super) fn split(&mut self, values: &[f64]) -> bool {
        if self.split_by(values, 0, 0) {
            return true;
        }
        let Some(exponent) = common_exponent(values) else {
            return false;
        };
        let limit = values.len() / 8 + 2;
        exponent > 0 && self.split_by(values, exponent, limit) || self.split_by(values, 0, limit)
    }

    /// Splits by one exponent; `false` once there are more than `limit` exceptions (stale markers not counted).
    fn split_by(&mut self, values: &[f64], exponent: u8, limit: usize) -> bool {
        self.exponent = exponent;
        self.mantissas.clear();
        self.exceptions.clear();
        let power = power(exponent);
        let mut misfits = 0;
        for (place, value) in values.iter().enumerate() {
            if let Some(mantissa) = mantissa(*value, power) {
                self.mantissas.push(mantissa);
                continue;
            }
            misfits += usize::from(!tidegauge_model::is_stale(*value));
            if misfits > limit {
                return false;
            }
            self.exceptions.push((place, value.to_bits()));
        }
        !self.mantissas.is_empty() && self.exceptions.len() * 4 <= values.len() + 8
    }
}

/// The exponent that most of a sample of the values belong to.
fn common_exponent(values: &[f64]) -> Option<u8> {
    let mut by_exponent = [0usize; MAX_EXPONENT as usize + 1];
    let (mut known, mut taken) = (0, 0);
    for value in values.iter().step_by((values.len() / 32).max(1)) {
        // A stale marker becomes an exception whatever the exponent.
        if tidegauge_model::is_stale(*value) {
            continue;
        }
        taken += 1;
        if let Some(exponent) = least_exponent(*value)
            && let Some(count) = by_exponent.get_mut(usize::from(exponent))
        {
            *count += 1;
            known += 1;
        }
    }
    if known == 0 || known * 4 < taken * 3 {
        return None;
    }
    // The largest that occurs, but for a few outliers, which become exceptions.
    let mut above = 0;
    for exponent in (0..=MAX_EXPONENT).rev() {
        above += by_exponent.get(usize::from(exponent)).copied().unwrap_or(0);
        if above * 20 >= known.max(1) {
            return Some(exponent);
        }
    }
    None
}

/// Turns mantissas into values.
#[inline]
pub(super) fn fill(mantissas: &[i64], power: f64, out: &mut [f64]) {
    // Adding the bits of 1.5 * 2^52 to an integer below 2^51 gives the double 1.5 * 2^52 + m, exactly; this runs in
    // vector registers, where a conversion from i64 does not.
    const MAGIC: i64 = 0x4338_0000_0000_0000;
    let magic = f64::from_bits(MAGIC as u64);
    let all = mantissas.iter().fold(0, |all, m| all | (m ^ (m >> 63)));
    let pairs = out.iter_mut().zip(mantissas);
    if all >= 1 << 51 {
        pairs.for_each(|(value, m)| *value = *m as f64 / power);
    } else if power > 1.0 {
        pairs.for_each(|(value, m)| *value = (f64::from_bits(MAGIC.wrapping_add(*m) as u64) - magic) / power);
    } else {
        pairs.for_each(|(value, m)| *value = f64::from_bits(MAGIC.wrapping_add(*m) as u64) - magic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_decimals_belong() {
        for (value, exponent) in [
            (0.0, Some(0)),
            (-7.0, Some(0)),
            (0.1, Some(1)),
            (1234.567, Some(3)),
            (1e-18, Some(18)),
            (9_007_199_254_740_991.0, Some(0)),
            (9_007_199_254_740_992.0, None),
            (-0.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (f64::MIN_POSITIVE, None),
            (1.0 / 3.0, Some(16)),
            (0.1 + 0.2, Some(17)),
        ] {
            let least = least_exponent(value);
            if exponent.is_some_and(|e| e < 16) || exponent.is_none() {
                assert_eq!(least, exponent, "{value}");
            }
            if let Some(k) = least {
                let mut out = [1.0];
                fill(&[mantissa(value, power(k)).unwrap()], power(k), &mut out);
                assert_eq!(out[0].to_bits(), value.to_bits(), "{value}");
            }
        }
    }

    #[test]
    fn a_short_run_is_split_beside_its_stale_marker() {
        let mut decimals = Decimals::default();
        assert!(decimals.split(&[0.5, 1.5, tidegauge_model::stale_marker()]));
        assert_eq!((decimals.exponent, &decimals.mantissas[..]), (1, &[5, 15][..]));
    }

    #[test]
    fn a_stale_marker_is_one_exception() {
        let mut values: Vec<f64> = (0..120).map(|i| f64::from(i) / 4.0).collect();
        values.push(tidegauge_model::stale_marker());
        let mut decimals = Decimals::default();
        assert!(decimals.split(&values));
        assert_eq!(decimals.exponent, 2);
        assert_eq!(decimals.exceptions, [(120, tidegauge_model::STALE_BITS)]);
        assert_eq!(decimals.mantissas[119..], [2975]);
    }
}
