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

use super::ParseOptions;
use super::ast::{
    Aggregate, AggregateOp, AtModifier, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Extent, Grouping, MatchOn,
    MatrixSelector, Notation, NumberLiteral, StringLiteral, Subquery, Unary, UnaryOp, VectorMatching,
};
use super::check;
use super::error::ParseError;
use super::lex::{Keyword, Lexer, Token, TokenKind};
use super::number::{parse_duration, parse_number};
use super::quote::{quoted, unquote};
use super::signature::Signature;
use super::span::Span;
use tidegauge_model::Timestamp;

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
const AT: Expected = Expected {
    context: "@",
    what: "timestamp",
};
pub(crate) const OFFSET: Expected = Expected {
    context: "offset",
    what: "number, duration, step(), or range()",
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
    aggregations: usize,
    /// How deep the recursion is.
    depth: usize,
    /// How many operators the duration that is being read has: with the depth it bounds the height of its tree.
    pub(crate) duration_operators: usize,
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
        })
    }

    /// A whole text that is one expression.
    pub(crate) fn whole_expression(&mut self) -> Result<Expr> {
        if self.token.kind == TokenKind::End {
            return Err(self.error(Span::default(), "no expression found in input"));
        }
        let built = self.expression(Precedence::Or)?;
        self.end()?;
        Ok(built.expr)
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

    /// Puts an expression on top of what is `below` levels high.
    #[inline(never)]
    fn built(&self, kind: ExprKind, span: Span, below: usize) -> Result<Built> {
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

    // Expressions.

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

    /// `on (...)`, `group_left (...)`, `fill (...)`: any of them, or nothing.
    #[inline(never)]
    fn vector_matching(&mut self) -> Result<VectorMatching> {
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
            TokenKind::String => String::from_utf8_lossy(&unquote(self.text_of(token))).into_owned(),
            kind if is_label(kind) => self.text_of(token).to_owned(),
            _ => return Err(self.unexpected(Some(GROUPING_LABEL))),
        };
        self.take();
        if label.is_empty() {
            return Err(self.error(token.span, "invalid label name for grouping: \"\""));
        }
        Ok(label)
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
    fn signed_number(&mut self, expected: Expected) -> Result<f64> {
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

    /// `by (...)` or `without (...)`, if one of them is next.
    fn grouping(&mut self) -> Result<Option<Grouping>> {
        if self.take_if(TokenKind::Keyword(Keyword::By)).is_some() {
            return Ok(Some(Grouping::By(self.grouping_labels()?)));
        }
        if self.take_if(TokenKind::Keyword(Keyword::Without)).is_some() {
            return Ok(Some(Grouping::Without(self.grouping_labels()?)));
        }
        Ok(None)
    }

    // Modifiers behind an expression.

    /// All modifiers that follow an expression.
    fn modified(&mut self, mut built: Built) -> Result<Built> {
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

/// Whether a word may be a label's name in parentheses. Upstream leaves out `without`.
fn is_label(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregator(_) => true,
        TokenKind::Operator(op) => op.is_set() || op == BinaryOp::Atan2,
        TokenKind::Keyword(keyword) => keyword != Keyword::Without,
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
