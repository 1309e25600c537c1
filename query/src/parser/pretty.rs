//! From a tree back to text: the form for reading, over as many lines as it takes.
//!
//! An expression that fits stays on its line. One that does not is taken apart: arguments and what stands in
//! parentheses are indented, and the operator of a binary expression stands on a line of its own between its
//! operands.

use super::ast::{Expr, ExprKind};
use super::print::{AggregateHead, LeftOperand, Operator, SubqueryTail, has_loose_sign};
use std::fmt::{self, Display, Write};

/// How long a line may be before its expression is taken apart; that of the HTTP API.
const MAX_LINE_BYTES: usize = 100;

impl Expr {
    /// The expression over several lines, broken as `/api/v1/format_query` does.
    pub fn pretty(&self) -> String {
        self.pretty_within(MAX_LINE_BYTES)
    }

    /// The expression over several lines, each part on one line if it takes at most `max_bytes`, indentation apart.
    pub fn pretty_within(&self, max_bytes: usize) -> String {
        let mut printer = Printer {
            out: String::new(),
            max_bytes,
        };
        // Writing to a string does not fail.
        let _ = printer.expr(self, 0);
        printer.out
    }
}

struct Printer {
    out: String,
    max_bytes: usize,
}

impl Printer {
    fn indent(&mut self, level: usize) {
        for _ in 0..level {
            self.out.push_str("  ");
        }
    }

    /// An expression, each of its lines indented.
    fn expr(&mut self, expr: &Expr, level: usize) -> fmt::Result {
        match &expr.kind {
            ExprKind::Unary(unary) => {
                self.indent(level);
                self.out.push_str(unary.op.as_str());
                self.behind_sign(&unary.expr, level)
            }
            // Upstream forgets to indent these.
            ExprKind::Subquery(_) if fits(expr, self.max_bytes) => write!(self.out, "{expr}"),
            ExprKind::Subquery(subquery) => {
                self.expr(&subquery.expr, level)?;
                write!(self.out, "{}", SubqueryTail(subquery))
            }
            _ if fits(expr, self.max_bytes) => {
                self.indent(level);
                write!(self.out, "{expr}")
            }
            _ => self.taken_apart(expr, level),
        }
    }

    fn taken_apart(&mut self, expr: &Expr, level: usize) -> fmt::Result {
        if let ExprKind::Binary(binary) = &expr.kind {
            if has_loose_sign(binary) {
                self.indent(level + 1);
                write!(self.out, "{}", LeftOperand(binary))?;
            } else {
                self.expr(&binary.lhs, level + 1)?;
            }
            self.out.push('\n');
            self.indent(level);
            writeln!(self.out, "{}", Operator(binary))?;
            return self.expr(&binary.rhs, level + 1);
        }
        self.indent(level);
        match &expr.kind {
            ExprKind::Aggregate(aggregate) => {
                writeln!(self.out, "{}(", AggregateHead(aggregate))?;
                if let Some(param) = &aggregate.param {
                    self.expr(param, level + 1)?;
                    self.out.push_str(",\n");
                }
                self.expr(&aggregate.expr, level + 1)?;
                self.close(level);
            }
            ExprKind::Call(call) if !call.args.is_empty() => {
                writeln!(self.out, "{}(", call.function.name)?;
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(",\n");
                    }
                    self.expr(arg, level + 1)?;
                }
                self.close(level);
            }
            ExprKind::Paren(inner) => {
                self.out.push_str("(\n");
                self.expr(inner, level + 1)?;
                self.close(level);
            }
            _ => write!(self.out, "{expr}")?,
        }
        Ok(())
    }

    /// What a sign stands before: its first line starts right behind the sign.
    fn behind_sign(&mut self, expr: &Expr, level: usize) -> fmt::Result {
        let start = self.out.len();
        self.expr(expr, level)?;
        let blanks = self
            .out
            .get(start..)
            .map_or(0, |added| added.len() - added.trim_start().len());
        self.out.replace_range(start..start + blanks, "");
        Ok(())
    }

    fn close(&mut self, level: usize) {
        self.out.push('\n');
        self.indent(level);
        self.out.push(')');
    }
}

/// Whether a text takes at most that many bytes; gives up as soon as it does not.
fn fits(text: &impl Display, max_bytes: usize) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(max_bytes), "{text}").is_ok()
}
