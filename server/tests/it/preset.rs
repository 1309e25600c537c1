//! The preset `kubernetes`: which targets it makes of what discovery finds, what it drops of their samples, and what a
//! real Prometheus says to it.

use crate::certificate::Certificate;
use crate::process::peer;
use crate::program::texts;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegauge_model::Labels;
use tidegauge_query::{ParseOptions, parse};
use tidegauge_scraper::config::ScrapeConfig;
use tidegauge_scraper::relabel::apply;
use tidegauge_server::config;
use tidegauge_server::preset::{Annotations, Flags, Kubernetes};

const PREFIX: &str = "__meta_kubernetes_";

fn jobs(annotations: Annotations) -> Vec<ScrapeConfig> {
    let flags = Flags {
        kubernetes: true,
        annotations: Some(annotations),
        service_account: None,
    };
    config::presets_alone(&flags).expect("the preset loads").jobs().to_vec()
}

/// The role of each job, read off the YAML.
fn roles(annotations: Annotations) -> BTreeMap<String, String> {
    let yaml = Kubernetes::in_a_pod(annotations).yaml();
    let read: serde_yaml_ng::Value = serde_yaml_ng::from_str(&yaml).expect("YAML");
    let jobs = read["scrape_configs"].as_sequence().expect("jobs");
    let text = |value: &serde_yaml_ng::Value| value.as_str().expect("a text").to_owned();
    jobs.iter()
        .map(|job| (text(&job["job_name"]), text(&job["kubernetes_sd_configs"][0]["role"])))
        .collect()
}

/// A target as it is scraped: pool, URL, final labels.
type Scraped = (String, String, BTreeMap<String, String>);

/// What a job makes of a discovered target. Labels whose names begin with two underscores do tell targets apart.
fn scraped(job: &ScrapeConfig, found: &BTreeMap<String, String>) -> Option<(Scraped, Labels)> {
    let mut labels = found.clone();
    for (name, value) in [
        ("job", &job.job_name),
        ("__scheme__", &job.scheme),
        ("__metrics_path__", &job.metrics_path),
    ] {
        labels.insert(name.to_owned(), value.clone());
    }
    labels.retain(|_, value| !value.is_empty());
    let out = apply(&job.relabel_configs, Labels::from_pairs(&labels).expect("labels"))?;
    let params: Vec<String> = out
        .iter()
        .filter_map(|(name, value)| Some(format!("{}={value}", name.strip_prefix("__param_")?)))
        .collect();
    let value = |name: &str| out.get(name).unwrap_or_default().to_owned();
    let mut url = format!(
        "{}://{}{}",
        value("__scheme__"),
        value("__address__"),
        value("__metrics_path__")
    );
    if !params.is_empty() {
        url = format!("{url}?{}", params.join("&"));
    }
    let pairs = out.iter().filter(|(name, _)| !name.starts_with("__"));
    let mut shown: BTreeMap<String, String> = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    shown
        .entry("instance".to_owned())
        .or_insert_with(|| value("__address__"));
    let identity: Vec<_> = out.iter().filter(|(name, _)| !name.starts_with("__meta_")).collect();
    let identity = Labels::from_pairs(identity).expect("labels");
    Some(((job.job_name.clone(), url, shown), identity))
}

/// The targets of one case, each once, sorted.
fn outcome(case: &serde_yaml_ng::Value, annotations: Annotations) -> Vec<Scraped> {
    let (jobs, roles) = (jobs(annotations), roles(annotations));
    let mut all: BTreeMap<(String, Labels), Scraped> = BTreeMap::new();
    for found in case["found"].as_sequence().expect("targets") {
        let mut labels = BTreeMap::new();
        let mut role = "";
        for (name, value) in found.as_mapping().expect("labels") {
            let (name, value) = (name.as_str().expect("a name"), value.as_str().expect("a text"));
            match name {
                "role" => role = value,
                "instance" | "__address__" => drop(labels.insert(name.to_owned(), value.to_owned())),
                _ => drop(labels.insert(format!("{PREFIX}{name}"), value.to_owned())),
            }
        }
        for job in jobs.iter().filter(|job| roles[&job.job_name] == role) {
            if let Some((target, identity)) = scraped(job, &labels) {
                all.insert((format!("{} {}", target.0, target.1), identity), target);
            }
        }
    }
    let mut all: Vec<Scraped> = all.into_values().collect();
    all.sort();
    all
}

