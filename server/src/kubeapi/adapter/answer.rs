//! From the rows of a query to the values of objects.

use crate::kubeapi::Selector;
use std::collections::{HashMap, HashSet};
use tidegauge_model::Labels;
use tidegauge_query::InstantSample;

/// What the rows of a query say of the objects that were asked for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Matched {
    /// In thousandths, in the order in which the objects were asked for.
    pub(super) values: Vec<(String, i64)>,
    /// What kept rows from being values.
    pub(super) problem: Option<String>,
}

/// Which rows are meant.
pub(super) struct Wanted<'w> {
    /// The label that names the object.
    pub(super) label: &'w str,
    /// Whose objects.
    pub(super) names: &'w [String],
    /// The label of the namespace and the namespace. A row without the label is not of another.
    pub(super) namespace: Option<(&'w str, &'w str)>,
    /// What the rows' labels must also be, if the query could not say it.
    pub(super) selector: Option<&'w Selector>,
}

/// Thousandths of a value, cut as upstream cuts them; `None` for what is no number, or too large for one.
pub(super) fn milli(value: f64) -> Option<i64> {
    let scaled = (value * 1000.0).trunc();
    // The first float that is beyond.
    (scaled.abs() < 9_223_372_036_854_775_808.0).then_some(scaled as i64)
}

impl Wanted<'_> {
    fn takes(&self, labels: &Labels) -> bool {
        let of_another = self
            .namespace
            .is_some_and(|(label, name)| labels.get(label).is_some_and(|is| !is.is_empty() && is != name));
        !of_another && self.selector.is_none_or(|selector| selected(selector, labels))
    }

    /// Gives each object its value.
    ///
    /// # Errors
    /// If an object has several: none of them is the one that was asked for.
    pub(super) fn find(&self, rows: &[InstantSample]) -> Result<Matched, String> {
        let names: HashSet<&str> = self.names.iter().map(String::as_str).collect();
        let mut found: HashMap<&str, &InstantSample> = HashMap::new();
        let mut nameless = 0;
        for row in rows.iter().filter(|row| self.takes(&row.labels)) {
            match row.labels.get(self.label) {
                Some(name) if names.contains(name) => {
                    if let Some(other) = found.insert(name, row) {
                        return Err(format!(
                            "the query gives several series for {} {name:?}: {} and {}; sum(…) by (<<.GroupBy>>) would make \
                             one of them",
                            self.label, other.labels, row.labels
                        ));
                    }
                }
                Some(_) => {}
                None => nameless += 1,
            }
        }
        let mut matched = Matched::default();
        for name in self.names {
            let Some(row) = found.get(name.as_str()) else { continue };
            match milli(row.value) {
                Some(milli) => matched.values.push((name.clone(), milli)),
                None => {
                    let told = format!("the value of {name} is {}, which is no quantity", row.value);
                    matched.problem.get_or_insert(told);
                }
            }
        }
        if found.is_empty() {
            matched.problem = self.why_none(rows, nameless);
        }
        Ok(matched)
    }

    /// Why none of the rows is that of an object.
    fn why_none(&self, rows: &[InstantSample], nameless: usize) -> Option<String> {
        let first = rows.first()?;
        let label = self.label;
        Some(match nameless {
            0 => format!(
                "none of the results matched the resource name: the query gave {} series, {} the first",
                rows.len(),
                first.labels
            ),
            _ => format!(
                "none of the results matched the resource name: the query gave {} series without the label {label}, {} the \
                 first; has it lost its `by (<<.GroupBy>>)`?",
                rows.len(),
                first.labels
            ),
        })
    }
}

/// Whether the labels of a row are those that are asked for.
pub(super) fn selected(selector: &Selector, labels: &Labels) -> bool {
    selector.matches(|label| labels.get(label))
}

/// The labels of a row, as an external metric tells them.
pub(super) fn told(labels: &Labels) -> Vec<(String, String)> {
    let told = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::Timestamp;

    fn rows(rows: &[(&[(&str, &str)], f64)]) -> Vec<InstantSample> {
        rows.iter()
            .map(|(labels, value)| InstantSample {
                labels: Labels::from_pairs(labels.iter().copied()).unwrap(),
                at: Timestamp::from_millis(0),
                value: *value,
            })
            .collect()
    }

    fn find(of: &[(&[(&str, &str)], f64)], selector: Option<&Selector>) -> Result<Matched, String> {
        let names = ["b", "a", "c"].map(str::to_owned);
        let wanted = Wanted {
            label: "pod",
            names: &names,
            namespace: Some(("namespace", "shop")),
            selector,
        };
        wanted.find(&rows(of))
    }

    #[test]
    fn values_are_cut_to_thousandths() {
        for (value, expected) in [
            (12.5, Some(12_500)),
            (0.0009, Some(0)),
            (-0.0019, Some(-1)),
            (1.001, Some(1000)),
            (48.3339, Some(48_333)),
            (9.3e15, None),
            (-9.2e15, Some(-9_200_000_000_000_000_000)),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (f64::NEG_INFINITY, None),
        ] {
            assert_eq!(milli(value), expected, "{value}");
        }
    }

    #[test]
    fn rows_are_found_in_the_order_asked_for() {
        let matched = find(
            &[
                (&[("pod", "a"), ("namespace", "shop")], 1.0),
                (&[("pod", "b")], 2.0),
                (&[("pod", "a"), ("namespace", "other")], 9.0),
                (&[("pod", "x")], 9.0),
            ],
            None,
        );
        assert_eq!(
            matched.unwrap().values,
            [("b".to_owned(), 2000), ("a".to_owned(), 1000)]
        );
        let selector = Selector::parse("code=200").unwrap();
        let both: [(&[(&str, &str)], f64); 2] = [
            (&[("pod", "a"), ("code", "200")], 1.0),
            (&[("pod", "a"), ("code", "500")], 2.0),
        ];
        assert_eq!(find(&both, Some(&selector)).unwrap().values.len(), 1);
        assert!(find(&both, None).unwrap_err().contains("several series for pod \"a\""));
    }

    #[test]
    fn it_is_told_why_there_is_none() {
        let lost = find(&[(&[("job", "x")], 1.0)], None).unwrap();
        assert!(lost.problem.unwrap().contains("without the label pod"));
        let others = find(&[(&[("pod", "x")], 1.0)], None).unwrap();
        assert!(others.problem.unwrap().contains("none of the results matched"));
        let odd = find(&[(&[("pod", "a")], f64::NAN), (&[("pod", "b")], 3.0)], None).unwrap();
        assert_eq!(odd.values, [("b".to_owned(), 3000)]);
        assert!(odd.problem.unwrap().contains("the value of a is NaN"));
        assert_eq!(find(&[], None).unwrap(), Matched::default());
    }
}
