//! Numbers and durations: what belongs to one, what it is worth, and how it is printed.

use super::lex::split_while;
use super::quote::quoted;
use nom::IResult;
use nom::Parser as _;
use nom::bytes::complete::{tag, take_while};
use nom::character::complete::{anychar, one_of};
use nom::combinator::{opt, recognize, verify};
use nom::sequence::preceded;
use std::borrow::Cow;
use std::fmt::{self, Write};

/// What a run of characters that starts like a number turned out to be. `usize`: its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Number(usize),
    Duration(usize),
    /// Neither; the length is how far one had to read to know.
    Bad(usize),
}

/// Finds how far a number or a duration reaches at the front of `text`, which starts with a digit or a dot.
pub(crate) fn shape(text: &str) -> Shape {
    // Hardly any number has more than digits.
    let (digits, rest) = split_while(text, |b| b.is_ascii_digit());
    if !digits.is_empty() && !rest.starts_with(|c| is_word(c) || c == '.') {
        return Shape::Number(digits.len());
    }
    match number(text) {
        Ok(rest) => Shape::Number(text.len() - rest.len()),
        Err(rest) => match duration_tail(rest) {
            Ok(rest) => Shape::Duration(text.len() - rest.len()),
            Err(rest) => Shape::Bad(text.len() - rest.len()),
        },
    }
}

/// Takes one of some ASCII characters off the front.
fn accept<'t>(text: &'t str, set: &str) -> Option<&'t str> {
    if next_is(text, set) { text.get(1..) } else { None }
}

/// Whether one of some ASCII characters is next.
fn next_is(text: &str, set: &str) -> bool {
    let next = text.as_bytes().first();
    next.is_some_and(|next| set.as_bytes().contains(next))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Reads a number as upstream's scanner does, oddities included: `1_000`, `0x_1F`, `.5`, `5.`, `1e-3`. It takes
/// some texts that are no numbers in the end, and gives up at others (`0xee`) that could be.
///
/// `Err` carries what is left where it gave up.
fn number(text: &str) -> Result<&str, &str> {
    let prefix: IResult<&str, &str> = recognize((tag("0"), one_of("xX"), opt(tag("_")))).parse(text);
    let (mut rest, digits) = match prefix {
        Ok((rest, _)) => (rest, "0123456789abcdefABCDEF"),
        Err(_) => (text, "0123456789"),
    };
    let is_hex = digits.len() > 10;
    rest = accept(rest, ".").unwrap_or(rest);
    rest = accept(rest, digits).unwrap_or(rest);
    let (mut dotted, mut raised) = (false, false);
    loop {
        if let Some(after) = accept(rest, ".") {
            if dotted || is_hex {
                return Err(after);
            }
            if let Some(after) = accept(after, "_.") {
                return Err(after);
            }
            (dotted, rest) = (true, after);
        } else if let Some(after) = accept(rest, "eE") {
            if raised {
                return Err(after);
            }
            let after = accept(after, "+-").unwrap_or(after);
            if let Some(after) = accept(after, "._eE") {
                return Err(after);
            }
            if after.is_empty() {
                return Err(after);
            }
            (raised, rest) = (true, after);
        } else if let Some(after) = accept(rest, "_") {
            if let Some(after) = accept(after, "._eE") {
                return Err(after);
            }
            if after.is_empty() {
                return Err(after);
            }
            rest = after;
        } else if next_is(rest, digits) {
            // In hexadecimal an `e` within a run of digits is a digit; only at its start it is an exponent.
            rest = split_while(rest, |b| digits.as_bytes().contains(&b)).1;
        } else {
            break;
        }
    }
    if rest.chars().next().is_some_and(is_word) {
        Err(rest)
    } else {
        Ok(rest)
    }
}

/// Reads what makes a duration of digits already taken: `m`, `h30m`, `ms`. Units are only looked at closely later.
fn duration_tail(text: &str) -> Result<&str, &str> {
    let mut rest = accept(text, "smhdwy").ok_or(text)?;
    rest = accept(rest, "s").unwrap_or(rest);
    while next_is(rest, "0123456789") {
        rest = split_while(rest, |b| b.is_ascii_digit()).1;
        rest = accept(rest, "smhdw").ok_or(rest)?;
        rest = accept(rest, "s").unwrap_or(rest);
    }
    let stop: IResult<&str, char> = verify(anychar, |c| is_word(*c)).parse(rest);
    match stop {
        Ok((after, _)) => Err(after),
        Err(_) => Ok(rest),
    }
}

/// The value of a number: integers in decimal, octal (`0755`) or hexadecimal, else a float.
pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    if let Some(integer) = parse_integer(text) {
        return Ok(integer as f64);
    }
    let fail = |why| {
        format!(
            "error parsing number: strconv.ParseFloat: parsing {}: {why}",
            quoted(text)
        )
    };
    if !underscores_stand_between_digits(text) {
        return Err(fail("invalid syntax"));
    }
    let plain = without_underscores(text);
    if plain.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    if plain.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    match plain.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(fail("value out of range")),
        Err(_) => Err(fail("invalid syntax")),
    }
}

