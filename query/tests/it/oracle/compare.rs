//! What the engine says beside what the oracle says.

use super::{Answer, Failure, Oracle, Outcome};
use std::collections::BTreeMap;
use tidegauge_model::{Labels, Queryable, Timestamp};
use tidegauge_query::parser::Expr;
use tidegauge_query::{Engine, Query, QueryError, QueryOutput, Value};

/// When an expression is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step_ms: i64 },
}

/// What came of an expression, in a form that does not tell who computed it.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// Values by time and series. A scalar is a series without labels.
    Values(Values),
    Text(String),
    /// The query is wrong on this data.
    Refused(String),
    /// Nobody can tell what it should be, or the oracle cannot.
    Unknown(&'static str),
}

pub(crate) type Values = BTreeMap<(i64, Labels), f64>;

/// Why nobody can tell what the answer should be.
pub(crate) const ORDER_MATTERS: &str = "depends on the order of series";

/// Asks the engine.
pub(crate) fn ask_engine(engine: &Engine, store: &dyn Queryable, query: &Query, when: When) -> Told {
    let ms = Timestamp::from_millis;
    told(match when {
        When::Instant(at) => engine.instant(store, query, ms(at)),
        When::Range { start, end, step_ms } => engine.range(store, query, ms(start), ms(end), step_ms),
    })
}

/// What the engine's outcome says. A label set that occurs twice at a time is no outcome: it panics.
pub(crate) fn told(outcome: Result<QueryOutput, QueryError>) -> Told {
    let mut values = Values::new();
    let mut put = |at: Timestamp, labels: &Labels, value: f64| {
        let twice = values.insert((at.millis(), labels.clone()), value);
        assert!(twice.is_none(), "{labels} twice at {at:?}");
    };
    match outcome.map(|output| output.value) {
        Ok(Value::Scalar(sample)) => put(sample.at, &Labels::empty(), sample.value),
        Ok(Value::String { text, .. }) => return Told::Text(text),
        Ok(Value::Vector(samples)) => samples.iter().for_each(|s| put(s.at, &s.labels, s.value)),
        Ok(Value::Matrix(series)) => {
            for one in &series {
                one.points.iter().for_each(|p| put(p.at, &one.labels, p.value));
            }
        }
        Err(error) => return Told::Refused(error.to_string()),
    }
    Told::Values(values)
}

/// Asks an oracle that has the series in their order and one that has them the other way round: where these two differ
/// the answer depends on the order of series, which is nobody's promise.
pub(crate) fn ask_oracles([forward, backward]: &[Oracle; 2], expr: &Expr, when: When) -> Told {
    let told = ask_oracle(forward, expr, when);
    match difference_beyond(ORDER, &told, &ask_oracle(backward, expr, when)) {
        Some(_) => Told::Unknown(ORDER_MATTERS),
        None => told,
    }
}

fn ask_oracle(oracle: &Oracle, expr: &Expr, when: When) -> Told {
    let answers: Outcome<Vec<(i64, Answer)>> = match when {
        When::Instant(at) => oracle.instant(expr, at).map(|answer| vec![(at, answer)]),
        When::Range { start, end, step_ms } => oracle.range(expr, start, end, step_ms),
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(Failure::Refused(why)) => return Told::Refused(why),
        Err(Failure::Unsupported(why)) => return Told::Unknown(why),
    };
    let mut values = Values::new();
    for (at, answer) in answers {
        match answer {
            Answer::Scalar(value) => {
                values.insert((at, Labels::empty()), value);
            }
            Answer::Text(text) => return Told::Text(text),
            Answer::Vector(items) => values.extend(items.into_iter().map(|i| ((at, i.labels), i.value))),
            Answer::Ranges(all) if all.iter().any(|one| one.extent.is_some()) => {
                return Told::Unknown("a range with an extent by itself");
            }
            Answer::Ranges(all) => {
                for one in all {
                    values.extend(one.samples.iter().map(|(t, v)| ((*t, one.labels.clone()), *v)));
                }
            }
        }
    }
    Told::Values(values)
}

/// How far answers may lie apart, relative to the greater, for additions in another order. (A variance of large numbers
/// that are close together loses digits: [`ORDER`] finds it before.)
const ADDITIONS: f64 = 1e-9;

/// Beyond it the order of series matters.
const ORDER: f64 = 1e-11;

/// In what two answers differ, in words; `None` if they do not. What is unknown differs from nothing; that both are
/// refused is enough.
pub(crate) fn difference(a: &Told, b: &Told) -> Option<String> {
    difference_beyond(ADDITIONS, a, b)
}

fn difference_beyond(tolerance: f64, a: &Told, b: &Told) -> Option<String> {
    match (a, b) {
        (Told::Unknown(_), _) | (_, Told::Unknown(_)) | (Told::Refused(_), Told::Refused(_)) => None,
        (Told::Text(a), Told::Text(b)) if a == b => None,
        (Told::Values(a), Told::Values(b)) => {
            let missing = a
                .keys()
                .find(|key| !b.contains_key(key))
                .map(|key| ("only the first has", key));
            let added = b
                .keys()
                .find(|key| !a.contains_key(key))
                .map(|key| ("only the second has", key));
            if let Some((what, (at, labels))) = missing.or(added) {
                return Some(format!("{what} {labels} at {at}"));
            }
            let (key, x, y) = a
                .iter()
                .map(|(key, x)| (key, *x, b[key]))
                .find(|(_, x, y)| !close(tolerance, *x, *y))?;
            Some(format!("{} at {} is {x:e} or {y:e}", key.1, key.0))
        }
        _ => Some(format!("{} or {}", short(a), short(b))),
    }
}

fn short(told: &Told) -> String {
    match told {
        Told::Values(values) => format!("{} values", values.len()),
        other => format!("{other:?}"),
    }
}

fn close(tolerance: f64, a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * a.abs().max(b.abs())
}

/// The smallest part of an expression for which something holds that holds for the whole.
pub(crate) fn smallest<'e>(expr: &'e Expr, holds: &dyn Fn(&Expr) -> bool) -> &'e Expr {
    let part = expr.children().into_iter().find(|child| holds(child));
    part.map_or(expr, |child| smallest(child, holds))
}
