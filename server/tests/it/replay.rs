//! The recorded requests of a real Prometheus, answered by us over the same data.
//!
//! Where an answer cannot be equal, `api_gaps.txt` says so and why; everything else must be: status, content type and
//! body, the lists of a result in any order.

use crate::ordered::Json;
use crate::site::{Site, Switches, escape};
use axum::body::Body;
use axum::http::{Method, Request};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tidegauge_model::{Appendable, Exemplar, Labels, OnReject, Timestamp};

#[derive(Deserialize)]
struct Example {
    name: String,
    method: String,
    path: String,
    #[serde(default)]
    params: Vec<(String, String)>,
    status: u16,
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    request_headers: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Json>,
    text: Option<String>,
}

/// How much of an answer must agree.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Extent {
    All,
    /// Status and content type, and the shape of the body.
    Shape,
    /// Status and content type.
    Status,
    Nothing,
}

fn gaps() -> BTreeMap<String, Extent> {
    include_str!("api_gaps.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut parts = line.splitn(3, " | ");
            let (extent, name) = (parts.next().unwrap(), parts.next().unwrap());
            assert!(
                parts.next().is_some_and(|why| why.len() > 10),
                "a reason is missing: {line}"
            );
            let extent = match extent.trim() {
                "shape" => Extent::Shape,
                "status" => Extent::Status,
                "nothing" => Extent::Nothing,
                other => panic!("{other} is no extent: {line}"),
            };
            (name.trim().to_owned(), extent)
        })
        .collect()
}

/// The times of the scrapes that the recording saw.
const SCRAPES: [i64; 4] = [
    1_795_225_168_442,
    1_795_225_170_442,
    1_795_225_172_442,
    1_795_225_174_442,
];

/// Stores what the recorded server had scraped from its demo target.
fn scraped(site: &Site, folder: &std::path::Path) {
    let demo = [("env", "test"), ("instance", "127.0.0.1:22061"), ("job", "demo")];
    let text = std::fs::read_to_string(folder.join("target.prom.txt")).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series
            .split_once('{')
            .map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        let mut pairs = vec![("__name__", name)];
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let (label, quoted) = pair.split_once('=').unwrap();
            pairs.push((label, quoted.trim_matches('"')));
        }
        // A scraper normalises bounds of declared histograms.
        if let Some(le) = pairs.iter_mut().find(|pair| **pair == ("le", "1")) {
            le.1 = "1.0";
        }
        pairs.extend(demo);
        let value: f64 = value.parse().unwrap();
        site.store(&pairs, &SCRAPES.map(|at| (at, value)));
    }
    for name in [
        "scrape_duration_seconds",
        "scrape_samples_post_metric_relabeling",
        "scrape_samples_scraped",
        "scrape_series_added",
    ] {
        let pairs: Vec<_> = [("__name__", name)].into_iter().chain(demo).collect();
        site.store(&pairs, &SCRAPES.map(|at| (at, 1.0)));
    }
    for (job, port, env) in [
        ("demo", 22061, "test"),
        ("prometheus", 22060, ""),
        ("exemplars", 22061, ""),
        ("down", 22062, ""),
    ] {
        let instance = format!("127.0.0.1:{port}");
        let pairs = [("__name__", "up"), ("instance", &instance), ("job", job), ("env", env)];
        site.store(&pairs, &SCRAPES.map(|at| (at, if job == "down" { 0.0 } else { 1.0 })));
    }
}

/// Stores the exemplars that the recorded server had scraped from its demo target: at each scrape the same ones.
fn traced(site: &Site, folder: &std::path::Path) {
    const FIRST: i64 = 1_795_225_169_220;
    site.db.set_max_exemplars(100);
    let text = std::fs::read_to_string(folder.join("target.om.txt")).unwrap();
    let mut found = 0;
    for (series, exemplar) in text.lines().filter_map(|line| line.split_once(" # ")) {
        let (_, le) = series.split_once("le=\"").unwrap();
        let (le, value) = le.split_once("\"} ").unwrap();
        let (trace, observed) = exemplar.trim_start_matches("{trace_id=\"").split_once("\"} ").unwrap();
        let pairs = [
            ("__name__", "demo_exemplar_seconds_bucket"),
            ("instance", "127.0.0.1:22061"),
            ("job", "exemplars"),
            ("le", le),
        ];
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("trace_id", trace)]).unwrap(),
            value: observed.parse().unwrap(),
            at: None,
        };
        let labels = Labels::from_pairs(pairs).unwrap();
        for at in [0, 2000, 4000].map(|later| Timestamp::from_millis(FIRST + later)) {
            let mut appender = site.db.appender();
            let series = appender.resolve(None, &labels).unwrap();
            appender.append_at(series, at, value.parse().unwrap()).unwrap();
            appender.append_exemplar(series, at, &exemplar).unwrap();
            appender.commit(OnReject::Fail).unwrap();
        }
        found += 1;
    }
    assert_eq!(found, 2, "series with exemplars");
}

