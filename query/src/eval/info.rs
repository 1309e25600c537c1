//! `info`: labels of info metrics added to the series they describe.
//!
//! # Reference
//! Prometheus `promql/info.go`.

use super::aggregate::operand;
use super::call::bare;
use super::collect::collect;
use super::selector::{Take, instant_rows};
use super::table::{Head, Table, is_present};
use super::{Cx, table::ABSENT};
use crate::error::QueryError;
use crate::plan::{CallNode, Node, Select, Source};
use crate::window::Grid;
use hashbrown::{HashMap, HashSet};
use tidegauge_model::{
    Labels, LabelsBuilder, MatchOp, Matcher, reserved::INSTANCE, reserved::JOB, reserved::METRIC_NAME,
};

/// The info metric that is meant if none is named.
const TARGET_INFO: &str = "target_info";
/// The labels by which series and info metrics find each other.
const IDENTIFYING: [&str; 2] = [INSTANCE, JOB];

/// Evaluates `info`.
pub(crate) fn info(cx: &Cx<'_>, node: &CallNode, grid: Grid) -> Result<Table, QueryError> {
    let Some(arg) = node.args.first() else {
        return Ok(cx.table(grid.len));
    };
    let base = operand(cx, arg, grid)?;
    let asked = Asked::new(node)?;
    let is_info: Vec<bool> = base
        .heads
        .iter()
        .map(|h| asked.is_info(h.labels.value(METRIC_NAME)))
        .collect();
    let infos = fetch(cx, arg, &base, &is_info, &asked, grid)?;
    let mut out: HashMap<Labels, usize> = HashMap::new();
    let mut rows: Vec<(Head, Vec<f64>)> = Vec::new();
    let mut held = cx.held();
    let groups = Infos::new(&infos, grid)?;
    for (row, head) in base.heads.iter().enumerate() {
        cx.check()?;
        let mut made: HashMap<Vec<usize>, Option<Labels>> = HashMap::new();
        for (step, value) in base.row(row).iter().enumerate() {
            if !is_present(*value) {
                continue;
            }
            let labels = if is_info[row] {
                Some(head.labels.clone())
            } else {
                let found = groups.at(&head.labels, step);
                match made.get(&found) {
                    Some(labels) => labels.clone(),
                    None => {
                        let labels = asked.enrich(&head.labels, &infos, &found)?;
                        made.insert(found, labels.clone());
                        labels
                    }
                }
            };
            let Some(labels) = labels else {
                continue;
            };
            let index = *out.entry(labels.clone()).or_insert(rows.len());
            if index == rows.len() {
                held.grow(0, grid.len, labels.heap_bytes())?;
                let head = Head {
                    labels,
                    drop_name: head.drop_name,
                };
                rows.push((head, vec![ABSENT; grid.len]));
            }
            let cell = &mut rows[index].1[step];
            if is_present(*cell) {
                return Err(super::table::same_labelset());
            }
            *cell = *value;
        }
    }
    let mut table = cx.table(grid.len);
    for (head, values) in rows {
        table.push(head, &values)?;
    }
    Ok(table)
}

/// What the second argument asks for.
struct Asked {
    /// Which info metrics.
    names: Vec<Matcher>,
    /// Which of their labels, and with which values.
    data: Vec<Matcher>,
}

impl Asked {
    fn new(node: &CallNode) -> Result<Self, QueryError> {
        let matchers = match node.args.get(1).map(bare) {
            Some(Node::Select(select)) => Some(&select.matchers),
            _ => None,
        };
        let is_name = |m: &&Matcher| m.name() == METRIC_NAME;
        let (names, data) = match matchers {
            Some(all) => (
                all.iter().filter(is_name).cloned().collect::<Vec<_>>(),
                all.iter().filter(|m| !is_name(m)).cloned().collect(),
            ),
            None => (Vec::new(), Vec::new()),
        };
        let mut names = names;
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if names.iter().all(Matcher::is_negative) {
            // Without a hint of what an info metric is called, the convention holds.
            let any = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info");
            names.push(any.map_err(|e| QueryError::execution(e.to_string()))?);
        }
        Ok(Self { names, data })
    }

    /// Whether a series is itself an info metric, and stays as it is.
    fn is_info(&self, name: &str) -> bool {
        self.names.iter().all(|m| m.matches(name))
    }

