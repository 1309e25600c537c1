//! The upper bound of a bucket: a float as Go's `strconv.ParseFloat` reads one.

/// The bound that `le` says; `None` if it is no number, or one too large for a float.
///
/// What Rust reads, Go reads, but for a sign before `NaN`. Go also takes hexadecimal (`0x1p-2`), and underscores between
/// digits.
pub(crate) fn parse_bound(le: &str) -> Option<f64> {
    let unsigned = le.strip_prefix(['+', '-']).unwrap_or(le);
    if unsigned.starts_with(['+', '-']) {
        return None;
    }
    if unsigned.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let is_signed = unsigned.len() < le.len();
        return le.parse::<f64>().ok().filter(|bound| !(is_signed && bound.is_nan()));
    }
    let plain = without_underscores(unsigned)?;
    let size = match plain.get(..2) {
        Some("0x" | "0X") => hexadecimal(plain.get(2..)?)?,
        _ => plain.parse().ok()?,
    };
    let bound = if le.starts_with('-') { -size } else { size };
    bound.is_finite().then_some(bound)
}

/// The text without its underscores, each of which must stand between digits or behind the prefix.
fn without_underscores(text: &str) -> Option<String> {
    let is_hex = text.starts_with("0x") || text.starts_with("0X");
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || is_hex && c.is_ascii_hexdigit());
    let mut before = None;
    let mut rest = text.chars();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = rest.next() {
        if c != '_' {
            out.push(c);
        } else if !(is_digit(before) || is_hex && out.len() == 2) || !is_digit(rest.clone().next()) {
            return None;
        }
        before = Some(c);
    }
    Some(out)
}

/// `1.8p1`: digits to the base of 16, the exponent to that of 2, which must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    // Rust's integers may have a sign, as Go's exponents may.
    let mut exponent: i32 = exponent.parse().ok()?;
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let mut mantissa: u64 = 0;
    for (at, digit) in whole.chars().chain(part.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let is_part = at >= whole.len();
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent = exponent.checked_sub(if is_part { 4 } else { 0 })?;
        } else {
            // Too small to count but for how it rounds.
            mantissa |= u64::from(digit > 0);
            exponent = exponent.checked_add(if is_part { 0 } else { 4 })?;
        }
    }
    // In two halves, so that neither is out of bounds where the whole is not.
    let half = exponent / 2;
    Some(mantissa as f64 * 2f64.powi(half) * 2f64.powi(exponent - half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_go_reads_them() {
        let inf = f64::INFINITY;
        for (le, expect) in [
            ("1", Some(1.0)),
            ("1.0", Some(1.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("-1e3", Some(-1000.0)),
            ("+Inf", Some(inf)),
            ("inf", Some(inf)),
            ("-Infinity", Some(-inf)),
            ("1_000", Some(1000.0)),
            ("1_000.5e1_0", Some(1000.5e10)),
            ("0x1p-2", Some(0.25)),
            ("-0X1.8P+1", Some(-3.0)),
            ("0x_ap0", Some(10.0)),
            ("0x10000000000000000000p0", Some(2f64.powi(76))),
            ("0x.8p1", Some(1.0)),
            ("0x1p-1074", Some(5e-324)),
            ("", None),
            ("abc", None),
            (" 1", None),
            ("1 ", None),
            ("+-1", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("0x1", None),
            ("0xp1", None),
            ("0x1p", None),
            ("1e999", None),
            ("0x1p5000", None),
            ("+NaN", None),
        ] {
            assert_eq!(parse_bound(le), expect, "{le:?}");
        }
        assert!(parse_bound("nan").unwrap().is_nan());
    }
}
