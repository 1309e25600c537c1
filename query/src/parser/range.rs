//! The grammar of durations: in brackets and behind `offset`.

use super::ast::{BinaryOp, NumberLiteral};
use super::duration::{DurationExpr, DurationKind, DurationOp};
use super::error::ParseError;
use super::expr::{Precedence, precedence};
use super::lex::{Keyword, TokenKind};
use super::reader::{Expected, Parser, Result};
use super::span::Span;

const OFFSET: Expected = Expected {
    context: "offset",
    what: "number, duration, step(), or range()",
};

/// Seconds beyond which a duration does not fit into 64 bits of nanoseconds.
const MAX_SECONDS: f64 = (1u64 << 63) as f64 / 1e9;

impl DurationExpr {
    /// The value of a plain number or duration.
    pub fn as_number(&self) -> Option<f64> {
        match self.kind {
            DurationKind::Literal(number) => Some(number.value),
            _ => None,
        }
    }
}

impl Parser<'_> {
    /// A range or a step: if it is plain, it must be greater than zero.
    pub(crate) fn positive_duration(&mut self, expected: Expected) -> Result<DurationExpr> {
        self.duration_operators = 0;
        let duration = self.duration(Precedence::Sum, expected)?;
        if self.token.kind == TokenKind::Broken {
            // Whether the duration ends here is not known.
            return Err(self.unexpected(Some(expected)));
        }
        match duration.as_number() {
            Some(seconds) if seconds <= 0.0 => Err(self.error(duration.span, "duration must be greater than 0")),
            _ => Ok(duration.with_units()),
        }
    }

    /// What stands behind `offset`: one operand, perhaps with a sign, and no more. What follows is the business of
    /// the expression, so `a offset 5m - 1` is `(a offset 5m) - 1`.
    ///
    /// The exceptions are upstream's: an operand in parentheses or with several signs takes operators.
    pub(crate) fn offset_duration(&mut self) -> Result<DurationExpr> {
        Ok(self.offset_operand()?.with_units())
    }

    fn offset_operand(&mut self) -> Result<DurationExpr> {
        self.duration_operators = 0;
        let signs = self.token;
        match signs.kind {
            TokenKind::LeftParen => return self.duration(Precedence::Sum, OFFSET),
            TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub) => {}
            _ => return self.duration_operand(OFFSET),
        }
        self.take();
        if matches!(self.token.kind, TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub)) {
            let inner = self.nested(|p| p.duration(Precedence::Power, OFFSET))?;
            let signed = self.with_sign(signs.kind, signs.span, inner)?;
            return self.operators(signed, Precedence::Sum, OFFSET);
        }
        let inner = self.duration_operand(OFFSET)?;
        self.with_sign(signs.kind, signs.span, inner)
    }

    /// A duration whose operators bind at least as tightly as `weakest`.
    fn duration(&mut self, weakest: Precedence, expected: Expected) -> Result<DurationExpr> {
        self.nested(|p| {
            let first = p.duration_operand(expected)?;
            p.operators(first, weakest, expected)
        })
    }

    fn operators(&mut self, mut left: DurationExpr, weakest: Precedence, expected: Expected) -> Result<DurationExpr> {
        while let TokenKind::Operator(op) = self.token.kind {
            let Some(duration_op) = duration_op(op) else { break };
            let precedence = precedence(op);
            if precedence < weakest {
                break;
            }
            let sign = self.take();
            self.count_duration_operator(sign.span)?;
            let right = self.duration(precedence.of_right_operand(), expected)?;
            self.experimental(left.span)?;
            match duration_op {
                DurationOp::Div if right.as_number() == Some(0.0) => {
                    return Err(self.error(sign.span, "division by zero"));
                }
                DurationOp::Mod if right.as_number() == Some(0.0) => {
                    return Err(self.error(sign.span, "modulo by zero"));
                }
                _ => {}
            }
            left = arithmetic(duration_op, left, right);
        }
        Ok(left)
    }

    fn duration_operand(&mut self, expected: Expected) -> Result<DurationExpr> {
        let token = self.token;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                self.take();
                let number = self.number_literal(token)?;
                self.literal(number, token.span, token.span)
            }
            TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                self.take();
                let inner = self.duration(Precedence::Power, expected)?;
                self.with_sign(token.kind, token.span, inner)
            }
            TokenKind::Keyword(Keyword::Step | Keyword::Range) => {
                self.take();
                self.expect(TokenKind::LeftParen, Some(expected))?;
                let close = self.expect(TokenKind::RightParen, Some(expected))?;
                let kind = match token.kind {
                    TokenKind::Keyword(Keyword::Step) => DurationKind::Step,
                    _ => DurationKind::Range,
                };
                let span = token.span.to(close.span);
                self.experimental(span)?;
                Ok(DurationExpr { kind, span })
            }
            TokenKind::LeftParen => {
                self.take();
                let inner = self.duration(Precedence::Sum, expected)?;
                let close = self.expect(TokenKind::RightParen, Some(expected))?;
                self.experimental(inner.span)?;
                let span = token.span.to(close.span);
                let kind = DurationKind::Paren(Box::new(inner));
                Ok(DurationExpr { kind, span })
            }
            TokenKind::Keyword(Keyword::MinOf) => self.min_or_max(DurationOp::MinOf, expected),
            TokenKind::Keyword(Keyword::MaxOf) => self.min_or_max(DurationOp::MaxOf, expected),
            // Outside of brackets these two are words like any other.
            TokenKind::Identifier if self.text_of(token).eq_ignore_ascii_case("min_of") => {
                self.min_or_max(DurationOp::MinOf, expected)
            }
            TokenKind::Identifier if self.text_of(token).eq_ignore_ascii_case("max_of") => {
                self.min_or_max(DurationOp::MaxOf, expected)
            }
            _ => Err(self.unexpected(Some(expected))),
        }
    }

    fn min_or_max(&mut self, op: DurationOp, expected: Expected) -> Result<DurationExpr> {
        let name = self.take();
        self.expect(TokenKind::LeftParen, Some(expected))?;
        let lhs = self.duration(Precedence::Sum, expected)?;
        self.expect(TokenKind::Comma, Some(expected))?;
        let rhs = self.duration(Precedence::Sum, expected)?;
        let close = self.expect(TokenKind::RightParen, Some(expected))?;
        let span = name.span.to(close.span);
        self.experimental(span)?;
        Ok(DurationExpr {
            span,
            ..arithmetic(op, lhs, rhs)
        })
    }

    fn with_sign(&self, sign: TokenKind, sign_span: Span, inner: DurationExpr) -> Result<DurationExpr> {
        let span = sign_span.to(inner.span);
        let negative = sign == TokenKind::Operator(BinaryOp::Sub);
        match inner.kind {
            DurationKind::Literal(mut number) => {
                if negative {
                    number.value = -number.value;
                }
                self.literal(number, span, sign_span)
            }
            _ if negative => Ok(DurationExpr {
                kind: DurationKind::Negated(Box::new(inner)),
                span,
            }),
            // A plus says nothing.
            _ => Ok(inner),
        }
    }

    fn literal(&self, number: NumberLiteral, span: Span, blamed: Span) -> Result<DurationExpr> {
        // Also refuses what is no number.
        if number.value.is_nan() || number.value.abs() > MAX_SECONDS {
            return Err(self.error(blamed, "duration out of range"));
        }
        let kind = DurationKind::Literal(number);
        Ok(DurationExpr { kind, span })
    }

    fn experimental(&self, span: Span) -> std::result::Result<(), ParseError> {
        if self.options.features.duration_expressions {
            return Ok(());
        }
        Err(self.error(span, "experimental duration expression is not enabled"))
    }
}

fn arithmetic(op: DurationOp, lhs: DurationExpr, rhs: DurationExpr) -> DurationExpr {
    let span = lhs.span.to(rhs.span);
    DurationExpr {
        kind: DurationKind::Arithmetic {
            op,
            lhs: Box::new(lhs),
            rhs: Box::new(rhs),
        },
        span,
    }
}

fn duration_op(op: BinaryOp) -> Option<DurationOp> {
    Some(match op {
        BinaryOp::Add => DurationOp::Add,
        BinaryOp::Sub => DurationOp::Sub,
        BinaryOp::Mul => DurationOp::Mul,
        BinaryOp::Div => DurationOp::Div,
        BinaryOp::Mod => DurationOp::Mod,
        BinaryOp::Pow => DurationOp::Pow,
        _ => return None,
    })
}
