//! Where the memory goes, by what each part accounts for itself.
//!
//! The allocator does not tell who took what, and asking it at each turn would cost more than it is worth. What parts
//! meter adds up to most of what is resident; the rest stands as such. See docs/decisions/0023.

use super::message::{Builder, Frame};
use crate::api::Listing;
use std::io;

/// What a metric is of: the names of the part, the outermost first, the metric, and a label that picks one of its
/// samples; without one, they are summed. A part whose name begins with that of another is taken out of it.
const PARTS: &[(&[&str], &str, &str)] = &[
    (&["head"], "tidegauge_memory_share_used_bytes", "head"),
    (&["head", "sealed runs"], "tidegauge_tsdb_head_run_bytes", ""),
    (&["head", "late samples"], "tidegauge_tsdb_head_late_bytes", ""),
    (&["head", "exemplars"], "tidegauge_tsdb_exemplar_bytes", ""),
    (&["queries"], "tidegauge_memory_share_used_bytes", "queries"),
    (&["bodies"], "tidegauge_memory_share_used_bytes", "scrape bodies"),
    (&["discovery", "target groups"], "tidegauge_sd_groups_bytes", ""),
    (
        &["discovery", "Kubernetes objects"],
        "tidegauge_sd_kubernetes_object_bytes",
        "",
    ),
];
const RESIDENT: &str = "process_resident_memory_bytes";

/// The profile, packed, of these listings.
///
/// # Errors
/// None but what the signature of the packer allows for.
pub(crate) fn profile(listings: &[Listing], now_ms: i64) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(&[("inuse_space", "bytes")], 1);
    builder.times(now_ms, 0);
    for (names, bytes) in parts(listings) {
        let outwards = names.iter().rev().chain(&["tidegauge"]);
        let locations = outwards.map(|name| {
            let frame = Frame {
                function: (*name).to_owned(),
                file: String::new(),
                line: 0,
            };
            builder.location(0, &[frame])
        });
        let locations = locations.collect();
        builder.sample(locations, vec![i64::try_from(bytes).unwrap_or(i64::MAX)]);
    }
    builder.packed()
}

/// What each part takes beyond the parts of it, and what nobody accounts for.
fn parts(listings: &[Listing]) -> Vec<(Vec<&'static str>, u64)> {
    let value = |name: &str, label: &str| {
        let found = listings.iter().filter(|listing| listing.0 == name);
        let samples = found.flat_map(|listing| &listing.3);
        let meant = samples.filter(|(labels, _)| label.is_empty() || labels.iter().any(|(_, value)| value == label));
        meant.map(|(_, value)| *value as u64).sum::<u64>()
    };
    let mut all: Vec<(Vec<&str>, u64)> = Vec::new();
    for (names, metric, label) in PARTS {
        let bytes = value(metric, label);
        if let [outer, _] = names
            && let Some((_, whole)) = all.iter_mut().find(|(names, _)| names == &[*outer])
        {
            *whole = whole.saturating_sub(bytes);
        }
        all.push((names.to_vec(), bytes));
    }
    let sum: u64 = all.iter().map(|(_, bytes)| bytes).sum();
    all.push((vec!["not accounted for"], value(RESIDENT, "").saturating_sub(sum)));
    all.retain(|(_, bytes)| *bytes > 0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::MetricKind;

    #[test]
    fn parts_add_up_to_what_is_resident() {
        let plain = |name, value| (name, "Help.", MetricKind::Gauge, vec![(vec![], value)]);
        let listings: Vec<Listing> = vec![
            (
                "tidegauge_memory_share_used_bytes",
                "Help.",
                MetricKind::Gauge,
                vec![
                    (vec![("share", "head".into())], 100.0),
                    (vec![("share", "queries".into())], 7.0),
                ],
            ),
            plain("tidegauge_tsdb_head_run_bytes", 30.0),
            plain("tidegauge_sd_groups_bytes", 5.0),
            plain(RESIDENT, 200.0),
        ];
        assert_eq!(
            parts(&listings),
            [
                (vec!["head"], 70),
                (vec!["head", "sealed runs"], 30),
                (vec!["queries"], 7),
                (vec!["discovery", "target groups"], 5),
                (vec!["not accounted for"], 88),
            ]
        );
        assert!(!profile(&listings, 1).unwrap().is_empty());
    }
}
