//! The grammar of what stands behind an expression: `offset`, `@`, `anchored`, `smoothed` and brackets.

use super::ast::{AtModifier, Expr, ExprKind, Extent, MatrixSelector, Subquery};
use super::lex::{Keyword, TokenKind};
use super::reader::{Built, Expected, Parser, Result};
use super::span::Span;
use tidegauge_model::Timestamp;

const AT: Expected = Expected {
    context: "@",
    what: "timestamp",
};
const RANGE: Expected = Expected {
    context: "subquery or range selector",
    what: "number, duration, step(), or range()",
};
const RANGE_END: Expected = Expected {
    context: "subquery or range",
    what: r#"":" or "]""#,
};
const STEP: Expected = Expected {
    context: "subquery selector",
    what: r#"number, duration, step(), range(), or "]""#,
};
const STEP_END: Expected = Expected {
    context: "subquery selector",
    what: r#""]""#,
};

impl Parser<'_> {
    /// All modifiers that follow an expression.
    pub(crate) fn modified(&mut self, mut built: Built) -> Result<Built> {
        loop {
            match self.token.kind {
                TokenKind::Keyword(Keyword::Offset) => self.offset(&mut built.expr)?,
                TokenKind::At => self.at(&mut built.expr)?,
                TokenKind::Keyword(Keyword::Anchored) => self.extent(&mut built.expr, Extent::Anchored)?,
                TokenKind::Keyword(Keyword::Smoothed) => self.extent(&mut built.expr, Extent::Smoothed)?,
                TokenKind::LeftBracket => built = self.range(built)?,
                _ => return Ok(built),
            }
        }
    }

    #[inline(never)]
    fn offset(&mut self, expr: &mut Expr) -> Result<()> {
        self.take();
        let offset = self.offset_duration()?;
        let slot = match &mut expr.kind {
            ExprKind::Vector(vector) => &mut vector.offset,
            ExprKind::Matrix(matrix) => &mut matrix.vector.offset,
            ExprKind::Subquery(subquery) => &mut subquery.offset,
            _ => {
                return Err(self.error(
                    expr.span,
                    "offset modifier must be preceded by an instant vector selector or range vector selector or a \
                     subquery",
                ));
            }
        };
        if slot.is_some() {
            return Err(self.error(expr.span, "offset may not be set multiple times"));
        }
        // An offset of nothing is none.
        if offset.as_number() != Some(0.0) {
            *slot = Some(offset);
        }
        expr.span.end = self.last_end;
        Ok(())
    }

    #[inline(never)]
    fn at(&mut self, expr: &mut Expr) -> Result<()> {
        self.take();
        let at = match self.token.kind {
            TokenKind::Keyword(keyword @ (Keyword::Start | Keyword::End)) => {
                self.take();
                self.expect(TokenKind::LeftParen, Some(AT))?;
                self.expect(TokenKind::RightParen, Some(AT))?;
                match keyword {
                    Keyword::Start => AtModifier::Start,
                    _ => AtModifier::End,
                }
            }
            _ => self.at_timestamp(expr.span)?,
        };
        let slot = match &mut expr.kind {
            ExprKind::Vector(vector) => &mut vector.at,
            ExprKind::Matrix(matrix) => &mut matrix.vector.at,
            ExprKind::Subquery(subquery) => &mut subquery.at,
            _ => {
                return Err(self.error(
                    expr.span,
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                ));
            }
        };
        if slot.is_some() {
            return Err(self.error(expr.span, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        expr.span.end = self.last_end;
        Ok(())
    }

    fn at_timestamp(&mut self, span: Span) -> Result<AtModifier> {
        let seconds = self.signed_number(AT)?;
        // The bounds are upstream's: those of 64 bits, though in seconds.
        if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
            let shown = match seconds {
                f64::INFINITY => "+Inf".to_owned(),
                f64::NEG_INFINITY => "-Inf".to_owned(),
                seconds if seconds.is_nan() => "NaN".to_owned(),
                seconds => format!("{seconds:.6}"),
            };
            return Err(self.error(span, format!("timestamp out of bounds for @ modifier: {shown}")));
        }
        Ok(AtModifier::Timestamp(Timestamp::from_millis(
            (seconds * 1000.0).round() as i64,
        )))
    }

    #[inline(never)]
    fn extent(&mut self, expr: &mut Expr, extent: Extent) -> Result<()> {
        self.take();
        let name = extent.as_str();
        let message = if self.options.features.extended_range_selectors {
            let slot = match &mut expr.kind {
                ExprKind::Vector(vector) => Ok(&mut vector.extent),
                ExprKind::Matrix(matrix) => Ok(&mut matrix.vector.extent),
                ExprKind::Subquery(_) => Err(format!("{name} modifier is not supported for subqueries")),
                _ => Err(format!("{name} modifier not implemented")),
            };
            match slot {
                Ok(slot) if slot.is_none_or(|set| set == extent) => {
                    *slot = Some(extent);
                    return Ok(());
                }
                Ok(_) => "anchored and smoothed modifiers cannot be used together".to_owned(),
                Err(message) => message,
            }
        } else {
            format!("{name} modifier is experimental and not enabled")
        };
        Err(self.error(expr.span, message))
    }

    /// `[5m]` makes a range selector, `[1h:1m]` a subquery.
    #[inline(never)]
    fn range(&mut self, built: Built) -> Result<Built> {
        let open = self.take();
        let range = self.positive_duration(RANGE)?;
        if self.take_if(TokenKind::Colon).is_some() {
            let step = match self.token.kind {
                TokenKind::RightBracket => None,
                _ => Some(self.positive_duration(STEP)?),
            };
            let close = self.expect(TokenKind::RightBracket, Some(STEP_END))?;
            let span = built.expr.span.to(close.span);
            let subquery = Subquery {
                expr: Box::new(built.expr),
                range,
                step,
                offset: None,
                at: None,
            };
            return self.built(ExprKind::Subquery(subquery), span, built.height);
        }
        let close = self.expect(TokenKind::RightBracket, Some(RANGE_END))?;
        let brackets = open.span.to(close.span);
        let span = built.expr.span.to(close.span);
        let ExprKind::Vector(vector) = built.expr.kind else {
            return Err(self.error(brackets, "ranges only allowed for vector selectors"));
        };
        if vector.offset.is_some() {
            return Err(self.error(brackets, "no offset modifiers allowed before range"));
        }
        if vector.at.is_some() {
            return Err(self.error(brackets, "no @ modifiers allowed before range"));
        }
        self.built(ExprKind::Matrix(MatrixSelector { vector, range }), span, 0)
    }
}
