//! The walk over the tree.

use super::{Answer, Failure, Item, Oracle, Outcome, Ranged, refused};
use std::cell::Cell;
use std::collections::HashSet;
use tidegauge_model::Labels;
use tidegauge_query::parser::{DurationContext, Expr, ExprKind, UnaryOp, ValueType};

/// The labels that say what a metric is.
pub(super) const METADATA: [&str; 3] = ["__name__", "__type__", "__unit__"];

/// One query being evaluated.
pub(super) struct Walk<'o> {
    pub(super) oracle: &'o Oracle,
    /// What `start()` and `end()` stand for.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) durations: DurationContext,
    pub(super) work_left: Cell<u64>,
}

impl Walk<'_> {
    /// The answer of a whole query at a step: as [`Walk::value`], and names that were to go at the end have gone.
    pub(super) fn answer(&self, expr: &Expr, at: i64) -> Outcome<Answer> {
        let mut answer = self.value(expr, at)?;
        match &mut answer {
            Answer::Vector(items) => {
                for item in items.iter_mut().filter(|i| i.drop_name) {
                    item.labels = item.labels.without(&METADATA);
                }
                only_once(items.iter().map(|i| &i.labels))?;
            }
            Answer::Ranges(all) => {
                for one in all.iter_mut().filter(|r| r.drop_name) {
                    one.labels = one.labels.without(&METADATA);
                }
                only_once(all.iter().map(|r| &r.labels))?;
            }
            Answer::Scalar(_) | Answer::Text(_) => {}
        }
        Ok(answer)
    }

    pub(super) fn value(&self, expr: &Expr, at: i64) -> Outcome<Answer> {
        let mut answer = self.unordered(expr, at)?;
        let order = |a: &Labels, b: &Labels| if self.oracle.reverse { b.cmp(a) } else { a.cmp(b) };
        match &mut answer {
            Answer::Vector(items) => items.sort_by(|a, b| order(&a.labels, &b.labels)),
            Answer::Ranges(all) => all.sort_by(|a, b| order(&a.labels, &b.labels)),
            Answer::Scalar(_) | Answer::Text(_) => {}
        }
        Ok(answer)
    }

    fn unordered(&self, expr: &Expr, at: i64) -> Outcome<Answer> {
        Ok(match &expr.kind {
            ExprKind::Number(number) => Answer::Scalar(number.value),
            ExprKind::String(text) => Answer::Text(text.value.clone()),
            ExprKind::Paren(inner) => self.value(inner, at)?,
            ExprKind::Vector(selector) => Answer::Vector(self.newest(selector, at)?),
            ExprKind::Matrix(selector) => Answer::Ranges(self.samples(selector, at)?),
            ExprKind::Subquery(subquery) => Answer::Ranges(self.subquery(subquery, at)?),
            ExprKind::Aggregate(aggregate) => Answer::Vector(self.aggregate(aggregate, at)?),
            ExprKind::Binary(binary) => self.binary(binary, at)?,
            ExprKind::Unary(unary) => match (unary.op, self.value(&unary.expr, at)?) {
                (UnaryOp::Plus, value) => value,
                (UnaryOp::Minus, Answer::Scalar(value)) => Answer::Scalar(-value),
                (UnaryOp::Minus, Answer::Vector(items)) => Answer::Vector(self.changed(items, |value| -value)?),
                (UnaryOp::Minus, _) => return refused("a sign before what is no number"),
            },
            ExprKind::Call(call) => self.call(call, at)?,
        })
    }

    pub(super) fn scalar(&self, expr: &Expr, at: i64) -> Outcome<f64> {
        match self.value(expr, at)? {
            Answer::Scalar(value) => Ok(value),
            _ => refused("expected a scalar"),
        }
    }

    pub(super) fn vector(&self, expr: &Expr, at: i64) -> Outcome<Vec<Item>> {
        match self.value(expr, at)? {
            Answer::Vector(items) => Ok(items),
            _ => refused("expected an instant vector"),
        }
    }

    pub(super) fn ranges(&self, expr: &Expr, at: i64) -> Outcome<Vec<Ranged>> {
        match self.value(expr, at)? {
            Answer::Ranges(all) => Ok(all),
            _ => refused("expected a range vector"),
        }
    }

    /// The argument of a call that is a range vector.
    pub(super) fn range_argument(args: &[Expr]) -> Option<usize> {
        args.iter().position(|arg| arg.value_type() == ValueType::Matrix)
    }

    /// New values, which are no longer what the metric was: its name goes.
    pub(super) fn changed(&self, items: Vec<Item>, f: impl Fn(f64) -> f64) -> Outcome<Vec<Item>> {
        let renamed = items.into_iter().map(|item| Item {
            value: f(item.value),
            ..self.nameless(item)
        });
        self.distinct(renamed.collect())
    }

    /// A series without its name, or with the mark that it is to go.
    pub(super) fn nameless(&self, item: Item) -> Item {
        if self.oracle.delayed_names {
            return Item {
                drop_name: true,
                ..item
            };
        }
        Item {
            labels: item.labels.without(&METADATA),
            ..item
        }
    }

    /// Refuses a vector in which a label set occurs twice.
    pub(super) fn distinct(&self, items: Vec<Item>) -> Outcome<Vec<Item>> {
        match only_once(items.iter().map(|i| &i.labels)) {
            // An instant query looks at the end only, a range query here: let them.
            Err(_) if self.oracle.delayed_names => Err(Failure::Unsupported("twins before names are dropped")),
            Err(error) => Err(error),
            Ok(()) => Ok(items),
        }
    }

    /// Counts work; too much of it is not worth the time.
    pub(super) fn work(&self, samples: usize) -> Outcome<()> {
        match self.work_left.get().checked_sub(samples as u64 + 1) {
            Some(left) => {
                self.work_left.set(left);
                Ok(())
            }
            None => Err(Failure::Unsupported("too much work")),
        }
    }
}

pub(super) fn only_once<'l>(labels: impl Iterator<Item = &'l Labels>) -> Outcome<()> {
    let mut seen = HashSet::new();
    for one in labels {
        if !seen.insert(one) {
            return refused("vector cannot contain metrics with the same labelset");
        }
    }
    Ok(())
}