    /// The labels of a series with those of the info series added; `None` if it is to go.
    fn enrich(&self, base: &Labels, infos: &Table, found: &[usize]) -> Result<Option<Labels>, QueryError> {
        if found.is_empty() && self.data.iter().any(|m| !m.matches_empty()) {
            return Ok(None);
        }
        let mut added = LabelsBuilder::new();
        for row in found {
            for (name, value) in infos.heads[*row].labels.iter() {
                if name == METRIC_NAME || !self.data.is_empty() && !self.data.iter().any(|m| m.name() == name) {
                    continue;
                }
                let other = added.get(name);
                if !other.is_empty() && other != value {
                    return Err(QueryError::execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.set(name, value);
                }
            }
        }
        let mut labels = LabelsBuilder::from_labels(base);
        for (name, value) in added.iter() {
            labels.set(name, value);
        }
        Ok(Some(labels.build()))
    }
}

/// The info series that may describe some series of `base`; their values are the times of their samples.
fn fetch(
    cx: &Cx<'_>,
    arg: &Node,
    base: &Table,
    is_info: &[bool],
    asked: &Asked,
    grid: Grid,
) -> Result<Table, QueryError> {
    let mut matchers = Vec::new();
    for name in IDENTIFYING {
        let values: HashSet<&str> = base
            .heads
            .iter()
            .zip(is_info)
            .filter(|(_, is_info)| !**is_info)
            .filter_map(|(head, _)| head.labels.get(name))
            .collect();
        if !values.is_empty() {
            let mut values: Vec<String> = values.into_iter().map(regex::escape).collect();
            values.sort_unstable();
            let matcher = Matcher::new(MatchOp::Regex, name, values.join("|"));
            matchers.push(matcher.map_err(|e| QueryError::execution(e.to_string()))?);
        }
    }
    if matchers.is_empty() {
        return Ok(cx.table(grid.len));
    }
    matchers.extend(asked.names.iter().chain(&asked.data).cloned());
    let own = When { at: None, offset_ms: 0 };
    let When { at, offset_ms } = own.of(arg).unwrap_or(own);
    let select = Select {
        matchers,
        offset_ms,
        at,
        extent: None,
        presence_only: true,
    };
    collect(cx, grid, |make| instant_rows(cx, &select, grid, Take::Time, make))
}

/// When the first selector below a node looks: info series are looked up at its time.
#[derive(Debug, Clone, Copy)]
struct When {
    at: Option<i64>,
    offset_ms: i64,
}

impl When {
    /// The time within something that is shifted or pinned.
    fn within(self, at: Option<i64>, offset_ms: i64) -> Self {
        match at {
            Some(_) => Self { at, offset_ms },
            None => Self {
                at: self.at,
                offset_ms: self.offset_ms.saturating_add(offset_ms),
            },
        }
    }

    /// The time of the first selector below a node.
    fn of(self, node: &Node) -> Option<Self> {
        let select = |s: &Select| Some(self.within(s.at, s.offset_ms));
        match node {
            Node::Select(s) => select(s),
            Node::Window(window) => match &window.source {
                Source::Series(s) => select(s),
                Source::Subquery {
                    expr, offset_ms, at, ..
                } => self.within(*at, *offset_ms).of(expr),
            },
            Node::Call(call) => call.args.iter().find_map(|arg| self.of(arg)),
            Node::Aggregate(aggregate) => self.of(&aggregate.expr),
            Node::Binary(binary) => self.of(&binary.lhs).or_else(|| self.of(&binary.rhs)),
            Node::Negate(inner) | Node::Once(inner) => self.of(inner),
            Node::Number(_) | Node::Text(_) => None,
        }
    }
}

/// Info series by what they describe and by step.
struct Infos {
    names: Vec<String>,
    /// By metric name and identifying labels, the info series that counts at each step.
    newest: HashMap<(String, Labels), Vec<Option<usize>>>,
}

impl Infos {
    /// # Errors
    /// Two info series say something about the same series at the same time.
    fn new(infos: &Table, grid: Grid) -> Result<Self, QueryError> {
        let mut names: Vec<String> = Vec::new();
        let mut newest: HashMap<(String, Labels), Vec<Option<usize>>> = HashMap::new();
        for (row, head) in infos.heads.iter().enumerate() {
            let name = head.labels.value(METRIC_NAME).to_owned();
            names.push(name.clone());
            let steps = newest
                .entry((name, head.labels.keep(&IDENTIFYING)))
                .or_insert_with(|| vec![None; grid.len]);
            for (step, (best, at)) in steps.iter_mut().zip(infos.row(row)).enumerate() {
                if !is_present(*at) {
                    continue;
                }
                let Some(other) = *best else {
                    *best = Some(row);
                    continue;
                };
                let other_at = infos.row(other)[step];
                if other_at == *at {
                    let ms = |s: f64| (s * 1000.0).round() as i64;
                    return Err(QueryError::execution(format!(
                        "found duplicate series for info metric: existing {} @ {}, new {} @ {}",
                        infos.heads[other].labels,
                        ms(other_at),
                        head.labels,
                        ms(*at)
                    )));
                }
                if *at > other_at {
                    *best = Some(row);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(Self { names, newest })
    }

    /// The info series that describe a series at a step.
    fn at(&self, labels: &Labels, step: usize) -> Vec<usize> {
        let identity = labels.keep(&IDENTIFYING);
        let of_name = |name: &String| {
            let steps = self.newest.get(&(name.clone(), identity.clone()))?;
            steps.get(step).copied().flatten()
        };
        self.names.iter().filter_map(of_name).collect()
    }
}
