use super::*;
use crate::kubeapi::adapter::condition;
use crate::kubeapi::adapter::resource::Resources;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn parse(text: &str) -> Result<AdapterFile, Fault> {
    AdapterFile::parse(text, &ParseOptions::default(), Origin::Adapter)
}

fn series(file: &AdapterFile, at: usize) -> &SeriesRule {
    match &file.rules[at].form {
        Form::Series(rule) => rule,
        Form::Query(_) => panic!("a rule of ours"),
    }
}

#[test]
fn the_example_is_read() {
    let text = include_str!("../../../../../testdata/adapter/rules.yaml");
    let file = parse(text).unwrap();
    let names: Vec<(Group, &str)> = file
        .rules
        .iter()
        .enumerate()
        .map(|(i, rule)| (rule.group, series(&file, i).series_query.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            (Group::Custom, r#"{__name__=~"^http_.*",namespace!="",pod!=""}"#),
            (Group::Custom, r#"queue_depth{namespace!=""}"#),
            (Group::External, r#"rabbitmq_queue_messages{queue!=""}"#),
            (Group::External, r#"licences_left"#),
        ]
    );
    assert!(file.has_resource_rules && file.mended.is_empty());
    let http = series(&file, 0);
    assert!(http.takes("http_requests_total") && !http.takes("http_request_seconds_bucket"));
    assert_eq!(
        http.naming.name("http_requests_total").as_deref(),
        Some("http_requests_per_second")
    );
    let resources = Resources::default();
    let label = |rule: &SeriesRule, kind: &str| {
        let kind = resources.find_qualified(kind).unwrap();
        rule.mapping.label_for(kind, &BTreeSet::new(), &resources).unwrap()
    };
    assert_eq!(
        (label(http, "pods"), label(http, "namespaces")),
        ("pod".to_owned(), "namespace".to_owned())
    );
    assert_eq!(label(series(&file, 1), "deployments.apps"), "kube_apps_deployment");
    assert!(series(&file, 2).mapping.namespaced && !series(&file, 3).mapping.namespaced);
    assert_eq!(file.rules[0].origin, Origin::Adapter(4));
}

#[test]
fn faults_tell_line_and_key() {
    let good = "seriesQuery: up\n  metricsQuery: up\n";
    for (text, line, path, words) in [
        (
            "rules:\n- seriesQuerry: up\n".to_owned(),
            2,
            "rules[0].seriesQuerry",
            "did you mean seriesQuery",
        ),
        (
            "rules:\n- metricsQuery: up\n".to_owned(),
            2,
            "rules[0].seriesQuery",
            "seriesQuery is missing",
        ),
        (
            "externalRules:\n- seriesQuery: up\n".to_owned(),
            2,
            "externalRules[0].metricsQuery",
            "metricsQuery is missing",
        ),
        (
            "rules:\n- metricsQuery: up\n  seriesQuery: '{'\n".to_owned(),
            3,
            "rules[0].seriesQuery",
            "parse error",
        ),
        (
            "rules:\n- metricsQuery: up\n  seriesQuery: '{a=\"\"}'\n".to_owned(),
            3,
            "rules[0].seriesQuery",
            "at least one non-empty matcher",
        ),
        (
            "rules:\n- seriesQuery: up\n  metricsQuery: '<<.Metric>>'\n".to_owned(),
            3,
            "rules[0].metricsQuery",
            "no field .Metric",
        ),
        (
            format!("rules:\n- {good}  seriesFilters:\n  - is: x\n  - {{is: a, isNot: b}}\n"),
            6,
            "rules[0].seriesFilters[1]",
            "cannot have both",
        ),
        (
            format!("rules:\n- {good}  seriesFilters: [{{is: '('}}]\n"),
            4,
            "rules[0].seriesFilters[0]",
            "regexp",
        ),
        (
            format!("rules:\n- {good}  name:\n    matches: (a)(b)\n"),
            5,
            "rules[0].name.matches",
            "several groups",
        ),
        (
            format!("rules:\n- {good}  resources:\n    template: x\n"),
            5,
            "rules[0].resources.template",
            "must include",
        ),
        (
            format!("rules:\n- {good}  resources: {{overrides: {{a: {{group: b}}}}}}\n"),
            4,
            "rules[0].resources.overrides.a",
            "resource is missing",
        ),
        ("rules: {}\n".to_owned(), 1, "rules", "into a list"),
        ("rules: [\n".to_owned(), 2, "", "not valid YAML"),
        (
            format!("rules:\n{}", format!("- {good}").repeat(1001)),
            2,
            "rules",
            "more than 1000 rules",
        ),
    ] {
        let fault = parse(&text).expect_err(&text);
        let message = &fault.message;
        assert!(message.contains(words), "{text}: {message}");
        assert_eq!(
            (fault.at.unwrap().line, fault.path.to_string().as_str()),
            (line, path),
            "{text}: {message}"
        );
    }
    assert!(parse("").unwrap().rules.is_empty());
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        drop(parse(&text));
    }

    /// What is left of a good file after a few of its characters became others is read or refused, and what was read can
    /// be asked.
    #[test]
    fn no_damage_panics(at in 0..2000usize, len in 0..40usize, put in "[ -~\n]{0,8}") {
        let text = include_str!("../../../../../testdata/adapter/rules.yaml");
        let (start, end) = (at.min(text.len()), (at + len).min(text.len()));
        let damaged = format!("{}{put}{}", &text[..start], &text[end..]);
        let Ok(file) = parse(&damaged) else { return Ok(()) };
        let names = [condition::names("pod", &["a".to_owned(), "b.c".to_owned()])];
        for no in 0..file.rules.len() {
            let rule = series(&file, no);
            if let Ok(query) = rule.query.fill("hits_total", &names, &["pod"]) {
                drop(tidegauge_query::parse(&query, &ParseOptions::default()));
            }
            for label in ["pod", "kube_apps_deployment", "kube__", ""] {
                drop(rule.mapping.resource_of(label, &Resources::default()));
            }
            drop(rule.naming.name("hits_total"));
        }
    }

    #[test]
    fn no_rule_panics(
        selector in "[a-z_{}=~!\"., ]{0,20}",
        pattern in "[a-z^$.*+()|\\[\\]?<>P\\\\0-9]{0,12}",
        takes in "[$a-z{}0-9]{0,8}",
        query in "[<> .a-zA-Z{}|$:=\"]{0,30}",
        series in "[a-z_:]{0,12}",
    ) {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let text = format!(
            "rules:\n- seriesQuery: {}\n  name: {{matches: {}, as: {}}}\n  metricsQuery: {}\n  resources: {{template: {}}}\n",
            quoted(&selector), quoted(&pattern), quoted(&takes), quoted(&query), quoted(&query),
        );
        drop(parse(&text));
        if let Ok(naming) = Naming::new(&pattern, &takes) {
            drop(naming.name(&series));
        }
    }
}