fn expected(list: &serde_yaml_ng::Value) -> Vec<Scraped> {
    let text = |value: &serde_yaml_ng::Value| value.as_str().expect("a text").to_owned();
    let mut all: Vec<Scraped> = list
        .as_sequence()
        .expect("targets")
        .iter()
        .map(|target| {
            let labels = target["labels"].as_mapping().expect("labels");
            let labels = labels.iter().map(|(name, value)| (text(name), text(value))).collect();
            (text(&target["pool"]), text(&target["url"]), labels)
        })
        .collect();
    all.sort();
    all
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_object_is_scraped_once_by_the_job_it_belongs_to() {
    let text = std::fs::read_to_string(repository().join("testdata/kubernetes/preset-targets.yml")).expect("the cases");
    let mut cases: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("YAML");
    // Twice: what is merged in may merge something in itself.
    cases.apply_merge().expect("merges");
    cases.apply_merge().expect("merges");
    let cases = cases.as_sequence().expect("cases");
    assert!(cases.len() > 20);
    for case in cases {
        let what = case["what"].as_str().expect("a text");
        let (opt_in, opt_out) = (&case["opt-in"], &case["opt-out"]);
        assert_eq!(outcome(case, Annotations::OptIn), expected(opt_in), "opt-in: {what}");
        let opt_out = if opt_out.is_null() { opt_in } else { opt_out };
        assert_eq!(outcome(case, Annotations::OptOut), expected(opt_out), "opt-out: {what}");
    }
}

/// What a job leaves of a sample's series.
fn kept(jobs: &[ScrapeConfig], pool: &str, pairs: &[(&str, &str)]) -> bool {
    let job = jobs.iter().find(|job| job.job_name == pool).expect("a pool");
    apply(
        &job.metric_relabel_configs,
        Labels::from_pairs(pairs.iter().copied()).expect("labels"),
    )
    .is_some()
}

#[test]
fn only_what_is_told_is_dropped() {
    let jobs = jobs(Annotations::OptIn);
    for (pool, name, label, value, stays) in [
        (
            "kubernetes-apiserver",
            "apiserver_request_duration_seconds_bucket",
            "le",
            "0.6",
            false,
        ),
        (
            "kubernetes-apiserver",
            "apiserver_request_sli_duration_seconds_bucket",
            "le",
            "3.0",
            false,
        ),
        (
            "kubernetes-apiserver",
            "apiserver_request_sli_duration_seconds_bucket",
            "le",
            "1.25",
            false,
        ),
        (
            "kubernetes-apiserver",
            "apiserver_request_sli_duration_seconds_bucket",
            "le",
            "1.0",
            true,
        ),
        (
            "kubernetes-apiserver",
            "apiserver_request_sli_duration_seconds_bucket",
            "le",
            "1",
            true,
        ),
        (
            "kubernetes-apiserver",
            "apiserver_request_sli_duration_seconds_bucket",
            "le",
            "+Inf",
            true,
        ),
        (
            "kubernetes-apiserver",
            "apiserver_request_sli_duration_seconds_count",
            "le",
            "",
            true,
        ),
        (
            "kubernetes-apiserver",
            "apiserver_response_sizes_bucket",
            "le",
            "1000",
            false,
        ),
        ("kubernetes-apiserver", "apiserver_response_sizes_sum", "le", "", true),
        (
            "kubernetes-apiserver",
            "apiserver_admission_webhook_admission_duration_seconds_bucket",
            "le",
            "1",
            true,
        ),
        ("kubernetes-kubelet", "apiserver_request_total", "le", "", false),
        ("kubernetes-kubelet", "kubelet_running_pods", "le", "", true),
        (
            "kubernetes-cadvisor",
            "container_network_receive_bytes_total",
            "interface",
            "eth0",
            true,
        ),
        (
            "kubernetes-cadvisor",
            "container_network_receive_bytes_total",
            "interface",
            "tunl0",
            true,
        ),
        (
            "kubernetes-cadvisor",
            "container_network_receive_bytes_total",
            "interface",
            "gre0",
            false,
        ),
        (
            "kubernetes-cadvisor",
            "container_memory_failures_total",
            "scope",
            "container",
            true,
        ),
        (
            "kubernetes-cadvisor",
            "container_memory_failures_total",
            "scope",
            "hierarchy",
            false,
        ),
        (
            "kubernetes-cadvisor",
            "container_cpu_usage_seconds_total",
            "pod",
            "a",
            true,
        ),
        (
            "kubernetes-resource",
            "container_cpu_usage_seconds_total",
            "pod",
            "a",
            false,
        ),
        ("kubernetes-resource", "pod_cpu_usage_seconds_total", "pod", "a", true),
        ("kubernetes-resource", "node_cpu_usage_seconds_total", "pod", "", true),
    ] {
        let mut pairs = vec![("__name__", name), (label, value)];
        pairs.retain(|(_, value)| !value.is_empty());
        assert_eq!(kept(&jobs, pool, &pairs), stays, "{pool} {pairs:?}");
    }
}

/// The pools whose samples may be meant by a name that a dashboard asks for.
fn homes(name: &str) -> &'static [&'static str] {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if begins(&["container_", "machine_", "cadvisor_"]) {
        &["kubernetes-cadvisor"]
    } else if begins(&["apiserver_", "etcd_", "aggregator_"]) {
        &["kubernetes-apiserver"]
    } else if begins(&["kubelet_", "storage_", "volume_manager_", "prober_"]) {
        &["kubernetes-kubelet"]
    } else {
        &["kubernetes-kubelet", "kubernetes-apiserver"]
    }
}

