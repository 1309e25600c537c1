//! Discovery beside a real Prometheus: the same files and URLs make the same targets, and the command line shows them.

use crate::process::{Running, free_port, peer, tidegauge};
use crate::program::texts;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

/// A server of fixed answers: path, status, content type, body. Ends with the process.
fn serve(answers: Vec<(&'static str, u16, &'static str, String)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            // To the empty line behind the head.
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = first.split(' ').nth(1).unwrap_or_default();
            let found = answers.iter().find(|(of, ..)| *of == path);
            let (status, kind, body) = found.map_or((404, "text/plain", ""), |(_, status, kind, body)| {
                (*status, *kind, body.as_str())
            });
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    address
}

const TEXT: &str = "text/plain; version=0.0.4";
const JSON: &str = "application/json";
const METRICS: &str = "# HELP a_total All of a.\n# TYPE a_total counter\na_total 1\n# HELP b The b.\n# TYPE b gauge\nb 2\n# TYPE c untyped\nc 3\n";

/// A configuration with every kind of discovery that both can run here, in a folder.
fn config(dir: &Path, refresh: &str) -> String {
    let target = serve(vec![
        ("/metrics", 200, TEXT, METRICS.to_owned()),
        ("/m?x=1", 200, TEXT, METRICS.to_owned()),
    ]);
    let closed = free_port();
    let groups = format!(
        r#"[{{"targets": ["{target}", "127.0.0.1:{closed}"], "labels": {{"env": "url", "__meta_more": "m", "empty": ""}}}},
            {{"targets": ["drop.me:80"], "labels": {{"env": "url2"}}}}, {{"targets": [], "labels": {{}}}},
            {{"targets": ["{target}"], "labels": {{"__metrics_path__": "/m", "__param_x": "1", "job": "own"}}}}]"#
    );
    let lists = serve(vec![
        ("/list", 200, JSON, groups),
        ("/html", 200, "text/html", "<html>".to_owned()),
        ("/500", 500, JSON, "[]".to_owned()),
        ("/odd", 200, JSON, r#"[{"targets": [1]}]"#.to_owned()),
    ]);
    std::fs::create_dir(dir.join("sd")).unwrap();
    std::fs::write(
        dir.join("sd/one.json"),
        format!(r#"[{{"targets": ["{target}"], "labels": {{"env": "json", "port": "80"}}}}]"#),
    )
    .unwrap();
    std::fs::write(
        dir.join("sd/two.yml"),
        format!("- targets: ['{target}', 'bad.me/x', 'drop.me:1']\n  labels: {{env: yaml, port: 80}}\n"),
    )
    .unwrap();
    std::fs::write(dir.join("sd/three.yml"), "- targets: [a:1]\n  label: {}\n").unwrap();
    std::fs::write(dir.join("sd/four.json"), "[{\"targets\": [\"half").unwrap();
    let rules = "  relabel_configs:
  - {source_labels: [__address__], regex: 'drop.me:.*', action: drop}
  - {source_labels: [__meta_more, env], separator: '-', target_label: mixed}
  - {regex: __meta_(f.*), action: labelmap, replacement: file_$1}
";
    let sd = dir.join("sd").display().to_string();
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
scrape_configs:
- job_name: fixed
  static_configs: [{{targets: ['{target}', '{target}'], labels: {{env: fixed}}}}, {{targets: ['{target}']}}]
- job_name: files
  params: {{q: [a, b]}}
  file_sd_configs: [{{files: ['{sd}/*.json', '{sd}/t*.yml'], refresh_interval: {refresh}}}]
{rules}- job_name: urls
  scheme: http
  http_sd_configs: [{{url: 'http://{lists}/list', refresh_interval: {refresh}}}]
{rules}- job_name: broken
  http_sd_configs: [{{url: 'http://{lists}/html'}}, {{url: 'http://{lists}/500'}}, {{url: 'http://{lists}/odd'}}]
"
    )
}

