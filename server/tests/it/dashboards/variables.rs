//! Variables of dashboards: what they ask for, what is chosen of the answer, and how it is put into expressions.

use serde_json::Value;
use std::collections::BTreeMap;
use tidegauge_query::parser::{ParseOptions, parse};

use crate::planted::value_for;

/// What Grafana puts in for 15 s from sample to sample and a quarter of an hour on the screen.
const BUILT_IN: [(&str, &str); 6] = [
    ("__rate_interval", "1m0s"),
    ("__interval", "15s"),
    ("__interval_ms", "15000"),
    ("__range", "900s"),
    ("__range_s", "900"),
    ("__range_ms", "900000"),
];

/// A variable as its dashboard defines it.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    kind: String,
    query: String,
    multi: bool,
    /// Whether all values may be chosen, and then stands for them if it is there.
    include_all: bool,
    all_value: Option<String>,
    regex: Option<String>,
}

impl Variable {
    pub(super) fn of(row: &Value) -> Self {
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        Self {
            name: text("name").unwrap(),
            kind: text("type").unwrap(),
            query: text("query").unwrap_or_default(),
            multi: row["multi"] == true,
            include_all: row["includeAll"] == true,
            all_value: text("allValue").filter(|value| !value.is_empty()),
            regex: text("regex"),
        }
    }

    /// The value that is planted for it: one that the selector allows.
    pub(super) fn wish(&self, others: &Variables) -> String {
        match self.kind.as_str() {
            "interval" => self.query.split(',').next().unwrap_or_default().to_owned(),
            // What the import of the dashboard would have asked for.
            "constant" if self.query.starts_with("${") => "1.5".to_owned(),
            "constant" | "textbox" | "datasource" => self.query.clone(),
            _ => {
                let own = format!("{}-1", self.name.to_lowercase());
                let Some((Some(selector), label)) = self.label_values(others) else {
                    return own;
                };
                let expr = parse(&selector, &ParseOptions::default()).unwrap_or_else(|e| panic!("{selector}: {e}"));
                let selectors = expr.selectors();
                let matchers = selectors.iter().flat_map(|selector| &selector.matchers);
                let matchers: Vec<_> = matchers.filter(|matcher| matcher.name() == label).collect();
                value_for(&matchers, Some(&own)).unwrap_or(own)
            }
        }
    }

    /// `label_values(selector, label)` and `label_values(label)`.
    pub(super) fn label_values(&self, others: &Variables) -> Option<(Option<String>, String)> {
        let inner = self.function("label_values")?;
        Some(match inner.rsplit_once(',') {
            Some((selector, label)) => (Some(others.filled_in(selector.trim())), label.trim().to_owned()),
            None => (None, inner.trim().to_owned()),
        })
    }

    /// `query_result(expression)`.
    pub(super) fn query_result(&self, others: &Variables) -> Option<String> {
        Some(others.filled_in(self.function("query_result")?))
    }

    /// Anything else that is asked for: a selector whose series are listed.
    pub(super) fn bare(&self, others: &Variables) -> Option<String> {
        let is_function = self.query.contains('(');
        (self.kind == "query" && !is_function).then(|| others.filled_in(&self.query))
    }

    fn function(&self, name: &str) -> Option<&str> {
        let inner = self.query.trim().strip_prefix(name)?.trim_start();
        (self.kind == "query").then_some(())?;
        inner.strip_prefix('(')?.strip_suffix(')')
    }

    /// The values that the rows of `query_result` give: what the variable's regex, `/label="(.*?)(")/`, picks of each.
    pub(super) fn picked(&self, data: &Value) -> Vec<String> {
        let regex = self.regex.as_deref().unwrap_or_default();
        let label = regex.trim_start_matches('/').split('=').next().unwrap_or_default();
        let rows = data["result"].as_array().into_iter().flatten();
        rows.filter_map(|row| row["metric"][label].as_str().map(str::to_owned))
            .collect()
    }

    /// What a user has chosen of the values: all if that can be, else the one that was planted for it.
    pub(super) fn choose(&self, values: Vec<String>, wish: &str) -> Vec<String> {
        if self.include_all {
            return match &self.all_value {
                Some(all) => vec![all.clone()],
                None => values,
            };
        }
        match values.iter().any(|value| value == wish) {
            true => vec![wish.to_owned()],
            false => values.into_iter().take(1).collect(),
        }
    }

    /// Its values as they stand in an expression: escaped for a regex where there may be several.
    fn text(&self, values: &[String]) -> String {
        let is_all = self.include_all && values.len() == 1 && self.all_value.as_ref() == values.first();
        if self.kind != "query" || is_all {
            return values.concat();
        }
        if !self.multi && !self.include_all {
            return values.concat().replace('\\', "\\\\").replace('\'', "\\\\'");
        }
        let escaped: Vec<String> = values.iter().map(|value| escaped(value)).collect();
        match escaped.as_slice() {
            [one] => one.clone(),
            _ => format!("({})", escaped.join("|")),
        }
    }
}

/// As Grafana's data source for Prometheus does it, for a regex within a string.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for letter in value.chars() {
        if "\\^$*+?.()|[]{}'".contains(letter) {
            text.push_str("\\\\");
        }
        text.push(letter);
    }
    text
}

/// What stands for each variable in expressions.
#[derive(Debug, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn set(&mut self, variable: &Variable, values: Vec<String>) {
        self.0.insert(variable.name.clone(), variable.text(&values));
    }

    fn get(&self, name: &str) -> Option<&str> {
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        built_in
            .map(|(_, text)| *text)
            .or_else(|| self.0.get(name).map(String::as_str))
    }

    /// A text with the variables put in: `$name`, `${name}`, `${name:format}` and `[[name]]`. What is none stays.
    pub(super) fn filled_in(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['$', '[']) {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let (name, length) = reference(from);
            match self.get(name.split(':').next().unwrap_or_default()) {
                Some(value) if length > 0 => out.push_str(value),
                _ => out.push_str(&from[..length.max(1)]),
            }
            rest = &from[length.max(1)..];
        }
        out + rest
    }
}

/// The name at the beginning of a text, and how long the reference is.
fn reference(from: &str) -> (&str, usize) {
    for (open, close) in [("${", "}"), ("[[", "]]")] {
        if let Some(inner) = from.strip_prefix(open)
            && let Some(end) = inner.find(close)
        {
            return (&inner[..end], open.len() + end + close.len());
        }
    }
    let Some(name) = from.strip_prefix('$') else {
        return ("", 0);
    };
    let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let name = &name[..end.unwrap_or(name.len())];
    (name, 1 + name.len())
}

#[test]
fn variables_are_put_in_as_grafana_does() {
    let variable = |name: &str, multi: bool| Variable {
        name: name.into(),
        kind: "query".into(),
        query: String::new(),
        multi,
        include_all: false,
        all_value: None,
        regex: None,
    };
    let mut variables = Variables::default();
    variables.set(&variable("one", false), vec!["a.b".into()]);
    variables.set(&variable("some", true), vec!["a.b".into(), "c".into()]);
    assert_eq!(
        variables.filled_in("x{l=\"$one\",m=~\"${some:regex}\",n=~\"[[some]]\"}[$__rate_interval] $1 $none [5m]"),
        "x{l=\"a.b\",m=~\"(a\\\\.b|c)\",n=~\"(a\\\\.b|c)\"}[1m0s] $1 $none [5m]"
    );
}
