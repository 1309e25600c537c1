//! How far two answers agree.

use super::answer::{Answer, Outcome};
use std::collections::BTreeMap;
use tidegauge_model::Labels;
use tidegauge_query::parser::{AggregateOp, Expr, ExprKind, Function, Grouping};

/// How far a value may be off, relative to the larger: what "exact" means against a running Prometheus.
const TOLERANCE: f64 = 1e-9;

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Every value has the same bits; so has the text of an error.
    Exact,
    /// Some values differ in their last digits.
    Close,
    /// Both refuse, and the same kind of error, in other words.
    OtherWords(String),
    /// They disagree, and in what.
    Different(Difference, String),
}

/// In what two answers disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    /// One refuses.
    Refusal,
    /// Both refuse, but as different kinds of error.
    ErrorKind,
    /// The kind of result.
    Kind,
    /// The series.
    Series,
    /// The times of a series.
    Times,
    /// Values.
    Values,
    /// The order of an instant vector that was sorted.
    Order,
    /// One warns or informs.
    Notes,
}

/// How the annotations of answers that agree compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notes {
    /// Neither has any.
    None,
    /// The same texts.
    Same,
    /// The same texts but for places in the query.
    Moved,
    /// Other texts: ours and theirs.
    Other(String),
}

/// Compares ours with theirs.
pub(super) fn compare(expr: &Expr, ours: &Answer, theirs: &Answer) -> Verdict {
    use Difference as D;
    let (a, b) = match (&ours.result, &theirs.result) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(a), Err(b)) if a == b => return Verdict::Exact,
        (Err(a), Err(b)) if a.kind == b.kind => return Verdict::OtherWords(format!("{} | {}", a.text, b.text)),
        (Err(a), Err(b)) => return Verdict::Different(D::ErrorKind, format!("{a:?} | {b:?}")),
        (Ok(_), Err(b)) => return Verdict::Different(D::Refusal, format!("only theirs: {b:?}")),
        (Err(a), Ok(_)) => return Verdict::Different(D::Refusal, format!("only ours: {a:?}")),
    };
    if a.kind() != b.kind() {
        return Verdict::Different(D::Kind, format!("{} | {}", a.kind(), b.kind()));
    }
    let values = match (a, b) {
        (Outcome::Text(at, a), Outcome::Text(bt, b)) if (at, a) != (bt, b) => {
            return Verdict::Different(D::Values, format!("{a:?} | {b:?}"));
        }
        _ => match (a.by_series(), b.by_series()) {
            (Some(a), Some(b)) => series(&a, &b),
            (a, b) => {
                let twice = format!("a series twice: {} | {}", a.is_none(), b.is_none());
                Verdict::Different(D::Series, twice)
            }
        },
    };
    if matches!(values, Verdict::Different(..)) {
        return values;
    }
    if let Some(how) = order_differs(expr, a, b) {
        return Verdict::Different(D::Order, how);
    }
    let silent = |a: &[String], b: &[String]| a.is_empty() != b.is_empty();
    if silent(&ours.warnings, &theirs.warnings) || silent(&ours.infos, &theirs.infos) {
        let said = |answer: &Answer| format!("{:?} {:?}", answer.warnings, answer.infos);
        return Verdict::Different(D::Notes, format!("{} | {}", said(ours), said(theirs)));
    }
    values
}

