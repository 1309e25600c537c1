//! What the index knows: the names of series, and which labels they have.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use tidegauge_model::{Matcher, Queryable, ReadContext, SelectError, TimeRange, reserved};

/// By the name of series: every label that one of them has, the name's own apart.
pub(crate) type Names = BTreeMap<String, BTreeSet<String>>;

/// The names of the series that match and may have samples in a span of time, and how many series there are.
///
/// # Errors
/// As any read.
pub(super) fn names(
    store: &dyn Queryable,
    range: TimeRange,
    matchers: &[Matcher],
    cx: &ReadContext,
) -> Result<(Names, usize), SelectError> {
    let table = store.querier(range)?.series_table(matchers, 0, cx)?.items;
    // A pair stands in many rows: what it says is looked up once, and rows are numbers alone.
    let mut labels: Vec<&str> = Vec::new();
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let mut series: Vec<&str> = Vec::new();
    let mut series_numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let mut pairs = Vec::with_capacity(table.pair_count());
    for pair in 0..table.pair_count() {
        let (name, value) = table.pair(u32::try_from(pair).unwrap_or(u32::MAX));
        pairs.push(match name {
            reserved::METRIC_NAME => Part::Series(number(value, &mut series_numbers, &mut series)),
            label => Part::Label(number(label, &mut numbers, &mut labels)),
        });
    }
    let mut seen: HashSet<(u32, u32)> = HashSet::new();
    let mut found = Names::new();
    for row in 0..table.len() {
        let parts = || table.row(row).iter().filter_map(|pair| pairs.get(*pair as usize));
        let name = parts().find_map(|part| match part {
            Part::Series(number) => Some(*number),
            Part::Label(_) => None,
        });
        let Some(name) = name else { continue };
        let Some(text) = series.get(name as usize) else {
            continue;
        };
        for part in parts() {
            let Part::Label(label) = part else {
                // Also a series without any label is one.
                if !found.contains_key(*text) {
                    found.insert((*text).to_owned(), BTreeSet::new());
                }
                continue;
            };
            if seen.insert((name, *label))
                && let Some(label) = labels.get(*label as usize)
            {
                found.entry((*text).to_owned()).or_default().insert((*label).to_owned());
            }
        }
    }
    Ok((found, table.len()))
}

/// What a pair says.
enum Part {
    Series(u32),
    Label(u32),
}

fn number<'t>(text: &'t str, numbers: &mut BTreeMap<&'t str, u32>, texts: &mut Vec<&'t str>) -> u32 {
    *numbers.entry(text).or_insert_with(|| {
        texts.push(text);
        u32::try_from(texts.len() - 1).unwrap_or(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::testing::MemoryStore;
    use tidegauge_model::{Labels, Timestamp};

    #[test]
    fn names_have_the_labels_of_all_their_series() {
        let store = MemoryStore::new();
        let series: [&[(&str, &str)]; 4] = [
            &[("__name__", "up"), ("job", "a"), ("pod", "x")],
            &[("__name__", "up"), ("job", "b"), ("node", "n")],
            &[("__name__", "bare")],
            &[("__name__", "other"), ("job", "a")],
        ];
        for labels in series {
            let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
            store.insert(&labels, Timestamp::from_millis(1000), 1.0);
        }
        let range = TimeRange::new(Timestamp::from_millis(0), Timestamp::from_millis(2000));
        let cx = ReadContext::unlimited();
        let (all, count) = names(&store, range, &[], &cx).unwrap();
        let told: Vec<String> = all
            .iter()
            .map(|(name, labels)| format!("{name}:{}", labels.iter().cloned().collect::<Vec<_>>().join(",")))
            .collect();
        assert_eq!(
            (told.as_slice(), count),
            (&["bare:", "other:job", "up:job,node,pod"].map(str::to_owned)[..], 4)
        );
        let (some, count) = names(&store, range, &[Matcher::equal("job", "a")], &cx).unwrap();
        assert_eq!((some.len(), some["up"].len(), count), (2, 2, 2));
    }
}
