//! The rules in force: those of the file, those of the configuration, and those that come with the program.

use super::file::AdapterFile;
use super::resource::Resources;
use super::rule::{Form, Group, MetricsQuery, Origin, QueryRule, Rule};
use crate::config::{ConfigError, HpaMetric, HpaMetrics};
use std::path::Path;
use std::sync::Arc;
use tidegauge_query::{ParseOptions, parse};

/// Read as a user's would be.
const AUTOMATIC: &str = include_str!("automatic.yaml");

/// Rules, and what is to be said of them.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The automatic ones first, then those of the file, then those of the configuration: of two that make one metric, the
    /// later counts.
    pub(crate) all: Vec<Arc<Rule>>,
    /// What whoever wrote them should know.
    pub(crate) notes: Vec<String>,
    /// Whether there are the automatic ones.
    pub(crate) automatic: bool,
    /// Whether the API server must say which kinds there are.
    pub(crate) needs_discovery: bool,
}

impl Rules {
    /// Reads the file, if there is one, and makes rules of all.
    ///
    /// # Errors
    /// The first thing that is wrong, and where it stands.
    pub(super) fn load(file: Option<&Path>, own: &HpaMetrics, options: &ParseOptions) -> Result<Self, String> {
        let read = match file {
            Some(path) => AdapterFile::load(path, options).map_err(|error: ConfigError| error.to_string())?,
            None => AdapterFile::default(),
        };
        let mut rules = Self {
            notes: notes(&read),
            automatic: own.automatic.unwrap_or(file.is_none() && own.metrics.is_empty()),
            ..Self::default()
        };
        if rules.automatic {
            rules.all = automatic(options)?;
        }
        rules.all.extend(read.rules);
        for (i, metric) in own.metrics.iter().enumerate() {
            let rule = query_rule(metric, options);
            let rule = rule.map_err(|(key, why)| {
                let line = metric.line;
                format!("line {line}: tidegauge.hpa_metrics[{i}].{key}: {why}")
            })?;
            rules.all.push(Arc::new(rule));
        }
        let usual = Resources::default();
        rules.needs_discovery = rules.all.iter().any(|rule| needs_discovery(rule, &usual));
        Ok(rules)
    }
}

fn automatic(options: &ParseOptions) -> Result<Vec<Arc<Rule>>, String> {
    AdapterFile::parse(AUTOMATIC, options, |_| Origin::Automatic)
        .map(|file| file.rules)
        .map_err(|fault| format!("automatic rules: {}", fault.message))
}

fn notes(file: &AdapterFile) -> Vec<String> {
    let mut notes = Vec::new();
    if file.has_resource_rules {
        notes.push("resourceRules have no effect: metrics.k8s.io is answered from the kubelets' samples".to_owned());
    }
    if !file.mended.is_empty() {
        let lines: Vec<String> = file.mended.iter().map(usize::to_string).collect();
        notes.push(format!(
            "quotes within quotes, which YAML does not allow, were read as they are meant; line {}",
            lines.join(", ")
        ));
    }
    notes
}

fn needs_discovery(rule: &Rule, usual: &Resources) -> bool {
    match &rule.form {
        Form::Series(series) => rule.group == Group::Custom && series.mapping.needs_discovery(usual),
        Form::Query(query) => query
            .object
            .as_ref()
            .is_some_and(|(_, kind)| usual.find_qualified(kind).is_none()),
    }
}

