//! `info`: to each series the labels of the info series that describe the same instance and job.

use super::walk::{Walk, only_once};
use super::{Failure, Item, Outcome, refused};
use tidegauge_model::{Labels, LabelsBuilder, MatchOp, Matcher};
use tidegauge_query::parser::{Call, Expr, ExprKind, VectorSelector};

const NAME: &str = "__name__";
/// What tells which info series belongs to which series.
const IDENTITY: [&str; 2] = ["instance", "job"];

impl Walk<'_> {
    pub(super) fn info(&self, call: &Call, at: i64) -> Outcome<Vec<Item>> {
        let base = self.vector(&call.args[0], at)?;
        let asked: Vec<Matcher> = match call.args.get(1).map(|arg| &arg.unparenthesised().kind) {
            Some(ExprKind::Vector(selector)) => selector.matchers.clone(),
            _ => Vec::new(),
        };
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) = asked.into_iter().partition(|m| m.name() == NAME);
        if names.is_empty() {
            names.push(Matcher::equal(NAME, "target_info"));
        } else if names.iter().all(Matcher::is_negative) {
            names.push(Matcher::new(MatchOp::Regex, NAME, ".+_info").unwrap());
        }
        let is_info = |labels: &Labels| names.iter().all(|m| m.matches(labels.value(NAME)));
        let infos = if base.iter().all(|item| is_info(&item.labels)) {
            Vec::new()
        } else {
            self.info_series(&call.args[0], names.iter().chain(&data).cloned().collect(), at)?
        };
        let mut out = Vec::new();
        for item in base {
            if is_info(&item.labels) {
                out.push(item);
                continue;
            }
            let identity = item.labels.keep(&IDENTITY);
            let found: Vec<&Labels> = infos.iter().filter(|i| i.keep(&IDENTITY) == identity).collect();
            if identity.is_empty() && !found.is_empty() {
                return Err(Failure::Unsupported("info of series without identity"));
            }
            if found.is_empty() && data.iter().any(|m| !m.matches("")) {
                continue;
            }
            let labels = enriched(&item.labels, &found, &data)?;
            out.push(Item { labels, ..item });
        }
        only_once(out.iter().map(|i| &i.labels))?;
        Ok(out)
    }

    /// The info series at a time, of each name and identity the newest. They are looked for when the first selector
    /// below the argument looks.
    fn info_series(&self, arg: &Expr, matchers: Vec<Matcher>, at: i64) -> Outcome<Vec<Labels>> {
        let Some(like) = first_selector(arg)? else {
            return Err(Failure::Unsupported("info without a selector"));
        };
        let selector = VectorSelector {
            name: None,
            matchers,
            extent: None,
            ..like.clone()
        };
        let mut newest: Vec<(Labels, i64)> = Vec::new();
        for (item, when) in self.newest_samples(&selector, at)? {
            if item.labels.keep(&IDENTITY).is_empty() {
                continue;
            }
            let key = |l: &Labels| (l.value(NAME).to_owned(), l.keep(&IDENTITY));
            match newest.iter_mut().find(|n| key(&n.0) == key(&item.labels)) {
                Some(other) if other.1 == when => return refused("found duplicate series for info metric"),
                Some(other) if other.1 < when => *other = (item.labels, when),
                Some(_) => {}
                None => newest.push((item.labels, when)),
            }
        }
        Ok(newest.into_iter().map(|n| n.0).collect())
    }
}

/// The selector that comes first; within a subquery it looks at other times, which is not followed here.
fn first_selector(expr: &Expr) -> Outcome<Option<&VectorSelector>> {
    match &expr.kind {
        ExprKind::Vector(selector) => Ok(Some(selector)),
        ExprKind::Matrix(matrix) => Ok(Some(&matrix.vector)),
        ExprKind::Subquery(_) => Err(Failure::Unsupported("info over a subquery")),
        ExprKind::Aggregate(aggregate) => first_selector(&aggregate.expr),
        _ => {
            for child in expr.children() {
                if let Some(found) = first_selector(child)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }
}

/// A series with the labels it lacks, of those that are asked for.
fn enriched(base: &Labels, infos: &[&Labels], data: &[Matcher]) -> Outcome<Labels> {
    let mut added = LabelsBuilder::new();
    for (name, value) in infos.iter().flat_map(|i| i.iter()) {
        let asked_for = data.is_empty() || data.iter().any(|m| m.name() == name);
        if name == NAME || !asked_for {
            continue;
        }
        if !added.get(name).is_empty() && added.get(name) != value {
            return refused("conflicting label");
        }
        if base.get(name).is_none() {
            added.set(name, value);
        }
    }
    let mut labels = LabelsBuilder::from_labels(base);
    added.iter().for_each(|(name, value)| {
        labels.set(name, value);
    });
    Ok(labels.build())
}
