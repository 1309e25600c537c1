use super::*;
use crate::hpa::tests::hpa;
use std::collections::HashMap;

/// History as a table: what a query begins with, and its value by the time in seconds.
struct Table(HashMap<&'static str, fn(i64) -> f64>);

impl Source for Table {
    fn column(&self, query: &str, steps: Steps) -> Result<Vec<f64>, SourceError> {
        let found = self.0.iter().find(|(name, _)| query.contains(**name));
        Ok(match found {
            Some((_, value)) => (0..steps.count).map(|no| value(steps.at(no).millis() / 1000)).collect(),
            None => vec![f64::NAN; steps.count],
        })
    }
}

fn options(minutes: i64) -> Options {
    let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
    let mut options = Options::new(at(0), at(minutes));
    options.metric_queries.insert("cpu".to_owned(), "cpu_total".to_owned());
    options.requests.insert("cpu".to_owned(), "200m".parse().unwrap());
    options
}

const CPU: &str = "{scaleTargetRef: {kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 10, metrics: [{type: Resource, \
                   resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}";

fn changes(run: &Run) -> Vec<(i64, i32, i32)> {
    run.events
        .iter()
        .map(|e| (e.at.millis() / 1000, e.from, e.to))
        .collect()
}

#[test]
fn load_is_shared_by_the_replicas_there_would_be() {
    // 50m until five minutes, then 390m until twenty, then 50m again.
    let table = Table(HashMap::from([
        (
            "cpu_total",
            (|s| if (300..1200).contains(&s) { 0.39 } else { 0.05 }) as fn(i64) -> f64,
        ),
        ("kube_deployment_spec_replicas", |_| 1.0),
    ]));
    let report = run(&[hpa(CPU)], &options(60), &table).unwrap();
    let got = &report.runs[0];
    // 195 % of 50 %: ceil(3.9). What starts does not count until it is ready and measured; 390m / 4 are 48.75 % then. Five
    // minutes after the load has gone one is enough.
    assert_eq!(changes(got), [(300, 1, 4), (1500, 4, 1)]);
    assert_eq!(
        (got.syncs, got.failed, got.thrash(), got.ups(), got.downs()),
        (241, 0, 0, 1, 1)
    );
    assert_eq!(got.sums.pod_hours, (241.0 + 3.0 * 80.0) * 15.0 / 3600.0);
    assert_eq!(got.sums.recorded_pod_hours, Some(241.0 * 15.0 / 3600.0));
    // Above it from the jump until the new pods share the load: they are ready after two syncs and believed after another.
    assert_eq!(got.metrics[0].above, 2);
    assert_eq!(got.metrics[0].highest, 3.9);
}

#[test]
fn without_feedback_what_is_wanted_is_noted_and_not_done() {
    let table = Table(HashMap::from([
        ("cpu_total", (|s| if s < 600 { 0.2 } else { 0.6 }) as fn(i64) -> f64),
        ("replicas_query", |s| if s < 120 { f64::NAN } else { 2.0 }),
    ]));
    let options = Options {
        feedback: Feedback::None,
        replicas_query: Some("replicas_query".to_owned()),
        ..options(20)
    };
    let report = run(&[hpa(CPU)], &options, &table).unwrap();
    let got = &report.runs[0];
    // 100m each are 50 %; 300m each are 150 %, of the two that there were, for ever.
    assert_eq!(changes(got), [(600, 2, 4)]);
    assert_eq!((got.skipped, got.syncs, got.limited), (8, 73, 41));
    assert_eq!(got.sums.pod_hours, (32.0 * 2.0 + 41.0 * 4.0) * 15.0 / 3600.0);
}

#[test]
fn two_are_compared_and_gentler_rules_thrash_less() {
    // A load that comes and goes every two minutes.
    let table = Table(HashMap::from([
        (
            "cpu_total",
            (|s| if s / 120 % 2 == 0 { 0.1 } else { 0.4 }) as fn(i64) -> f64,
        ),
        ("kube_deployment_spec_replicas", |_| 1.0),
    ]));
    let quick = format!(
        "{}, behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}}}",
        CPU.trim_end_matches('}')
    );
    let both = [hpa(CPU), hpa(&quick)];
    let report = run(&both, &options(60), &table).unwrap();
    let (gentle, quick) = (&report.runs[0], &report.runs[1]);
    assert_eq!(changes(gentle), [(120, 1, 4)]);
    assert!(quick.thrash() > 20 && quick.events.len() > 20, "{:?}", changes(quick));
    assert!(quick.sums.pod_hours < gentle.sums.pod_hours);
    let text = report.text();
    assert!(
        text.contains("pod hours") && text.contains("default/web") && text.contains("(thrash)"),
        "{text}"
    );
    let json = report.json();
    assert_eq!(json["hpas"][0]["replicas"], serde_json::json!([[0.0, 1], [120.0, 4]]));
    assert_eq!(json["feedback"], "shared");
    let svg = report.svg();
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.matches("<path").count() >= 6,
        "{svg}"
    );
    assert!(!svg.contains("NaN"), "{svg}");
}

