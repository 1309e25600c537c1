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
//!   a*+      a repetition of a repetition is refused, as is one of more than 1000, or several within each other
//!   (?x) \h  flags and escapes that only the crate knows are refused
//! ```

mod repeats;

use repeats::Repeats;
use std::fmt::Write as _;

/// A property such as `\pL` becomes a list of some hundred ranges, however short it is to write.
const MAX_PROPERTIES: usize = 1000;

/// Rewrites a pattern written for Go's RE2 into what the `regex` crate reads the same way.
///
/// # Errors
/// What RE2 refuses and the crate would take.
pub fn from_re2(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    // The repetition operators that were read last, if nothing was read since.
    let mut repeated: Option<&str> = None;
    let mut repeats = Repeats::new();
    if pattern.matches(['p', 'P']).count() > MAX_PROPERTIES && properties(pattern) > MAX_PROPERTIES {
        return Err(format!("expression too large: more than {MAX_PROPERTIES} properties"));
    }
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        if let Some(len) = repetition(rest) {
            let (operator, tail) = rest.split_at(len);
            if let Some(before) = repeated {
                return Err(format!("invalid nested repetition operator: `{before}{operator}`"));
            }
            if let Some((min, max)) = counts(operator)? {
                let counted = repeats.counted(min, max);
                counted.map_err(|_| bad_count(operator))?;
            }
            out.push_str(operator);
            repeated = Some(operator);
            rest = tail;
            continue;
        }
        repeated = None;
        match c {
            '(' => repeats.open(),
            ')' => repeats.close(),
            _ => repeats.one(),
        }
        rest = match c {
            '\\' => {
                check_escape(after, "AbBQz")?;
                escape(after, &mut out)
            }
            '[' => {
                let behind = class(after, &mut out);
                check_class(after.strip_suffix(behind).unwrap_or(after))?;
                behind
            }
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
            check_group(tail)?;
            out.push('?');
            rest = flags(tail, &mut out);
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

/// How often at least and at most; `None` of a star and its like. RE2 counts to 1000.
fn counts(operator: &str) -> Result<Option<(u32, Option<u32>)>, String> {
    let plain = operator.strip_suffix('?').unwrap_or(operator);
    let Some(inner) = plain.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Ok(None);
    };
    let (min, max) = inner.split_once(',').unwrap_or((inner, inner));
    let count = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    let (min, max) = (count(min), (!max.is_empty()).then(|| count(max)));
    if min > 1000 || max.is_some_and(|max| max > 1000 || max < min) {
        return Err(bad_count(operator));
    }
    Ok(Some((min, max)))
}

fn bad_count(operator: &str) -> String {
    let operator = operator.strip_suffix('?').unwrap_or(operator);
    format!("invalid repeat count: `{operator}`")
}

/// How many properties of characters a pattern asks for.
fn properties(pattern: &str) -> usize {
    let mut escaped = false;
    let mut found = 0;
    for c in pattern.chars() {
        found += usize::from(escaped && matches!(c, 'p' | 'P'));
        escaped = c == '\\' && !escaped;
    }
    found
}

/// What RE2 knows behind a backslash: what a class knows as well, and `more`.
fn check_escape(text: &str, more: &str) -> Result<(), String> {
    let Some(c) = text.chars().next() else {
        return Err("trailing backslash at end of expression: ``".to_owned());
    };
    let octal = || text.as_bytes().get(1).is_some_and(|b| matches!(b, b'0'..=b'7'));
    let known = match c {
        '1'..='7' => octal(),
        'Q' if more.contains('Q') && !text.contains("\\E") => {
            return Err(format!("missing closing ): `\\{text}`"));
        }
        c => "0aftnrvxdDsSwWpP".contains(c) || more.contains(c) || c.is_ascii_punctuation() || c == ' ',
    };
    if known {
        return Ok(());
    }
    Err(format!("invalid escape sequence: `\\{c}`"))
}

/// The escapes of a class, whose text this is.
fn check_class(mut text: &str) -> Result<(), String> {
    while let Some((_, after)) = text.split_once('\\') {
        check_escape(after, "")?;
        text = after
            .get(after.chars().next().map_or(0, char::len_utf8)..)
            .unwrap_or("");
    }
    Ok(())
}

/// What follows `(?`: a name, or flags that RE2 knows.
fn check_group(text: &str) -> Result<(), String> {
    if let Some(named) = text.strip_prefix('P').or(Some(text)).filter(|t| t.starts_with('<')) {
        if named.starts_with("<=") || named.starts_with("<!") {
            return Err(format!("invalid named capture: `(?{text}`"));
        }
        return Ok(());
    }
    let mut seen = '(';
    let mut negated = false;
    for (at, c) in text.char_indices() {
        match c {
            'i' | 'm' | 's' | 'U' => {}
            '-' if !negated => negated = true,
            ':' | ')' if seen != '-' => return Ok(()),
            _ => {
                let read = text.get(..at + c.len_utf8()).unwrap_or(text);
                return Err(format!("invalid or unsupported Perl syntax: `(?{read}`"));
            }
        }
        seen = c;
    }
    // It ends too early, which the crate will tell.
    Ok(())
}

/// Writes the flags that a group begins with, if there are any: each once, as it was said last. What closes them is
/// left to be read, but for a parenthesis without flags: as good as a group of nothing, which the crate knows.
fn flags<'t>(text: &'t str, out: &mut String) -> &'t str {
    let Some((said, after)) = text.split_at_checked(text.find([':', ')', '<']).unwrap_or(0)) else {
        return text;
    };
    if after.starts_with('<') {
        return text;
    }
    let (on, off) = said.split_once('-').unwrap_or((said, ""));
    for flag in ['i', 'm', 's', 'U'] {
        if on.contains(flag) && !off.contains(flag) {
            out.push(flag);
        }
    }
    for (nth, flag) in ['i', 'm', 's', 'U']
        .into_iter()
        .filter(|f| off.contains(*f))
        .enumerate()
    {
        out.push_str(if nth == 0 { "-" } else { "" });
        out.push(flag);
    }
    if said.is_empty() && after.starts_with(')') {
        out.push(':');
    }
    after
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
        // A property of characters; its braces repeat nothing.
        'p' | 'P' if after.starts_with('{') => {
            let (name, behind) = after.split_at(after.find('}').map_or(after.len(), |at| at + 1));
            out.push('\\');
            out.push(c);
            out.push_str(name);
            behind
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

    #[test]
    fn what_re2_refuses_is_refused_in_its_words() {
        for (pattern, why) in [
            (r"\C", r"invalid escape sequence: `\C`"),
            (r"a\Z", r"invalid escape sequence: `\Z`"),
            (r"\u0041", r"invalid escape sequence: `\u`"),
            (r"(a)\1", r"invalid escape sequence: `\1`"),
            (r"\8", r"invalid escape sequence: `\8`"),
            (r"\k<n>", r"invalid escape sequence: `\k`"),
            (r"\é", r"invalid escape sequence: `\é`"),
            (r"[\b]", r"invalid escape sequence: `\b`"),
            (r"[x\Qa\E]", r"invalid escape sequence: `\Q`"),
            (r"a\", "trailing backslash"),
            (r"\Qab", "missing closing )"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{1,1001}?", "invalid repeat count: `{1,1001}`"),
            ("a{1001,}", "invalid repeat count: `{1001,}`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("((a{100}){100}){100}", "invalid repeat count: `{100}`"),
            ("(a{2}){501}?", "invalid repeat count: `{501}`"),
            ("(a{2}|b{3}){400}", "invalid repeat count: `{400}`"),
            ("((a{0}b{100}){10}){2}", "invalid repeat count: `{2}`"),
            ("((a{5,}){100}){3}", "invalid repeat count: `{3}`"),
            ("(((a{10}b)c)[d{2}]){101}", "invalid repeat count: `{101}`"),
            ("x(?:(?i)a{3}){334}", "invalid repeat count: `{334}`"),
            ("(?x)a b", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?-u:a)", "invalid or unsupported Perl syntax: `(?-u`"),
            ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
            ("(?-)a", "invalid or unsupported Perl syntax: `(?-)`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?#c)", "invalid or unsupported Perl syntax: `(?#`"),
            ("(?P=n)", "invalid or unsupported Perl syntax: `(?P`"),
            ("(?<=a)", "invalid named capture: `(?<=a)`"),
        ] {
            let said = from_re2(pattern).unwrap_err();
            assert!(said.starts_with(why), "{pattern}: {said}");
        }
        for pattern in [
            "(?U)a+",
            "(?U:a+?)",
            "(?s-i:a.)",
            "(?ii)a",
            "a{1000}",
            "(a{2}){500}",
            "((a{100}){0}){100}",
            "a{1000}(b{1000})*c{1000}|d{1000}",
            "(?:a*){1000}",
            r"(\{9}[{5}]){100}",
            "a{0,}",
            "a{,5000}",
            r"\400",
            r"\07",
            r"\a\f\t\n\r\v",
            r"\z",
            r"\A\B",
            r"\p{Greek}\pN[\p{L}]",
            r"[\d\-\]\x41]",
            r"\Q\C\E",
            "(?<n>a)",
            r"\b{start}",
        ] {
            let rewritten = from_re2(pattern).unwrap();
            assert!(regex::Regex::new(&rewritten).is_ok(), "{pattern} as {rewritten}");
        }
        // Greed the other way round: what is captured first takes as little as it can.
        let lazy = regex::Regex::new(&from_re2("(?U)(a+)(a*)$").unwrap()).unwrap();
        assert_eq!(lazy.captures("aaa").unwrap().get(1).unwrap().as_str(), "a");
    }
}