/// The label `job` of what the preset scrapes without being asked.
const OUR_JOBS: [&str; 5] = ["apiserver", "kubelet", "kube-state-metrics", "node-exporter", "coredns"];

/// Nothing that a shared dashboard or rule asks for is dropped, bucket by bucket.
#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn dashboards_find_all_they_ask_for() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the shared folder");
    let text = std::fs::read_to_string(format!("{shared}/dashboards/exprs.txt")).expect("the expressions");
    let jobs = jobs(Annotations::OptIn);
    let bounds = ["0.05", "0.1", "1.0", "5.0", "30.0", "+Inf"];
    let mut checked = BTreeSet::new();
    for line in text.lines() {
        let Ok(expr) = parse(line, &ParseOptions::default()) else {
            continue;
        };
        for selector in expr.selectors() {
            let equal = |name: &str| {
                let found = selector
                    .matchers
                    .iter()
                    .find(|m| m.name() == name && m.op().as_str() == "=");
                found.map(|m| m.value().to_owned()).filter(|value| !value.is_empty())
            };
            let Some(name) = equal("__name__").filter(|name| !name.contains(':')) else {
                continue;
            };
            // Programs that the preset does not look for: scheduler, controller manager, proxy, ...
            if equal("job").is_some_and(|job| !OUR_JOBS.contains(&job.as_str())) {
                continue;
            }
            let wanted: Vec<_> = selector.matchers.iter().filter(|m| m.name() == "le").collect();
            let met: Vec<&str> = bounds
                .into_iter()
                .filter(|le| wanted.iter().all(|m| m.matches(le)))
                .collect();
            assert!(!met.is_empty(), "{line}");
            let les: &[&str] = if name.ends_with("_bucket") { &met } else { &[""] };
            for pool in homes(&name) {
                for le in les {
                    let mut pairs = vec![("__name__", name.as_str()), ("le", le)];
                    pairs.retain(|(_, value)| !value.is_empty());
                    assert!(
                        kept(&jobs, pool, &pairs),
                        "{pool} drops {pairs:?}, which is asked for by {line}"
                    );
                }
            }
            checked.insert(name);
        }
    }
    assert!(checked.len() > 200, "{}", checked.len());
}

