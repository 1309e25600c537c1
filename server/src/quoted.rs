//! Texts in quotes, as Go prints them: clients of upstream know its errors by their words.

use std::fmt::Write as _;

/// The most bytes of a text that are shown.
const SHOWN_BYTES: usize = 4096;

/// A text in quotes, as much of it as is shown. Bytes that are no text are shown as numbers.
pub(crate) fn quoted(text: impl AsRef<[u8]>) -> String {
    let mut out = String::new();
    push_quoted(&mut out, text.as_ref());
    out
}

/// Appends a text in quotes, as much of it as is shown.
pub(crate) fn push_quoted(to: &mut String, bytes: &[u8]) {
    let cut = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    to.push('"');
    for chunk in cut.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => to.extend(['\\', c]),
                '\x07' => to.push_str("\\a"),
                '\x08' => to.push_str("\\b"),
                '\x0c' => to.push_str("\\f"),
                '\n' => to.push_str("\\n"),
                '\r' => to.push_str("\\r"),
                '\t' => to.push_str("\\t"),
                '\x0b' => to.push_str("\\v"),
                c if c < ' ' || c == '\x7f' => written(to, format_args!("\\x{:02x}", u32::from(c))),
                c if c.is_control() || (c.is_whitespace() && c != ' ') || is_format(c) => {
                    written(to, format_args!("\\u{:04x}", u32::from(c)));
                }
                c => to.push(c),
            }
        }
        for byte in chunk.invalid() {
            written(to, format_args!("\\x{byte:02x}"));
        }
    }
    if cut.len() < bytes.len() {
        to.push_str("...");
    }
    to.push('"');
}

/// Characters that are there to change how others look.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

fn written(to: &mut String, what: std::fmt::Arguments<'_>) {
    // A text takes all that is written to it.
    let _never_fails = to.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        for (bytes, expected) in [
            (&b"plain 'x'"[..], "\"plain 'x'\""),
            (b"a\"\\\n\0\x7f\xff", "\"a\\\"\\\\\\n\\x00\\x7f\\xff\""),
            ("é\u{ad}\u{2028}".as_bytes(), "\"é\\u00ad\\u2028\""),
        ] {
            assert_eq!(quoted(bytes), expected);
        }
        let long = quoted("x".repeat(5000));
        assert!(long.len() == SHOWN_BYTES + 5 && long.ends_with("x...\""));
    }
}
