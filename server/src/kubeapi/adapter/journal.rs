//! What was asked last, and what came of it.

use super::rule::Group;
use std::collections::HashMap;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// More metrics are not kept track of.
const MAX_METRICS: usize = 1000;
/// As much of a query is kept.
const MAX_QUERY_BYTES: usize = 4096;

/// The last query for each metric that was asked for.
#[derive(Debug, Default)]
pub(super) struct Journal(HashMap<(Group, String, String), Asked>);

/// What was asked of a metric.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) last: Option<Arc<Query>>,
    /// The last one that gave less than was asked for.
    pub(super) failed: Option<Arc<Query>>,
}

/// A query and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) at: Timestamp,
    pub(super) namespace: String,
    /// PromQL; cut if it is long.
    pub(super) text: String,
    pub(super) rows: usize,
    pub(super) values: usize,
    pub(super) problem: Option<String>,
}

impl Journal {
    /// Notes a query; the kind is empty for an external metric.
    pub(super) fn note(&mut self, group: Group, kind: &str, metric: &str, mut query: Query) {
        if let Some((at, _)) = query.text.char_indices().find(|(at, _)| *at >= MAX_QUERY_BYTES) {
            query.text.truncate(at);
            query.text.push('…');
        }
        let key = (group, kind.to_owned(), metric.to_owned());
        if self.0.len() >= MAX_METRICS && !self.0.contains_key(&key) {
            let oldest = self
                .0
                .iter()
                .min_by_key(|(_, asked)| asked.last.as_ref().map(|query| query.at));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.0.remove(&oldest);
            }
        }
        let asked = self.0.entry(key).or_default();
        let query = Arc::new(query);
        if query.problem.is_some() {
            asked.failed = Some(Arc::clone(&query));
        }
        asked.last = Some(query);
    }

    /// What was asked of a metric.
    pub(super) fn of(&self, group: Group, kind: &str, metric: &str) -> Asked {
        let key = (group, kind.to_owned(), metric.to_owned());
        self.0.get(&key).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut journal = Journal::default();
        for i in 0..1500i64 {
            let query = Query {
                at: Timestamp::from_millis(i),
                namespace: String::new(),
                text: "é".repeat(3000),
                rows: 1,
                values: 0,
                problem: (i % 2 == 0).then(|| "none".to_owned()),
            };
            journal.note(Group::Custom, "pods", &format!("m{}", i / 2 * 2), query);
        }
        assert_eq!(journal.0.len(), 750);
        let asked = journal.of(Group::Custom, "pods", "m700");
        assert_eq!(
            (asked.last.unwrap().at.millis(), asked.failed.unwrap().at.millis()),
            (701, 700)
        );
        assert!(journal.of(Group::External, "", "m700").last.is_none());
        for i in 0..1000 {
            let last = journal.of(Group::Custom, "pods", "m1498").last.unwrap();
            journal.note(
                Group::External,
                "",
                &i.to_string(),
                Query {
                    at: Timestamp::from_millis(9000),
                    ..(*last).clone()
                },
            );
        }
        assert_eq!(journal.0.len(), MAX_METRICS);
        assert!(journal.of(Group::Custom, "pods", "m0").last.is_none());
    }
}
