//! What the program tells of itself: the names of Prometheus' own metrics with their types and labels where they mean
//! the same, in text and in OpenMetrics.
//!
//! `self_metrics.txt` has a row for each name that Prometheus serves, or that its dashboards and rules ask for.

use crate::process::{Running, free_port, peer, request, tidegauge};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tidegauge_query::parser::{ParseOptions, parse};
use tidegauge_scraper::parse::{Entries, Entry, Format};

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
/// How upstream's metrics of itself begin that may be asked for.
const BEGINNINGS: [&str; 4] = ["prometheus_", "net_conntrack_", "process_", "promhttp_"];

/// Type and names of labels of a family.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    kind: String,
    labels: BTreeSet<String>,
    samples: usize,
}

/// The families of an exposition, as our own parser reads it.
fn shapes(body: &str, format: Format) -> BTreeMap<String, Shape> {
    let mut shapes = BTreeMap::<String, Shape>::new();
    let mut entries = Entries::new(body.as_bytes(), format);
    let mut family = String::new();
    while let Some(entry) = entries.next() {
        match entry.unwrap_or_else(|e| panic!("{}", e.place(body.as_bytes(), format))) {
            Entry::Type { metric, kind } => {
                family = metric.text().into_owned();
                let kind = format!("{kind:?}").to_lowercase();
                let known = shapes.insert(
                    family.clone(),
                    Shape {
                        kind,
                        ..Shape::default()
                    },
                );
                assert!(known.is_none(), "{family} comes twice");
            }
            Entry::Sample(line) => {
                let mut pairs = Vec::new();
                entries.pairs(&line, &mut pairs).unwrap();
                let shape = shapes.get_mut(&family).expect("a type before its samples");
                shape.samples += 1;
                for (name, value) in &pairs {
                    if name == "__name__" {
                        assert!(value.starts_with(&family), "{value} is of {family}");
                    } else {
                        shape.labels.insert(name.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    shapes
}

/// What the table says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// Served, with a further label if there is one.
    Same(Option<&'static str>),
    LeftOut(&'static str),
}

/// The rows of the table by name.
fn table() -> BTreeMap<&'static str, Row> {
    let lines = include_str!("self_metrics.txt").lines();
    let rows = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let (name, rest) = row.split_once(" | ").unwrap_or_else(|| panic!("{row}"));
        let row = match (rest, rest.strip_prefix("same, with ")) {
            ("same", _) => Row::Same(None),
            (_, Some(more)) => Row::Same(more.split(' ').next()),
            (why, None) => Row::LeftOut(why),
        };
        (name, row)
    })
    .collect()
}

fn start(program: &Path, name: &str, dir: &Path, target: u16) -> Running {
    let port = free_port();
    let file = dir.join(format!("{name}.yml"));
    let targets = dir.join("targets.json");
    std::fs::write(&targets, format!("[{{\"targets\": [\"127.0.0.1:{target}\"]}}]")).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: files\n  file_sd_configs: [{{files: ['{}']}}]\n\
         - job_name: nobody\n  http_sd_configs: [{{url: 'http://127.0.0.1:{target}/none', refresh_interval: 1s}}]\n",
        targets.display()
    );
    std::fs::write(&file, config).unwrap();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.join(name).display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    Running::start(program, &args, port, "/-/ready", &dir.join(format!("{name}.log")))
}

fn metrics(server: &Running, accept: &str) -> String {
    let answer = request(server.port, "GET", "/metrics", &[("Accept", accept)], &[]).expect("an answer");
    assert_eq!(answer.status, 200);
    answer.body
}

/// What both show once everything has happened once.
fn settled(server: &mut Running) -> String {
    for query in ["sort(vector(1))", "up"] {
        server.api("/api/v1/query", &[("query", query)]);
    }
    let wanted = [
        "\nprometheus_target_interval_length_seconds_count{",
        "\nprometheus_sd_refresh_duration_seconds_count{",
        "\nprometheus_sd_file_mtime_seconds{",
        "\nprometheus_http_response_size_bytes_count{handler=\"/metrics\"",
    ];
    server.wait_for(
        |s| {
            let text = metrics(s, "text/plain");
            wanted.iter().all(|part| text.contains(part))
        },
        "scrapes, refreshes and requests",
    );
    metrics(server, "text/plain")
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn prometheus_metrics_of_itself_are_ours_where_they_mean_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let target = free_port();
    let mut theirs = start(&peer("prometheus"), "prometheus", dir.path(), target);
    let mut ours = start(&tidegauge(), "tidegauge", dir.path(), target);
    let their_shapes = shapes(&settled(&mut theirs), Format::PrometheusText);
    let our_text = settled(&mut ours);
    let our_shapes = shapes(&our_text, Format::PrometheusText);
    let table = table();
    let mut wrong = Vec::new();
    for (name, theirs) in their_shapes.iter().filter(|(name, _)| !name.starts_with("go_")) {
        match (table.get(name.as_str()), our_shapes.get(name)) {
            (None, _) => wrong.push(format!("{name}: no row")),
            (Some(Row::Same(more)), Some(ours)) => {
                let mut labels = theirs.labels.clone();
                labels.extend(more.map(str::to_owned));
                let told = ours.samples > 0 && theirs.samples > 0;
                if ours.kind != theirs.kind || told && ours.labels != labels {
                    wrong.push(format!("{name}: theirs {theirs:?}, ours {ours:?}"));
                }
            }
            // What is left out is looked at below.
            (Some(_), _) => {}
        }
    }
    for (name, row) in &table {
        let (here, there) = (our_shapes.contains_key(*name), their_shapes.contains_key(*name));
        match row {
            Row::Same(_) if !(here && there) => wrong.push(format!("{name}: served here: {here}, there: {there}")),
            Row::LeftOut(why) if here => wrong.push(format!("{name}: served, and left out because {why}")),
            Row::Same(_) | Row::LeftOut(_) => {}
        }
    }
    assert!(our_shapes.keys().all(|name| !name.starts_with("go_")));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let same = table.values().filter(|row| matches!(row, Row::Same(_))).count();
    println!("{same} of {} names are served", table.len());
    linted(&our_text);
}

/// `promtool check metrics` has nothing to say.
fn linted(text: &str) {
    let mut child = Command::new(peer("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.trim().is_empty(), "{told}");
}

/// Every name of Prometheus' own metrics that a dashboard, an alert or a rule asks for has a row.
#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn what_dashboards_ask_of_prometheus_itself_has_a_row() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let text = std::fs::read_to_string(Path::new(&shared).join("dashboards/exprs.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let table = table();
    let mut asked = BTreeSet::new();
    for case in cases.as_array().unwrap() {
        let expr = parse(case["expr"].as_str().unwrap(), &ParseOptions::default()).unwrap();
        for selector in expr.selectors() {
            let name = selector.matchers.iter().find(|m| m.name() == "__name__");
            asked.extend(name.map(|m| m.value().to_owned()));
        }
    }
    // The operator is another program.
    let own =
        |name: &&String| BEGINNINGS.iter().any(|b| name.starts_with(b)) && !name.starts_with("prometheus_operator_");
    let (mut served, mut left_out) = (0, Vec::new());
    for name in asked.iter().filter(own) {
        let ends = ["", "_sum", "_count", "_bucket"];
        let row = ends.iter().find_map(|end| table.get(name.strip_suffix(end)?));
        match row {
            Some(Row::Same(_)) => served += 1,
            Some(Row::LeftOut(why)) => left_out.push(format!("{name}: {why}")),
            None => panic!("{name} has no row"),
        }
    }
    println!("{served} served, {} left out:\n{}", left_out.len(), left_out.join("\n"));
    assert!(served >= 20, "only {served}");
}

#[test]
fn text_and_openmetrics_tell_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let args = [
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let ours = Running::start(&tidegauge(), &args, port, "/-/ready", &dir.path().join("log"));
    ours.api("/api/v1/query", &[("query", "vector(1)")]);
    ours.get("/metrics").expect("an answer");
    let text = shapes(&metrics(&ours, "text/plain"), Format::PrometheusText);
    let open = shapes(&metrics(&ours, OPENMETRICS), Format::OpenMetrics);
    let as_text: BTreeMap<&str, &Shape> = text
        .iter()
        .map(|(name, shape)| match shape.kind.as_str() {
            "counter" => (name.strip_suffix("_total").expect("counters end in _total"), shape),
            _ => (name.as_str(), shape),
        })
        .collect();
    assert_eq!(as_text.len(), text.len(), "families that OpenMetrics takes for one");
    let names: Vec<&str> = open.keys().map(String::as_str).collect();
    assert_eq!(as_text.keys().copied().collect::<Vec<_>>(), names);
    for (name, shape) in &open {
        let other = as_text[name.as_str()];
        assert_eq!((&shape.kind, &shape.labels), (&other.kind, &other.labels), "{name}");
    }
}