/// What a command says about a job, as a set.
fn found(program: &Path, args: &[&str]) -> (i32, BTreeSet<String>, String) {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"));
    let items = list.as_array().unwrap().iter().map(|item| {
        let failed = item.get("error").is_some_and(|error| !error.is_null());
        json!({"before": item["discoveredLabels"], "after": item["labels"], "failed": failed}).to_string()
    });
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), items.collect(), told)
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn check_sd_finds_what_promtool_finds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    // Once: promtool panics when it meets a target that cannot be one a second time.
    std::fs::write(&file, config(dir.path(), "1h")).unwrap();
    let file = file.display().to_string();
    let mut compared = 0;
    for job in ["fixed", "files", "urls", "broken"] {
        let (_, theirs, _) = found(
            &peer("promtool"),
            &["check", "service-discovery", &file, job, "--timeout=2s"],
        );
        let option = format!("--config.file={file}");
        let (code, ours, told) = found(&tidegauge(), &["check", "sd", job, &option, "--timeout=20s"]);
        assert_eq!(ours, theirs, "{job}");
        compared += ours.len();
        let bad = job == "files" || job == "broken";
        assert_eq!(code, i32::from(bad), "{job}: {told}");
        if job == "broken" {
            for part in [
                "unsupported content type \"text/html\"",
                "HTTP status 500",
                "invalid type: integer",
            ] {
                assert!(told.contains(part), "{told}");
            }
            assert!(
                told.ends_with("tidegauge: 3 of the 3 sections of discovery of job \"broken\" failed\n"),
                "{told}"
            );
        }
        if job == "files" {
            assert!(
                told.contains("four.json: not a list") && told.contains("three.yml: not a list"),
                "{told}"
            );
        }
    }
    assert!(compared >= 9, "{compared}");
}

/// The answer about targets without what differs from run to run, in an order of its own.
fn settled(mut data: Value) -> Value {
    for key in ["activeTargets", "droppedTargets"] {
        let list = data[key].as_array_mut().unwrap();
        for target in list.iter_mut().filter(|_| key == "activeTargets") {
            let object = target.as_object_mut().unwrap();
            let failed = object["lastError"].as_str().unwrap() != "";
            object.insert("lastError".to_owned(), json!(failed));
            assert!(object["lastScrape"].as_str().unwrap().len() >= 20, "{object:?}");
            assert!(object["lastScrapeDuration"].as_f64().unwrap() >= 0.0, "{object:?}");
            object.remove("lastScrape");
            object.remove("lastScrapeDuration");
        }
        list.sort_by_key(Value::to_string);
    }
    data
}

