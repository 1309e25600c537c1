//! Conditions on labels as PromQL's matchers.

use crate::kubeapi::selector::{Requirement, Test};
use std::collections::BTreeMap;

/// The label names one of these objects.
pub(crate) fn names(label: &str, names: &[String]) -> Requirement {
    Requirement {
        key: label.to_owned(),
        test: Test::In(names.to_vec()),
    }
}

/// All as they stand between the braces of a selector.
///
/// # Errors
/// What no matcher can say. To leave it out would give another number than was asked for.
pub(super) fn matchers(conditions: &[Requirement]) -> Result<String, String> {
    let texts: Result<Vec<String>, String> = conditions.iter().map(matcher).collect();
    Ok(texts?.join(","))
}

fn matcher(Requirement { key, test }: &Requirement) -> Result<String, String> {
    let label = label_name(key);
    Ok(match test {
        Test::In(values) => match values.as_slice() {
            [] => return Err(format!("{key} is to be one of no values")),
            [one] => format!("{label}={}", quote(one)),
            many => format!("{label}=~{}", quote(&pattern(many))),
        },
        Test::NotIn(values) => match values.as_slice() {
            [one] => format!("{label}!={}", quote(one)),
            many => format!("{label}!~{}", quote(&pattern(many))),
        },
        Test::Exists => format!("{label}!=\"\""),
        Test::Missing => format!("{label}=\"\""),
        Test::Greater(_) | Test::Less(_) => {
            return Err(format!("series cannot be selected by whether {key} is larger"));
        }
    })
}

/// Values so that none stands for more than itself. Names of objects and values of selectors hold no other character that
/// an expression would read as something else.
fn pattern(values: &[String]) -> String {
    values.join("|").replace('.', "\\.")
}

/// The values by label, each joined by bars; of several conditions on one label, the last counts.
pub(super) fn values_by_label(conditions: &[Requirement]) -> BTreeMap<String, String> {
    let values = conditions.iter().map(|one| {
        let values = match &one.test {
            Test::In(values) | Test::NotIn(values) => values.join("|"),
            Test::Exists | Test::Missing | Test::Greater(_) | Test::Less(_) => String::new(),
        };
        (one.key.clone(), values)
    });
    values.collect()
}

/// A label's name, in quotes where it is no plain one.
pub(super) fn label_name(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if plain { name.to_owned() } else { quote(name) }
}

/// A literal of PromQL, however long the text is.
fn quote(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeapi::Selector;

    fn of(text: &str) -> Result<String, String> {
        matchers(Selector::parse(text).unwrap().requirements())
    }

    #[test]
    fn conditions_are_matchers() {
        for (text, expected) in [
            ("", ""),
            ("k=v", r#"k="v""#),
            ("k!=v", r#"k!="v""#),
            ("k in (a)", r#"k="a""#),
            ("k in (a,b)", r#"k=~"a|b""#),
            ("k in (a.1,b)", r#"k=~"a\\.1|b""#),
            ("k notin (a,b)", r#"k!~"a|b""#),
            ("k", r#"k!="""#),
            ("!k", r#"k="""#),
            ("app.kubernetes.io/name=x,b=c", r#""app.kubernetes.io/name"="x",b="c""#),
        ] {
            let got = of(text).unwrap();
            assert_eq!(got, expected, "{text}");
            let options = tidegauge_query::ParseOptions::default();
            tidegauge_query::parse(&format!("up{{{got}}}"), &options).unwrap();
        }
        assert!(of("k>1").unwrap_err().contains("whether k is larger"));
        assert!(matchers(&[names("pod", &[])]).is_err());
        let two = ["a".to_owned(), "b".to_owned()];
        assert_eq!(values_by_label(&[names("pod", &two)])["pod"], "a|b");
    }
}