/// How much the rules save of a real kubelet's cAdvisor: the figure in `docs/operating.md`.
#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn two_fifths_of_a_real_cadvisor_are_dropped() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the shared folder");
    let path = format!("{shared}/expositions/kubernetes-1.35/kubelet-cadvisor.prom");
    let body = std::fs::read_to_string(path).expect("a recording");
    let jobs = jobs(Annotations::OptIn);
    let (mut all, mut left) = (0u32, 0u32);
    for line in body.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let series = line.rfind('}').map_or("", |end| line.split_at(end + 1).0);
        let labels = tidegauge_query::parser::parse_metric(series, &ParseOptions::default());
        let Ok(labels) = labels else { continue };
        let pairs: Vec<_> = labels.iter().collect();
        all += 1;
        left += u32::from(kept(&jobs, "kubernetes-cadvisor", &pairs));
    }
    assert!(all > 4000, "{all}");
    let dropped = f64::from(all - left) / f64::from(all);
    assert!((0.35..0.45).contains(&dropped), "{left} of {all} stay");
}

#[test]
fn it_is_printed_and_checked_on_the_command_line() {
    let (code, opt_in, err) = texts(&["config", "show", "--preset", "kubernetes"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        opt_in.contains("job_name: kubernetes-cadvisor") && !opt_in.contains("#?"),
        "{opt_in}"
    );
    let opt_out = texts(&[
        "config",
        "show",
        "--preset=kubernetes",
        "--kubernetes.annotations=opt-out",
    ])
    .1;
    assert_ne!(opt_in, opt_out);
    assert_eq!(texts(&["config", "show", "--preset=mesos"]).0, Some(2));

    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("p.yml");
    std::fs::write(&file, "scrape_configs: [{job_name: coredns}]\n").expect("written");
    let path = file.display().to_string();
    let (code, _, err) = texts(&["config", "show", "--preset=kubernetes", &path]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("p.yml:1:18: scrape_configs: job name \"coredns\" is that of a job of the preset"),
        "{err}"
    );
    std::fs::write(&file, "tidegauge: {presets: [kubernetes]}\n").expect("written");
    let (code, out, _) = texts(&["check", "config", &path]);
    assert_eq!(code, Some(0));
    assert!(out.contains("ok, 13 scrape jobs"), "{out}");
}

/// Prometheus' own checker takes what is printed, as it is and as we show it with all defaults.
#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn prometheus_accepts_what_is_printed() {
    let dir = tempfile::tempdir().expect("a folder");
    let ours = dir.path().join("ours.yml");
    std::fs::write(&ours, "tidegauge: {presets: [kubernetes]}\n").expect("written");
    let ours = ours.display().to_string();
    for args in [
        &["config", "show", "--preset", "kubernetes"][..],
        &[
            "config",
            "show",
            "--preset",
            "kubernetes",
            "--kubernetes.annotations",
            "opt-out",
        ],
        &["config", "show", &ours],
    ] {
        let (code, text, err) = texts(args);
        assert_eq!(code, Some(0), "{err}");
        // The credentials are a pod's, which this is not; the checker looks for the files.
        for (name, content) in [("token", "t"), ("ca.crt", Certificate::new("kubernetes").pem.as_str())] {
            std::fs::write(dir.path().join(name), content).expect("written");
        }
        let here = dir.path().display().to_string();
        let text = text.replace("/var/run/secrets/kubernetes.io/serviceaccount", &here);
        let file = dir.path().join("printed.yml");
        std::fs::write(&file, text).expect("written");
        let checked = Command::new(peer("promtool"))
            .args(["check", "config"])
            .arg(&file)
            .output()
            .expect("promtool runs");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{args:?}: {said}");
    }
}
