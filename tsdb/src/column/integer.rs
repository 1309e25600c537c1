//! Runs of integers: values, differences or differences of differences, whichever packs best.
//!
//! ```text
//!   0                                         1
//!   +-----------------------------------------+---------------------------------------------------------------+
//!   | order (0,1,2) | gcd<<2 | fold<<3 |      | fields by the flags, then residuals                           |
//!   |   sparse<<4 | linear<<5                 |                                                               |
//!   +-----------------------------------------+---------------------------------------------------------------+
//!
//!   linear   [state signed varint]{order} [residual signed varint]          every residual is the same
//!   sparse   [first signed] [changes n varint] [gcd varint] [gap varint]{n} [step signed]{n}
//!            equal but for n steps; gap: values until the step, from the step before; step is divided by gcd
//!   else     [state signed]{order} [base signed, unless fold] [gcd varint, if gcd] packed residuals
//!
//!   residual = base + gcd * packed            or, with fold, gcd * unzigzag(packed)
//!   order 0: value = residual
//!   order 1: value = previous += residual                                   state: [previous]
//!   order 2: slope += residual; value = previous += slope                   state: [previous, slope]
//! ```
//!
//! The states are those *before* the first value, chosen so that the first `order` residuals are the base: there are
//! as many residuals as values, and blocks of residuals line up with blocks of values. All arithmetic wraps.

use crate::codec::{Cursor, Malformed, packed, varint};

const GCD: u8 = 1 << 2;
const FOLD: u8 = 1 << 3;
const SPARSE: u8 = 1 << 4;
const LINEAR: u8 = 1 << 5;

/// Encodes runs of integers; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub(crate) struct IntegerEncoder {
    residuals: Vec<i64>,
    packed: Vec<u64>,
    best: Vec<u64>,
    sparse: Vec<u8>,
}

/// One way to write a run, but for the packed residuals.
#[derive(Debug, Clone, Copy)]
struct Shape {
    order: usize,
    /// The residual that packs to 0.
    base: i64,
    gcd: u64,
    fold: Fold,
    bytes: usize,
}

/// Whether residuals are folded (zigzag) instead of counted from the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    Yes,
    No,
}

/// The states before the first value that make the first `order` residuals equal to `base`.
fn states(values: &[i64], order: usize, base: i64) -> [i64; 2] {
    let first = values.first().copied().unwrap_or(0);
    let second = values.get(1).copied().unwrap_or(0);
    match order {
        0 => [0; 2],
        1 => [first.wrapping_sub(base), 0],
        _ => {
            let slope = second.wrapping_sub(first).wrapping_sub(base);
            [first.wrapping_sub(slope), slope.wrapping_sub(base)]
        }
    }
}