fn sorted(data: &Value) -> Vec<String> {
    let mut rows: Vec<String> = data.as_array().unwrap().iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// The metrics of discovery: names, with the names of their labels.
fn metrics(server: &Running) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in server.get("/metrics").unwrap().body.lines() {
        if line.starts_with('#') || !line.starts_with("prometheus_sd_") {
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let labels = line[end..].split(['{', ',']).filter_map(|part| part.split_once("=\""));
        let labels = labels
            .map(|(name, _)| name.to_owned())
            .filter(|name| name != "quantile");
        found.entry(line[..end].to_owned()).or_default().extend(labels);
    }
    found
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn targets_pools_and_metadata_are_those_of_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "1s");
    let mut theirs = Running::serve(&peer("prometheus"), "prometheus", dir.path(), &config, &[]);
    let mut ours = Running::serve(&tidegauge(), "tidegauge", dir.path(), &config, &[]);
    for server in [&mut theirs, &mut ours] {
        server.wait_for(
            |s| {
                let data = s.api("/api/v1/targets", &[]);
                let active = data["activeTargets"].as_array().unwrap();
                active.len() == 7 && active.iter().all(|t| t["health"] != "unknown")
            },
            "all targets to be scraped",
        );
    }
    for params in [
        &[][..],
        &[("state", "active")],
        &[("state", "dropped")],
        &[("state", "any")],
        &[("state", "nonsense")],
        &[("scrapePool", "files")],
        &[("scrapePool", "urls"), ("state", "Active")],
        &[("scrapePool", "nonsense")],
    ] {
        let of = |server: &Running| settled(server.api("/api/v1/targets", params));
        assert_eq!(of(&ours), of(&theirs), "{params:?}");
    }
    let pools = |server: &Running| {
        let mut pools = server.api("/api/v1/scrape_pools", &[]);
        pools["scrapePools"]
            .as_array_mut()
            .unwrap()
            .sort_by_key(Value::to_string);
        pools
    };
    assert_eq!(pools(&ours), pools(&theirs));
    let mut rows = 0;
    for params in [
        &[][..],
        &[("metric", "b")],
        &[("metric", "c"), ("match_target", "{job=\"urls\"}")],
        &[("match_target", "{env=~\"json|yaml\"}")],
        &[("match_target", "{job=\"nobody\"}")],
        &[("metric", "nothing")],
        &[("limit", "0")],
        &[("limit", "-1"), ("metric", "a_total")],
    ] {
        let of = |server: &Running| sorted(&server.api("/api/v1/targets/metadata", params));
        let (a, b) = (of(&ours), of(&theirs));
        assert_eq!(a, b, "{params:?}");
        rows += a.len();
    }
    assert!(rows > 20, "{rows}");
    for path in [
        "/api/v1/targets/metadata?limit=x",
        "/api/v1/targets/metadata?match_target=%7B",
        "/api/v1/targets/metadata?match_target=up%7B",
    ] {
        let of = |server: &Running| {
            let answer = server.get(path).unwrap();
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            (answer.status, body["errorType"].clone(), body["error"].clone())
        };
        assert_eq!(of(&ours), of(&theirs), "{path}");
    }
    let (a, b) = (metrics(&ours), metrics(&theirs));
    for (name, labels) in &a {
        let theirs = b.get(name).unwrap_or_else(|| panic!("{name} is no metric of theirs"));
        // Later versions name the job, too.
        assert!(
            labels.is_superset(theirs) && labels.len() <= theirs.len() + 1,
            "{name}: {labels:?} {theirs:?}"
        );
    }
    for name in [
        "prometheus_sd_discovered_targets",
        "prometheus_sd_refresh_duration_seconds_count",
        "prometheus_sd_file_mtime_seconds",
    ] {
        assert!(a.contains_key(name), "{name} is missing");
    }
    // What upstream tells in metrics and its log alone.
    let health: Vec<String> = ours.api("/api/v1/status/discovery", &[])["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{} {} {}", p["scrapePool"], p["mechanism"], p["health"]).replace('"', ""))
        .collect();
    assert_eq!(
        health,
        [
            "broken http down",
            "broken http down",
            "broken http down",
            "files file down",
            "urls http up"
        ]
    );
}

fn check_sd(dir: &Path, config: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let file = format!("--config.file={}", file.display());
    texts(&[&["check", "sd", &file][..], args].concat())
}

#[test]
fn check_sd_says_what_it_found_and_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let config = "scrape_configs:
- job_name: fixed
  static_configs: [{targets: ['a:1', 'b/x'], labels: {env: test}}]
- job_name: names
  dns_sd_configs: [{names: [h.example.], type: A, port: 1}]
";
    let config = config.replace("'b/x'", "'b:2'");
    let (code, out, err) = check_sd(dir.path(), &config, &["fixed"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        list[0]["labels"],
        json!({
            "__address__": "a:1", "__metrics_path__": "/metrics", "__scheme__": "http", "__scrape_interval__": "1m",
            "__scrape_timeout__": "10s", "env": "test", "instance": "a:1", "job": "fixed",
        })
    );
    assert!(
        out.starts_with("[\n  {\n    \"discoveredLabels\": {\n      \"__address__\""),
        "{out}"
    );

    let (code, out, err) = check_sd(dir.path(), &config, &["nobody"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("there is no job \"nobody\"") && err.contains("fixed, names"),
        "{err}"
    );

    // Nothing listens there.
    let server = format!("--discovery.dns-server=127.0.0.1:{}", free_port());
    let (code, out, err) = check_sd(dir.path(), &config, &["names", &server, "--timeout=20s"]);
    assert_eq!((code, out.as_str()), (Some(1), "[]\n"), "{err}");
    assert!(
        err.contains("dns (h.example.): could not resolve \"h.example.\""),
        "{err}"
    );

    let (code, _, err) = check_sd(dir.path(), "scrape_configs: [{}]\n", &["x"]);
    assert!(code == Some(1) && err.contains("job_name"), "{err}");
    assert_eq!(check_sd(dir.path(), &config, &[]).0, Some(2));
}
