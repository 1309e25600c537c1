//! Selectors of series and label sets: what stands in braces.

use super::ast::VectorSelector;
use super::expr::is_metric_name;
use super::lex::{Token, TokenKind};
use super::print::label_shown;
use super::quote::{quoted, unquote};
use super::reader::{Expected, Parser, Result};
use super::span::Span;
use tidegauge_model::{Labels, MatchOp, Matcher, reserved};

const MATCHER: Expected = Expected {
    context: "label matching",
    what: r#"identifier or "}""#,
};
const MATCHER_OPERATOR: Expected = Expected {
    context: "label matching",
    what: "label matching operator",
};
const MATCHER_VALUE: Expected = Expected {
    context: "label matching",
    what: "string",
};
const MATCHER_MORE: Expected = Expected {
    context: "label matching",
    what: r#""," or "}""#,
};
const LABEL: Expected = Expected {
    context: "label set",
    what: r#"identifier or "}""#,
};
const LABEL_EQUAL: Expected = Expected {
    context: "label set",
    what: r#""=""#,
};
const LABEL_VALUE: Expected = Expected {
    context: "label set",
    what: "string",
};
const LABEL_MORE: Expected = Expected {
    context: "label set",
    what: r#""," or "}""#,
};

/// More of a pattern than this is not shown in an error, which has one line.
const SHOWN_CHARS: usize = 60;

fn shortened(pattern: &str) -> String {
    match pattern.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}...", pattern.get(..at).unwrap_or(pattern)),
        None => pattern.to_owned(),
    }
}

impl Parser<'_> {
    /// A selector whose name, if it has one, is already taken.
    pub(crate) fn vector_selector(&mut self, name: Option<Token>) -> Result<(VectorSelector, Span)> {
        let start = name.map_or(self.token.span.start, |name| name.span.start);
        let mut matchers = match self.token.kind {
            TokenKind::LeftBrace => self.matchers()?,
            _ => Vec::with_capacity(1),
        };
        let name = name.map(|name| self.text_of(name).to_owned());
        if let Some(name) = &name {
            matchers.push(Matcher::equal(reserved::METRIC_NAME, name.clone()));
        }
        let selector = VectorSelector {
            name,
            matchers,
            offset: None,
            at: None,
            extent: None,
        };
        Ok((selector, Span::new(start, self.last_end)))
    }

    /// A whole text that is one selector.
    pub(crate) fn whole_selector(&mut self) -> Result<VectorSelector> {
        let name = is_metric_name(self.token.kind).then(|| self.take());
        if name.is_none() && self.token.kind != TokenKind::LeftBrace {
            return Err(self.unexpected(None));
        }
        let (selector, _) = self.vector_selector(name)?;
        self.end()?;
        Ok(selector)
    }

    /// `{a="b", "c d"!="e"}`
    fn matchers(&mut self) -> Result<Vec<Matcher>> {
        self.take();
        let mut matchers = Vec::new();
        loop {
            // Nothing may stand in the braces, and a comma may stand last.
            if self.take_if(TokenKind::RightBrace).is_some() {
                return Ok(matchers);
            }
            matchers.push(self.matcher()?);
            if self.take_if(TokenKind::Comma).is_none() {
                self.expect(TokenKind::RightBrace, Some(MATCHER_MORE))?;
                return Ok(matchers);
            }
        }
    }

    fn matcher(&mut self) -> Result<Matcher> {
        let name = self.token;
        if !matches!(name.kind, TokenKind::Identifier | TokenKind::String) {
            return Err(self.unexpected(Some(MATCHER)));
        }
        self.take();
        let op = match (self.token.kind, name.kind) {
            (TokenKind::Equal, _) => MatchOp::Equal,
            (TokenKind::Operator(_), _) => MatchOp::NotEqual,
            (TokenKind::EqualRegex, _) => MatchOp::Regex,
            (TokenKind::NotRegex, _) => MatchOp::NotRegex,
            // A string by itself is the metric's name.
            (_, TokenKind::String) => return Ok(Matcher::equal(reserved::METRIC_NAME, self.label_text(name))),
            _ => return Err(self.unexpected(Some(MATCHER_OPERATOR))),
        };
        self.take();
        let value = self.expect(TokenKind::String, Some(MATCHER_VALUE))?;
        let span = name.span.to(value.span);
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex)
            && let Err(error) = String::from_utf8(unquote(self.text_of(value)))
            && has_operators(error.as_bytes())
        {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let message = format!("error parsing regexp: invalid UTF-8: `{text}`");
            return Err(self.error(span, message));
        }
        let (label, text) = (self.label_text(name), self.label_text(value));
        let matcher = self.make_matcher(op, label, text).map_err(|error| {
            let shown = quoted(&shortened(&error.pattern));
            let (label, op) = (label_shown(&self.label_text(name)), op.as_str());
            self.error(
                span,
                format!("error parsing regexp in {label}{op}{shown}: {}", error.reason),
            )
        })?;
        self.count_regex(&matcher, span)?;
        Ok(matcher)
    }

    /// The text of a word, or of a string without its quotes.
    fn label_text(&self, token: Token) -> String {
        let text = self.text_of(token);
        match token.kind {
            TokenKind::String => match String::from_utf8(unquote(text)) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            },
            _ => text.to_owned(),
        }
    }

    /// The labels of one series: `name{a="b"}`.
    pub(crate) fn series_labels(&mut self) -> Result<Labels> {
        let start = self.token.span;
        let mut pairs = Vec::new();
        let name = is_metric_name(self.token.kind).then(|| self.take());
        if self.take_if(TokenKind::LeftBrace).is_some() {
            pairs = self.label_pairs()?;
        }
        if let Some(name) = name {
            pairs.retain(|(label, _)| label != reserved::METRIC_NAME);
            pairs.push((reserved::METRIC_NAME.to_owned(), self.text_of(name).to_owned()));
        }
        Labels::from_pairs(pairs).map_err(|error| self.error(Span::new(start.start, self.last_end), error.to_string()))
    }

    fn label_pairs(&mut self) -> Result<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        loop {
            if self.take_if(TokenKind::RightBrace).is_some() {
                return Ok(pairs);
            }
            pairs.push(self.label_pair()?);
            if self.take_if(TokenKind::Comma).is_none() {
                self.expect(TokenKind::RightBrace, Some(LABEL_MORE))?;
                return Ok(pairs);
            }
        }
    }

    fn label_pair(&mut self) -> Result<(String, String)> {
        let name = self.token;
        if !matches!(name.kind, TokenKind::Identifier | TokenKind::String) {
            return Err(self.unexpected(Some(LABEL)));
        }
        self.take();
        if self.take_if(TokenKind::Equal).is_some() {
            let value = self.expect(TokenKind::String, Some(LABEL_VALUE))?;
            return Ok((self.label_text(name), self.label_text(value)));
        }
        match name.kind {
            TokenKind::String => Ok((reserved::METRIC_NAME.to_owned(), self.label_text(name))),
            _ => Err(self.unexpected(Some(LABEL_EQUAL))),
        }
    }
}

/// Whether a pattern is more than texts to choose from, which upstream compares without looking into them.
fn has_operators(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"\\.+*?()[]{}^$".contains(byte))
}