async fn ask(site: &Site, example: &Example) -> crate::site::Answer {
    let pairs: Vec<String> = example
        .params
        .iter()
        .map(|(n, v)| format!("{}={}", escape(n), escape(v)))
        .collect();
    let query = pairs.join("&");
    let posts = example.method == "POST" && !example.path.contains("/admin/") && !example.path.contains("/write");
    let uri = if posts || query.is_empty() {
        example.path.clone()
    } else {
        format!("{}?{query}", example.path)
    };
    let mut request = Request::builder()
        .method(Method::from_bytes(example.method.as_bytes()).unwrap())
        .uri(uri);
    for (name, value) in &example.request_headers {
        request = request.header(name, value);
    }
    if posts && !query.is_empty() {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    let body = match example.name.as_str() {
        "remote write: empty" => Body::from(snap::raw::Encoder::new().compress_vec(b"").unwrap()),
        "remote write: not snappy" => Body::from("not snappy"),
        _ if posts => Body::from(query),
        _ => Body::empty(),
    };
    site.send(request.body(body).unwrap()).await
}

/// What differs, in words; nothing if the answer is as recorded.
async fn difference(site: &Site, example: &Example, extent: Extent) -> Option<String> {
    let answer = ask(site, example).await;
    let content_type = answer.header("content-type");
    if (answer.status.as_u16(), content_type) != (example.status, example.content_type.as_str()) {
        return Some(format!(
            "{} {content_type:?} instead of {} {:?}: {}",
            answer.status, example.status, example.content_type, answer.text
        ));
    }
    for name in ["Vary", "Allow", "Access-Control-Allow-Origin", "Location"] {
        let recorded = example.headers.get(name).map_or("", String::as_str);
        if extent == Extent::All && answer.header(name) != recorded {
            return Some(format!("{name}: {:?} instead of {recorded:?}", answer.header(name)));
        }
    }
    if matches!(extent, Extent::Status | Extent::Nothing) {
        return None;
    }
    match (extent, &example.body, &example.text) {
        (Extent::All, Some(recorded), _) => {
            let ours: Json = serde_json::from_str(&answer.text).map_err(|e| e.to_string()).unwrap();
            let (ours, recorded) = (ours.sorted(), recorded.clone().sorted());
            (ours != recorded).then(|| format!("\n  ours     {ours:?}\n  recorded {recorded:?}"))
        }
        (_, Some(recorded), _) => {
            let ours: Json = serde_json::from_str(&answer.text).map_err(|e| e.to_string()).unwrap();
            let (ours, recorded) = (ours.shape(""), recorded.shape(""));
            (ours != recorded).then(|| format!("\n  ours     {ours}\n  recorded {recorded}"))
        }
        (_, None, Some(recorded)) => {
            (answer.text != *recorded).then(|| format!("{:?} instead of {recorded:?}", answer.text))
        }
        (_, None, None) => None,
    }
}

#[tokio::test]
#[ignore = "needs TIDEGAUGE_SHARED"]
async fn recorded_requests_are_answered_as_recorded() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared test data");
    let folder = PathBuf::from(shared).join("conformance/api");
    let text = std::fs::read_to_string(folder.join("examples.json")).unwrap();
    let examples: Vec<Example> = serde_json::from_str(&text).unwrap();
    assert!(examples.len() >= 129, "{} examples", examples.len());
    let mut site = Site::with(Switches {
        external_url: "http://example-host:22060/",
        ..Switches::default()
    });
    let mut reloads = std::mem::replace(&mut site.reloads, tokio::sync::mpsc::channel(1).1);
    tokio::spawn(async move {
        while let Some(reply) = reloads.recv().await {
            let _ = reply.send(Ok(()));
        }
    });
    let without_admin = Site::with(Switches {
        admin_api: false,
        ..Switches::default()
    });
    scraped(&site, &folder);
    traced(&site, &folder);
    let gaps = gaps();
    let (mut failures, mut exact) = (Vec::new(), 0);
    for example in &examples {
        let extent = gaps.get(&example.name).copied().unwrap_or(Extent::All);
        if extent == Extent::Nothing {
            continue;
        }
        exact += u32::from(extent == Extent::All);
        let site = if example.name == "admin API off" {
            &without_admin
        } else {
            &site
        };
        if let Some(why) = difference(site, example, extent).await {
            failures.push(format!("{} ({extent:?}): {why}", example.name));
        }
    }
    let known: Vec<&str> = examples.iter().map(|example| example.name.as_str()).collect();
    for name in gaps.keys() {
        assert!(
            known.contains(&name.as_str()),
            "api_gaps.txt names {name:?}, which is not recorded"
        );
    }
    assert!(
        failures.is_empty(),
        "{} of {} differ:\n{}",
        failures.len(),
        examples.len(),
        failures.join("\n")
    );
    assert!(exact >= 90, "only {exact} are compared in full");
}
