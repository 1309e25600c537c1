//! The grammar: from tokens to a tree.
//!
//! Operators bind by precedence climbing, the weakest first:
//!
//! ```text
//!   or  <  and unless  <  == != < <= > >= </ >/  <  + -  <  * / % atan2 and signs  <  ^  <  offset @ [..]
//! ```
//!
//! All are left-associative but `^`. When a token cannot stand where it does, the error names what is being
//! read at that point, as upstream does. Chains of operators are loops, nesting is recursion, and both add to the
//! height of the tree, which is bounded.

use super::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Expr, ExprKind, Grouping, Notation, NumberLiteral, StringLiteral,
    Unary, UnaryOp,
};
use super::lex::{Keyword, Token, TokenKind};
use super::number::{parse_duration, parse_number};
use super::quote::{quoted, unquote};
use super::reader::{Built, Expected, Parser, Result};
use super::signature::Signature;
use super::span::Span;

/// How tightly an operator binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Precedence {
    Or,
    And,
    Comparison,
    Sum,
    Product,
    Power,
}

pub(crate) fn precedence(op: BinaryOp) -> Precedence {
    match op {
        BinaryOp::Or => Precedence::Or,
        BinaryOp::And | BinaryOp::Unless => Precedence::And,
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => Precedence::Comparison,
        BinaryOp::Add | BinaryOp::Sub => Precedence::Sum,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => Precedence::Product,
        BinaryOp::Pow => Precedence::Power,
    }
}

impl Precedence {
    /// The weakest operator that may stand in the right operand of one of this precedence.
    pub(crate) fn of_right_operand(self) -> Self {
        match self {
            Self::Or => Self::And,
            Self::And => Self::Comparison,
            Self::Comparison => Self::Sum,
            Self::Sum => Self::Product,
            // `^` associates to the right.
            Self::Product | Self::Power => Self::Power,
        }
    }
}

