//! Regular expressions of the field are written for Go's RE2; the `regex` crate reads most of them alike, and this
//! rewrites the rest so that it reads them as meant.
//!
//! ```text
//!   a{b      `{` that starts no repetition stands for itself       a\{b
//!   \d \w \s know ASCII only                                       [0-9] ...
//!   [a[b]    within a class `[`, `&&`, `--` and `~~` mean nothing  [a\[b]
//!   \Q.\E    is quoted                                             \.
//!   \<       any punctuation may be escaped                        <
//!   (?)      sets no flag                                         (?:)
//!   a*+      a repetition of a repetition is refused
//! ```

use std::fmt::Write as _;

/// Rewrites a pattern written for Go's RE2 into what the `regex` crate reads the same way.
///
/// # Errors
/// What RE2 refuses and the crate would take.
pub fn from_re2(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    // The repetition operators that were read last, if nothing was read since.
    let mut repeated: Option<&str> = None;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        if let Some(len) = repetition(rest) {
            let (operator, tail) = rest.split_at(len);
            if let Some(before) = repeated {
                return Err(format!("invalid nested repetition operator: `{before}{operator}`"));
            }
            out.push_str(operator);
            repeated = Some(operator);
            rest = tail;
            continue;
        }
        repeated = None;
        rest = match c {
            '\\' => escape(after, &mut out),
            '[' => class(after, &mut out),
            '{' | '}' => {
                out.push('\\');
                out.push(c);
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
        // The question mark behind a parenthesis is none of repetition.
        if c == '('
            && let Some(tail) = rest.strip_prefix('?')
        {
            out.push('?');
            rest = tail;
            if let Some(tail) = rest.strip_prefix(')') {
                // Flags without any: as good as a group of nothing, which the crate knows.
                out.push_str(":)");
                rest = tail;
                repeated = None;
            }
        }
    }
    Ok(out)
}

/// How long the repetition at the front is, a lazy mark included: `*`, `+?`, `{2,3}`.
fn repetition(text: &str) -> Option<usize> {
    let len = match text.as_bytes().first()? {
        b'*' | b'+' | b'?' => 1,
        b'{' => {
            let inner = text.get(1..text.find('}')?)?;
            let (min, max) = inner.split_once(',').unwrap_or((inner, ""));
            let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
            if min.is_empty() || !digits(min) || !digits(max) {
                return None;
            }
            inner.len() + 2
        }
        _ => return None,
    };
    let lazy = text.as_bytes().get(len) == Some(&b'?');
    Some(len + usize::from(lazy))
}

/// Writes an escape outside of a class; its backslash is taken already.
fn escape<'t>(text: &'t str, out: &mut String) -> &'t str {
    let Some(c) = text.chars().next() else {
        out.push('\\');
        return "";
    };
    let after = text.get(c.len_utf8()..).unwrap_or("");
    match c {
        'Q' => {
            let (quoted, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex_syntax::escape(quoted));
            return after;
        }
        'b' => out.push_str("(?-u:\\b)"),
        'd' | 'D' | 'w' | 'W' | 's' | 'S' => {
            let negated = if c.is_ascii_uppercase() { "^" } else { "" };
            let _ = write!(out, "[{negated}{}]", ascii_class(c));
        }
        _ => return common_escape(c, text, out),
    }
    after
}

fn ascii_class(letter: char) -> &'static str {
    match letter.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        _ => "\\t\\n\\x0C\\r ",
    }
}

/// Writes an escape that means the same in a class and outside of it.
fn common_escape<'t>(c: char, text: &'t str, out: &mut String) -> &'t str {
    let after = text.get(c.len_utf8()..).unwrap_or("");
    match c {
        // Octal: up to three digits, behind a zero or as two and more digits.
        '0'..='7' => {
            let len = text.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
            let digits = text.get(..len).unwrap_or("");
            match u32::from_str_radix(digits, 8) {
                Ok(value) if c == '0' || len > 1 => {
                    let _ = write!(out, "\\x{{{value:x}}}");
                    text.get(len..).unwrap_or("")
                }
                _ => {
                    // A back reference, which neither knows.
                    out.push('\\');
                    out.push(c);
                    after
                }
            }
        }
        c if c.is_ascii_punctuation() => {
            out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
            after
        }
        c => {
            out.push('\\');
            out.push(c);
            after
        }
    }
}

