//! From the text of a template to its texts and the words of its actions.

use super::TemplateError;

const LEFT: &str = "<<";
const RIGHT: &str = ">>";

/// A stretch of the text.
pub(super) enum Part {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`, `.A.B`
    Path(Vec<String>),
    /// `$x.A`; the name is empty for `$`.
    Variable(String, Vec<String>),
    Word(String),
    Text(String),
    Number(i64),
    Open,
    Close,
    Comma,
    Declare,
}

/// Cuts the text at the actions, and trims it where they ask for it.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once(LEFT) {
        let mut before = if trim { before.trim_start() } else { before };
        let mut inside = after;
        if let Some(trimmed) = after.strip_prefix('-').filter(|a| a.starts_with(char::is_whitespace)) {
            before = before.trim_end();
            inside = trimmed;
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        (rest, trim) = match inside.trim_start().strip_prefix("/*") {
            Some(comment) => comment_end(comment)?,
            None => {
                let (tokens, after, trim) = action(inside)?;
                parts.push(Part::Action(tokens));
                (after, trim)
            }
        };
    }
    let rest = if trim { rest.trim_start() } else { rest };
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

/// What follows a comment, and whether it is trimmed.
fn comment_end(comment: &str) -> Result<(&str, bool), TemplateError> {
    let after = comment.split_once("*/").map(|(_, after)| after);
    let after = after.ok_or_else(|| TemplateError::new("a comment without an end"))?;
    if let Some(after) = after.strip_prefix(RIGHT) {
        return Ok((after, false));
    }
    let trimming = after
        .trim_start()
        .strip_prefix('-')
        .and_then(|after| after.strip_prefix(RIGHT));
    trimming
        .map(|after| (after, true))
        .ok_or_else(|| TemplateError::new("a comment must be all there is between << and >>"))
}

/// The tokens of an action, what follows it, and whether that is trimmed.
fn action(text: &str) -> Result<(Vec<Token>, &str, bool), TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        let spaced = rest.len();
        rest = rest.trim_start();
        let spaced = spaced > rest.len();
        if let Some(after) = rest.strip_prefix(RIGHT) {
            return Ok((tokens, after, false));
        }
        if let Some(after) = rest.strip_prefix("->>").filter(|_| spaced) {
            return Ok((tokens, after, true));
        }
        let (token, after) = token(rest)?;
        tokens.push(token);
        rest = after;
    }
}

fn token(text: &str) -> Result<(Token, &str), TemplateError> {
    let Some(first) = text.chars().next() else {
        return Err(TemplateError::new("<< without >> behind it"));
    };
    let after = text.get(first.len_utf8()..).unwrap_or_default();
    Ok(match first {
        '(' => (Token::Open, after),
        ')' => (Token::Close, after),
        ',' => (Token::Comma, after),
        '|' => {
            return Err(TemplateError::new(
                "pipelines (`|`) are not supported: write a function's arguments behind it",
            ));
        }
        '"' => return quoted(after),
        '`' => {
            let (raw, after) = after
                .split_once('`')
                .ok_or_else(|| TemplateError::new("a text in backquotes without an end"))?;
            (Token::Text(raw.to_owned()), after)
        }
        ':' if after.starts_with('=') => (Token::Declare, after.get(1..).unwrap_or_default()),
        '.' => {
            let (fields, after) = fields(text)?;
            (Token::Path(fields), after)
        }
        '$' => {
            let (name, after) = word(after);
            let (fields, after) = match after.starts_with('.') {
                true => fields(after)?,
                false => (Vec::new(), after),
            };
            (Token::Variable(name.to_owned(), fields), after)
        }
        '-' | '+' | '0'..='9' => {
            let end = after
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
                .unwrap_or(after.len());
            let (number, after) = text.split_at_checked(first.len_utf8() + end).unwrap_or((text, ""));
            let read = number.parse().map(Token::Number);
            let read = read.map_err(|_| TemplateError::new(format!("{number:?} is not a whole number")));
            (read?, after)
        }
        c if c.is_alphabetic() || c == '_' => {
            let (name, after) = word(text);
            (Token::Word(name.to_owned()), after)
        }
        c => return Err(TemplateError::new(format!("unexpected {c:?} between << and >>"))),
    })
}

/// A name at the front of the text; perhaps an empty one.
fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `.A.B` at the front of the text; `.` alone has no fields.
fn fields(text: &str) -> Result<(Vec<String>, &str), TemplateError> {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let (name, after) = word(after);
        if name.is_empty() {
            if fields.is_empty() && !after.starts_with('.') {
                return Ok((fields, after));
            }
            return Err(TemplateError::new("a name is missing behind a dot"));
        }
        fields.push(name.to_owned());
        rest = after;
    }
    Ok((fields, rest))
}

/// A text in quotes, whose first quote was read.
fn quoted(text: &str) -> Result<(Token, &str), TemplateError> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), text.get(at + 1..).unwrap_or_default())),
            '\n' => break,
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                Some((_, c)) => return Err(TemplateError::new(format!("the escape \\{c} is not supported"))),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(TemplateError::new("a text in quotes without an end"))
}