fn without_underscores(text: &str) -> Cow<'_, str> {
    if text.contains('_') {
        text.chars().filter(|c| *c != '_').collect()
    } else {
        text.into()
    }
}

/// Whether each underscore of a number that is no integer has a digit before and after it.
fn underscores_stand_between_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let mut underscores = bytes.iter().enumerate().filter(|(_, b)| **b == b'_');
    underscores.all(|(at, _)| is_digit(at.checked_sub(1)) && is_digit(at.checked_add(1)))
}

/// A 64-bit integer as Go writes literals; `None` if it is none, or too large.
fn parse_integer(text: &str) -> Option<i64> {
    let hex: IResult<&str, &str> = preceded((tag("0"), one_of("xX")), take_while(|_| true)).parse(text);
    let (digits, radix) = match hex {
        Ok((_, digits)) => (digits, 16),
        Err(_) if text.len() > 1 && text.starts_with('0') => (text.get(1..)?, 8),
        Err(_) => (text, 10),
    };
    // The scanner has seen to it that underscores stand between digits or behind a prefix.
    if digits.ends_with('_') || digits.contains("__") || digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&without_underscores(digits), radix).ok()
}

/// The units of durations in milliseconds, the largest first, which is also the order they must stand in.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Durations are 64 bits of nanoseconds upstream; what does not fit is refused.
const MAX_MS: u64 = i64::MAX as u64 / 1_000_000;

/// The seconds of a duration such as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<f64, String> {
    let invalid = || format!("not a valid duration string: {}", quoted(text));
    let (mut rest, mut total_ms, mut next_unit) = (text, 0u64, 0usize);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count: u64 = rest.get(..digits).and_then(|d| d.parse().ok()).ok_or_else(invalid)?;
        rest = rest.get(digits..).unwrap_or("");
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = rest.get(..letters).filter(|u| !u.is_empty()).ok_or_else(invalid)?;
        rest = rest.get(letters..).unwrap_or("");
        let Some(at) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!("unknown unit {} in duration {}", quoted(unit), quoted(text)));
        };
        if at < next_unit {
            return Err(invalid());
        }
        next_unit = at + 1;
        let unit_ms = UNITS.get(at).map_or(1, |(_, ms)| *ms);
        total_ms = count
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|ms| *ms <= MAX_MS)
            .ok_or_else(|| "duration out of range".to_owned())?;
    }
    Ok((total_ms / 1000) as f64 + (total_ms % 1000) as f64 / 1e3)
}

/// The whole milliseconds in some seconds; what floats cannot tell from a whole one counts as one.
pub(crate) fn whole_ms(seconds: f64) -> i64 {
    let (exact, nearest) = (seconds * 1e3, (seconds * 1e3).round());
    if (exact - nearest).abs() < 1e-3 {
        nearest as i64
    } else {
        exact as i64
    }
}

/// Writes milliseconds as a duration: `1h30m`; years and weeks only if nothing is left over.
pub(crate) fn write_duration(out: &mut impl Write, ms: u64) -> fmt::Result {
    if ms == 0 {
        return out.write_str("0s");
    }
    let mut rest = ms;
    for (unit, unit_ms) in UNITS {
        let only_whole = matches!(unit, "y" | "w");
        if only_whole && !rest.is_multiple_of(unit_ms) {
            continue;
        }
        let count = rest / unit_ms;
        if count > 0 {
            write!(out, "{count}{unit}")?;
            rest -= count * unit_ms;
        }
    }
    Ok(())
}