impl IntegerEncoder {
    /// Appends `values` in the smallest form. There must be at least one.
    pub(crate) fn encode(&mut self, values: &[i64], out: &mut Vec<u8>) {
        let mut best: Option<Shape> = None;
        self.sparse.clear();
        for order in 0..3 {
            if values.len() <= order {
                break;
            }
            self.difference(values, order);
            let inner = self.residuals.get(order..).unwrap_or_default();
            let (min, max) = inner
                .iter()
                .fold((i64::MAX, i64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            if min == max {
                put_linear(values, order, min, out);
                return;
            }
            if order == 1 {
                put_sparse(values, inner, &mut self.sparse);
            }
            let shape = self.rebase(values, order, min);
            self.keep_if_smaller(shape, &mut best);
            if min < 0 && max > 0 {
                let shape = self.fold(values, order);
                self.keep_if_smaller(shape, &mut best);
            }
        }
        match best {
            Some(shape) if self.sparse.is_empty() || shape.bytes < self.sparse.len() => {
                put_packed(values, shape, &self.best, out);
            }
            _ => out.extend_from_slice(&self.sparse),
        }
    }

    /// Leaves the residuals of an order behind, those before `order` still to be set to the base.
    fn difference(&mut self, values: &[i64], order: usize) {
        let residuals = &mut self.residuals;
        if order == 0 {
            residuals.clear();
            residuals.extend_from_slice(values);
            return;
        }
        // The buffer holds the residuals of the order below.
        let mut previous = 0i64;
        for residual in residuals.iter_mut() {
            let value = *residual;
            *residual = value.wrapping_sub(previous);
            previous = value;
        }
    }

    fn inner(&self, order: usize) -> impl Iterator<Item = i64> + Clone {
        self.residuals.iter().skip(order).copied()
    }

    /// Fills `packed` with distances from the smallest residual.
    fn rebase(&mut self, values: &[i64], order: usize, min: i64) -> Shape {
        let gcd = common_divisor(self.inner(order).map(|r| r.wrapping_sub(min) as u64));
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        packed.resize(order, 0);
        let distances = self.inner(order).map(|r| r.wrapping_sub(min) as u64);
        if gcd > 1 {
            packed.extend(distances.map(|d| d / gcd));
        } else {
            packed.extend(distances);
        }
        self.packed = packed;
        self.shape(values, order, min, gcd, Fold::No)
    }

    /// Fills `packed` with folded residuals.
    fn fold(&mut self, values: &[i64], order: usize) -> Shape {
        let gcd = common_divisor(self.inner(order).map(i64::unsigned_abs));
        let divisor = i64::try_from(gcd).unwrap_or(1).max(1);
        let gcd = divisor.unsigned_abs();
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        packed.resize(order, 0);
        packed.extend(self.inner(order).map(|r| varint::zigzag(r.wrapping_div(divisor))));
        self.packed = packed;
        self.shape(values, order, 0, gcd, Fold::Yes)
    }

    fn shape(&self, values: &[i64], order: usize, base: i64, gcd: u64, fold: Fold) -> Shape {
        let mut bytes = 1 + packed::encoded_len(&self.packed);
        let states = states(values, order, base).into_iter().take(order);
        bytes += states.map(|s| varint::len(varint::zigzag(s))).sum::<usize>();
        if fold == Fold::No {
            bytes += varint::len(varint::zigzag(base));
        }
        if gcd > 1 {
            bytes += varint::len(gcd);
        }
        Shape {
            order,
            base,
            gcd,
            fold,
            bytes,
        }
    }

    fn keep_if_smaller(&mut self, shape: Shape, best: &mut Option<Shape>) {
        if best.is_none_or(|best| shape.bytes < best.bytes) {
            *best = Some(shape);
            std::mem::swap(&mut self.packed, &mut self.best);
        }
    }
}

fn common_divisor(values: impl Iterator<Item = u64>) -> u64 {
    let mut divisor = 0;
    for value in values {
        let (mut a, mut b) = (divisor, value);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        if divisor == 1 {
            break;
        }
    }
    divisor.max(1)
}

fn put_linear(values: &[i64], order: usize, residual: i64, out: &mut Vec<u8>) {
    out.push(order as u8 | LINEAR);
    for state in states(values, order, residual).iter().take(order) {
        varint::put_signed(out, *state);
    }
    varint::put_signed(out, residual);
}

/// Writes the sparse form if few differences are not zero.
fn put_sparse(values: &[i64], differences: &[i64], out: &mut Vec<u8>) {
    let changes = differences.iter().filter(|d| **d != 0).count();
    if changes * 4 >= values.len() {
        return;
    }
    let steps = || differences.iter().enumerate().filter(|(_, d)| **d != 0);
    let gcd = common_divisor(steps().map(|(_, d)| d.unsigned_abs()));
    let gcd = i64::try_from(gcd).unwrap_or(1);
    out.push(SPARSE);
    varint::put_signed(out, values.first().copied().unwrap_or(0));
    varint::put(out, changes as u64);
    varint::put(out, gcd.unsigned_abs());
    let mut last = 0;
    for (at, _) in steps() {
        varint::put(out, (at - last) as u64);
        last = at;
    }
    for (_, step) in steps() {
        varint::put_signed(out, step.wrapping_div(gcd));
    }
}

fn put_packed(values: &[i64], shape: Shape, residuals: &[u64], out: &mut Vec<u8>) {
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    out.push(shape.order as u8 | flag(shape.gcd > 1, GCD) | flag(shape.fold == Fold::Yes, FOLD));
    for state in states(values, shape.order, shape.base).iter().take(shape.order) {
        varint::put_signed(out, *state);
    }
    if shape.fold == Fold::No {
        varint::put_signed(out, shape.base);
    }
    if shape.gcd > 1 {
        varint::put(out, shape.gcd);
    }
    packed::encode(residuals, out);
}

/// If the run that begins here is one integer again and again, reads it and gives the integer.
pub(super) fn constant(cursor: &mut Cursor<'_>) -> Option<i64> {
    let mut ahead = cursor.clone();
    if ahead.u8() != Ok(LINEAR) {
        return None;
    }
    let value = ahead.signed().ok()?;
    *cursor = ahead;
    Some(value)
}

/// Decodes `count` integers, at most 64 at a time, in order.
///
/// # Errors
/// [`Malformed`]; `each` may have seen some values then.
#[inline]
pub(crate) fn decode(cursor: &mut Cursor<'_>, count: usize, mut each: impl FnMut(&[i64])) -> Result<(), Malformed> {
    let flags = cursor.u8()?;
    if flags & SPARSE != 0 {
        return decode_sparse(cursor, count, each);
    }
    let order = flags & 3;
    let (mut previous, mut slope) = (0i64, 0i64);
    if order > 0 {
        previous = cursor.signed()?;
    }
    if order > 1 {
        slope = cursor.signed()?;
    }
    let mut values = [0i64; packed::BLOCK];
    if flags & LINEAR != 0 {
        let residual = cursor.signed()?;
        let mut left = count;
        while left > 0 {
            let len = left.min(packed::BLOCK);
            values = [residual; packed::BLOCK];
            integrate(order, &mut values, &mut previous, &mut slope);
            each(values.get(..len).unwrap_or_default());
            left -= len;
        }
        return Ok(());
    }
    let fold = flags & FOLD != 0;
    let base = if fold { 0 } else { cursor.signed()? };
    let gcd = if flags & GCD != 0 { cursor.varint()? as i64 } else { 1 };
    packed::decode(cursor, count, |block, len| {
        let pairs = values.iter_mut().zip(block.iter());
        if fold {
            pairs.for_each(|(value, packed)| *value = varint::unzigzag(*packed).wrapping_mul(gcd));
        } else if gcd == 1 {
            pairs.for_each(|(value, packed)| *value = (*packed as i64).wrapping_add(base));
        } else {
            pairs.for_each(|(value, packed)| *value = (*packed as i64).wrapping_mul(gcd).wrapping_add(base));
        }
        integrate(order, &mut values, &mut previous, &mut slope);
        each(values.get(..len).unwrap_or_default());
    })
}

/// Turns residuals into values.
#[inline]
fn integrate(order: u8, values: &mut [i64; packed::BLOCK], previous: &mut i64, slope: &mut i64) {
    match order {
        0 => {}
        1 => {
            for value in values {
                *previous = previous.wrapping_add(*value);
                *value = *previous;
            }
        }
        _ => {
            for value in values {
                *slope = slope.wrapping_add(*value);
                *previous = previous.wrapping_add(*slope);
                *value = *previous;
            }
        }
    }
}

fn decode_sparse(cursor: &mut Cursor<'_>, count: usize, mut each: impl FnMut(&[i64])) -> Result<(), Malformed> {
    let mut value = cursor.signed()?;
    let changes = cursor.bounded(count, "more steps than values")?;
    let gcd = cursor.varint()? as i64;
    let mut gaps = cursor.clone();
    for _ in 0..changes {
        cursor.varint()?;
    }
    // A step at gap g changes the value after the g-th, hence the one more in front.
    let (mut done, mut step_at) = (0usize, 1usize);
    for _ in 0..changes {
        let gap = gaps.bounded(count, "step lies outside its run")?;
        step_at += gap;
        if step_at >= count || step_at < done {
            return Err(gaps.malformed("step lies outside its run"));
        }
        repeat(value, step_at - done, &mut each);
        done = step_at;
        value = value.wrapping_add(cursor.signed()?.wrapping_mul(gcd));
    }
    repeat(value, count - done, &mut each);
    Ok(())
}

fn repeat(value: i64, mut count: usize, each: &mut impl FnMut(&[i64])) {
    let values = [value; packed::BLOCK];
    while count > 0 {
        let len = count.min(packed::BLOCK);
        each(values.get(..len).unwrap_or_default());
        count -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        IntegerEncoder::default().encode(values, &mut out);
        out
    }

    fn decode_all(bytes: &[u8], count: usize) -> Result<Vec<i64>, Malformed> {
        let (mut cursor, mut out) = (Cursor::new(bytes), Vec::new());
        decode(&mut cursor, count, |values| out.extend_from_slice(values))?;
        assert!(cursor.is_empty());
        Ok(out)
    }

    #[test]
    fn each_form_is_chosen_where_it_fits_and_bytes_are_as_drawn() {
        let mut steps = vec![5; 100];
        steps[40..].fill(25);
        steps[90..].fill(-15);
        let mut zigzag: Vec<i64> = (0..64).map(|i| if i % 2 == 0 { 3 } else { -3 }).collect();
        zigzag.push(0);
        for (values, bytes) in [
            (vec![7], &[LINEAR, 14][..]),
            (vec![7; 500], &[LINEAR, 14]),
            ((0..500).map(|i| 10 + 3 * i).collect(), &[1 | LINEAR, 14, 6]),
            ((0..500).map(|i| i * i).collect(), &[2 | LINEAR, 2, 5, 4]),
            (steps, &[SPARSE, 10, 2, 20, 39, 50, 2, 3]),
            (vec![100, 130, 100, 160], &[GCD, 200, 1, 30, 2, 0b1000_0100]),
        ] {
            assert_eq!(encode(&values), bytes, "{values:?}");
            assert_eq!(decode_all(bytes, values.len()).unwrap(), values);
        }
        assert_eq!(decode_all(&encode(&zigzag), 65).unwrap(), zigzag);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for (bytes, count) in [
            (&[][..], 1),
            (&[SPARSE, 10, 2, 20, 39, 99, 2, 3], 100),
            (&[SPARSE, 10, 200, 1, 1, 1], 100),
            (&[LINEAR], 1),
            (&[1, 0, 0, 64], 64),
        ] {
            assert!(decode_all(bytes, count).is_err(), "{bytes:?}");
        }
    }

    fn runs() -> impl Strategy<Value = Vec<i64>> {
        let wild = prop::collection::vec(any::<i64>(), 1..200);
        let walk =
            (any::<i64>(), prop::collection::vec(-20i64..20, 1..300), 1i64..1000).prop_map(|(start, steps, k)| {
                let walk = steps.iter().scan(start, |at, s| {
                    *at = at.wrapping_add(s * k);
                    Some(*at)
                });
                walk.collect()
            });
        let rare = (any::<i64>(), prop::collection::vec((1usize..60, -9i64..9), 1..20)).prop_map(|(start, steps)| {
            let mut values = vec![];
            let mut at = start;
            for (len, step) in steps {
                values.extend(std::iter::repeat_n(at, len));
                at = at.wrapping_add(step);
            }
            values
        });
        prop_oneof![wild, walk, rare, Just(vec![i64::MIN, i64::MAX, 0, i64::MIN])]
    }

    proptest! {
        #[test]
        fn round_trip(values in runs()) {
            let bytes = encode(&values);
            prop_assert_eq!(decode_all(&bytes, values.len()).unwrap(), values);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, count in 0usize..500) {
            let mut cursor = Cursor::new(&bytes);
            let _ = decode(&mut cursor, count, |_| {});
        }
    }
}
