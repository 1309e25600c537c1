//! From text to tokens.
//!
//! What a token is depends on where it stands: inside braces every word is a label name, inside brackets only
//! durations and what computes them may stand. The lexer keeps track of that by itself.

use super::ast::{AggregateOp, BinaryOp};
use super::number::{self, Shape};
use super::quote::{quoted, quoted_char, split_string};
use super::span::Span;
use nom::IResult;
use nom::Parser as _;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while};
use nom::combinator::value;

/// One token. Its text is that of its span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    End,
    /// What comes next is no token; the lexer knows why.
    Broken,
    Number,
    Duration,
    String,
    /// A word.
    Identifier,
    /// A word with a colon in it, which can only be a metric name.
    MetricIdentifier,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Equal,
    /// `=~`
    EqualRegex,
    /// `!~`
    NotRegex,
    /// `@`
    At,
    /// An operator; `!=` is also one of label matching.
    Operator(BinaryOp),
    Aggregator(AggregateOp),
    Keyword(Keyword),
}

/// Words with a meaning, operators and aggregations apart. Most may be metric and label names as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Bool,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Offset,
    Anchored,
    Smoothed,
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

/// The longest keyword is `count_values`.
const MAX_KEYWORD_BYTES: usize = 12;

/// What a word means, whatever its case.
fn keyword(word: &str) -> Option<TokenKind> {
    use TokenKind::{Aggregator, Keyword as K, Operator};
    let mut lower = [0; MAX_KEYWORD_BYTES];
    let bytes = lower.iter_mut().zip(word.bytes());
    bytes.for_each(|(to, from)| *to = from.to_ascii_lowercase());
    Some(match lower.get(..word.len())? {
        b"and" => Operator(BinaryOp::And),
        b"or" => Operator(BinaryOp::Or),
        b"unless" => Operator(BinaryOp::Unless),
        b"atan2" => Operator(BinaryOp::Atan2),
        b"sum" => Aggregator(AggregateOp::Sum),
        b"avg" => Aggregator(AggregateOp::Avg),
        b"count" => Aggregator(AggregateOp::Count),
        b"min" => Aggregator(AggregateOp::Min),
        b"max" => Aggregator(AggregateOp::Max),
        b"group" => Aggregator(AggregateOp::Group),
        b"stddev" => Aggregator(AggregateOp::Stddev),
        b"stdvar" => Aggregator(AggregateOp::Stdvar),
        b"topk" => Aggregator(AggregateOp::Topk),
        b"bottomk" => Aggregator(AggregateOp::Bottomk),
        b"count_values" => Aggregator(AggregateOp::CountValues),
        b"quantile" => Aggregator(AggregateOp::Quantile),
        b"limitk" => Aggregator(AggregateOp::Limitk),
        b"limit_ratio" => Aggregator(AggregateOp::LimitRatio),
        b"bool" => K(Keyword::Bool),
        b"by" => K(Keyword::By),
        b"without" => K(Keyword::Without),
        b"on" => K(Keyword::On),
        b"ignoring" => K(Keyword::Ignoring),
        b"group_left" => K(Keyword::GroupLeft),
        b"group_right" => K(Keyword::GroupRight),
        b"fill" => K(Keyword::Fill),
        b"fill_left" => K(Keyword::FillLeft),
        b"fill_right" => K(Keyword::FillRight),
        b"offset" => K(Keyword::Offset),
        b"anchored" => K(Keyword::Anchored),
        b"smoothed" => K(Keyword::Smoothed),
        b"start" => K(Keyword::Start),
        b"end" => K(Keyword::End),
        b"step" => K(Keyword::Step),
        b"range" => K(Keyword::Range),
        b"inf" | b"nan" => TokenKind::Number,
        _ => return None,
    })
}

