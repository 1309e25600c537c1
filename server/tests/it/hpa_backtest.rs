//! `tidegauge hpa backtest` and `POST /api/v1/hpa/backtest`, on the real binary over a stored hour.

use crate::process::{form, request};
use crate::program::{Program, texts};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, Timestamp};
use tidegauge_tsdb::{Db, Fsync, Options};

const STEP: i64 = 15_000;
const BEGIN: i64 = 1_760_000_000_000;
const HPA: &str = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: scrypt-server, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: scrypt-server}
  minReplicas: 1
  maxReplicas: 10
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
";

/// What two pods of a Deployment use: little, and from the 20th to the 40th minute of each hour 0.2 cores each.
fn store(dir: &Path, steps: i64) {
    let clock = Arc::new(HandClock::at(Timestamp::from_millis(BEGIN + steps * STEP)));
    let options = Options {
        fsync: Fsync::Never,
        retention_ms: 0,
        maintenance: None,
        ..Options::default()
    };
    let db = Db::open(dir, options, clock).expect("a fresh store opens");
    let mut used = 0.0;
    for no in 0..steps {
        let mut appender = db.appender();
        let timeline = appender.timeline("node").expect("a timeline");
        let mut row = Vec::new();
        let mut add = |labels: &[(&str, &str)], value: f64| {
            let labels = Labels::from_pairs(labels.iter().copied()).expect("labels");
            row.push((appender.resolve(Some(timeline), &labels).expect("a column"), value));
        };
        let busy = (80..160).contains(&(no % 240));
        used += if busy { 0.2 } else { 0.02 } * 15.0;
        for pod in [
            "scrypt-server-5d9c7-abcde",
            "scrypt-server-5d9c7-fghij",
            "other-5d9c7-klmno",
        ] {
            let of = [("namespace", "default"), ("pod", pod), ("container", "server")];
            let named = |name| [&[("__name__", name)], &of[..]].concat();
            add(&named("container_cpu_usage_seconds_total"), used);
            add(&named("container_memory_working_set_bytes"), 64e6);
            add(
                &[
                    &named("kube_pod_container_resource_requests")[..],
                    &[("resource", "cpu")],
                ]
                .concat(),
                0.2,
            );
        }
        let replicas = [
            ("__name__", "kube_deployment_spec_replicas"),
            ("namespace", "default"),
            ("deployment", "scrypt-server"),
        ];
        add(&replicas, 2.0);
        let at = Timestamp::from_millis(BEGIN + no * STEP);
        appender.append_row(timeline, at, &row).expect("it is taken");
        appender.commit(OnReject::Fail).expect("it is written");
        if no % 960 == 959 {
            db.maintain().expect("blocks are written");
        }
    }
    db.close().expect("it is closed");
}

/// A folder with a store of so many steps and a manifest.
fn made(steps: i64) -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    store(&data, steps);
    let manifest = folder.path().join("hpa.yaml");
    std::fs::write(&manifest, HPA).expect("it is written");
    let paths = (data.display().to_string(), manifest.display().to_string());
    (folder, paths.0, paths.1)
}

fn times(from: i64, to: i64) -> (String, String) {
    let seconds = |step: i64| ((BEGIN + step * STEP) / 1000).to_string();
    (seconds(from), seconds(to))
}

