//! Relabelling: the shared cases.

use serde_json::Value;
use tidegauge_model::Labels;
use tidegauge_scraper::naming::NameScheme;
use tidegauge_scraper::relabel::{RelabelConfig, RelabelFields, apply};

use crate::read_json;

fn labels(pairs: &Value) -> Labels {
    let pairs = pairs
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name, value.as_str().unwrap()));
    Labels::from_pairs(pairs).unwrap()
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_shared_cases_come_out_as_recorded() {
    let cases = read_json("conformance/config/relabel.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 34);
    for case in cases {
        let rules: Vec<RelabelConfig> = serde_json::from_value(case["relabel_configs"].clone()).unwrap();
        let expect = (!case["dropped"].as_bool().unwrap()).then(|| labels(&case["output"]));
        assert_eq!(apply(&rules, labels(&case["input"])), expect, "{case}");
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_shared_validations_come_out_as_recorded() {
    let cases = read_json("conformance/config/relabel-validate.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let config = &case["relabel_config"];
        let mut fields: RelabelFields = serde_json::from_value(config.clone()).unwrap();
        // These cases are about a rule whose defaults have not been filled in.
        if config.get("action").is_none() {
            fields.action = None;
        }
        let scheme = match case["name_validation_scheme"].as_str().unwrap() {
            "legacy" => NameScheme::Legacy,
            _ => NameScheme::Utf8,
        };
        let result = RelabelConfig::new(fields).and_then(|mut rule| rule.set_scheme(scheme));
        match (result, case["ok"].as_bool().unwrap()) {
            (Ok(()), true) => {}
            (Err(error), false) => {
                let (got, want) = (error.to_string(), case["error_contains"].as_str().unwrap());
                assert!(got.contains(want), "{case}: {got}");
            }
            (result, _) => panic!("{case}: {result:?}"),
        }
    }
}
