//! `docs/openapi.yaml`: that it names what is served, and that what is served keeps to it, whatever is asked.

mod autoscalers;
mod document;
mod named;
mod random;

use crate::site::{NOW_MS, Site, Switches};
use document::Document;
use std::collections::BTreeSet;
use std::time::Duration;
use tidegauge_query::EngineOptions;

/// Something of everything that is asked for, and bounds that a query of chance soon meets.
fn stored() -> Site {
    const CONFIG: &str = "
scrape_configs:
- job_name: rules
  relabel_configs:
  - {source_labels: [__address__, zone], regex: '(.*):.*;(.*)', target_label: host}
  - {regex: tmp_.*, action: labeldrop}
";
    let site = Site::with(Switches {
        engine: EngineOptions {
            timeout: Duration::from_millis(300),
            max_samples: 100_000,
            ..EngineOptions::default()
        },
        autoscalers: autoscalers::all(),
        ..Switches::default()
    });
    for (job, value) in [("a", 1.0), ("b", f64::NAN), ("c", f64::INFINITY)] {
        for code in ["200", "500"] {
            let labels = [("__name__", "requests_total"), ("code", code), ("job", job)];
            let samples: Vec<(i64, f64)> = (0..30).map(|i| (NOW_MS - i * 15_000, value * i as f64)).rev().collect();
            site.store(&labels, &samples);
        }
        site.store(&[("__name__", "up"), ("job", job)], &[(NOW_MS - 2000, value)]);
    }
    site.store(
        &[("__name__", "dots"), ("my.label", "x"), ("región", "y")],
        &[(NOW_MS, 1e21)],
    );
    let file = site.dir.path().join("prometheus.yml");
    std::fs::write(&file, CONFIG).unwrap();
    let config = tidegauge_server::config::load(&file).unwrap();
    let applied = site.scraper.apply(config.jobs().to_vec(), config.external_labels());
    applied.unwrap();
    site
}

#[test]
fn the_document_has_each_route_and_each_method_and_no_others() {
    let served: BTreeSet<(String, String)> = tidegauge_server::api::routes()
        .into_iter()
        .flat_map(|(path, allow)| {
            allow
                .split(", ")
                .map(move |method| (path.to_owned(), method.to_owned()))
        })
        .collect();
    let document = Document::read();
    let named: BTreeSet<(String, String)> = document
        .operations()
        .into_iter()
        .map(|operation| (operation.path.to_owned(), operation.method.to_string()))
        .collect();
    let missing: Vec<_> = served.difference(&named).collect();
    let extra: Vec<_> = named.difference(&served).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "not named: {missing:?}; not served: {extra:?}"
    );
    assert!(served.len() > 60);
}

#[test]
fn forms_hold_what_the_url_may_hold() {
    for operation in Document::read().operations() {
        let Some(form) = &operation.form else { continue };
        let names: BTreeSet<&str> = form.iter().map(|parameter| parameter.name).collect();
        let in_url: BTreeSet<&str> = operation.asked().map(|parameter| parameter.name).collect();
        assert_eq!(names, in_url, "{} {}", operation.method, operation.path);
        for parameter in form {
            let other = operation.asked().find(|other| other.name == parameter.name).unwrap();
            assert_eq!(parameter.kind, other.kind, "{} of {}", parameter.name, operation.path);
        }
    }
}

#[tokio::test]
async fn autoscalers_are_told_of_as_named() {
    let (site, document) = (stored(), Document::read());
    let operations = document.operations();
    let of = |path: &str| operations.iter().find(|o| o.method == "GET" && o.path == path).unwrap();
    let one = "/api/v1/hpa/{namespace}/{name}/explain";
    for (path, asked, says) in [
        ("/api/v1/hpa", "/api/v1/hpa", r#""desiredReplicas":3"#),
        (one, "/api/v1/hpa/shop/job/explain", "not looked at yet"),
        (one, "/api/v1/hpa/shop/code/explain", r#""path":"metrics""#),
        (one, "/api/v1/hpa/shop/no/explain", r#""decision":null"#),
        (
            one,
            "/api/v1/hpa/shop/nobody/explain",
            "there is no HorizontalPodAutoscaler shop/nobody here: no cluster is watched",
        ),
    ] {
        let answer = site.get(asked).await;
        let kind = answer.header("content-type");
        let told = document.check(of(path), answer.status.as_u16(), kind, answer.text.as_bytes());
        assert_eq!(told, Ok(()), "{asked}: {}", answer.text);
        assert!(answer.text.contains(says), "{asked}: {}", answer.text);
    }
    let text = site.get("/api/v1/hpa/shop/code/explain?format=text").await;
    assert!(
        text.text.contains("web-0: no value") && text.text.contains("fails    failed to get pods metric value"),
        "{}",
        text.text
    );
    site.scraper.stop().await;
}

/// A check that finds nothing wrong with anything would prove nothing.
#[test]
fn answers_that_are_not_as_named_are_told() {
    let document = Document::read();
    let operations = document.operations();
    let of = |method: &str, path: &str| {
        operations
            .iter()
            .find(|o| o.method == method && o.path == path)
            .unwrap()
    };
    let query = of("GET", "/api/v1/query");
    let (json, text) = ("application/json", "text/plain; charset=utf-8");
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"1"]}}"#;
    let error = r#"{"status":"error","errorType":"bad_data","error":"x"}"#;
    for (operation, status, kind, body, wrong) in [
        (query, 200, json, scalar, ""),
        (query, 400, json, error, ""),
        (query, 401, text, "Unauthorized\n", ""),
        (query, 200, text, scalar, "content type"),
        (query, 418, json, error, "status"),
        (query, 200, json, r#"{"status":"success""#, "no JSON"),
        (query, 200, json, error, "status"),
        (
            query,
            400,
            json,
            r#"{"status":"error","errorType":"odd","error":"x"}"#,
            "errorType",
        ),
        (
            query,
            400,
            json,
            r#"{"status":"error","errorType":"bad_data","error":""}"#,
            "error",
        ),
        (
            query,
            200,
            json,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,1]}}"#,
            "data",
        ),
        (
            query,
            200,
            json,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.5]}}"#,
            "data",
        ),
        (
            query,
            200,
            json,
            r#"{"status":"success","data":{"resultType":"cube","result":[]}}"#,
            "data",
        ),
        (
            of("GET", "/api/v1/labels"),
            200,
            json,
            r#"{"status":"success","data":[],"more":1}"#,
            "more",
        ),
        (
            of("GET", "/api/v1/labels"),
            200,
            json,
            r#"{"status":"success","data":[1]}"#,
            "data[0]",
        ),
        (
            of("GET", "/api/v1/alerts"),
            200,
            json,
            r#"{"status":"success","data":{"alerts":[1]}}"#,
            "alerts",
        ),
        (
            of("GET", "/api/v1/alerts"),
            200,
            json,
            r#"{"status":"success","data":{}}"#,
            "alerts",
        ),
        (of("PUT", "/api/v1/admin/tsdb/delete_series"), 204, "", "", ""),
        (of("PUT", "/api/v1/admin/tsdb/delete_series"), 204, "", "x", "body"),
        (of("POST", "/api/v1/write"), 415, text, "x", ""),
        (of("POST", "/api/v1/write"), 415, json, error, "content type"),
    ] {
        let told = document.check(operation, status, kind, body.as_bytes());
        match wrong {
            "" => assert_eq!(told, Ok(()), "{status} {body}"),
            wrong => assert!(
                told.as_ref().is_err_and(|told| told.contains(wrong)),
                "{status} {body}: {told:?}"
            ),
        }
    }
}
