//! Expositions: the shared cases, our own files, and bytes of all kinds.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegauge_model::{Labels, MetricKind};
use tidegauge_scraper::naming::{EscapingScheme, NameScheme};
use tidegauge_scraper::parse::{
    ContentTypeError, CreatedLines, Entries, Entry, Format, ParseError, ScrapeProtocol, accept_header, parse_series,
};

use crate::{read_json, shared};

fn format(name: &str) -> Format {
    if name.starts_with("openmetrics") {
        Format::OpenMetrics
    } else {
        Format::PrometheusText
    }
}

fn input(case: &Value) -> Vec<u8> {
    if let Some(text) = case["input"].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = case["input_hex"].as_str().unwrap();
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

fn labels(series: &[u8], kind: MetricKind) -> Result<Labels, ParseError> {
    let mut pairs = Vec::new();
    parse_series(series, kind, NameScheme::Utf8, &mut pairs)?;
    Ok(Labels::from_pairs(pairs).unwrap())
}

/// Parses a body as a scrape does, to the number of its samples.
fn scrape(body: &[u8], format: Format) -> Result<usize, ParseError> {
    let mut samples = 0;
    for entry in Entries::new(body, format) {
        if let Entry::Sample(sample) = entry? {
            labels(sample.series, sample.kind)?;
            samples += 1;
        }
    }
    Ok(samples)
}

fn labels_json(labels: &Labels) -> Value {
    labels
        .iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn value_json(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

/// What a body says, in the shape of `valid.json`.
fn entries_json(body: &[u8], format: Format) -> Vec<Value> {
    let mut walk = Entries::new(body, format).created_lines(CreatedLines::StartTimestamps);
    let mut out = Vec::new();
    while let Some(entry) = walk.next() {
        out.push(match entry.unwrap() {
            Entry::Sample(sample) => {
                let text = String::from_utf8_lossy(sample.series);
                let mut entry = json!({"kind": "sample", "text": text, "value": value_json(sample.value)});
                entry["labels"] = labels_json(&labels(sample.series, sample.kind).unwrap());
                if let Some(at) = sample.at {
                    entry["timestamp_ms"] = json!(at.millis());
                }
                if let Some(exemplar) = walk.exemplar() {
                    let mut one = json!({"value": value_json(exemplar.value)});
                    one["labels"] = labels_json(&exemplar.labels().unwrap());
                    if let Some(at) = exemplar.at {
                        one["timestamp_ms"] = json!(at.millis());
                    }
                    entry["exemplars"] = json!([one]);
                }
                entry
            }
            Entry::Help { metric, text } => json!({"kind": "help", "metric": metric.text(), "text": text.text()}),
            Entry::Type { metric, kind } => json!({"kind": "type", "metric": metric.text(), "type": kind.as_str()}),
            Entry::Unit { metric, unit } => json!({"kind": "unit", "metric": metric.text(), "unit": unit.text()}),
            Entry::Comment(text) => json!({"kind": "comment", "text": String::from_utf8_lossy(text)}),
            Entry::Created { .. } => continue,
        });
    }
    out
}

fn same(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => got == want,
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_shared_documents_say_what_is_recorded() {
    for document in read_json("conformance/exposition/valid.json").as_array().unwrap() {
        let file = document["file"].as_str().unwrap();
        // Native histograms with custom buckets are made from several series; that file's other entries are in the
        // document without them.
        if file.contains("nhcb") {
            continue;
        }
        let body = std::fs::read(shared("conformance/exposition").join(file)).unwrap();
        let got = entries_json(&body, format(document["format"].as_str().unwrap()));
        let want = document["entries"].as_array().unwrap();
        assert_eq!(got.len(), want.len(), "{file}");
        for (got, want) in got.iter().zip(want) {
            let mut want = want.clone();
            let mut got = got.clone();
            for key in ["labels_with_type_and_unit", "start_timestamp_ms"] {
                want.as_object_mut().unwrap().remove(key);
            }
            // Some documents record only which entries there are.
            got.as_object_mut().unwrap().retain(|key, _| want.get(key).is_some());
            assert!(same(&got, &want), "{file}:\n got {got}\nwant {want}");
        }
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_shared_small_inputs_get_the_recorded_verdict_and_text() {
    let cases = read_json("conformance/exposition/errors.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 109);
    let mut wrong = Vec::new();
    for case in cases {
        let got = Entries::new(&input(case), format(case["format"].as_str().unwrap()))
            .collect::<Result<Vec<_>, _>>()
            .map(drop)
            .map_err(|error| error.to_string());
        let want = match case["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(()),
        };
        if got != want {
            wrong.push(format!("{case}\n  got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_openmetrics_suite_is_accepted_as_upstream_does() {
    let cases = read_json("conformance/exposition/openmetrics-suite.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 211);
    let mut wrong = Vec::new();
    for case in cases {
        let body = input(case);
        // The scrape loop does not parse what is empty.
        if body.is_empty() {
            continue;
        }
        // 3.5 takes a bare word in braces for a metric name; later versions refuse it in other words, and so do we.
        if body.starts_with(b"a{a} ") {
            assert!(scrape(&body, Format::OpenMetrics).is_err());
            continue;
        }
        let got = scrape(&body, Format::OpenMetrics)
            .map(drop)
            .map_err(|error| error.to_string());
        let want = match case["error_in_prometheus"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(()),
        };
        assert_eq!(case["ok_in_prometheus"], json!(want.is_ok()));
        // Where a line is good and the next cannot begin, upstream blames the next.
        if want
            .as_ref()
            .is_err_and(|error| error.contains("expected a valid start token"))
        {
            assert!(got.is_err(), "{case}");
        } else if got != want {
            wrong.push(format!("{case}\n  got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_shared_expositions_have_the_recorded_number_of_samples() {
    let expected = read_json("expositions/expected-samples.json");
    for (file, facts) in expected["files"].as_object().unwrap() {
        if file.ends_with(".pb") {
            continue;
        }
        let body = std::fs::read(shared("expositions").join(file)).unwrap();
        let format = if file.contains(".om.") {
            Format::OpenMetrics
        } else {
            Format::PrometheusText
        };
        assert_eq!(
            scrape(&body, format).map(|n| json!(n)),
            Ok(facts["samples"].clone()),
            "{file}"
        );
    }
    for file in std::fs::read_dir(shared("conformance/exposition/bulk")).unwrap() {
        let path = file.unwrap().path();
        let om = path.to_string_lossy().contains(".om.");
        let format = if om {
            Format::OpenMetrics
        } else {
            Format::PrometheusText
        };
        assert!(
            scrape(&std::fs::read(&path).unwrap(), format).unwrap() > 40,
            "{}",
            path.display()
        );
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_shared_content_types_are_taken_as_recorded() {
    let cases = read_json("conformance/exposition/content-types.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 20);
    for case in cases {
        let fallback = case["fallback_scrape_protocol"].as_str().map(|name| {
            let name = name.replace("Text0_0_4", "Text0.0.4").replace("Text1_0_0", "Text1.0.0");
            ScrapeProtocol::from_name(&name.replace("Text0_0_1", "Text0.0.1")).unwrap()
        });
        let got = Format::negotiate(case["content_type"].as_str(), fallback);
        let message = match &got {
            Ok(negotiated) => negotiated.warning.as_ref().map(ContentTypeError::to_string),
            Err(error) => Some(error.to_string()),
        };
        match case["parser"].as_str() {
            Some("prometheus-text") => assert_eq!(got.unwrap().format, Format::PrometheusText, "{case}"),
            Some("openmetrics-text") => assert_eq!(got.unwrap().format, Format::OpenMetrics, "{case}"),
            Some("protobuf") => {
                assert_eq!(got, Err(ContentTypeError::Protobuf), "{case}");
                continue;
            }
            _ => assert!(got.is_err(), "{case}"),
        }
        match case["error_contains"].as_str() {
            Some(want) => assert!(message.clone().unwrap().contains(want), "{case}: {message:?}"),
            None => assert_eq!(message, None, "{case}"),
        }
    }
}

#[test]
fn the_accept_header_is_upstream_s() {
    assert_eq!(
        accept_header(&ScrapeProtocol::DEFAULT, EscapingScheme::AllowUtf8),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
}
