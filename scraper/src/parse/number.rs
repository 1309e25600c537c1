//! Floats and timestamps.

/// Powers of ten that a double holds exactly.
const POW10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The one NaN that expositions can write: upstream's `value.NormalNaN`, which is no stale marker.
const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

/// Why text is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberError {
    /// A character of newer float syntax (`p`, `P`, `_`).
    Unsupported,
    /// Not a number.
    Syntax,
    /// Too large.
    Range,
}

/// Reads the decimal number at `i` if a few machine operations give its exact double, and where it ends. What
/// follows it is the caller's to check. `None` says nothing about the text: [`parse_float`] decides.
#[inline]
pub(crate) fn fast_float(b: &[u8], mut i: usize) -> Option<(f64, usize)> {
    let negative = b.get(i) == Some(&b'-');
    i += usize::from(negative);
    let mut mantissa = 0u64;
    let first = i;
    i = digits(b, i, &mut mantissa);
    let mut count = i - first;
    let mut exponent = 0i32;
    if b.get(i) == Some(&b'.') {
        let point = i + 1;
        i = digits(b, point, &mut mantissa);
        count += i - point;
        exponent = -i32::try_from(i - point).ok()?;
    }
    // 19 digits cannot have overflowed the sum; more than 2^53 is not exact.
    if count == 0 || count > 19 || mantissa > 1 << 53 {
        return None;
    }
    if let Some(b'e' | b'E') = b.get(i) {
        let (power, end) = small_exponent(b, i + 1)?;
        exponent = exponent.checked_add(power)?;
        i = end;
    }
    // Both operands are exact, so the one rounding of the operation is the right one (Clinger's fast path).
    let magnitude = mantissa as f64;
    let scale = *POW10.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
    let value = if exponent < 0 {
        magnitude / scale
    } else {
        magnitude * scale
    };
    Some((if negative { -value } else { value }, i))
}

#[inline]
fn digits(b: &[u8], mut i: usize, sum: &mut u64) -> usize {
    while let Some(&c) = b.get(i) {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit));
        i += 1;
    }
    i
}

#[inline]
fn small_exponent(b: &[u8], mut i: usize) -> Option<(i32, usize)> {
    let negative = match b.get(i)? {
        b'-' => true,
        b'+' => false,
        _ => {
            i -= 1;
            false
        }
    };
    i += 1;
    let mut power = 0u64;
    let end = digits(b, i, &mut power);
    if end == i || end - i > 4 {
        return None;
    }
    let power = i32::try_from(power).ok()?;
    Some((if negative { -power } else { power }, end))
}

/// Reads a whole token as Go's `strconv.ParseFloat` before version 1.13 did: decimal, `inf`, `infinity` and `nan` in
/// any case; no hexadecimal floats, no underscores.
pub(crate) fn parse_float(token: &[u8]) -> Result<f64, NumberError> {
    if let Some((value, end)) = fast_float(token, 0)
        && end == token.len()
    {
        return Ok(value);
    }
    if memchr::memchr3(b'p', b'P', b'_', token).is_some() {
        return Err(NumberError::Unsupported);
    }
    go_float(token)
}

/// Reads a whole token as [`parse_float`], without looking for unsupported characters.
pub(crate) fn go_float(token: &[u8]) -> Result<f64, NumberError> {
    let text = std::str::from_utf8(token).map_err(|_| NumberError::Syntax)?;
    let value: f64 = text.parse().map_err(|_| NumberError::Syntax)?;
    let digits = text.bytes().any(|b| b.is_ascii_digit());
    if value.is_nan() {
        // Rust reads a signed NaN, Go does not.
        let signed = text.starts_with(['+', '-']);
        return if signed {
            Err(NumberError::Syntax)
        } else {
            Ok(f64::from_bits(NORMAL_NAN))
        };
    }
    if value.is_infinite() && digits {
        return Err(NumberError::Range);
    }
    Ok(value)
}

/// Writes a float as Go's `strconv.FormatFloat(v, 'g', -1, 64)` does, with `.0` behind whole numbers: the normal form
/// of `le` and `quantile`.
pub(crate) fn normal_form(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_read_as_go_did() {
        for (token, expect) in [
            ("1", Ok(1.0)),
            ("-0", Ok(-0.0)),
            ("+1.5", Ok(1.5)),
            (".5", Ok(0.5)),
            ("5.", Ok(5.0)),
            ("1e-999", Ok(0.0)),
            ("4.9351e-05", Ok(4.9351e-05)),
            ("9007199254740993", Ok(9_007_199_254_740_992.0)),
            ("1.7976931348623157e308", Ok(f64::MAX)),
            ("inf", Ok(f64::INFINITY)),
            ("-INFINITY", Ok(f64::NEG_INFINITY)),
            ("1e999", Err(NumberError::Range)),
            ("+nan", Err(NumberError::Syntax)),
            ("", Err(NumberError::Syntax)),
            (".", Err(NumberError::Syntax)),
            ("1e", Err(NumberError::Syntax)),
            ("0x1", Err(NumberError::Syntax)),
            ("0x1p-3", Err(NumberError::Unsupported)),
            ("1_2", Err(NumberError::Unsupported)),
        ] {
            let got = parse_float(token.as_bytes());
            assert_eq!(got.map(f64::to_bits), expect.map(f64::to_bits), "{token}");
        }
        assert_eq!(parse_float(b"nAn").map(f64::to_bits), Ok(NORMAL_NAN));
    }

    #[test]
    fn normal_form_is_go_s_shortest_with_a_point() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (-1.0, "-1.0"),
            (0.25, "0.25"),
            (10.0, "10.0"),
            (999_999.0, "999999.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(normal_form(value), text);
        }
    }

    proptest! {
        #[test]
        fn the_fast_path_is_exact(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?") {
            if let Some((value, end)) = fast_float(text.as_bytes(), 0) {
                let exact: f64 = text[..end].parse().unwrap();
                prop_assert_eq!(value.to_bits(), exact.to_bits(), "{}", text);
            }
        }

        #[test]
        fn every_double_survives_print_and_parse(bits: u64) {
            let value = f64::from_bits(bits);
            let back = parse_float(format!("{value:e}").as_bytes()).unwrap();
            prop_assert!(back.to_bits() == bits || (back.is_nan() && value.is_nan()));
        }
    }
}
