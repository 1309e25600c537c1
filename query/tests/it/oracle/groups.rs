//! Aggregations.

use super::labels::{is_label_name, text, with};
use super::numbers::{Sum, mean, plain, quantile};
use super::walk::Walk;
use super::{Failure, Item, Outcome, refused};
use std::cmp::Ordering;
use tidegauge_model::Labels;
use tidegauge_query::parser::{Aggregate, AggregateOp, Grouping};

impl Walk<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate, at: i64) -> Outcome<Vec<Item>> {
        use AggregateOp as Op;
        let items = self.vector(&aggregate.expr, at)?;
        if aggregate.op == Op::CountValues {
            return count_values(aggregate, items);
        }
        let param = match &aggregate.param {
            Some(param) => self.scalar(param, at)?,
            None => f64::NAN,
        };
        let mut groups: Vec<(Labels, Vec<Item>)> = Vec::new();
        for item in items {
            let labels = group_of(&aggregate.grouping, &item.labels);
            match groups.iter_mut().find(|g| g.0 == labels) {
                Some(group) => group.1.push(item),
                None => groups.push((labels, vec![item])),
            }
        }
        let mut out = Vec::new();
        if matches!(aggregate.op, Op::Topk | Op::Bottomk | Op::Limitk | Op::LimitRatio) {
            let Some(take) = how_many(aggregate.op, param)? else {
                return Ok(out);
            };
            for (_, mut members) in groups {
                best_first(aggregate.op, &mut members);
                members.truncate(take);
                out.append(&mut members);
            }
            return Ok(out);
        }
        for (labels, members) in groups {
            let values: Vec<f64> = members.iter().map(|m| m.value).collect();
            out.push(Item {
                labels,
                value: of_values(aggregate.op, param, &values)?,
                drop_name: members.iter().any(|m| m.drop_name),
            });
        }
        Ok(out)
    }
}

/// The labels of the group that a series belongs to.
fn group_of(grouping: &Grouping, labels: &Labels) -> Labels {
    let counts = |name: &str| match grouping {
        Grouping::By(listed) => listed.iter().any(|l| l == name),
        Grouping::Without(listed) => name != "__name__" && !listed.iter().any(|l| l == name),
    };
    Labels::from_sorted(labels.iter().filter(|(name, _)| counts(name)))
}

fn of_values(op: AggregateOp, param: f64, values: &[f64]) -> Outcome<f64> {
    use AggregateOp as Op;
    Ok(match op {
        Op::Sum => Sum::from_first(values).total(),
        Op::Avg => mean(values),
        Op::Count => values.len() as f64,
        Op::Group => 1.0,
        Op::Min => values
            .iter()
            .fold(f64::NAN, |best, v| if *v < best || best.is_nan() { *v } else { best }),
        Op::Max => values
            .iter()
            .fold(f64::NAN, |best, v| if *v > best || best.is_nan() { *v } else { best }),
        Op::Stddev => variance(values).sqrt(),
        Op::Stdvar => variance(values),
        Op::Quantile => quantile(param, values),
        _ => return Err(Failure::Unsupported("an aggregation")),
    })
}

/// The population variance, value by value.
fn variance(values: &[f64]) -> f64 {
    if !values[0].is_finite() {
        return f64::NAN;
    }
    let (mut mean, mut squares) = (values[0], 0.0);
    for (i, value) in values.iter().enumerate().skip(1) {
        let distance = value - mean;
        mean += distance / (i + 1) as f64;
        squares += distance * (value - mean);
    }
    squares / values.len() as f64
}

/// How many series of each group are chosen at most; `None` if the result is empty.
fn how_many(op: AggregateOp, param: f64) -> Outcome<Option<usize>> {
    if op == AggregateOp::LimitRatio {
        return match param {
            _ if param.is_nan() => refused("Ratio value is NaN"),
            _ if param == 0.0 => Ok(None),
            _ if param.abs() >= 1.0 => Ok(Some(usize::MAX)),
            _ => Err(Failure::Unsupported(
                "limit_ratio: which series it takes is up to their hash",
            )),
        };
    }
    if param.is_nan() {
        return refused("Parameter value is NaN");
    }
    if param < 1.0 && param > i64::MIN as f64 {
        return Ok(None);
    }
    if param <= i64::MIN as f64 {
        // An instant query looks at its one parameter first, a range query at the greatest.
        return Err(Failure::Unsupported("a parameter far below zero"));
    }
    if param >= i64::MAX as f64 {
        return refused("overflows int64");
    }
    Ok(Some(param as usize))
}

/// Greatest first for `topk`, least first for `bottomk`, NaN last; equal values stay as they are.
fn best_first(op: AggregateOp, members: &mut [Item]) {
    let order = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).unwrap(),
        (a, b) => a.cmp(&b),
    };
    members.sort_by(|a, b| match op {
        AggregateOp::Topk if !a.value.is_nan() && !b.value.is_nan() => order(b.value, a.value),
        AggregateOp::Topk | AggregateOp::Bottomk => order(a.value, b.value),
        _ => Ordering::Equal,
    });
}

fn count_values(aggregate: &Aggregate, items: Vec<Item>) -> Outcome<Vec<Item>> {
    let name = text(aggregate.param.as_deref());
    if !is_label_name(name) {
        return refused("invalid label name");
    }
    let mut out: Vec<Item> = Vec::new();
    for item in items {
        let labelled = with(&item.labels, name, &plain(item.value));
        let mut grouping = aggregate.grouping.clone();
        if let Grouping::By(listed) = &mut grouping {
            listed.push(name.to_owned());
        }
        let labels = group_of(&grouping, &labelled);
        match out.iter_mut().find(|o| o.labels == labels) {
            Some(group) => group.value += 1.0,
            None => out.push(Item {
                labels,
                value: 1.0,
                drop_name: false,
            }),
        }
    }
    Ok(out)
}
