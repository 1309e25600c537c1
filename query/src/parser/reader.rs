//! What the grammar reads from: tokens one ahead, errors that say what is being read, and a bound on the height.

use super::ParseOptions;
use super::ast::{Expr, ExprKind};
use super::check;
use super::error::ParseError;
use super::lex::{Keyword, Lexer, Token, TokenKind};
use super::quote::quoted;
use super::span::Span;
use std::collections::VecDeque;
use tidegauge_model::{MatchOp, Matcher, MatcherError};

/// An expression and the height of its tree.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) expr: Expr,
    pub(crate) height: usize,
}

/// What stands where it should not, and what is being read: `unexpected ... in context, expected what`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) context: &'static str,
    pub(crate) what: &'static str,
}

/// What all regexes of a text may take when they are compiled.
const MAX_REGEX_BYTES: u64 = 64 << 20;

/// How many regexes are looked through for one that is repeated.
const MAX_REGEXES: usize = 8;

/// Reads one text.
#[derive(Debug)]
pub(crate) struct Parser<'t> {
    pub(crate) text: &'t str,
    pub(crate) options: &'t ParseOptions,
    lexer: Lexer<'t>,
    /// The token that is next.
    pub(crate) token: Token,
    /// The end of the last token taken.
    pub(crate) last_end: u32,
    /// How many aggregations are being read; errors name the innermost thing that can be named.
    pub(crate) aggregations: usize,
    /// How deep the recursion is.
    depth: usize,
    /// How many operators the duration that is being read has: with the depth it bounds the height of its tree.
    pub(crate) duration_operators: usize,
    /// What the regexes read so far may take when they are compiled.
    regex_bytes: u64,
    /// The last of those that need compiling.
    regexes: VecDeque<Matcher>,
}

pub(crate) type Result<T> = std::result::Result<T, ParseError>;

impl<'t> Parser<'t> {
    pub(crate) fn new(text: &'t str, options: &'t ParseOptions) -> Result<Self> {
        let most = options.max_bytes.min(u32::MAX as usize / 2);
        if text.len() > most {
            let message = format!("expression is too long: {} bytes, at most {most} allowed", text.len());
            return Err(ParseError::new(text, Span::default(), message));
        }
        let mut lexer = Lexer::new(text);
        let token = lexer.next();
        Ok(Self {
            text,
            options,
            lexer,
            token,
            last_end: 0,
            aggregations: 0,
            depth: 0,
            duration_operators: 0,
            regex_bytes: 0,
            regexes: VecDeque::new(),
        })
    }

    /// Nothing more may come.
    pub(crate) fn end(&self) -> Result<()> {
        match self.token.kind {
            TokenKind::End => Ok(()),
            _ => Err(self.unexpected(None)),
        }
    }

    // Tokens.

    /// Takes the next token.
    pub(crate) fn take(&mut self) -> Token {
        let taken = self.token;
        self.last_end = taken.span.end;
        self.token = self.lexer.next();
        taken
    }

    /// Takes the next token if it is of a kind.
    pub(crate) fn take_if(&mut self, kind: TokenKind) -> Option<Token> {
        (self.token.kind == kind).then(|| self.take())
    }

    /// Takes the next token, which must be of a kind.
    pub(crate) fn expect(&mut self, kind: TokenKind, expected: Option<Expected>) -> Result<Token> {
        self.take_if(kind).ok_or_else(|| self.unexpected(expected))
    }

