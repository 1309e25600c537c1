//! From the text of a template to its pieces.

use super::{FUNCTIONS, Function, MAX_BYTES, MAX_DEPTH, Piece, Range, TemplateError, Term};
use crate::cli::flags::nearest;

const LEFT: &str = "<<";
const RIGHT: &str = ">>";
/// Words of Go's that are not known here.
const REFUSED: [&str; 7] = ["with", "template", "define", "block", "break", "continue", "nil"];

pub(super) fn pieces(text: &str, fields: &[&str]) -> Result<Vec<Piece>, TemplateError> {
    if text.len() > MAX_BYTES {
        return Err(TemplateError::new(format!("a template of more than {MAX_BYTES} bytes")));
    }
    let mut parser = Parser {
        parts: parts(text)?.into_iter(),
        fields,
        variables: Vec::new(),
    };
    match parser.list(0)? {
        (pieces, Stop::Text) => Ok(pieces),
        (_, Stop::End) => Err(TemplateError::new("<<end>> without a range or if before it")),
        (_, Stop::Else(_)) => Err(TemplateError::new("<<else>> without a range or if before it")),
    }
}

/// A stretch of the text.
enum Part {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
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
fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
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

struct Parser<'p> {
    parts: std::vec::IntoIter<Part>,
    fields: &'p [&'p str],
    /// The variables that are known here.
    variables: Vec<String>,
}

/// What ends a list of pieces.
enum Stop {
    Text,
    End,
    /// With the tokens behind `else`.
    Else(Vec<Token>),
}