/// What a word inside brackets means.
fn duration_keyword(word: &str) -> Option<TokenKind> {
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    Some(TokenKind::Keyword(match () {
        () if is("step") => Keyword::Step,
        () if is("range") => Keyword::Range,
        () if is("min_of") => Keyword::MinOf,
        () if is("max_of") => Keyword::MaxOf,
        () => return None,
    }))
}

pub(crate) fn is_space(c: char) -> bool {
    u8::try_from(c).is_ok_and(is_space_byte)
}

fn is_space_byte(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Whether a byte belongs to a word. Looked up: most of a text is words.
fn is_word(b: u8) -> bool {
    const WORD: [bool; 256] = {
        let (mut table, mut b) = ([false; 256], 0u8);
        while b < 128 {
            table[b as usize] = b.is_ascii_alphanumeric() || b == b'_';
            b += 1;
        }
        table
    };
    WORD.get(usize::from(b)).is_some_and(|is| *is)
}

/// Splits what a condition holds for off the front. It is one of bytes, which are looked at faster than characters are
/// made of them; it must hold for ASCII alone, or for all that is not.
pub(super) fn split_while(text: &str, holds: impl Fn(u8) -> bool) -> (&str, &str) {
    let taken: IResult<&[u8], &[u8]> = take_while(holds).parse(text.as_bytes());
    let len = taken.map_or(0, |(_, taken)| taken.len());
    text.split_at_checked(len).unwrap_or((text, ""))
}

fn skip_blanks(text: &str) -> &str {
    split_while(text, is_space_byte).1
}

/// Skips blanks, and comments to the end of their line.
fn skip_blanks_and_comments(text: &str) -> &str {
    let mut rest = skip_blanks(text);
    while rest.starts_with('#') {
        rest = skip_blanks(split_while(rest, |b| !matches!(b, b'\n' | b'\r')).1);
    }
    rest
}

/// A label's name and what follows it; the name is empty if there is none.
fn label_name(text: &str) -> (&str, &str) {
    if text.starts_with(is_word_start) {
        split_while(text, is_word)
    } else {
        ("", text)
    }
}

/// Operators between expressions that no letter begins: which may come is seen by the first byte, longer ones first.
fn operator(text: &str) -> IResult<&str, TokenKind> {
    use BinaryOp::{Add, Div, Eq, Ge, Gt, Le, Lt, Mod, Mul, Ne, Pow, Sub, TrimLower, TrimUpper};
    match text.as_bytes().first() {
        Some(b'*') => value(Mul, tag("*")).parse(text),
        Some(b'/') => value(Div, tag("/")).parse(text),
        Some(b'%') => value(Mod, tag("%")).parse(text),
        Some(b'+') => value(Add, tag("+")).parse(text),
        Some(b'-') => value(Sub, tag("-")).parse(text),
        Some(b'^') => value(Pow, tag("^")).parse(text),
        Some(b'=') => value(Eq, tag("==")).parse(text),
        Some(b'<') => alt((value(Le, tag("<=")), value(TrimUpper, tag("</")), value(Lt, tag("<")))).parse(text),
        Some(b'>') => alt((value(Ge, tag(">=")), value(TrimLower, tag(">/")), value(Gt, tag(">")))).parse(text),
        _ => value(Ne, tag("!=")).parse(text),
    }
    .map(|(rest, op)| (rest, TokenKind::Operator(op)))
}

/// Operators between a label and its value.
fn match_operator(text: &str) -> IResult<&str, TokenKind> {
    alt((
        value(TokenKind::EqualRegex, tag("=~")),
        value(TokenKind::Equal, tag("=")),
        value(TokenKind::NotRegex, tag("!~")),
        value(TokenKind::Operator(BinaryOp::Ne), tag("!=")),
    ))
    .parse(text)
}

/// Where the lexer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Statement,
    /// Behind `{`.
    Braces,
    /// Behind `[`, as long as no number has come.
    Duration,
}

