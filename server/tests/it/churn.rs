//! Pods that come and go, 200 a second, in the real program: at the end its targets are those that are there, and it
//! holds no more than it did while they came and went.

use crate::apiserver::ApiServer;
use crate::program::Program;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Pods that come in a second; as many go.
const PER_SECOND: usize = 200;
/// How many there are at a time.
const ALIVE: usize = 1000;
/// While pods come and go it may take this much more than in the first third of the time, in which buffers grow.
const SLACK_KIB: u64 = 4 << 10;
/// The same at the end, when all targets have been listed: an answer of a megabyte, asked for again and again, some copies of
/// which the allocator has not given back yet.
const LISTED_KIB: u64 = 24 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// The names of the pods that are targets.
fn pods(program: &Program) -> BTreeSet<String> {
    let port = program.address.rsplit(':').next().and_then(|port| port.parse().ok());
    let path = "/api/v1/targets?state=active";
    let answer = crate::process::request(port.expect("a port"), "GET", path, &[], &[]).expect("an answer");
    let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    let targets = answer["data"]["activeTargets"].as_array().expect("targets");
    let names = targets.iter().map(|one| one["labels"]["pod"].as_str().expect("a pod"));
    let found: BTreeSet<String> = names.map(str::to_owned).collect();
    assert_eq!(found.len(), targets.len(), "no pod twice");
    found
}

/// Numbers of the program's own metrics, by name with labels.
fn metrics(program: &Program) -> BTreeMap<String, f64> {
    let (_, text) = program.ask("GET", "/metrics");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Pods come and go for so many seconds; tells what memory that took.
fn churn(seconds: usize) -> String {
    let api = ApiServer::plain();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("c.yml");
    let section = format!("{{role: pod, api_server: 'http://{}'}}", api.address);
    // Scraped so rarely that what is stored of them does not count.
    let text = format!(
        "scrape_configs:\n- job_name: pods\n  scrape_interval: 1d\n  kubernetes_sd_configs: [{section}]\n  relabel_configs:\n  \
         - {{source_labels: [__meta_kubernetes_pod_name], target_label: pod}}\n"
    );
    std::fs::write(&file, text).expect("written");
    let given = format!("--config.file={}", file.display());
    let program = Program::serve(&dir.path().join("data"), &[&given]);
    let name = |number: usize| format!("web-{number}");
    for number in 0..ALIVE {
        api.put(&name(number), "127.0.0.1", 1);
    }
    let until = |expected: &BTreeSet<String>| {
        let begun = Instant::now();
        loop {
            let found = pods(&program);
            if found == *expected {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{} targets; missing {:?}; too many {:?}",
                found.len(),
                expected.difference(&found).take(5).collect::<Vec<_>>(),
                found.difference(expected).take(5).collect::<Vec<_>>()
            );
            std::thread::park_timeout(Duration::from_millis(100));
        }
    };
    until(&(0..ALIVE).map(name).collect());

    let begun = Instant::now();
    let total = seconds * PER_SECOND;
    let mut resident = Vec::new();
    for number in 0..total {
        // At its time by the clock, so that a slow machine does not make it less than was said.
        let due = Duration::from_secs(1) * number as u32 / PER_SECOND as u32;
        while let Some(left) = due.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        api.put(&name(ALIVE + number), "127.0.0.1", 1);
        api.delete(&name(number));
        if number % PER_SECOND == 0 {
            resident.push(program.resident_kib());
        }
    }
    let took = begun.elapsed();
    until(&(total..total + ALIVE).map(name).collect());
    let at_the_end = program.resident_kib();
    let counted = metrics(&program);
    let of = |name: &str| counted.get(name).copied().unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(of("tidegauge_scrape_targets"), ALIVE as f64);
    assert_eq!(of("tidegauge_sd_targets"), ALIVE as f64);
    assert_eq!(of("tidegauge_sd_kubernetes_objects{role=\"pod\"}"), ALIVE as f64);
    for (event, expected) in [("add", ALIVE + total), ("delete", total), ("update", 0)] {
        let name = format!("tidegauge_sd_kubernetes_events_total{{event=\"{event}\",role=\"pod\"}}");
        assert_eq!(of(&name), expected as f64, "{name}");
    }
    let third = resident.len().div_ceil(3);
    let most = |of: &[u64]| of.iter().copied().max().unwrap_or_default();
    let (early, late) = (most(&resident[..third]), most(&resident[third..]));
    let told = format!(
        "{total} pods came and went in {took:.1?}; resident: {} KiB at first, at most {early} KiB in the first third, {late} KiB later; \
         {at_the_end} KiB once all was listed",
        resident[0]
    );
    assert!(
        late <= early + SLACK_KIB && at_the_end <= early + LISTED_KIB,
        "{at_the_end} KiB at the end, {resident:?} on the way"
    );

    // All go.
    for number in total..total + ALIVE {
        api.delete(&name(number));
    }
    until(&BTreeSet::new());
    let left = metrics(&program);
    for name in [
        "tidegauge_sd_targets",
        "tidegauge_sd_groups_bytes",
        "tidegauge_scrape_targets",
    ] {
        assert_eq!(left.get(name), Some(&0.0), "{name}");
    }
    assert_eq!(
        left.get("tidegauge_sd_kubernetes_object_bytes{role=\"pod\"}"),
        Some(&0.0)
    );
    told
}

#[test]
fn pods_that_come_and_go_are_followed_and_forgotten() {
    println!("{}", churn(5));
}

#[test]
#[ignore = "takes more than a minute"]
fn a_minute_of_pods_that_come_and_go_leaks_nothing() {
    println!("{}", churn(60));
}