/// Milliseconds as a duration: `1h30m`, `-5m`.
pub(crate) fn duration_text(ms: i64) -> String {
    let mut text = String::new();
    if ms < 0 {
        text.push('-');
    }
    // Writing to a string does not fail.
    let _ = write_duration(&mut text, ms.unsigned_abs());
    text
}

/// Writes a number in full, never with an exponent.
pub(crate) fn write_number(out: &mut impl Write, value: f64) -> fmt::Result {
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    write!(out, "{value}")
}

/// Writes a number with an exponent if it is very small or very large.
pub(crate) fn write_short_number(out: &mut impl Write, value: f64) -> fmt::Result {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 || (1e-4..1e21).contains(&size) {
        return write_number(out, value);
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    write!(out, "{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        use Shape::{Bad, Duration, Number};
        for (text, expect) in [
            ("5", Number(1)),
            ("5 m", Number(1)),
            (".5+1", Number(2)),
            ("5.]", Number(2)),
            ("1e-3)", Number(4)),
            ("1_000.5_0", Number(9)),
            ("0x1F*2", Number(4)),
            ("0x_ab", Number(5)),
            ("5m", Duration(2)),
            ("1h30m5s10ms]", Duration(11)),
            ("1e3s", Duration(4)),
            ("5mm", Bad(3)),
            ("5m1", Bad(3)),
            ("2.5.", Bad(4)),
            ("100..4", Bad(5)),
            ("0deadbeef", Bad(3)),
            ("1__0", Bad(3)),
            ("1e", Bad(2)),
            ("0xee", Bad(4)),
            ("0b11", Bad(1)),
            ("0x1.8", Bad(4)),
        ] {
            assert_eq!(shape(text), expect, "{text}");
        }
    }

    #[test]
    fn numbers_have_their_values() {
        for (text, expect) in [
            ("0755", 493.0),
            ("0_755", 493.0),
            ("0789", 789.0),
            ("08", 8.0),
            ("0x_1F", 31.0),
            ("1_000", 1000.0),
            ("1_000.5", 1000.5),
            ("1e5_0", 1e50),
            (".5", 0.5),
            ("5.", 5.0),
            ("99999999999999999999", 1e20),
            ("iNf", f64::INFINITY),
            ("0", 0.0),
        ] {
            assert_eq!(parse_number(text), Ok(expect), "{text}");
        }
        assert!(parse_number("NaN").unwrap().is_nan());
        assert!(
            parse_number("1e999")
                .unwrap_err()
                .ends_with("parsing \"1e999\": value out of range")
        );
        for text in ["1_", "1_.5", "1._5", "1e_5"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
        assert!(
            parse_number("0x")
                .unwrap_err()
                .ends_with("parsing \"0x\": invalid syntax")
        );
    }

    #[test]
    fn durations_both_ways() {
        for (text, seconds, printed) in [
            ("5m", 300.0, "5m"),
            ("90s", 90.0, "1m30s"),
            ("1h30m", 5400.0, "1h30m"),
            ("365d", 31_536_000.0, "1y"),
            ("14d", 1_209_600.0, "2w"),
            ("90d", 7_776_000.0, "90d"),
            ("1500ms", 1.5, "1s500ms"),
            ("0s", 0.0, "0s"),
        ] {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
            let mut out = String::new();
            write_duration(&mut out, (seconds * 1000.0) as u64).unwrap();
            assert_eq!(out, printed);
        }
        for (text, why) in [
            ("5m1h", "not a valid duration string: \"5m1h\""),
            ("5m1m", "not a valid duration string: \"5m1m\""),
            ("1hs", "unknown unit \"hs\" in duration \"1hs\""),
            ("1.5h", "unknown unit \".\" in duration \"1.5h\""),
            ("300y", "duration out of range"),
        ] {
            assert_eq!(parse_duration(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn numbers_are_printed_in_full_or_short() {
        for (value, full, short) in [
            (1048576.0, "1048576", "1048576"),
            (0.1, "0.1", "0.1"),
            (1e21, "1000000000000000000000", "1e+21"),
            (1.5e-7, "0.00000015", "1.5e-07"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
            (-0.0, "-0", "-0"),
        ] {
            let (mut a, mut b) = (String::new(), String::new());
            write_number(&mut a, value).unwrap();
            write_short_number(&mut b, value).unwrap();
            assert_eq!((a.as_str(), b.as_str()), (full, short));
        }
    }
}
