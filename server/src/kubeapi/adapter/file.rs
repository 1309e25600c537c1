//! prometheus-adapter's configuration, read as it is.
//!
//! ```yaml
//! rules:
//! - seriesQuery: 'http_requests_total{namespace!="",pod!=""}'
//!   seriesFilters: [{isNot: "_bucket$"}]
//!   resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
//!   name: {matches: "^(.*)_total$", as: "${1}_per_second"}
//!   metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
//! externalRules: []      # the same
//! resourceRules: {}      # read; metrics.k8s.io is answered from samples
//! ```
//!
//! # Reference
//! `pkg/config/config.go` and `docs/config.md` of prometheus-adapter 0.12.

use super::mapping::{Mapping, Override};
use super::mend;
use super::naming::{Filter, Naming};
use super::rule::{Form, Group, MetricsQuery, Origin, Rule, SeriesRule};
use crate::config::{ConfigError, Fault, Node, read};
use serde::Deserialize;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::Matcher;
use tidegauge_query::ParseOptions;
use tidegauge_query::parser::parse_metric_selector;

/// A larger file is refused.
const MAX_BYTES: u64 = 4 << 20;
/// More rules are refused: each is a search of the index.
const MAX_RULES: usize = 1000;

/// What a file says.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdapterFile {
    /// In the order of the file, those for custom metrics first.
    pub(crate) rules: Vec<Arc<Rule>>,
    /// Whether there are `resourceRules`, which have no effect.
    pub(crate) has_resource_rules: bool,
    /// Lines with quotes within quotes, which YAML does not allow; they were read as they are meant.
    pub(crate) mended: Vec<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Sections {
    rules: Vec<RuleSection>,
    external_rules: Vec<RuleSection>,
    resource_rules: Option<ResourceRules>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct RuleSection {
    series_query: String,
    series_filters: Vec<FilterSection>,
    resources: ResourcesSection,
    name: NameSection,
    metrics_query: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct FilterSection {
    is: String,
    is_not: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ResourcesSection {
    template: String,
    overrides: std::collections::BTreeMap<String, GroupResource>,
    namespaced: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GroupResource {
    group: String,
    resource: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NameSection {
    matches: String,
    #[serde(rename = "as")]
    takes: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ResourceRules {
    #[serde(rename = "cpu")]
    _cpu: ResourceRule,
    #[serde(rename = "memory")]
    _memory: ResourceRule,
    #[serde(rename = "window")]
    _window: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct ResourceRule {
    #[serde(rename = "containerQuery")]
    _container_query: String,
    #[serde(rename = "nodeQuery")]
    _node_query: String,
    #[serde(rename = "resources")]
    _resources: ResourcesSection,
    #[serde(rename = "containerLabel")]
    _container_label: String,
}

impl AdapterFile {
    /// Reads a file. Blocks on the disk.
    ///
    /// # Errors
    /// [`ConfigError`] with line and key: the first thing that is wrong.
    pub(crate) fn load(path: &Path, options: &ParseOptions) -> Result<Self, ConfigError> {
        Self::parse(&text_of(path)?, options, Origin::Adapter).map_err(|fault| ConfigError::at(path, &fault))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub(crate) fn parse(text: &str, options: &ParseOptions, origin: fn(usize) -> Origin) -> Result<Self, Fault> {
        let (root, mended) = mend::read(text)?;
        let sections: Sections = read(&root)?;
        let mut rules = Vec::new();
        let groups = [
            ("rules", Group::Custom, &sections.rules),
            ("externalRules", Group::External, &sections.external_rules),
        ];
        for (key, group, sections) in groups {
            let Some(list) = root.get(key) else { continue };
            for (i, (node, section)) in list.items().iter().zip(sections).enumerate() {
                let form = series_rule(node, section, options);
                let form = form.map_err(|f| f.below_item(i, node.at).below_key(key, list.at))?;
                rules.push(Arc::new(Rule {
                    group,
                    origin: origin(node.at.line),
                    text: format!("{section:?}"),
                    form: Form::Series(Box::new(form)),
                }));
            }
            if rules.len() > MAX_RULES {
                return Err(Fault::new(list.at, format!("more than {MAX_RULES} rules")).below_key(key, list.at));
            }
        }
        Ok(Self {
            rules,
            has_resource_rules: sections.resource_rules.is_some(),
            mended,
        })
    }
}

fn text_of(path: &Path) -> Result<String, ConfigError> {
    let fail = |source| ConfigError::Read {
        file: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(fail)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(fail(std::io::Error::other(format!(
            "the file has more than the {MAX_BYTES} bytes allowed"
        )))),
        false => Ok(text),
    }
}

fn series_rule(node: &Node, section: &RuleSection, options: &ParseOptions) -> Result<SeriesRule, Fault> {
    let query = MetricsQuery::new(&section.metrics_query).map_err(|why| wrong(node, &["metricsQuery"], why))?;
    if section.metrics_query.trim().is_empty() {
        return Err(wrong(node, &["metricsQuery"], "metricsQuery is missing"));
    }
    Ok(SeriesRule {
        series_query: section.series_query.clone(),
        matchers: selector(&section.series_query, options).map_err(|why| wrong(node, &["seriesQuery"], why))?,
        filters: filters(node, section)?,
        naming: Naming::new(&section.name.matches, &section.name.takes)
            .map_err(|why| wrong(node, &["name", "matches"], why))?,
        mapping: mapping(node, &section.resources)?,
        query,
    })
}

/// The matchers of `seriesQuery`.
fn selector(text: &str, options: &ParseOptions) -> Result<Vec<Matcher>, String> {
    if text.trim().is_empty() {
        return Err("seriesQuery is missing".to_owned());
    }
    let matchers = parse_metric_selector(text, options).map_err(|error| error.to_string())?;
    match matchers.iter().all(Matcher::matches_empty) {
        true => Err("it must contain at least one non-empty matcher".to_owned()),
        false => Ok(matchers),
    }
}

fn filters(node: &Node, section: &RuleSection) -> Result<Vec<Filter>, Fault> {
    let list = node.get("seriesFilters").map_or(&[][..], Node::items);
    let mut filters = Vec::new();
    for (i, (item, filter)) in list.iter().zip(&section.series_filters).enumerate() {
        let read = match (filter.is.as_str(), filter.is_not.as_str()) {
            ("", "") => Err("must have either an `is` or `isNot` expression in a filter".to_owned()),
            (is, "") => Filter::is(is),
            ("", is_not) => Filter::is_not(is_not),
            _ => Err("cannot have both an `is` and `isNot` expression in a single filter".to_owned()),
        };
        filters.push(read.map_err(|why| {
            let fault = Fault::new(item.at, why).below_item(i, item.at);
            fault.below_key("seriesFilters", item.at)
        })?);
    }
    Ok(filters)
}

fn mapping(node: &Node, section: &ResourcesSection) -> Result<Mapping, Fault> {
    let mut overrides = Vec::new();
    let entries = node.get("resources").and_then(|resources| resources.get("overrides"));
    // The node has them in the order of the file.
    for (label, _) in entries.map_or(&[][..], Node::entries) {
        let Some(told) = section.overrides.get(&label.text) else {
            continue;
        };
        if told.resource.is_empty() {
            let key = ["resources", "overrides", &label.text];
            return Err(wrong(node, &key, "resource is missing"));
        }
        overrides.push(Override {
            label: label.text.clone(),
            group: told.group.clone(),
            resource: told.resource.clone(),
        });
    }
    Mapping::new(overrides, &section.template, section.namespaced.unwrap_or(true))
        .map_err(|why| wrong(node, &["resources", "template"], why))
}

/// A fault at a key below a node, or at the node if the key is not there.
fn wrong(node: &Node, keys: &[&str], message: impl Into<String>) -> Fault {
    let mut at = node;
    let mut places = Vec::new();
    for key in keys {
        at = at.get(key).unwrap_or(at);
        places.push(at.at);
    }
    let fault = Fault::new(at.at, message);
    keys.iter()
        .zip(places)
        .rev()
        .fold(fault, |fault, (key, at)| fault.below_key(key, at))
}

#[cfg(test)]
mod tests;
