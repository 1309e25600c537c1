//! Why a text is no expression.

use super::span::{Place, Span};
use std::fmt;

/// What is wrong with a query, and where.
///
/// Shown as upstream shows it: `1:5: parse error: unexpected <op:*>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// What is wrong, without the place.
    pub message: String,
    /// The bytes at fault.
    pub span: Span,
    place: Option<Place>,
}

impl ParseError {
    /// A fault at some bytes of `text`.
    pub(crate) fn new(text: &str, span: Span, message: String) -> Self {
        let place = (!text.is_empty()).then(|| span.place(text));
        Self { message, span, place }
    }

    /// The same fault with its place in the text.
    pub(crate) fn placed(self, text: &str) -> Self {
        Self::new(text, self.span, self.message)
    }

    /// Where it starts; `None` if the query is empty.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// The line of the query at fault with carets under the bytes at fault, for a terminal.
    ///
    /// ```text
    /// sum(rate(up))
    ///          ^^ expected type range vector in call to function "rate", got instant vector
    /// ```
    pub fn with_caret(&self, text: &str) -> String {
        let start = (self.span.start as usize).min(text.len());
        let line_start = text.get(..start).and_then(|t| t.rfind('\n')).map_or(0, |i| i + 1);
        let line = text.get(line_start..).and_then(|t| t.lines().next()).unwrap_or("");
        let before = text.get(line_start..start).unwrap_or("");
        let inside = Span::new(self.span.start, self.span.end.min((line_start + line.len()) as u32)).of(text);
        // Tabs are kept, so that the caret stands under the same column whatever their width.
        let indent: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(inside.chars().count().max(1));
        format!("{line}\n{indent}{carets} {}", self.message)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{place}: parse error: {}", self.message),
            None => write!(f, "unknown position: parse error: {}", self.message),
        }
    }
}