/// A rule of ours; the error has the key.
fn query_rule(metric: &HpaMetric, options: &ParseOptions) -> Result<Rule, (&'static str, String)> {
    let query = MetricsQuery::new(&metric.query).map_err(|why| ("query", why))?;
    if !query.is_narrowed() {
        parse(&metric.query, options).map_err(|error| ("query", error.to_string()))?;
    }
    let object = metric.object.as_ref().map(|label| {
        let kind = metric.resource.as_ref().unwrap_or(label);
        (label.clone(), kind.clone())
    });
    let namespace = match (&metric.namespace, &object) {
        (Some(label), _) => Some(label.clone()),
        // An external metric is everybody's unless it is said whose it is.
        (None, None) => None,
        (None, Some(_)) => Some("namespace".to_owned()),
    };
    Ok(Rule {
        group: if object.is_some() {
            Group::Custom
        } else {
            Group::External
        },
        origin: Origin::Configuration(metric.line),
        text: format!("{} {} {object:?} {namespace:?}", metric.name, metric.query),
        form: Form::Query(Box::new(QueryRule {
            name: metric.name.clone(),
            query,
            object,
            namespace,
            window_ms: metric
                .window
                .map(|window| i64::try_from(window.millis()).unwrap_or(i64::MAX)),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeapi::adapter::known::{Known, Seen};
    use tidegauge_model::Timestamp;

    fn own(text: &str) -> HpaMetrics {
        HpaMetrics::parse(text).unwrap()
    }

    fn load(text: &str) -> Result<Rules, String> {
        Rules::load(None, &own(text), &ParseOptions::default())
    }

    #[test]
    fn automatic_rules_hold_where_there_are_no_others() {
        for (text, automatic, count) in [
            ("", true, 5),
            ("hpa_automatic: false", false, 0),
            ("hpa_metrics: [{name: a, query: up}]", false, 1),
            ("{hpa_metrics: [{name: a, query: up}], hpa_automatic: true}", true, 6),
        ] {
            let rules = load(text).unwrap();
            assert_eq!((rules.automatic, rules.all.len()), (automatic, count), "{text}");
        }
        assert!(!load("").unwrap().needs_discovery);
    }

    #[test]
    fn automatic_rules_name_metrics_by_what_their_series_are() {
        let rules = load("").unwrap();
        let labels = ["namespace", "pod", "container"].map(str::to_owned);
        let seen: Vec<Seen> = rules
            .all
            .iter()
            .map(|rule| {
                let Form::Series(told) = &rule.form else {
                    panic!("a query")
                };
                let names = [
                    "http_requests_total",
                    "http_seconds_sum",
                    "http_seconds_count",
                    "http_seconds_bucket",
                    "queue_length",
                    "container_cpu_usage_seconds_total",
                    "container_memory_working_set_bytes",
                    "container_network_receive_bytes_total",
                ];
                let fits = |name: &&str| {
                    told.matchers.iter().all(|matcher| match matcher.name() {
                        "__name__" => matcher.matches(name),
                        "container" if name.contains("network") => matcher.matches(""),
                        _ => matcher.matches("x"),
                    })
                };
                let names = names.iter().filter(|name| fits(name));
                Seen {
                    names: names
                        .map(|name| ((*name).to_owned(), Arc::new(labels.clone().into())))
                        .collect(),
                    looked: true,
                    ..Seen::default()
                }
            })
            .collect();
        let known = Known::new(&rules.all, &seen, &Resources::default(), Timestamp::from_millis(0));
        let of_pods = known.custom.keys().filter(|(kind, _)| kind == "pods");
        let names: Vec<&str> = of_pods.map(|(_, name)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "container_cpu_usage_seconds_per_second",
                "container_memory_working_set_bytes",
                "container_network_receive_bytes_per_second",
                "http_requests_per_second",
                "http_seconds_count_per_second",
                "http_seconds_sum_per_second",
                "queue_length",
            ]
        );
        assert_eq!(known.custom.len(), 2 * names.len());
    }

    #[test]
    fn rules_of_ours_are_checked() {
        let rules = load(
            "hpa_metrics:
            - {name: rps, query: 'sum by (namespace, service) (rate(hits[2m]))', object: service, window: 2m}
            - {name: depth, query: 'sum(depth{<<.LabelMatchers>>}) by (<<.GroupBy>>)', object: app, resource: deployments.apps, namespace: ns}
            - {name: lag, query: max(lag)}
            - {name: lag2, query: max(lag) by (namespace), namespace: namespace}",
        )
        .unwrap();
        let told: Vec<String> = rules
            .all
            .iter()
            .map(|rule| match &rule.form {
                Form::Query(one) => format!(
                    "{:?} {:?} {:?} {:?} {}",
                    rule.group,
                    one.object,
                    one.namespace,
                    one.window_ms,
                    one.query.is_narrowed()
                ),
                Form::Series(_) => panic!("a rule for series"),
            })
            .collect();
        assert_eq!(
            told,
            [
                r#"Custom Some(("service", "service")) Some("namespace") Some(120000) false"#,
                r#"Custom Some(("app", "deployments.apps")) Some("ns") None true"#,
                "External None None None false",
                r#"External None Some("namespace") None false"#,
            ]
        );
        for (text, words) in [
            (
                "hpa_metrics: [{name: a, query: 'sum('}]",
                "line 1: tidegauge.hpa_metrics[0].query: ",
            ),
            ("hpa_metrics: [{name: a, query: '<<.Gruop>>'}]", "no field .Gruop"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
