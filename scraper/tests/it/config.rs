//! The sections `global` and `scrape_configs` against upstream's own files, and what 3.5.3 showed of them.

use crate::{read_json, shared};
use serde::Deserialize;
use serde_yaml_ng::Value;
use std::collections::BTreeMap;
use tidegauge_scraper::config::{GlobalConfig, ScrapeConfig, finish};

/// A file as far as it is ours; the other sections are the server's.
#[derive(Deserialize)]
struct File {
    global: Option<GlobalConfig>,
    #[serde(default)]
    scrape_configs: Vec<Option<ScrapeConfig>>,
    #[serde(flatten)]
    _others: BTreeMap<String, Value>,
}

fn load(text: &str) -> Result<(GlobalConfig, Vec<ScrapeConfig>), String> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|problem| problem.to_string())?;
    let global = match file.global {
        Some(global) => global.finish().map_err(|problem| problem.to_string())?,
        None => GlobalConfig::absent(),
    };
    let jobs = finish(file.scrape_configs, &global).map_err(|problem| problem.to_string())?;
    Ok((global, jobs))
}

/// The bad files whose fault lies in what is read here. The others' faults are the server's to find, or those of kinds
/// of discovery that are not built in. `!!binary` in YAML (three files) is not known to the reader.
const OURS: [&str; 27] = [
    "bearertoken.bad",
    "bearertoken_basicauth",
    "dropequal",
    "empty_metric_relabel_config",
    "empty_scrape_config.bad",
    "empty_scrape_config_action",
    "empty_static_config",
    "empty_target_relabel_config",
    "jobname",
    "keepequal",
    "kubernetes_",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "metric_name_validation_scheme",
    "modulus_missing",
    "regex",
    "scrape_body_size_limit",
    "scrape_config_files_fallback_scrape_protocol",
    "scrape_config_files_scrape_protocols",
    "scrape_config_utf8_conflicting",
    "scrape_interval.bad",
    "target_label",
    "unknown_attr",
    "unknown_global_attr",
    "uppercase",
    "url_in_targetgroup",
];

/// The same fault in other words: those of the YAML reader, or without the file's name, which the server puts before.
const OTHER_WORDS: [(&str, &str); 7] = [
    ("kubernetes_namespace_discovery", "unknown field `foo`"),
    ("unknown_attr", "unknown field `consult_sd_configs`"),
    ("unknown_global_attr", "unknown field `nonexistent_field`"),
    (
        "scrape_config_files_fallback_scrape_protocol1",
        "unknown scrape protocol prometheusproto, supported: [",
    ),
    (
        "scrape_config_files_fallback_scrape_protocol2",
        "invalid type: sequence, expected a string at line 3",
    ),
    (
        "scrape_config_files_scrape_protocols.",
        "unknown scrape protocol prometheusproto, supported: [",
    ),
    (
        "scrape_config_files_scrape_protocols2",
        "duplicated protocol in scrape_protocols, got [OpenMetricsText1.0.0 PrometheusProto OpenMetricsText1.0.0] for \
         scrape config with job name \"node\"",
    ),
];

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn good_files_load_and_bad_ones_fail_in_upstreams_words() {
    let cases = read_json("conformance/config/cases.json");
    let (mut good, mut bad) = (0, 0);
    for case in cases.as_array().unwrap() {
        let path = case["file"].as_str().unwrap();
        let name = path.trim_start_matches("testdata/");
        let text = std::fs::read_to_string(shared("conformance/config").join(path)).unwrap();
        let loaded = load(&text);
        if case["ok"] == true {
            good += 1;
            match loaded {
                Ok(_) => {}
                // Kinds of discovery that are not built in are refused by name.
                Err(problem) => assert!(
                    problem.contains("_sd_configs: this kind of discovery is not built in"),
                    "{name}: {problem}"
                ),
            }
        } else if OURS.iter().any(|ours| name.starts_with(ours)) {
            bad += 1;
            let problem = loaded.map(|_| ()).expect_err(name);
            let parts: Vec<&str> = match OTHER_WORDS.iter().find(|(file, _)| name.starts_with(file)) {
                Some((_, words)) => vec![words],
                None => case["error_contains"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|e| e.as_str())
                    .collect(),
            };
            assert!(
                parts.iter().all(|part| problem.contains(part)),
                "{name}: {problem}\nfor {parts:?}"
            );
        }
    }
    assert!(good >= 60 && bad >= 35, "{good} good, {bad} bad");
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn jobs_are_shown_as_upstream_shows_them() {
    let mut compared = 0;
    for entry in std::fs::read_dir(shared("conformance/config/normalised-3.5")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        let given = std::fs::read_to_string(shared("conformance/config/testdata").join(name)).unwrap();
        let shown: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let (mut global, jobs) = load(&given).unwrap();
        // Whether and how the environment is put into these is the server's affair.
        global.external_labels.clear();
        let global = serde_yaml_ng::to_value(&global).unwrap();
        let mut shown_global = shown["global"].clone();
        shown_global.as_mapping_mut().unwrap().remove("external_labels");
        assert_eq!(global, shown_global, "{}", path.display());
        let ours = serde_yaml_ng::to_value(&jobs).unwrap();
        let theirs = shown.get("scrape_configs").cloned().unwrap_or(Value::Sequence(vec![]));
        assert_eq!(
            serde_yaml_ng::to_string(&ours).unwrap(),
            serde_yaml_ng::to_string(&theirs).unwrap(),
            "{}",
            path.display()
        );
        compared += jobs.len();
    }
    assert!(compared > 10, "{compared}");
}