/// Reads tokens one by one.
#[derive(Debug)]
pub(crate) struct Lexer<'t> {
    text: &'t str,
    /// What is left of it.
    rest: &'t str,
    mode: Mode,
    open_parens: usize,
    in_brackets: bool,
    seen_colon: bool,
    seen_duration: bool,
    /// Why there are no more tokens.
    pub(crate) broken: Option<String>,
}

/// How a step of the lexer ends: a token's kind and what is left behind it, or why there is none.
type Step<'t> = Result<(TokenKind, &'t str), String>;

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            rest: text,
            mode: Mode::Statement,
            open_parens: 0,
            in_brackets: false,
            seen_colon: false,
            seen_duration: false,
            broken: None,
        }
    }

    fn offset(&self, rest: &str) -> u32 {
        // The parser refuses texts that do not fit.
        (self.text.len() - rest.len()) as u32
    }

    /// The next token. Behind the last there is nothing but `End`, behind a broken one nothing but `Broken`.
    pub(crate) fn next(&mut self) -> Token {
        self.rest = match self.mode {
            Mode::Statement | Mode::Braces => skip_blanks_and_comments(self.rest),
            Mode::Duration => skip_blanks(self.rest),
        };
        let start = self.offset(self.rest);
        if self.broken.is_none() {
            let step = match self.mode {
                Mode::Statement => self.statement(),
                Mode::Braces => self.braces(),
                Mode::Duration => self.duration(),
            };
            match step {
                Ok((kind, rest)) => {
                    self.rest = rest;
                    let span = Span::new(start, self.offset(rest));
                    return Token { kind, span };
                }
                Err(why) => self.broken = Some(why),
            }
        }
        // What was already taken of a broken token stays taken, so that the error points behind it.
        let span = Span::new(self.offset(self.rest), self.text.len() as u32);
        Token {
            kind: TokenKind::Broken,
            span,
        }
    }

    fn statement(&mut self) -> Step<'t> {
        let rest = self.rest;
        let Some(c) = rest.chars().next() else {
            return match () {
                () if self.open_parens > 0 => Err("unclosed left parenthesis".to_owned()),
                () if self.in_brackets => Err("unclosed left bracket".to_owned()),
                () => Ok((TokenKind::End, rest)),
            };
        };
        if let Ok((rest, kind)) = operator(rest) {
            return Ok((kind, rest));
        }
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            '(' | ')' => self.parenthesis(c, after),
            ',' => Ok((TokenKind::Comma, after)),
            '@' => Ok((TokenKind::At, after)),
            '=' if after.starts_with('~') => Err("unexpected character after '=': '~'".to_owned()),
            '=' => Ok((TokenKind::Equal, after)),
            '!' => {
                let next = after.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
                Err(format!("unexpected character after '!': {}", quoted_char(next)))
            }
            '"' | '\'' | '`' => self.string(),
            '{' => {
                self.mode = Mode::Braces;
                Ok((TokenKind::LeftBrace, after))
            }
            '[' if self.in_brackets => Err("unexpected left bracket '['".to_owned()),
            '[' => {
                (self.mode, self.in_brackets, self.seen_colon) = (Mode::Duration, true, false);
                Ok((TokenKind::LeftBracket, after))
            }
            ']' if !self.in_brackets => Err("unexpected right bracket ']'".to_owned()),
            ']' => {
                self.in_brackets = false;
                Ok((TokenKind::RightBracket, after))
            }
            c if starts_number(rest, c) => self.number(),
            c if (is_word_start(c) || c == ':') && self.in_brackets => self.word_in_brackets(c, after),
            c if is_word_start(c) || c == ':' => Ok(self.word()),
            c => Err(format!("unexpected character: {}", quoted_char(c))),
        }
    }

    fn parenthesis(&mut self, c: char, after: &'t str) -> Step<'t> {
        if c == '(' {
            self.open_parens += 1;
            return Ok((TokenKind::LeftParen, after));
        }
        match self.open_parens.checked_sub(1) {
            Some(open) => {
                self.open_parens = open;
                Ok((TokenKind::RightParen, after))
            }
            None => {
                self.rest = after;
                Err("unexpected right parenthesis ')'".to_owned())
            }
        }
    }

    fn string(&self) -> Step<'t> {
        let len = split_string(self.rest)?;
        Ok((TokenKind::String, self.rest.get(len..).unwrap_or("")))
    }

    fn number(&mut self) -> Step<'t> {
        let (kind, len) = match number::shape(self.rest) {
            Shape::Number(len) => (TokenKind::Number, len),
            Shape::Duration(len) => (TokenKind::Duration, len),
            Shape::Bad(len) => {
                let text = self.rest.get(..len).unwrap_or(self.rest);
                return Err(format!("bad number or duration syntax: {}", quoted(text)));
            }
        };
        Ok((kind, self.rest.get(len..).unwrap_or("")))
    }

    fn word(&self) -> (TokenKind, &'t str) {
        let (word, rest) = split_while(self.rest, is_word);
        if rest.starts_with(':') {
            let rest = split_while(rest, |b| is_word(b) || b == b':').1;
            return (TokenKind::MetricIdentifier, rest);
        }
        let kind = match keyword(word) {
            // Metrics of that name are older than the keyword, so it is only one before a parenthesis.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !skip_blanks(rest).starts_with('(') =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None => TokenKind::Identifier,
        };
        (kind, rest)
    }

    /// A word or a colon behind a number or a duration in brackets.
    fn word_in_brackets(&mut self, first: char, after: &'t str) -> Step<'t> {
        if first == ':' {
            if self.seen_colon {
                return Err("unexpected colon ':'".to_owned());
            }
            self.seen_colon = true;
            return Ok((TokenKind::Colon, after));
        }
        let (word, rest) = label_name(self.rest);
        match duration_keyword(word) {
            Some(kind) => Ok((kind, rest)),
            None => Err(format!("unexpected character: {}, expected ':'", quoted_char(first))),
        }
    }

    fn braces(&mut self) -> Step<'t> {
        let rest = self.rest;
        let Some(c) = rest.chars().next() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        let (name, behind) = label_name(rest);
        if !name.is_empty() {
            return Ok((TokenKind::Identifier, behind));
        }
        if let Ok((rest, kind)) = match_operator(rest) {
            return Ok((kind, rest));
        }
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            ',' => Ok((TokenKind::Comma, after)),
            '"' | '\'' | '`' => self.string(),
            '}' => {
                self.mode = Mode::Statement;
                Ok((TokenKind::RightBrace, after))
            }
            '{' => Err("unexpected left brace '{'".to_owned()),
            '!' => {
                let next = after.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
                Err(format!(
                    "unexpected character after '!' inside braces: {}",
                    quoted_char(next)
                ))
            }
            c => Err(format!("unexpected character inside braces: {}", quoted_char(c))),
        }
    }

    fn duration(&mut self) -> Step<'t> {
        let rest = self.rest;
        let Some(c) = rest.chars().next() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            ']' => {
                (self.mode, self.in_brackets) = (Mode::Statement, false);
                Ok((TokenKind::RightBracket, after))
            }
            ':' if !self.seen_duration => {
                self.rest = after;
                Err("unexpected colon before duration in duration expression".to_owned())
            }
            ':' if self.seen_colon => {
                self.rest = after;
                Err("unexpected repeated colon in duration expression".to_owned())
            }
            ':' => {
                self.seen_colon = true;
                Ok((TokenKind::Colon, after))
            }
            '(' | ')' => self.parenthesis(c, after),
            ',' => Ok((TokenKind::Comma, after)),
            '+' => Ok((TokenKind::Operator(BinaryOp::Add), after)),
            '-' => Ok((TokenKind::Operator(BinaryOp::Sub), after)),
            '*' => Ok((TokenKind::Operator(BinaryOp::Mul), after)),
            '/' => Ok((TokenKind::Operator(BinaryOp::Div), after)),
            '%' => Ok((TokenKind::Operator(BinaryOp::Mod), after)),
            '^' => Ok((TokenKind::Operator(BinaryOp::Pow), after)),
            c if starts_number(rest, c) => {
                (self.mode, self.seen_duration) = (Mode::Statement, true);
                self.number()
            }
            c => {
                let (word, behind) = label_name(rest);
                match duration_keyword(word) {
                    Some(kind) => {
                        // What computes a duration may stand where one does: before a colon.
                        self.seen_duration = true;
                        Ok((kind, behind))
                    }
                    None => Err(format!(
                        "unexpected character in duration expression: {}",
                        quoted_char(c)
                    )),
                }
            }
        }
    }
}

