//! Every key of `global` and `scrape_configs` that Prometheus 3.5 documents: taken, and shown as it is in force, or
//! refused by name with the reason.

use crate::process::peer;
use std::fs;
use std::path::Path;
use std::process::Command;
use tidegauge_server::config::{self, Config};

/// Keys of `global` with a value other than the default.
const GLOBAL: &[(&str, &str)] = &[
    ("scrape_interval", "17s"),
    ("scrape_timeout", "7s"),
    ("scrape_protocols", "[PrometheusText0.0.4]"),
    ("evaluation_interval", "17s"),
    ("rule_query_offset", "17s"),
    ("external_labels", "{a: b}"),
    ("query_log_file", "q.log"),
    ("scrape_failure_log_file", "f.log"),
    ("body_size_limit", "17MB"),
    ("sample_limit", "17"),
    ("label_limit", "17"),
    ("label_name_length_limit", "17"),
    ("label_value_length_limit", "17"),
    ("target_limit", "17"),
    ("keep_dropped_targets", "17"),
    ("metric_name_validation_scheme", "utf8"),
    ("metric_name_escaping_scheme", "dots"),
    ("convert_classic_histograms_to_nhcb", "true"),
    ("always_scrape_classic_histograms", "true"),
];

/// The same of a job.
const JOB: &[(&str, &str)] = &[
    ("scrape_interval", "17s"),
    ("scrape_timeout", "7s"),
    ("scrape_protocols", "[PrometheusText0.0.4]"),
    ("fallback_scrape_protocol", "PrometheusText0.0.4"),
    ("always_scrape_classic_histograms", "true"),
    ("convert_classic_histograms_to_nhcb", "true"),
    ("metrics_path", "/m"),
    ("honor_labels", "true"),
    ("honor_timestamps", "false"),
    ("track_timestamps_staleness", "true"),
    ("scheme", "https"),
    ("params", "{a: [b]}"),
    ("enable_compression", "false"),
    ("scrape_failure_log_file", "f.log"),
    ("basic_auth", "{username: u, password: p}"),
    ("basic_auth", "{username_file: u, password_file: p}"),
    ("authorization", "{type: T, credentials: c}"),
    ("authorization", "{credentials_file: c}"),
    (
        "oauth2",
        "{client_id: i, client_secret: s, scopes: [a], token_url: 'http://t', endpoint_params: {a: b}, tls_config: {ca_file: c}, \
         proxy_url: 'http://p', no_proxy: n, proxy_connect_header: {a: [b]}}",
    ),
    (
        "oauth2",
        "{client_id: i, client_secret_file: s, token_url: 'http://t', proxy_from_environment: true}",
    ),
    ("follow_redirects", "false"),
    ("enable_http2", "false"),
    (
        "tls_config",
        "{ca_file: c, cert_file: c, key_file: k, server_name: s, insecure_skip_verify: true, min_version: TLS12, max_version: TLS13}",
    ),
    ("tls_config", "{ca: c, cert: c, key: k}"),
    ("proxy_url", "'http://p'"),
    ("proxy_from_environment", "true"),
    (
        "proxy_url",
        "'http://p'\n  no_proxy: n\n  proxy_connect_header: {a: [b]}",
    ),
    ("http_headers", "{x: {values: [a], secrets: [b], files: [c]}}"),
    ("static_configs", "[{targets: ['a:1'], labels: {a: b}}]"),
    ("file_sd_configs", "[{files: [a.json], refresh_interval: 17s}]"),
    ("http_sd_configs", "[{url: 'http://u', refresh_interval: 17s}]"),
    (
        "dns_sd_configs",
        "[{names: [n], type: A, port: 17, refresh_interval: 17s}]",
    ),
    (
        "relabel_configs",
        "[{source_labels: [a], separator: x, regex: y, modulus: 17, target_label: b, replacement: c, action: hashmod}]",
    ),
    ("metric_relabel_configs", "[{regex: y, action: labeldrop}]"),
    ("body_size_limit", "17MB"),
    ("sample_limit", "17"),
    ("label_limit", "17"),
    ("label_name_length_limit", "17"),
    ("label_value_length_limit", "17"),
    ("target_limit", "17"),
    ("keep_dropped_targets", "17"),
    (
        "metric_name_validation_scheme",
        "legacy\n  metric_name_escaping_scheme: underscores",
    ),
    ("metric_name_escaping_scheme", "values"),
    ("native_histogram_bucket_limit", "17"),
    ("native_histogram_min_bucket_factor", "1.7"),
];