impl Parser<'_> {
    /// A whole text that is one expression.
    pub(crate) fn whole_expression(&mut self) -> Result<Expr> {
        if self.token.kind == TokenKind::End {
            return Err(self.error(Span::default(), "no expression found in input"));
        }
        let built = self.expression(Precedence::Or)?;
        self.end()?;
        Ok(built.expr)
    }

    /// An expression whose operators bind at least as tightly as `weakest`.
    pub(crate) fn expression(&mut self, weakest: Precedence) -> Result<Built> {
        self.nested(|p| {
            let first = p.operand()?;
            let mut left = p.modified(first)?;
            while let TokenKind::Operator(op) = p.token.kind {
                let precedence = precedence(op);
                if precedence < weakest {
                    break;
                }
                p.take();
                left = p.binary(left, op, precedence)?;
            }
            Ok(left)
        })
    }

    /// The rest of a binary expression, its operator taken.
    #[inline(never)]
    fn binary(&mut self, left: Built, op: BinaryOp, precedence: Precedence) -> Result<Built> {
        let return_bool = self.take_if(TokenKind::Keyword(Keyword::Bool)).is_some();
        let matching = self.vector_matching()?;
        let right = self.expression(precedence.of_right_operand())?;
        let span = left.expr.span.to(right.expr.span);
        let has_fill = matching.fill_left.is_some() || matching.fill_right.is_some();
        if has_fill && !self.options.features.fill_modifiers {
            return Err(self.error(span, "binop fill modifiers are experimental and not enabled"));
        }
        let binary = Binary {
            op,
            lhs: Box::new(left.expr),
            rhs: Box::new(right.expr),
            return_bool,
            matching: Some(matching),
        };
        self.built(ExprKind::Binary(binary), span, left.height.max(right.height))
    }

    /// An expression without binary operators and modifiers.
    ///
    /// What it reads is read by functions that are not inlined: on the way down only small frames are stacked.
    fn operand(&mut self) -> Result<Built> {
        let token = self.token;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => self.number(),
            TokenKind::String => self.string(),
            TokenKind::LeftParen => self.parenthesised(),
            TokenKind::Operator(BinaryOp::Add) => self.signed(UnaryOp::Plus),
            TokenKind::Operator(BinaryOp::Sub) => self.signed(UnaryOp::Minus),
            TokenKind::LeftBrace => self.selector(None),
            TokenKind::Aggregator(op) => {
                self.take();
                match self.token.kind {
                    TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without) => {
                        self.aggregate(op, token)
                    }
                    _ => self.selector(Some(token)),
                }
            }
            TokenKind::Identifier
            | TokenKind::Keyword(Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range) => {
                self.take();
                match self.token.kind {
                    TokenKind::LeftParen => self.call(token),
                    _ => self.selector(Some(token)),
                }
            }
            kind if is_metric_name(kind) => {
                self.take();
                self.selector(Some(token))
            }
            _ => Err(self.unexpected(None)),
        }
    }

    #[inline(never)]
    fn number(&mut self) -> Result<Built> {
        let token = self.take();
        let number = self.number_literal(token)?;
        self.built(ExprKind::Number(number), token.span, 0)
    }

    #[inline(never)]
    fn string(&mut self) -> Result<Built> {
        let token = self.take();
        let string = string_literal(self.text_of(token));
        self.built(ExprKind::String(string), token.span, 0)
    }

    #[inline(never)]
    fn parenthesised(&mut self) -> Result<Built> {
        let open = self.take();
        let inner = self.expression(Precedence::Or)?;
        let close = self.expect(TokenKind::RightParen, None)?;
        self.built(
            ExprKind::Paren(Box::new(inner.expr)),
            open.span.to(close.span),
            inner.height,
        )
    }

    #[inline(never)]
    fn selector(&mut self, name: Option<Token>) -> Result<Built> {
        let (selector, span) = self.vector_selector(name)?;
        self.built(ExprKind::Vector(selector), span, 0)
    }

    /// A sign, and what it belongs to: only `^` and modifiers bind more tightly.
    #[inline(never)]
    fn signed(&mut self, op: UnaryOp) -> Result<Built> {
        let sign = self.take();
        let inner = self.expression(Precedence::Power)?;
        let span = sign.span.to(inner.expr.span);
        if let ExprKind::Number(mut number) = inner.expr.kind {
            if op == UnaryOp::Minus {
                number.value = -number.value;
            }
            return self.built(ExprKind::Number(number), span, 0);
        }
        let unary = Unary {
            op,
            expr: Box::new(inner.expr),
        };
        self.built(ExprKind::Unary(unary), span, inner.height)
    }

    pub(crate) fn number_literal(&self, token: Token) -> Result<NumberLiteral> {
        let text = self.text_of(token);
        let (value, notation) = match token.kind {
            TokenKind::Duration => (parse_duration(text), Notation::Duration),
            _ => (parse_number(text), Notation::Number),
        };
        match value {
            Ok(value) => Ok(NumberLiteral { value, notation }),
            Err(why) => Err(self.error(token.span, why)),
        }
    }

    /// A number or a duration, perhaps with one sign.
    pub(crate) fn signed_number(&mut self, expected: Expected) -> Result<f64> {
        let negative = match self.token.kind {
            TokenKind::Operator(BinaryOp::Add) => Some(false),
            TokenKind::Operator(BinaryOp::Sub) => Some(true),
            _ => None,
        };
        if negative.is_some() {
            self.take();
        }
        if !matches!(self.token.kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected(Some(expected)));
        }
        let token = self.take();
        let value = self.number_literal(token)?.value;
        Ok(if negative == Some(true) { -value } else { value })
    }

    // Calls and aggregations.

    #[inline(never)]
    fn call(&mut self, name: Token) -> Result<Built> {
        let (args, below) = self.arguments()?;
        let span = Span::new(name.span.start, self.last_end);
        let function = self.function(name)?;
        self.built(ExprKind::Call(Call { function, args }), span, below)
    }

    #[inline(never)]
    fn function(&self, name: Token) -> Result<&'static Signature> {
        // Keywords that are functions too may be written in any case.
        let written = self.text_of(name);
        let found = match name.kind {
            TokenKind::Keyword(_) => Signature::find(&written.to_ascii_lowercase()),
            _ => Signature::find(written),
        };
        let Some(function) = found else {
            let message = format!("unknown function with name {}", quoted(written));
            return Err(self.error(name.span, message));
        };
        if function.is_experimental() && !self.options.features.experimental_functions {
            let message = format!("function {} is not enabled", quoted(written));
            return Err(self.error(name.span, message));
        }
        Ok(function)
    }

    /// Arguments in parentheses, and the height of the highest.
    #[inline(never)]
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize)> {
        self.expect(TokenKind::LeftParen, None)?;
        let (mut args, mut highest) = (Vec::new(), 0);
        if self.take_if(TokenKind::RightParen).is_some() {
            return Ok((args, highest));
        }
        loop {
            let arg = self.expression(Precedence::Or)?;
            highest = highest.max(arg.height);
            args.push(arg.expr);
            let Some(comma) = self.take_if(TokenKind::Comma) else {
                self.expect(TokenKind::RightParen, None)?;
                return Ok((args, highest));
            };
            if self.token.kind != TokenKind::Broken && !starts_expression(self.token.kind) {
                return Err(self.error(comma.span, "trailing commas not allowed in function call args"));
            }
        }
    }

    #[inline(never)]
    fn aggregate(&mut self, op: AggregateOp, name: Token) -> Result<Built> {
        self.aggregations += 1;
        let mut grouping = self.grouping()?;
        let (args, below) = self.arguments()?;
        self.aggregations -= 1;
        if grouping.is_none() {
            if self.token.kind == TokenKind::Broken {
                // Whether a grouping follows is not known.
                return Err(self.unexpected(None));
            }
            grouping = self.grouping()?;
        }
        let span = Span::new(name.span.start, self.last_end);
        let (param, expr) = self.aggregate_arguments(op, args, span)?;
        let aggregate = Aggregate {
            op,
            param,
            expr: Box::new(expr),
            grouping: grouping.unwrap_or(Grouping::By(Vec::new())),
        };
        self.built(ExprKind::Aggregate(aggregate), span, below)
    }

    #[inline(never)]
    fn aggregate_arguments(&self, op: AggregateOp, args: Vec<Expr>, span: Span) -> Result<(Option<Box<Expr>>, Expr)> {
        if args.is_empty() {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.options.features.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.as_str()
            );
            return Err(self.error(span, message));
        }
        let (expected, given) = (1 + usize::from(op.param().is_some()), args.len());
        let mut args = args.into_iter();
        match (op.param(), args.next(), args.next(), args.next()) {
            (None, Some(expr), None, None) => Ok((None, expr)),
            (Some(_), Some(param), Some(expr), None) => Ok((Some(Box::new(param)), expr)),
            _ => Err(self.error(
                span,
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {expected}, got {given}"
                ),
            )),
        }
    }
}

/// A string of a query, quotes taken away.
pub(crate) fn string_literal(written: &str) -> StringLiteral {
    match String::from_utf8(unquote(written)) {
        Ok(value) => StringLiteral { value, bytes: None },
        Err(error) => StringLiteral {
            value: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            bytes: Some(error.into_bytes().into()),
        },
    }
}

/// Whether a word may be a metric's name where an expression starts.
pub(crate) fn is_metric_name(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregator(_) => true,
        TokenKind::Operator(op) => op.is_set(),
        TokenKind::Keyword(keyword) => matches!(
            keyword,
            Keyword::By
                | Keyword::Without
                | Keyword::Offset
                | Keyword::Anchored
                | Keyword::Smoothed
                | Keyword::Start
                | Keyword::End
                | Keyword::Step
                | Keyword::Range
        ),
        _ => false,
    }
}

fn starts_expression(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Number
        | TokenKind::Duration
        | TokenKind::String
        | TokenKind::LeftParen
        | TokenKind::LeftBrace
        | TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub) => true,
        kind => is_metric_name(kind),
    }
}
