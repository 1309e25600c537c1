//! Strings in quotes: how a query writes them, and back.
//!
//! ```text
//!   "..."  '...'   escapes as in Go: \a \b \f \n \r \t \v \\ \" \' \ooo \xhh \uhhhh \Uhhhhhhhh
//!   `...`          as it stands
//! ```

use nom::IResult;
use nom::Parser as _;
use nom::bytes::complete::{take_till, take_while_m_n};
use nom::character::complete::anychar;
use std::fmt::{self, Write};

/// What is wrong with a string, as upstream says it.
pub(crate) type StringError = String;

/// Splits a string, quotes included, off the front of `text`, which starts with a quote.
pub(crate) fn split_string(text: &str) -> Result<usize, StringError> {
    match text.chars().next() {
        Some('`') => split_raw(text),
        Some(quote) => split_quoted(text, quote),
        None => Ok(0),
    }
}

fn split_raw(text: &str) -> Result<usize, StringError> {
    // The replacement character stands for bytes that are no UTF-8, which upstream refuses.
    match text.char_indices().skip(1).find(|(_, c)| matches!(c, '`' | '\u{fffd}')) {
        Some((at, '`')) => Ok(at + 1),
        Some(_) => Err("invalid UTF-8 rune".to_owned()),
        None => Err("unterminated raw string".to_owned()),
    }
}

fn split_quoted(text: &str, quote: char) -> Result<usize, StringError> {
    let mut rest = text.get(1..).unwrap_or("");
    loop {
        rest = plain(rest, quote).map_or(rest, |(rest, _)| rest);
        let Some(c) = rest.chars().next() else {
            return Err("unterminated quoted string".to_owned());
        };
        rest = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            '\\' => rest = escape(rest, quote)?.0,
            '\u{fffd}' => return Err("invalid UTF-8 rune".to_owned()),
            '\n' => return Err("unterminated quoted string".to_owned()),
            _ => return Ok(text.len() - rest.len()),
        }
    }
}

/// Characters that stand for themselves.
fn plain(text: &str, quote: char) -> IResult<&str, &str> {
    take_till(|c| c == quote || matches!(c, '\\' | '\n' | '\u{fffd}')).parse(text)
}

/// What an escape stands for.
enum Escaped {
    Char(char),
    Byte(u8),
}

/// Reads an escape whose backslash is already taken; gives what follows it.
fn escape(text: &str, quote: char) -> Result<(&str, Escaped), StringError> {
    let Ok((rest, c)) = anychar::<_, nom::error::Error<_>>(text) else {
        return Err("escape sequence not terminated".to_owned());
    };
    let simple = match c {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        c if c == quote => c,
        '0'..='7' => return digits(text, 3, 8, Some(255)),
        'x' => return digits(rest, 2, 16, Some(255)),
        'u' => return digits(rest, 4, 16, None),
        'U' => return digits(rest, 8, 16, None),
        other => return Err(format!("unknown escape sequence {}", code_point(other))),
    };
    Ok((rest, Escaped::Char(simple)))
}

/// Reads exactly `count` digits; with a `byte_max` they are a byte, without one a character.
fn digits(text: &str, count: usize, base: u32, byte_max: Option<u32>) -> Result<(&str, Escaped), StringError> {
    let read: IResult<&str, &str> = take_while_m_n(count, count, |c: char| c.is_digit(base)).parse(text);
    let Ok((rest, digits)) = read else {
        return Err(match text.chars().find(|c| !c.is_digit(base)) {
            Some(c) => format!("illegal character {} in escape sequence", code_point(c)),
            None => "escape sequence not terminated".to_owned(),
        });
    };
    let value = u32::from_str_radix(digits, base).ok();
    let escaped = match (value, byte_max) {
        (Some(value), Some(max)) if value <= max => u8::try_from(value).ok().map(Escaped::Byte),
        (Some(value), None) => char::from_u32(value).map(Escaped::Char),
        _ => None,
    };
    match escaped {
        Some(escaped) => Ok((rest, escaped)),
        None => Err("escape sequence is an invalid Unicode code point".to_owned()),
    }
}

/// `U+0063 'c'`, without the character if it cannot be printed.
fn code_point(c: char) -> String {
    if is_printable(c) {
        format!("U+{:04X} '{c}'", u32::from(c))
    } else {
        format!("U+{:04X}", u32::from(c))
    }
}