/// Writes a class; its opening bracket is taken already.
fn class<'t>(text: &'t str, out: &mut String) -> &'t str {
    out.push('[');
    let mut rest = text;
    if let Some(tail) = rest.strip_prefix('^') {
        out.push('^');
        rest = tail;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        rest = match c {
            ']' if !first => {
                out.push(']');
                return after;
            }
            '[' if after.starts_with(':') && after.contains(":]") => {
                let len = after.find(":]").map_or(0, |at| at + 2);
                out.push('[');
                out.push_str(after.get(..len).unwrap_or(""));
                after.get(len..).unwrap_or("")
            }
            ']' | '[' | '&' | '~' => {
                out.push('\\');
                out.push(c);
                after
            }
            // Between two characters it makes a range; elsewhere it stands for itself.
            '-' if first || after.starts_with(']') || after.starts_with('-') => {
                out.push_str("\\-");
                after
            }
            '\\' => class_escape(after, out),
            c => {
                out.push(c);
                after
            }
        };
        first = false;
    }
    rest
}

fn class_escape<'t>(text: &'t str, out: &mut String) -> &'t str {
    let Some(c) = text.chars().next() else {
        out.push('\\');
        return "";
    };
    match c {
        'd' | 'w' | 's' => out.push_str(ascii_class(c)),
        'D' | 'W' | 'S' => {
            let _ = write!(out, "[^{}]", ascii_class(c));
        }
        '-' | '&' | '~' => {
            out.push('\\');
            out.push(c);
        }
        _ => return common_escape(c, text, out),
    }
    text.get(c.len_utf8()..).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_re2_says() {
        for (pattern, yes, no) in [
            ("a{b", vec!["a{b"], vec!["a"]),
            ("a{,2}", vec!["a{,2}"], vec!["aa"]),
            ("{}*", vec!["{", "{}}"], vec!["a"]),
            ("a{2,3}?", vec!["aa"], vec!["a"]),
            (r"\d+", vec!["12"], vec!["\u{0663}"]),
            (r"\w", vec!["a", "_"], vec!["ü"]),
            (r"\S", vec!["ü", "\u{a0}", "\x0b"], vec![" ", "\t"]),
            (r"[^\D]", vec!["1"], vec!["a"]),
            (r"[\w-]+", vec!["a-b"], vec!["a.b"]),
            ("[a[b]", vec!["a", "[", "b"], vec!["]"]),
            ("[]a]", vec!["]", "a"], vec!["["]),
            ("[^]a]", vec!["b"], vec!["]", "a"]),
            ("[a&&b~~]+", vec!["a&b~"], vec!["c"]),
            ("[--0]", vec!["-", "0"], vec!["a"]),
            ("[a-c-]", vec!["b", "-"], vec!["d"]),
            ("[[:alpha:]_]", vec!["x", "_"], vec![":", "1"]),
            (r"\Qa.b*\Ec", vec!["a.b*c"], vec!["axbc"]),
            (r"\<\-\/\%", vec!["<-/%"], vec![]),
            (r"\101\x42", vec!["AB"], vec![]),
            ("(?i)ab", vec!["AB"], vec!["ac"]),
            ("(?)ab", vec!["ab"], vec!["AB", "b"]),
            ("(?P<x>a)?b", vec!["b", "ab"], vec!["a"]),
            ("a.c", vec!["a\nc"], vec!["ac"]),
        ] {
            let rewritten = from_re2(pattern).unwrap();
            let regex = regex::Regex::new(&format!("^(?s:{rewritten})$"))
                .unwrap_or_else(|e| panic!("{pattern} as {rewritten}: {e}"));
            for text in yes {
                assert!(regex.is_match(text), "{pattern} as {rewritten} should match {text:?}");
            }
            for text in no {
                assert!(
                    !regex.is_match(text),
                    "{pattern} as {rewritten} should not match {text:?}"
                );
            }
        }
    }

    #[test]
    fn repeated_repetitions_are_refused() {
        for pattern in ["a**", ".*+", "a{2}{3}", "a+*b", "(a)??*"] {
            let why = from_re2(pattern).unwrap_err();
            assert!(
                why.starts_with("invalid nested repetition operator: `"),
                "{pattern}: {why}"
            );
        }
        for plain in ["node_(cpu|disk).*", "5..", "^a$|b", "a|", "(?:x|y)+?", "résumé.+"] {
            assert_eq!(from_re2(plain), Ok(plain.to_owned()));
        }
    }
}
