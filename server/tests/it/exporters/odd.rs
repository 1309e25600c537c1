//! What is odd about targets, one oddity a job: a real Prometheus and we store the same samples of them, report the same
//! of the scrape, ask in the same words, and fail for the same reason.

use super::{AGENTS, LabelMap, OPENMETRICS, PROTOBUF, Pair, Recorded, TEXT, label_map, samples_of};
use crate::process::Running;
use serde_json::Value;
use std::collections::BTreeMap;

const TEXT_1: &str = "text/plain; version=1.0.0; escaping=allow-utf-8; charset=utf-8";

/// How much of what is said of a failure is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Same,
    /// That there is one, or none, and not how it is put.
    Own,
}

/// A target that is odd: its name, its content type, what it says, and the keys of its job.
type Odd = (&'static str, &'static str, Vec<u8>, &'static str, Words);

fn odd_bodies() -> Vec<Odd> {
    use Words::{Own, Same};
    let text = |body: &str| body.as_bytes().to_vec();
    let three = "a 1\nb{x=\"1\",y=\"2\"} 2\nc 3\n";
    vec![
        ("fine", TEXT, text(three), "", Same),
        ("nothing", TEXT, text(""), "", Same),
        ("only_comments", TEXT, text("# nothing\n\n"), "", Same),
        ("no_last_newline", TEXT, text("a 1\nb 2"), "", Own),
        ("carriage_returns", TEXT, text("a 1\r\nb 2\r\n"), "", Own),
        ("spaces", TEXT, text("  a   1\n\tb\t2\n a{ x = \"1\" , } 3\n"), "", Own),
        ("bad_third_line", TEXT, text("a 1\nb 2\nc{ 3\nd 4\n"), "", Own),
        ("bad_first_line", TEXT, text("{\na 1\n"), "", Own),
        ("bad_value", TEXT, text("a 1\nb x\n"), "", Own),
        ("label_twice", TEXT, text("a 1\nb{x=\"1\",x=\"2\"} 1\n"), "", Own),
        ("empty_label", TEXT, text("a{x=\"\",y=\"1\"} 1\n"), "", Same),
        ("line_twice", TEXT, text("a 1\nb 2\na 3\nb 2\n"), "", Same),
        ("series_twice", TEXT, text("a{x=\"1\"} 1\na{x=\"1\",} 2\n"), "", Same),
        ("bad_utf8_value", TEXT, b"a 1\nb{x=\"\xff\"} 2\n".to_vec(), "", Own),
        ("bad_utf8_name", TEXT, b"a 1\nb\xff 2\n".to_vec(), "", Own),
        ("zero_byte", TEXT, b"a 1\nb{x=\"\0\"} 2\n".to_vec(), "", Own),
        (
            "odd_values",
            TEXT,
            text("a NaN\nb +Inf\nc -inf\nd 0x10\ne 1_0\n"),
            "",
            Own,
        ),
        (
            "nan_and_infinity",
            TEXT,
            text("a NaN\nb +Inf\nc -Inf\nd 1e300\ne -0\n"),
            "",
            Same,
        ),
        ("exemplar_in_text", TEXT, text("a 1 # {x=\"1\"} 1\n"), "", Own),
        ("sample_limit", TEXT, text(three), "sample_limit: 2", Same),
        ("sample_limit_reached", TEXT, text(three), "sample_limit: 3", Same),
        (
            "sample_limit_relabelled",
            TEXT,
            text(three),
            "sample_limit: 2\nmetric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]",
            Same,
        ),
        ("label_limit", TEXT, text(three), "label_limit: 4", Same),
        ("label_limit_reached", TEXT, text(three), "label_limit: 5", Same),
        (
            "name_length",
            TEXT,
            text("a{xxxxxxxxx=\"1\"} 1\n"),
            "label_name_length_limit: 8",
            Same,
        ),
        (
            "value_length",
            TEXT,
            text("a{x=\"a 'word' \\\"quoted\\\" and more of it, on and on it goes\"} 1\n"),
            "label_value_length_limit: 30",
            Same,
        ),
        ("body_limit", TEXT, text("a 1\nb 2\n"), "body_size_limit: 8B", Same),
        (
            "body_limit_not_reached",
            TEXT,
            text("a 1\nb 2\n"),
            "body_size_limit: 9B",
            Same,
        ),
        ("body_limit_none", TEXT, text("a 1\nb 2\n"), "body_size_limit: 0", Same),
        ("no_type", "", text("a 1\n"), "", Same),
        (
            "no_type_and_fallback",
            "",
            text("a 1\n"),
            "fallback_scrape_protocol: PrometheusText0.0.4",
            Same,
        ),
        ("other_type", "application/json", text("a 1\n"), "", Same),
        ("broken_type", "text/plain; version", text("a 1\n"), "", Own),
        (
            "other_type_and_fallback",
            "application/json",
            text("a 1\n# EOF\n"),
            "fallback_scrape_protocol: OpenMetricsText1.0.0",
            Same,
        ),
        (
            "om",
            OPENMETRICS,
            text("# TYPE a counter\na_total 1\na_created 5\n# EOF\n"),
            "",
            Same,
        ),
        (
            "om_0_0_1",
            "application/openmetrics-text; version=0.0.1; charset=utf-8",
            text("# TYPE a counter\na_total 1 # {t=\"x\"} 1\n# EOF\n"),
            "",
            Same,
        ),
        ("om_without_end", OPENMETRICS, text("a 1\n"), "", Own),
        ("om_after_end", OPENMETRICS, text("a 1\n# EOF\nb 1\n"), "", Own),
        (
            "om_seconds",
            OPENMETRICS,
            text("a 1 1.5\n# EOF\n"),
            "honor_timestamps: false",
            Same,
        ),
        (
            "names",
            TEXT_1,
            text("{\"a.b\",\"c d\"=\"x\"} 1\n{\"plain\"} 2\n"),
            "",
            Same,
        ),
        (
            "escaped_names",
            "text/plain; version=1.0.0; escaping=values",
            text("U__a_2e_b{U__c_20_d=\"x\"} 1\n"),
            "",
            Same,
        ),
        (
            "escaped_dots",
            "text/plain; version=1.0.0; escaping=dots",
            text("a_dot_b 1\n"),
            "metric_name_escaping_scheme: dots",
            Same,
        ),
        (
            "legacy_names",
            TEXT_1,
            text("a 1\n{\"a.b\"} 1\n"),
            "metric_name_validation_scheme: legacy\nmetric_name_escaping_scheme: underscores",
            Same,
        ),
        (
            "underscores",
            TEXT,
            text("a 1\n"),
            "metric_name_escaping_scheme: underscores",
            Same,
        ),
        (
            "values",
            TEXT,
            text("a 1\n"),
            "metric_name_escaping_scheme: values",
            Same,
        ),
        (
            "text_1_only",
            TEXT,
            text("a 1\n"),
            "scrape_protocols: [PrometheusText1.0.0]\nmetric_name_escaping_scheme: dots",
            Same,
        ),
        (
            "protobuf_last",
            TEXT,
            text("a 1\n"),
            "scrape_protocols: [OpenMetricsText0.0.1, PrometheusText0.0.4, PrometheusProto]",
            Same,
        ),
        (
            "all_protocols",
            TEXT,
            text("a 1\n"),
            "scrape_protocols: [PrometheusText0.0.4, PrometheusText1.0.0, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusProto]",
            Same,
        ),
        (
            "clash",
            TEXT,
            text("a{job=\"x\",instance=\"y\",exported_job=\"z\"} 1\n"),
            "",
            Same,
        ),
        (
            "clash_honoured",
            TEXT,
            text("a{job_=\"x\",instance=\"y\"} 1\nb{instance=\"\"} 1\n"),
            "honor_labels: true",
            Same,
        ),
        (
            "clash_honoured_om",
            OPENMETRICS,
            text("b{instance=\"\"} 1\n# EOF\n"),
            "honor_labels: true",
            Same,
        ),
        (
            "clash_honoured_protobuf",
            PROTOBUF,
            b"\x20\x0a\x01b\x18\x01\x22\x19\x0a\x0c\x0a\x08instance\x12\x00\x12\x09\x09\0\0\0\0\0\0\xf0\x3f".to_vec(),
            "honor_labels: true",
            Same,
        ),
        (
            "nameless",
            TEXT,
            text("a 1\nb 2\n"),
            "metric_relabel_configs: [{regex: __name__, action: labeldrop}]",
            Same,
        ),
        (
            "all_dropped",
            TEXT,
            text("a 1\nb 2\n"),
            "metric_relabel_configs: [{source_labels: [__name__], regex: '.*', action: drop}]",
            Same,
        ),
        (
            "made_equal",
            TEXT,
            text("a{x=\"1\"} 1\na{x=\"2\"} 2\n"),
            "metric_relabel_configs: [{regex: x, action: labeldrop}]",
            Same,
        ),
        (
            "shorter_timeout",
            TEXT,
            text("a 1\n"),
            "relabel_configs: [{target_label: __scrape_timeout__, replacement: 250ms}]",
            Same,
        ),
        (
            "faster",
            TEXT,
            text("a 1\n"),
            "scrape_interval: 10s\nscrape_timeout: 300ms\nrelabel_configs: [{target_label: __scrape_interval__, replacement: 500ms}]",
            Same,
        ),
        (
            "garbage_protobuf",
            PROTOBUF,
            b"\x05\x01\x02\x03\x04\x05".to_vec(),
            "",
            Own,
        ),
        ("cut_protobuf", PROTOBUF, b"\x20\x0a\x01a".to_vec(), "", Own),
    ]
}

/// A path, and how its answers are packed.
fn answers(odd: &[Odd]) -> BTreeMap<String, Recorded> {
    let one = |(name, content_type, body, ..): &Odd| {
        let recorded = Recorded {
            content_type: (*content_type).to_owned(),
            encoding: None,
            body: body.clone(),
        };
        (format!("/{name}"), recorded)
    };
    let mut answers: BTreeMap<String, Recorded> = odd.iter().map(one).collect();
    let not_packed = Recorded {
        content_type: TEXT.to_owned(),
        encoding: Some("gzip"),
        body: b"a 1\n".to_vec(),
    };
    answers.insert("/not_packed".to_owned(), not_packed);
    answers
}

/// By job: health and last error.
fn failures(server: &Running) -> BTreeMap<String, (String, String)> {
    let data = server.api("/api/v1/targets", &[("state", "active")]);
    let one = |target: &Value| {
        let text = |key: &str| target[key].as_str().unwrap().to_owned();
        (text("scrapePool"), (text("health"), text("lastError")))
    };
    data["activeTargets"].as_array().unwrap().iter().map(one).collect()
}

/// By job: the most series that a scrape added.
fn added(server: &Running) -> BTreeMap<String, String> {
    let query = "max_over_time(scrape_series_added[5m])";
    let data = server.api("/api/v1/query", &[("query", query)]);
    let rows = data["result"].as_array().unwrap().iter();
    rows.map(|row| {
        let job = label_map(&row["metric"])["job"].clone();
        (job, row["value"][1].as_str().unwrap().to_owned())
    })
    .collect()
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn odd_targets_are_taken_as_prometheus_takes_them() {
    let odd = odd_bodies();
    let keys = |path: &str| {
        let found = odd.iter().find(|(name, ..)| path == format!("/{name}"));
        let keys = found.map_or("", |(_, _, _, keys, _)| keys);
        keys.lines().map(|line| format!("  {line}\n")).collect()
    };
    let mut pair = Pair::start(answers(&odd), &["--enable-feature=extra-scrape-metrics"], keys);
    pair.wait();
    let mut wrong = Vec::new();
    let (their_failures, our_failures) = (failures(&pair.theirs), failures(&pair.ours));
    let (their_added, our_added) = (added(&pair.theirs), added(&pair.ours));
    for path in &pair.paths {
        let job = super::job_of(path);
        let words = odd
            .iter()
            .find(|(name, ..)| *name == job)
            .map_or(Words::Own, |odd| odd.4);
        let samples = |server: &Running| -> BTreeMap<LabelMap, String> {
            let (floats, _) = samples_of(server, &format!("{{job=\"{job}\"}}"));
            let shown = |(labels, bits): (LabelMap, u64)| (labels, f64::from_bits(bits).to_string());
            floats.into_iter().map(shown).collect()
        };
        let (theirs, ours) = (samples(&pair.theirs), samples(&pair.ours));
        for labels in theirs
            .keys()
            .chain(ours.keys().filter(|labels| !theirs.contains_key(*labels)))
        {
            if theirs.get(labels) != ours.get(labels) && labels.get("job") == Some(&job) {
                let (theirs, ours) = (theirs.get(labels), ours.get(labels));
                wrong.push(format!("{job}: {labels:?}: {theirs:?}, here {ours:?}"));
            }
        }
        let (theirs, ours) = (&their_failures[&job], &our_failures[&job]);
        let same = match words {
            Words::Same => theirs == ours,
            Words::Own => (&theirs.0, theirs.1.is_empty()) == (&ours.0, ours.1.is_empty()),
        };
        if !same {
            wrong.push(format!("{job}: {theirs:?}, here {ours:?}"));
        }
        let (theirs, ours) = (their_added.get(&job), our_added.get(&job));
        if theirs != ours {
            wrong.push(format!("{job}: series added: {theirs:?}, here {ours:?}"));
        }
        let [theirs, ours] = AGENTS.map(|agent| pair.mirror.asked(path, agent));
        if (&theirs.accept, &theirs.timeout) != (&ours.accept, &ours.timeout) {
            wrong.push(format!("{job}: asked {theirs:?}, here {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