impl Parser<'_> {
    fn list(&mut self, depth: usize) -> Result<(Vec<Piece>, Stop), TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::new(format!(
                "range and if nested more than {MAX_DEPTH} deep"
            )));
        }
        let mut pieces = Vec::new();
        while let Some(part) = self.parts.next() {
            let tokens = match part {
                Part::Text(text) => {
                    pieces.push(Piece::Text(text));
                    continue;
                }
                Part::Action(tokens) => tokens,
            };
            let word = match tokens.first() {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            let behind = tokens.get(1..).unwrap_or_default();
            match word {
                "end" if behind.is_empty() => return Ok((pieces, Stop::End)),
                "end" => return Err(TemplateError::new("something stands behind end")),
                "else" => return Ok((pieces, Stop::Else(behind.to_vec()))),
                "if" => pieces.push(self.choice(behind, depth)?),
                "range" => pieces.push(self.range(behind, depth)?),
                _ => pieces.push(Piece::Print(self.whole(&tokens)?)),
            }
        }
        Ok((pieces, Stop::Text))
    }

    fn choice(&mut self, condition: &[Token], depth: usize) -> Result<Piece, TemplateError> {
        let mut condition = self.whole(condition)?;
        let mut arms = Vec::new();
        loop {
            let (body, end) = self.list(depth + 1)?;
            arms.push((condition, body));
            match end {
                Stop::Text => return Err(TemplateError::new("<<if>> without <<end>>")),
                Stop::End => {
                    let otherwise = Vec::new();
                    return Ok(Piece::If { arms, otherwise });
                }
                Stop::Else(tokens) if tokens.is_empty() => {
                    let otherwise = self.otherwise("if", depth)?;
                    return Ok(Piece::If { arms, otherwise });
                }
                Stop::Else(tokens) => {
                    let behind = match tokens.first() {
                        Some(Token::Word(word)) if word == "if" => tokens.get(1..).unwrap_or_default(),
                        _ => return Err(TemplateError::new("only if may stand behind else")),
                    };
                    condition = self.whole(behind)?;
                }
            }
        }
    }

    /// What stands between `else` and `end`.
    fn otherwise(&mut self, of: &str, depth: usize) -> Result<Vec<Piece>, TemplateError> {
        match self.list(depth + 1)? {
            (pieces, Stop::End) => Ok(pieces),
            (_, Stop::Else(_)) => Err(TemplateError::new(format!("a second <<else>> of one {of}"))),
            (_, Stop::Text) => Err(TemplateError::new(format!("<<{of}>> without <<end>>"))),
        }
    }

    fn range(&mut self, tokens: &[Token], depth: usize) -> Result<Piece, TemplateError> {
        let name = |token: &Token| match token {
            Token::Variable(name, fields) if !name.is_empty() && fields.is_empty() => Some(name.clone()),
            _ => None,
        };
        let (key, value, over) = match tokens {
            [key, Token::Comma, value, Token::Declare, over @ ..] => (name(key), name(value), over),
            [value, Token::Declare, over @ ..] => (None, name(value), over),
            over => (None, None, over),
        };
        let declared = tokens.contains(&Token::Declare);
        if declared && value.is_none() || tokens.contains(&Token::Comma) && key.is_none() {
            return Err(TemplateError::new(
                "range is written `range`, `range $x :=` or `range $i, $x :=`",
            ));
        }
        let over = self.whole(over)?;
        let known = self.variables.len();
        self.variables.extend(key.iter().chain(&value).cloned());
        let (body, end) = self.list(depth + 1)?;
        self.variables.truncate(known);
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Else(tokens) if tokens.is_empty() => self.otherwise("range", depth)?,
            Stop::Else(_) => return Err(TemplateError::new("nothing may stand behind the else of a range")),
            Stop::Text => return Err(TemplateError::new("<<range>> without <<end>>")),
        };
        Ok(Piece::Range(Box::new(Range {
            key,
            value,
            over,
            body,
            otherwise,
        })))
    }

    /// All tokens as one term.
    fn whole(&self, tokens: &[Token]) -> Result<Term, TemplateError> {
        if tokens.is_empty() {
            return Err(TemplateError::new("nothing between << and >>, or behind if or range"));
        }
        if tokens.contains(&Token::Declare) {
            return Err(TemplateError::new("variables are declared by range alone"));
        }
        let (term, rest) = self.call(tokens, 0)?;
        match rest.first() {
            None => Ok(term),
            Some(Token::Close) => Err(TemplateError::new("a closing parenthesis too many")),
            Some(Token::Comma) => Err(TemplateError::new("a comma where none belongs")),
            Some(_) => Err(TemplateError::new("two values without a function before them")),
        }
    }

    /// A function with its arguments, or a single operand.
    fn call<'t>(&self, tokens: &'t [Token], depth: usize) -> Result<(Term, &'t [Token]), TemplateError> {
        let function = match tokens.first() {
            Some(Token::Word(name)) if !matches!(name.as_str(), "true" | "false") => function(name)?,
            _ => return self.operand(tokens, depth),
        };
        let mut arguments = Vec::new();
        let mut rest = tokens.get(1..).unwrap_or_default();
        while !matches!(rest.first(), None | Some(Token::Close | Token::Comma)) {
            let (argument, after) = self.operand(rest, depth)?;
            arguments.push(argument);
            rest = after;
        }
        check_arguments(function, arguments.len())?;
        Ok((Term::Call(function, arguments), rest))
    }

    fn operand<'t>(&self, tokens: &'t [Token], depth: usize) -> Result<(Term, &'t [Token]), TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::new(format!("parentheses more than {MAX_DEPTH} deep")));
        }
        let Some((first, rest)) = tokens.split_first() else {
            return Err(TemplateError::new("a value is missing"));
        };
        let term = match first {
            Token::Path(fields) => Term::Dot(self.known(fields)?),
            Token::Variable(name, fields) if name.is_empty() => Term::Root(self.known(fields)?),
            Token::Variable(name, fields) => {
                if !self.variables.contains(name) {
                    return Err(TemplateError::new(format!("there is no variable ${name}")));
                }
                Term::Variable(name.clone(), fields.clone())
            }
            Token::Text(text) => Term::Text(text.clone()),
            Token::Number(number) => Term::Number(*number),
            Token::Word(word) if word == "true" || word == "false" => Term::Truth(word == "true"),
            Token::Word(word) => Term::Call(
                function(word).and_then(|f| check_arguments(f, 0).map(|()| f))?,
                Vec::new(),
            ),
            Token::Open => {
                let (term, rest) = self.call(rest, depth + 1)?;
                return match rest.split_first() {
                    Some((Token::Close, rest)) => Ok((term, rest)),
                    _ => Err(TemplateError::new("a parenthesis without an end")),
                };
            }
            Token::Close | Token::Comma | Token::Declare => return Err(TemplateError::new("a value is missing")),
        };
        Ok((term, rest))
    }

    /// The fields, if there is the first of them.
    fn known(&self, fields: &[String]) -> Result<Vec<String>, TemplateError> {
        if let Some(name) = fields.first()
            && !self.fields.contains(&name.as_str())
        {
            let near = nearest(name, self.fields.iter().copied());
            let known = match near {
                Some(near) => format!("did you mean .{near}?"),
                None => format!("there are .{}", self.fields.join(", .")),
            };
            return Err(TemplateError::new(format!("there is no field .{name} here; {known}")));
        }
        Ok(fields.to_vec())
    }
}

fn function(name: &str) -> Result<Function, TemplateError> {
    if REFUSED.contains(&name) {
        return Err(TemplateError::new(format!("`{name}` is not supported in templates")));
    }
    let found = FUNCTIONS.iter().find(|(known, _)| *known == name);
    found.map(|(_, function)| *function).ok_or_else(|| {
        let known: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
        TemplateError::new(format!(
            "the function {name:?} is not supported in templates; there are {}",
            known.join(", ")
        ))
    })
}

fn check_arguments(function: Function, given: usize) -> Result<(), TemplateError> {
    let (name, least, most) = match function {
        Function::And => ("and", 1, usize::MAX),
        Function::Or => ("or", 1, usize::MAX),
        Function::Eq => ("eq", 2, usize::MAX),
        Function::Ne => ("ne", 2, 2),
        Function::Index => ("index", 2, 2),
        Function::Len => ("len", 1, 1),
        Function::Not => ("not", 1, 1),
    };
    match given < least || given > most {
        true => Err(TemplateError::new(format!("{name} is given {given} values"))),
        false => Ok(()),
    }
}