    pub(crate) fn text_of(&self, token: Token) -> &'t str {
        token.span.of(self.text)
    }

    // Errors.

    #[cold]
    #[inline(never)]
    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message.into())
    }

    /// The next token cannot stand here.
    #[cold]
    #[inline(never)]
    pub(crate) fn unexpected(&self, expected: Option<Expected>) -> ParseError {
        if let (TokenKind::Broken, Some(why)) = (self.token.kind, &self.lexer.broken) {
            return self.error(self.token.span, why.clone());
        }
        let mut message = format!("unexpected {}", self.describe(self.token));
        match expected {
            Some(expected) => {
                message.push_str(" in ");
                message.push_str(expected.context);
                message.push_str(", expected ");
                message.push_str(expected.what);
            }
            None if self.aggregations > 0 => message.push_str(" in aggregation"),
            None => {}
        }
        self.error(self.token.span, message)
    }

    fn describe(&self, token: Token) -> String {
        let text = self.text_of(token);
        let short = || match text.char_indices().nth(10) {
            Some((at, _)) if text.len() > 10 => format!("{}...", quoted(text.get(..at).unwrap_or(text))),
            _ => quoted(text),
        };
        match token.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Identifier | TokenKind::Keyword(Keyword::MinOf | Keyword::MaxOf) => {
                format!("identifier {}", quoted(text))
            }
            TokenKind::MetricIdentifier => format!("metric identifier {}", quoted(text)),
            TokenKind::String => format!("string {}", short()),
            TokenKind::Number => format!("number {}", short()),
            TokenKind::Duration => format!("duration {}", short()),
            TokenKind::Keyword(Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range) => quoted(text),
            TokenKind::Keyword(_) => format!("<{text}>"),
            TokenKind::Aggregator(_) => format!("<aggr:{text}>"),
            TokenKind::Operator(_) | TokenKind::At | TokenKind::EqualRegex | TokenKind::NotRegex => {
                format!("<op:{text}>")
            }
            _ => short(),
        }
    }

    // Height.

    #[cold]
    #[inline(never)]
    fn too_deep(&self, span: Span) -> ParseError {
        let most = self.options.max_depth;
        self.error(
            span,
            format!("expression is nested too deeply: at most {most} levels allowed"),
        )
    }

    /// Goes one level down, as long as the tree may be that high.
    pub(crate) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= self.options.max_depth {
            return Err(self.too_deep(self.token.span));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Counts an operator of a duration.
    pub(crate) fn count_duration_operator(&mut self, span: Span) -> Result<()> {
        self.duration_operators += 1;
        if self.duration_operators > self.options.max_depth {
            return Err(self.too_deep(span));
        }
        Ok(())
    }

    /// Makes a matcher. Expressions repeat their patterns: one that came shortly before is not read (nor, later, compiled)
    /// again.
    pub(crate) fn make_matcher(
        &mut self,
        op: MatchOp,
        name: String,
        value: String,
    ) -> std::result::Result<Matcher, MatcherError> {
        let known = self.regexes.iter().find(|known| known.value() == value);
        if let Some(known) = known.and_then(|known| known.again(op, name.as_str())) {
            return Ok(known);
        }
        let matcher = Matcher::new(op, name, value)?;
        if matcher.regex_bytes() > 0 {
            self.regexes.truncate(MAX_REGEXES - 1);
            self.regexes.push_front(matcher.clone());
        }
        Ok(matcher)
    }

    /// Counts what a matcher may take when it is compiled. Each by itself is bounded, but a text has room for many.
    pub(crate) fn count_regex(&mut self, matcher: &Matcher, span: Span) -> Result<()> {
        self.regex_bytes = self.regex_bytes.saturating_add(matcher.regex_bytes());
        if self.regex_bytes > MAX_REGEX_BYTES {
            let message = format!("the regular expressions together may take more than {MAX_REGEX_BYTES} bytes");
            return Err(self.error(span, message));
        }
        Ok(())
    }

    /// Puts an expression on top of what is `below` levels high.
    #[inline(never)]
    pub(crate) fn built(&self, kind: ExprKind, span: Span, below: usize) -> Result<Built> {
        let expr = Expr::new(kind, span);
        if below < self.options.max_depth {
            return Ok(Built {
                expr,
                height: below + 1,
            });
        }
        // What is wrong with it besides is worth more to the reader.
        let mut expr = expr;
        check::check(self.text, &mut expr)?;
        Err(self.too_deep(span))
    }
}