#[test]
fn a_value_falls_as_replicas_share_it_and_a_gap_is_no_zero() {
    let spec = "{scaleTargetRef: {kind: Deployment, name: web}, maxReplicas: 10, metrics: [{type: External, external: {metric: {name: \
                q}, target: {type: Value, value: 10}}}]}";
    let table = Table(HashMap::from([
        (
            "__name__=\"q\"",
            (|s| if s >= 600 { f64::NAN } else { 30.0 }) as fn(i64) -> f64,
        ),
        ("kube_deployment_spec_replicas", |_| 2.0),
    ]));
    let options = Options {
        ready_after_ms: 0,
        explain_at: Some(Timestamp::from_millis(1)),
        ..options(20)
    };
    let report = run(&[hpa(spec)], &options, &table).unwrap();
    let got = &report.runs[0];
    // 30 with two; with four 15, with six 10.
    assert_eq!(changes(got), [(0, 2, 4), (15, 4, 6)]);
    assert_eq!(got.failed, 41);
    assert!(
        got.first_error
            .as_ref()
            .unwrap()
            .contains("nothing is recorded of this time")
    );
    let told = &got.explained.as_ref().unwrap().text;
    for words in [
        "4 -> 6 replicas",
        "15, should be 10",
        "ratio    1.5000, outside 0.9 to 1.1",
        "ceil(1.5000 x 4)",
        "ValidMetricFound",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let empty = Table(HashMap::new());
    let cpu_only = Table(HashMap::from([("cpu_total", (|_| 0.1) as fn(i64) -> f64)]));
    let no_request = Options {
        requests: BTreeMap::new(),
        ..options(5)
    };
    let open = Options {
        feedback: Feedback::None,
        ..options(5)
    };
    let backwards = Options {
        from: Timestamp::from_millis(1),
        to: Timestamp::from_millis(0),
        ..options(5)
    };
    let long = options(100_000);
    let many = hpa(&CPU.replace("maxReplicas: 10", "maxReplicas: 100000"));
    let error = |hpas: &[Hpa], options: &Options, table: &Table| run(hpas, options, table).unwrap_err().to_string();
    let one = [hpa(CPU)];
    for (error, why) in [
        (
            error(&one, &options(5), &empty),
            "nothing recorded of cpu resource utilization",
        ),
        (
            error(&one, &no_request, &cpu_only),
            "requests of cpu (give --request cpu=AMOUNT)",
        ),
        (error(&one, &open, &cpu_only), "how many replicas there were"),
        (error(&one, &backwards, &cpu_only), "the end is before the beginning"),
        (
            error(&one, &long, &cpu_only),
            "400001 syncs are asked for, at most 100000",
        ),
        (
            error(&[many], &options(5), &cpu_only),
            "maxReplicas of web is above 2000",
        ),
        (error(&[], &options(5), &cpu_only), "0 autoscalers are given"),
    ] {
        assert!(error.contains(why), "{error}");
    }
    // It begins with as many as there may be at least where nobody says how many there were.
    let report = run(&one, &options(5), &cpu_only).unwrap();
    assert_eq!(
        (report.runs[0].sums.min, report.runs[0].sums.recorded_pod_hours),
        (1, None)
    );
}