/// Compares annotations.
pub(super) fn notes(ours: &Answer, theirs: &Answer) -> Notes {
    let all = |answer: &Answer| {
        let mut all: Vec<String> = answer.warnings.iter().chain(&answer.infos).cloned().collect();
        all.sort_unstable();
        all
    };
    let (a, b) = (all(ours), all(theirs));
    let unplaced = |texts: &[String]| {
        let mut cut: Vec<String> = texts
            .iter()
            .map(|text| {
                text.rsplit_once(" (")
                    .map_or(text.as_str(), |(text, _)| text)
                    .to_owned()
            })
            .collect();
        cut.sort_unstable();
        cut.dedup();
        cut
    };
    match () {
        () if a.is_empty() && b.is_empty() => Notes::None,
        () if a == b => Notes::Same,
        () if unplaced(&a) == unplaced(&b) => Notes::Moved,
        () => {
            let only = |x: &[String], y: &[String]| {
                let (x, y) = (unplaced(x), unplaced(y));
                x.into_iter().find(|text| !y.contains(text)).unwrap_or_default()
            };
            Notes::Other(format!("{} | {}", only(&a, &b), only(&b, &a)))
        }
    }
}

type BySeries = BTreeMap<Labels, Vec<(i64, f64)>>;

fn series(ours: &BySeries, theirs: &BySeries) -> Verdict {
    if !ours.keys().eq(theirs.keys()) {
        let only = |a: &BySeries, b: &BySeries| -> Vec<String> {
            a.keys()
                .filter(|l| !b.contains_key(l))
                .take(3)
                .map(ToString::to_string)
                .collect()
        };
        let how = format!(
            "{} | {}: only {:?} | only {:?}",
            ours.len(),
            theirs.len(),
            only(ours, theirs),
            only(theirs, ours)
        );
        return Verdict::Different(Difference::Series, how);
    }
    let mut exact = true;
    for ((labels, a), (_, b)) in ours.iter().zip(theirs) {
        if !a.iter().map(|(at, _)| at).eq(b.iter().map(|(at, _)| at)) {
            let odd = a
                .iter()
                .find(|p| !b.iter().any(|q| q.0 == p.0))
                .or_else(|| b.iter().find(|q| !a.iter().any(|p| q.0 == p.0)));
            return Verdict::Different(
                Difference::Times,
                format!("{labels}: {} | {} points: {odd:?}", a.len(), b.len()),
            );
        }
        for ((at, x), (_, y)) in a.iter().zip(b) {
            if !close(*x, *y) {
                return Verdict::Different(Difference::Values, format!("{labels} @ {at}: {x:?} | {y:?}"));
            }
            exact &= x.to_bits() == y.to_bits() || x.is_nan();
        }
    }
    if exact { Verdict::Exact } else { Verdict::Close }
}

/// Whether two values are the same or differ in their last digits.
pub(super) fn close(a: f64, b: f64) -> bool {
    let (distance, size) = ((a - b).abs(), a.abs().max(b.abs()));
    a == b || a.is_nan() && b.is_nan() || size.is_finite() && distance <= TOLERANCE * size
}

/// Whether an order that the query asks for is not the same. Upstream leaves the order of equal values open.
fn order_differs(expr: &Expr, ours: &Outcome, theirs: &Outcome) -> Option<String> {
    let (Outcome::Vector(a), Outcome::Vector(b)) = (ours, theirs) else {
        return None;
    };
    let (by_value, by_label) = match &expr.unparenthesised().kind {
        ExprKind::Call(call) => match call.function.function {
            Function::Sort | Function::SortDesc => (true, false),
            Function::SortByLabel | Function::SortByLabelDesc => (false, true),
            _ => return None,
        },
        ExprKind::Aggregate(aggregate) => {
            let one_group = matches!(&aggregate.grouping, Grouping::By(labels) if labels.is_empty());
            (
                matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk) && one_group,
                false,
            )
        }
        _ => return None,
    };
    let same_values = a.iter().zip(b).all(|(x, y)| close(x.2, y.2));
    let same_labels = a.iter().map(|s| &s.0).eq(b.iter().map(|s| &s.0));
    if by_value && !same_values || by_label && !same_labels {
        let shown = |samples: &[(Labels, i64, f64)]| -> Vec<String> {
            samples
                .iter()
                .take(6)
                .map(|(labels, _, value)| format!("{labels} {value}"))
                .collect()
        };
        return Some(format!("{:?} | {:?}", shown(a), shown(b)));
    }
    None
}