#[cfg(feature = "kubernetes")]
const KUBERNETES: &[(&str, &str)] = &[
    (
        "kubernetes_sd_configs",
        "[{role: pod, api_server: 'http://a', basic_auth: {username: u}, namespaces: {names: [n]}, \
         selectors: [{role: pod, label: a=b, field: c=d}], attach_metadata: {node: true}}]",
    ),
    (
        "kubernetes_sd_configs",
        "[{role: pod, namespaces: {own_namespace: true}}, {role: node, kubeconfig_file: k}]",
    ),
];
#[cfg(not(feature = "kubernetes"))]
const KUBERNETES: &[(&str, &str)] = &[];

/// Kinds of discovery that are not there, and keys that ask for a manager of secrets.
const REFUSED: &[(&str, &str)] = &[
    ("azure_sd_configs", "[{}]"),
    ("consul_sd_configs", "[{}]"),
    ("digitalocean_sd_configs", "[{}]"),
    ("docker_sd_configs", "[{}]"),
    ("dockerswarm_sd_configs", "[{}]"),
    ("ec2_sd_configs", "[{}]"),
    ("eureka_sd_configs", "[{}]"),
    ("gce_sd_configs", "[{}]"),
    ("hetzner_sd_configs", "[{}]"),
    ("ionos_sd_configs", "[{}]"),
    ("kuma_sd_configs", "[{}]"),
    ("lightsail_sd_configs", "[{}]"),
    ("linode_sd_configs", "[{}]"),
    ("marathon_sd_configs", "[{}]"),
    ("nerve_sd_configs", "[{}]"),
    ("nomad_sd_configs", "[{}]"),
    ("openstack_sd_configs", "[{}]"),
    ("ovhcloud_sd_configs", "[{}]"),
    ("puppetdb_sd_configs", "[{}]"),
    ("scaleway_sd_configs", "[{}]"),
    ("serverset_sd_configs", "[{}]"),
    ("stackit_sd_configs", "[{}]"),
    ("triton_sd_configs", "[{}]"),
    ("uyuni_sd_configs", "[{}]"),
    ("vultr_sd_configs", "[{}]"),
    ("basic_auth", "{username_ref: r}"),
    ("basic_auth", "{username: u, password_ref: r}"),
    ("authorization", "{credentials_ref: r}"),
    ("oauth2", "{client_id: i, token_url: 'http://t', client_secret_ref: r}"),
    ("tls_config", "{ca_ref: r}"),
    ("tls_config", "{cert_ref: r, key_ref: r}"),
    ("tls_config", "{max_version: TLS11}"),
];

fn in_job(key: &str, value: &str) -> String {
    format!("scrape_configs:\n- job_name: j\n  {key}: {value}\n")
}

fn load(dir: &Path, text: &str) -> Result<Config, String> {
    let file = dir.join("p.yml");
    fs::write(&file, text).expect("written");
    config::load(&file).map_err(|problem| problem.to_string())
}

fn taken() -> Vec<(String, &'static str)> {
    let global = GLOBAL
        .iter()
        .map(|(key, value)| (format!("global:\n  {key}: {value}\n"), *key));
    let job = JOB.iter().chain(KUBERNETES);
    global
        .chain(job.map(|(key, value)| (in_job(key, value), *key)))
        .collect()
}

#[test]
fn every_key_is_taken_or_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    for (text, key) in taken() {
        let config = load(dir.path(), &text).unwrap_or_else(|problem| panic!("{text}{problem}"));
        let shown = config.effective_yaml();
        assert!(shown.contains(&format!("{key}:")), "{text}{shown}");
        // A value that no default has.
        assert!(!text.contains("17") || shown.contains("17"), "{text}{shown}");
        let without_effect: Vec<&str> = config.unsupported().iter().map(|one| one.section.as_str()).collect();
        assert!(
            without_effect.is_empty() || key == "query_log_file",
            "{text}{without_effect:?}"
        );
    }
    for (key, value) in REFUSED {
        let problem = load(dir.path(), &in_job(key, value)).err();
        let problem = problem.unwrap_or_else(|| panic!("{key}: {value} is taken"));
        assert!(problem.contains(&format!("scrape_configs[0].{key}")), "{problem}");
        let why = ["built in", "without manager"];
        assert!(why.iter().any(|why| problem.contains(why)), "{problem}");
    }
}

/// What is said to be a key of Prometheus' is one. Kinds of discovery apart: not every build of it has them all.
#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn prometheus_takes_the_same_keys() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("p.yml");
    for (text, _) in taken() {
        fs::write(&file, &text).expect("written");
        let checked = Command::new(peer("promtool"))
            .args(["check", "config", "--syntax-only"])
            .arg(&file)
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{text}{told}");
    }
}
