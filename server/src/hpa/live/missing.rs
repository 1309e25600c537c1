//! Why a pod has no value of cpu or memory: what is stored of its containers, in words.

use crate::kubeapi::Sources;
use std::collections::BTreeMap;
use tidegauge_model::{
    Cancel, ColumnBuf, ColumnKind, Matcher, Queryable, ReadContext, SelectError, SelectHints, TimeRange, Timestamp,
    Values, is_stale,
};

/// What is looked at: a metric, and whether one sample of it is not enough.
const METRICS: [(&str, bool); 2] = [
    ("container_cpu_usage_seconds_total", true),
    ("container_memory_working_set_bytes", false),
];
/// The container that old kubelets list for what holds a pod's network.
const PAUSE: &str = "POD";

/// What is stored of a metric of a container.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kept {
    samples: usize,
    last: Timestamp,
    value: f64,
}

type Containers = BTreeMap<String, [Option<Kept>; 2]>;

/// Why a pod has no value; `None` if nothing can be said.
pub(super) fn why(sources: &Sources, namespace: &str, pod: &str, container: Option<&str>) -> Option<String> {
    let now = sources.clock.now();
    let lookback_ms = sources.engine.options().lookback_ms;
    let range = TimeRange::new(now.saturating_sub(lookback_ms.saturating_mul(2)), now);
    let found = read(sources, range, namespace, pod).ok()?;
    Some(said(&found, container, now, lookback_ms))
}

/// In a sentence.
fn said(found: &Containers, wanted: Option<&str>, now: Timestamp, lookback_ms: i64) -> String {
    if found.is_empty() {
        return "nothing is stored of its containers: is its node's kubelet scraped?".to_owned();
    }
    if let Some(wanted) = wanted.filter(|wanted| !found.contains_key(*wanted)) {
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        return format!("it has no container {wanted}: {}", names.join(", "));
    }
    for (name, kept) in found {
        for ((metric, needs_two), kept) in METRICS.iter().zip(kept) {
            let Some(kept) = kept else {
                return format!("nothing is stored of {metric} of its container {name}");
            };
            let age_ms = now.millis().saturating_sub(kept.last.millis());
            if age_ms >= lookback_ms {
                return format!("its container {name} was measured last {}s ago", age_ms / 1000);
            }
            if *needs_two && kept.samples < 2 {
                return format!(
                    "its container {name} was measured once, {}s ago, and use is told by two",
                    age_ms / 1000
                );
            }
            if kept.value <= 0.0 {
                return format!("{metric} of its container {name} is zero");
            }
        }
    }
    "a counter of its containers went back, as they began anew: the next samples will tell".to_owned()
}

fn read(sources: &Sources, range: TimeRange, namespace: &str, pod: &str) -> Result<Containers, SelectError> {
    let querier = sources.store.querier(range)?;
    let cx = ReadContext {
        cancel: Cancel::new(),
        meter: sources.engine.options().memory.clone(),
    };
    let mut found = Containers::new();
    for (no, (metric, _)) in METRICS.iter().enumerate() {
        let matchers = [
            Matcher::equal("__name__", *metric),
            Matcher::equal("namespace", namespace),
            Matcher::equal("pod", pod),
        ];
        let groups = querier.select(&matchers, &SelectHints::range(range), &cx)?;
        let mut buf = ColumnBuf::default();
        for group in &groups {
            for series in (0..group.len()).filter(|series| group.kind(*series) == ColumnKind::Float) {
                let labels = group.labels(series);
                let name = labels.value("container").to_owned();
                if name.is_empty() || name == PAUSE {
                    continue;
                }
                let column = group.read(series, &mut buf)?;
                let Values::Float(values) = column.values else { continue };
                // A stale marker ends what was before it.
                let samples = column.timestamps.iter().zip(values).rev();
                let mut living = samples.take_while(|(_, value)| !is_stale(**value));
                let Some((last, value)) = living.next() else { continue };
                let kept = Kept {
                    samples: 1 + living.count(),
                    last: *last,
                    value: *value,
                };
                if let Some(place) = found.entry(name).or_default().get_mut(no)
                    && place.is_none_or(|other| other.last < kept.last)
                {
                    *place = Some(kept);
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_of_the_first_container_that_lacks_it() {
        let now = Timestamp::from_millis(1_000_000);
        let kept = |samples, ago: i64, value| {
            Some(Kept {
                samples,
                last: now.saturating_sub(ago * 1000),
                value,
            })
        };
        let whole = [kept(2, 5, 1.0), kept(1, 5, 1e6)];
        for (found, wanted, expected) in [
            (vec![], None, "nothing is stored of its containers"),
            (vec![("app", whole)], Some("log"), "it has no container log: app"),
            (
                vec![("app", whole), ("log", [kept(1, 7, 1.0), kept(1, 7, 1e6)])],
                None,
                "its container log was measured once, 7s ago",
            ),
            (
                vec![("app", [kept(2, 400, 1.0), kept(2, 400, 1e6)])],
                None,
                "its container app was measured last 400s ago",
            ),
            (
                vec![("app", [kept(2, 5, 1.0), None])],
                None,
                "nothing is stored of container_memory_working_set_bytes of its container app",
            ),
            (
                vec![("app", [kept(2, 5, 0.0), kept(2, 5, 1e6)])],
                None,
                "container_cpu_usage_seconds_total of its container app is zero",
            ),
            (vec![("app", whole)], None, "a counter of its containers went back"),
        ] {
            let found: Containers = found.into_iter().map(|(name, kept)| (name.to_owned(), kept)).collect();
            let told = said(&found, wanted, now, 300_000);
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