#[test]
fn a_rehearsal_is_the_same_from_a_folder_a_server_and_its_api() {
    let (folder, data, manifest) = made(240);
    let (from, to) = times(20, 239);
    let args = ["hpa", "backtest", "-f", &manifest, "--from", &from, "--to", &to];
    let run = |more: &[&str]| {
        let (code, out, err) = texts(&[&args, more].concat());
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        out
    };
    let of_folder = run(&[&data, "--format=json"]);
    let told: Value = serde_json::from_str(&of_folder).expect("JSON");
    let one = &told["hpas"][0];
    // Idle, one is enough once five minutes have gone by; 400m busy are 200 % of what one requests, and it wants four.
    let changes: Vec<(i64, i64)> = one["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| {
            (
                e["from"].as_i64().expect("a number"),
                e["to"].as_i64().expect("a number"),
            )
        })
        .collect();
    assert_eq!(changes.first(), Some(&(2, 1)), "{of_folder}");
    assert_eq!(changes.last().map(|(_, to)| *to), Some(1), "{of_folder}");
    assert_eq!(
        (one["failedSyncs"].as_i64(), one["maxReplicas"].as_i64()),
        (Some(0), Some(4)),
        "{of_folder}"
    );
    assert!(
        one["metrics"][0]["aboveTargetSeconds"].as_f64() > Some(0.0),
        "{of_folder}"
    );
    let recorded = one["recorded"]["podHours"].as_f64().expect("recorded");
    assert!((recorded - 2.0 * 220.0 * 15.0 / 3600.0).abs() < 1e-9, "{recorded}");
    let explained = run(&[&data, "--explain-at", &from]);
    assert!(
        explained.contains("cpu resource utilization") && explained.contains("ScaleDownStabilized"),
        "{explained}"
    );
    assert!(run(&[&data, "-f", &manifest, "--format=svg"]).starts_with("<svg "));

    let server = Program::serve(
        Path::new(&data),
        &[&format!("--config.file={}", nothing(folder.path()))],
    );
    let url = format!("http://{}", server.address);
    assert_eq!(run(&["--url", &url, "--format=json"]), of_folder);
    let port = server
        .address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let post = |params: &[(&str, &str)]| {
        let body = form(params);
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        request(port, "POST", "/api/v1/hpa/backtest", &kind, body.as_bytes()).expect("an answer")
    };
    let answer = post(&[("manifest", HPA), ("from", &from), ("to", &to)]);
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(
        (answer.status, &body["status"]),
        (200, &Value::from("success")),
        "{}",
        answer.body
    );
    assert_eq!(body["data"], told);
    let answer = post(&[
        ("manifest", HPA),
        ("manifest", HPA),
        ("from", &from),
        ("to", &to),
        ("format", "svg"),
    ]);
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/svg+xml"));
    for (params, status, why) in [
        (
            vec![("from", "0"), ("to", "1")],
            400,
            "a HorizontalPodAutoscaler is needed",
        ),
        (
            vec![("manifest", "kind: Pod"), ("from", "0"), ("to", "1")],
            400,
            "is a Pod, not a HorizontalPodAutoscaler",
        ),
        (vec![("manifest", HPA), ("from", "x"), ("to", "1")], 400, "cannot parse"),
        (
            vec![("manifest", HPA), ("from", "0"), ("to", "1e9")],
            400,
            "syncs are asked for, at most 100000",
        ),
        (
            vec![("manifest", HPA), ("from", "0"), ("to", "1")],
            400,
            "nothing recorded of cpu resource utilization",
        ),
        (
            vec![
                ("manifest", HPA),
                ("from", "0"),
                ("to", "1"),
                ("metric_query", "cpu=rate(up)"),
            ],
            400,
            "expected type range vector",
        ),
        (
            vec![("manifest", HPA), ("from", "0"), ("to", "1"), ("feedback", "x")],
            400,
            "not one of shared and none",
        ),
    ] {
        let answer = post(&params);
        assert!(
            answer.status == status && answer.body.contains(why),
            "{params:?}: {} {}",
            answer.status,
            answer.body
        );
    }
}

/// A configuration that scrapes nothing.
fn nothing(folder: &Path) -> String {
    let file = folder.join("empty.yml");
    std::fs::write(&file, "scrape_configs: []\n").expect("it is written");
    file.display().to_string()
}

#[test]
fn what_cannot_be_rehearsed_is_said() {
    let (folder, data, manifest) = made(8);
    let (from, to) = times(0, 7);
    let other = folder.path().join("deployment.yaml");
    std::fs::write(&other, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n").expect("it is written");
    let other = other.display().to_string();
    for (args, why) in [
        (
            vec!["-f", &other, &data],
            "document 1 is a Deployment of apps/v1, not a HorizontalPodAutoscaler",
        ),
        (vec!["-f", "absent.yaml", &data], "absent.yaml"),
        (vec!["-f", &manifest, "absent/"], "absent/ is not a folder"),
        (
            vec!["-f", &manifest, &data, "--request", "cpu=many"],
            "\"many\" is not a quantity",
        ),
        (vec!["-f", &manifest, &data, "--metric-query", "cpu=up{"], "parse error"),
        (
            vec![
                "-f",
                &manifest,
                &data,
                "--metric-query",
                "cpu=container_cpu_usage_seconds_total",
            ],
            "3 series and should give one",
        ),
        (
            vec!["-f", &manifest, "--url", "http://127.0.0.1:1"],
            "recorded replicas: max(",
        ),
        (
            vec!["-f", &manifest, "-f", &manifest, "-f", &manifest, &data],
            "3 autoscalers are given",
        ),
    ] {
        let args = [&["hpa", "backtest", "--from", &from, "--to", &to], &args[..]].concat();
        let (code, _, err) = texts(&args);
        assert!(code == Some(1) && err.contains(why), "{args:?}: {code:?} {err}");
    }
}

#[test]
#[ignore = "measures: a week at 15 s of one autoscaler; use a release build (TIDEGAUGE_BIN)"]
fn measure_backtest_of_a_week() {
    let steps = 7 * 24 * 240;
    let (_folder, data, manifest) = made(steps);
    let (from, to) = times(0, steps - 1);
    let program = crate::process::tidegauge();
    let args = ["hpa", "backtest", &data, "-f", &manifest, "--from", &from, "--to", &to];
    for _ in 0..3 {
        let began = Instant::now();
        let output = std::process::Command::new(&program)
            .args(args)
            .output()
            .expect("it runs");
        let took = began.elapsed();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("{steps} syncs in {took:?}\n{}", String::from_utf8_lossy(&output.stdout));
    }
}