/// The bytes of a string that `split_string` accepted, quotes included.
pub(crate) fn unquote(quoted: &str) -> Vec<u8> {
    let Some(quote) = quoted.chars().next() else {
        return Vec::new();
    };
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or("");
    if quote == '`' || !inner.contains('\\') {
        return inner.as_bytes().to_vec();
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(inner.len()), inner);
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        rest = match escape(after, quote) {
            Ok((rest, Escaped::Byte(byte))) => {
                bytes.push(byte);
                rest
            }
            Ok((rest, Escaped::Char(c))) => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest
            }
            Err(_) => after,
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Whether upstream prints the character as it is.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // The standard library knows what is printable, and says so when it escapes. It also escapes
    // combining characters, but only at the start of a text.
    let mut buffer = [b'a', 0, 0, 0, 0];
    let len = 1 + buffer.get_mut(1..).map_or(0, |tail| c.encode_utf8(tail).len());
    let text = buffer
        .get(..len)
        .and_then(|b| std::str::from_utf8(b).ok())
        .unwrap_or("");
    text.escape_debug().count() == 2
}

/// Writes a text in double quotes, escaped as upstream does.
pub(crate) fn write_quoted(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            // Upstream prints it bare, and cannot read that back.
            char::REPLACEMENT_CHARACTER => out.write_str("\\ufffd")?,
            _ => write_escaped(out, c, '"')?,
        }
    }
    out.write_char('"')
}

/// Writes bytes in double quotes; those that are no UTF-8 as `\xhh`.
pub(crate) fn write_quoted_bytes(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            write_escaped(out, c, '"')?;
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    out.write_char('"')
}

/// A text in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    // Writing to a string does not fail.
    let _ = write_quoted(&mut out, text);
    out
}

/// A character in single quotes.
pub(crate) fn quoted_char(c: char) -> String {
    let mut out = String::from("'");
    let _ = write_escaped(&mut out, c, '\'');
    out.push('\'');
    out
}

fn write_escaped(out: &mut impl Write, c: char, quote: char) -> fmt::Result {
    match c {
        '\\' => out.write_str("\\\\"),
        c if c == quote => {
            out.write_char('\\')?;
            out.write_char(c)
        }
        c if is_printable(c) => out.write_char(c),
        '\x07' => out.write_str("\\a"),
        '\x08' => out.write_str("\\b"),
        '\x0c' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\x0b' => out.write_str("\\v"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c if u32::from(c) < 0x1_0000 => write!(out, "\\u{:04x}", u32::from(c)),
        c => write!(out, "\\U{:08x}", u32::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_read_as_in_go() {
        for (written, bytes) in [
            (r#""""#, &b""[..]),
            (r#""a\tb""#, b"a\tb"),
            (r#"'it\'s "x"'"#, br#"it's "x""#),
            (r"`a\n`", br"a\n"),
            (r#""\x41\102\u00fc""#, "AB\u{fc}".as_bytes()),
            (r#""\xff\U0001F600""#, b"\xff\xf0\x9f\x98\x80"),
        ] {
            assert_eq!(split_string(&format!("{written} tail")), Ok(written.len()), "{written}");
            assert_eq!(unquote(written), bytes, "{written}");
        }
    }

    #[test]
    fn broken_strings_say_why() {
        for (written, why) in [
            (r#""abc"#, "unterminated quoted string"),
            ("'a\nb'", "unterminated quoted string"),
            ("`abc", "unterminated raw string"),
            (r#""\"#, "escape sequence not terminated"),
            (r#""\x4"#, "escape sequence not terminated"),
            (r#""\q""#, "unknown escape sequence U+0071 'q'"),
            (r#""\'""#, "unknown escape sequence U+0027 '''"),
            (r#""\u12g4""#, "illegal character U+0067 'g' in escape sequence"),
            (r#""\777""#, "escape sequence is an invalid Unicode code point"),
            (r#""\udfff""#, "escape sequence is an invalid Unicode code point"),
            ("\"\u{fffd}\"", "invalid UTF-8 rune"),
        ] {
            assert_eq!(split_string(written), Err(why.to_owned()), "{written}");
        }
    }

    #[test]
    fn unprintable_characters_are_escaped() {
        assert_eq!(
            quoted("a\"\\\n\x07\x7f ü\u{200b}\u{301}\u{e0001}"),
            "\"a\\\"\\\\\\n\\a\\x7f ü\\u200b\u{301}\\U000e0001\""
        );
        assert_eq!(
            (quoted_char('\''), quoted_char('"')),
            ("'\\''".to_owned(), "'\"'".to_owned())
        );
    }

    proptest! {
        #[test]
        fn quoting_is_undone(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "\\PC{0,20}") {
            let mut written = String::new();
            write_quoted_bytes(&mut written, &bytes).unwrap();
            // A replacement character made of valid bytes is refused when read, as upstream does.
            if !written.contains('\u{fffd}') {
                prop_assert_eq!(split_string(&written), Ok(written.len()));
                prop_assert_eq!(unquote(&written), bytes);
            }
            prop_assert_eq!(unquote(&quoted(&text)), text.as_bytes());
        }
    }
}
