//! The grammar of labels in parentheses: groups of aggregations, and how series of two sides match.

use super::ast::{BinaryOp, Cardinality, Grouping, MatchOn, VectorMatching};
use super::lex::{Keyword, TokenKind};
use super::quote::{quoted, unquote};
use super::reader::{Expected, Parser, Result};

const GROUPING_OPEN: Expected = Expected {
    context: "grouping opts",
    what: r#""(""#,
};
const GROUPING_LABEL: Expected = Expected {
    context: "grouping opts",
    what: "label",
};
const GROUPING_MORE: Expected = Expected {
    context: "grouping opts",
    what: r#""," or ")""#,
};
const FILL_VALUE: Expected = Expected {
    context: "fill value",
    what: "number in parentheses",
};

impl Parser<'_> {
    /// `on (...)`, `group_left (...)`, `fill (...)`: any of them, or nothing.
    #[inline(never)]
    pub(crate) fn vector_matching(&mut self) -> Result<VectorMatching> {
        let mut matching = VectorMatching {
            cardinality: Cardinality::OneToOne,
            match_on: MatchOn::Ignoring,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        if let TokenKind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.token.kind {
            self.take();
            matching.match_on = match keyword {
                Keyword::On => MatchOn::On,
                _ => MatchOn::Ignoring,
            };
            matching.labels = self.grouping_labels()?;
            if let TokenKind::Keyword(keyword @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.token.kind {
                self.take();
                matching.cardinality = match keyword {
                    Keyword::GroupLeft => Cardinality::ManyToOne,
                    _ => Cardinality::OneToMany,
                };
                if self.token.kind == TokenKind::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fill(&mut matching)?;
        Ok(matching)
    }

    /// `fill (1)`, or `fill_left (1)` and `fill_right (1)` in any order.
    fn fill(&mut self, matching: &mut VectorMatching) -> Result<()> {
        if self.take_if(TokenKind::Keyword(Keyword::Fill)).is_some() {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            return Ok(());
        }
        loop {
            if matching.fill_left.is_none() && self.take_if(TokenKind::Keyword(Keyword::FillLeft)).is_some() {
                matching.fill_left = Some(self.fill_value()?);
            } else if matching.fill_right.is_none() && self.take_if(TokenKind::Keyword(Keyword::FillRight)).is_some() {
                matching.fill_right = Some(self.fill_value()?);
            } else {
                return Ok(());
            }
        }
    }

    fn fill_value(&mut self) -> Result<f64> {
        self.expect(TokenKind::LeftParen, Some(FILL_VALUE))?;
        let value = self.signed_number(FILL_VALUE)?;
        self.expect(TokenKind::RightParen, Some(FILL_VALUE))?;
        Ok(value)
    }

    /// `(a, "b c", by,)`
    #[inline(never)]
    fn grouping_labels(&mut self) -> Result<Vec<String>> {
        self.expect(TokenKind::LeftParen, Some(GROUPING_OPEN))?;
        let mut labels = Vec::new();
        loop {
            // Nothing may stand in the parentheses, and a comma may stand last.
            if self.take_if(TokenKind::RightParen).is_some() {
                return Ok(labels);
            }
            labels.push(self.grouping_label()?);
            if self.take_if(TokenKind::Comma).is_none() {
                self.expect(TokenKind::RightParen, Some(GROUPING_MORE))?;
                return Ok(labels);
            }
        }
    }

    fn grouping_label(&mut self) -> Result<String> {
        let token = self.token;
        let label = match token.kind {
            TokenKind::String => String::from_utf8(unquote(self.text_of(token))).map_err(|error| {
                let message = format!("invalid label name for grouping: {}", quoted_bytes(error.as_bytes()));
                self.error(token.span, message)
            })?,
            kind if is_label(kind) => self.text_of(token).to_owned(),
            _ => return Err(self.unexpected(Some(GROUPING_LABEL))),
        };
        self.take();
        if label.is_empty() {
            return Err(self.error(token.span, "invalid label name for grouping: \"\""));
        }
        Ok(label)
    }

    /// `by (...)` or `without (...)`, if one of them is next.
    pub(crate) fn grouping(&mut self) -> Result<Option<Grouping>> {
        if self.take_if(TokenKind::Keyword(Keyword::By)).is_some() {
            return Ok(Some(Grouping::By(self.grouping_labels()?)));
        }
        if self.take_if(TokenKind::Keyword(Keyword::Without)).is_some() {
            return Ok(Some(Grouping::Without(self.grouping_labels()?)));
        }
        Ok(None)
    }
}

/// Bytes that are no UTF-8 in quotes.
fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from('"');
    for chunk in bytes.utf8_chunks() {
        let valid = quoted(chunk.valid());
        out.push_str(valid.get(1..valid.len() - 1).unwrap_or_default());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// Whether a word may be a label's name in parentheses. Upstream leaves out `without`.
fn is_label(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregator(_) => true,
        TokenKind::Operator(op) => op.is_set() || op == BinaryOp::Atan2,
        TokenKind::Keyword(keyword) => keyword != Keyword::Without,
        _ => false,
    }
}
