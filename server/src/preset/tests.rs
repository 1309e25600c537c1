use super::*;
use crate::config::{Config, load_with};

fn loaded(text: &str, flags: &Flags) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.yml");
    std::fs::write(&path, text).unwrap();
    load_with(&path, flags).map_err(|e| e.to_string().replace(&path.display().to_string(), "p.yml"))
}

fn names(config: &Config) -> Vec<&str> {
    config.jobs().iter().map(|job| job.job_name.as_str()).collect()
}

const ASKED: Flags = Flags {
    kubernetes: true,
    annotations: None,
    service_account: None,
};

#[test]
fn a_preset_is_asked_for_by_flag_or_by_file() {
    let by_flag = crate::config::presets_alone(&ASKED).unwrap();
    assert!(names(&by_flag).contains(&"kubernetes-pods"), "{:?}", names(&by_flag));
    let by_file = loaded("tidegauge: {presets: [kubernetes]}", &Flags::default()).unwrap();
    assert_eq!(names(&by_flag), names(&by_file));
    assert!(by_flag.has_cluster() && by_file.has_cluster());
    assert!(
        loaded("tidegauge: {presets: []}", &Flags::default())
            .unwrap()
            .jobs()
            .is_empty()
    );
    let beside = loaded("scrape_configs: [{job_name: mine}]", &ASKED).unwrap();
    assert_eq!(names(&beside)[0], "mine");
    assert_eq!(names(&beside)[1..], names(&by_flag));
}

#[test]
fn jobs_are_as_often_as_global_says_or_else_the_preset() {
    let pace = |text: &str, job: &str| {
        let config = loaded(text, &ASKED).unwrap();
        let found = config.jobs().iter().find(|j| j.job_name == job).unwrap();
        format!("{} {}", found.scrape_interval, found.scrape_timeout)
    };
    assert_eq!(pace("", "coredns"), "30s 10s");
    assert_eq!(pace("global: {scrape_interval: 15s}", "coredns"), "15s 10s");
    assert_eq!(pace("global: {scrape_interval: 5s}", "coredns"), "5s 5s");
    assert_eq!(pace("global: {scrape_timeout: 7s}", "coredns"), "30s 7s");
    assert_eq!(pace("global: {scrape_interval: 15s}", "kubernetes-pods-slow"), "4m 30s");
    // The file's own jobs keep what they would have without a preset.
    assert_eq!(pace("scrape_configs: [{job_name: mine}]", "mine"), "1m 10s");
}

#[test]
fn the_switch_of_the_command_line_wins() {
    let rules = |text: &str, annotations| {
        let flags = Flags { annotations, ..ASKED };
        let yaml = loaded(text, &flags).unwrap().effective_yaml().to_owned();
        yaml.contains(";;true")
    };
    let out = "tidegauge: {kubernetes: {annotations: opt-out}}";
    assert_eq!(rules("", None), rules("", Some(Annotations::OptIn)));
    let opt_out = |text: &str, annotations| {
        let flags = Flags { annotations, ..ASKED };
        loaded(text, &flags).unwrap().effective_yaml().contains("TCP")
    };
    assert!(!opt_out("", None) && opt_out("", Some(Annotations::OptOut)));
    assert!(opt_out(out, None) && !opt_out(out, Some(Annotations::OptIn)));
}

#[test]
fn one_name_for_two_jobs_is_refused_at_the_files_own() {
    let clash =
        "tidegauge:\n  presets: [kubernetes]\nscrape_configs:\n  - job_name: mine\n  - job_name: node-exporter\n";
    let error = loaded(clash, &Flags::default()).unwrap_err();
    assert!(
        error.starts_with("p.yml:5:5: scrape_configs: job name \"node-exporter\" is that of a job of the preset"),
        "{error}"
    );
    let without = clash.replace(
        "presets: [kubernetes]",
        "presets: [kubernetes]\n  kubernetes: {without: [node-exporter]}",
    );
    let config = loaded(&without, &Flags::default()).unwrap();
    assert_eq!(
        names(&config).iter().filter(|name| **name == "node-exporter").count(),
        1
    );
}

#[test]
fn mistakes_are_placed() {
    for (text, expected) in [
        (
            "tidegauge: {preset: [kubernetes]}",
            "p.yml:1:13: tidegauge.preset: field preset not found here; did you mean presets?",
        ),
        (
            "tidegauge: {presets: [kubernets]}",
            "p.yml:1:23: tidegauge.presets[0]: unknown variant `kubernets`, expected `kubernetes`",
        ),
        (
            "tidegauge:\n  kubernetes:\n    annotations: opt_out\n",
            "p.yml:3:18: tidegauge.kubernetes.annotations: unknown variant `opt_out`, expected `opt-in` or `opt-out`",
        ),
        (
            "tidegauge:\n  kubernetes:\n    without: [corends]\n",
            "p.yml:3:14: tidegauge.kubernetes.without: job corends not found here; did you mean coredns?",
        ),
        (
            "tidegauge: {presets: [kubernetes], kubernetes: {api_server: 10.0.0.1}}",
            "p.yml:1:61: tidegauge.kubernetes.api_server: \"10.0.0.1\" is not the URL of an API server",
        ),
        (
            "tidegauge: {presets: [kubernetes], kubernetes: {service_account: /x}}",
            "p.yml:1:12: tidegauge.kubernetes: service_account needs api_server",
        ),
    ] {
        let error = loaded(text, &Flags::default()).unwrap_err();
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn a_preset_is_shown_as_its_jobs_and_what_is_shown_loads() {
    let shown = loaded("tidegauge: {presets: [kubernetes]}", &Flags::default()).unwrap();
    let yaml = shown.effective_yaml();
    assert!(
        yaml.contains("job_name: kubernetes-cadvisor") && !yaml.contains("presets"),
        "{yaml}"
    );
    assert_eq!(names(&loaded(yaml, &Flags::default()).unwrap()), names(&shown));
    // What `config show --preset` prints is the same as a file.
    let printed = Kubernetes::in_a_pod(Annotations::OptIn).yaml();
    assert_eq!(loaded(&printed, &Flags::default()).unwrap().jobs(), shown.jobs());
}