fn starts_number(text: &str, first: char) -> bool {
    first.is_ascii_digit() || first == '.' && text.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
        let mut lexer = Lexer::new(text);
        let mut found = Vec::new();
        loop {
            let token = lexer.next();
            if matches!(token.kind, TokenKind::End | TokenKind::Broken) {
                if token.kind == TokenKind::Broken {
                    found.push((token.kind, ""));
                }
                return found;
            }
            found.push((token.kind, token.span.of(text)));
        }
    }

    #[test]
    fn words_mean_what_their_place_says() {
        use TokenKind::{Identifier, Keyword as K, LeftBrace, MetricIdentifier, RightBrace, String};
        assert_eq!(
            kinds("By a:b # by\nfill { by=\"x\" } fill ("),
            [
                (K(Keyword::By), "By"),
                (MetricIdentifier, "a:b"),
                (Identifier, "fill"),
                (LeftBrace, "{"),
                (Identifier, "by"),
                (TokenKind::Equal, "="),
                (String, "\"x\""),
                (RightBrace, "}"),
                (K(Keyword::Fill), "fill"),
                (TokenKind::LeftParen, "("),
                (TokenKind::Broken, ""),
            ]
        );
    }

    #[test]
    fn brackets_hold_durations() {
        use TokenKind::{Colon, Duration, Keyword as K, LeftBracket, Operator, RightBracket};
        assert_eq!(
            kinds("[5m+ STEP:1h ]"),
            [
                (LeftBracket, "["),
                (Duration, "5m"),
                (Operator(BinaryOp::Add), "+"),
                (K(Keyword::Step), "STEP"),
                (Colon, ":"),
                (Duration, "1h"),
                (RightBracket, "]"),
            ]
        );
    }

    #[test]
    fn broken_tokens_say_why_and_where() {
        for (text, at, why) in [
            ("a $", 2, "unexpected character: '$'"),
            ("a)", 2, "unexpected right parenthesis ')'"),
            ("(a", 2, "unclosed left parenthesis"),
            ("a[5m", 4, "unclosed left bracket"),
            ("a[", 2, "unexpected end of input in duration expression"),
            ("a]", 1, "unexpected right bracket ']'"),
            ("a[5m[", 4, "unexpected left bracket '['"),
            ("a[:5m]", 3, "unexpected colon before duration in duration expression"),
            ("a[5m::]", 5, "unexpected colon ':'"),
            ("a[x]", 2, "unexpected character in duration expression: 'x'"),
            ("a{b:", 3, "unexpected character inside braces: ':'"),
            ("a{b!c", 3, "unexpected character after '!' inside braces: 'c'"),
            ("a{{", 2, "unexpected left brace '{'"),
            ("a !b", 2, "unexpected character after '!': 'b'"),
        ] {
            let mut lexer = Lexer::new(text);
            let broken = loop {
                let token = lexer.next();
                if token.kind == TokenKind::Broken {
                    break token;
                }
                assert_ne!(token.kind, TokenKind::End, "{text}");
            };
            assert_eq!((broken.span.start, lexer.broken.as_deref()), (at, Some(why)), "{text}");
        }
    }
}
