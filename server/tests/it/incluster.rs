//! The program in a pod: it finds the API server by its environment, calls it by TLS, and says who it is by the token of
//! its service account, which rotates.

use crate::apiserver::ApiServer;
use crate::certificate::Certificate;
use crate::program::Program;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const PODS: &str = "/api/v1/namespaces/shop/pods";

/// Writes a file as a kubelet does: a new one takes the place of the old.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::rename(&new, path).expect("renamed");
}

/// Starts the program as in a pod with a service account in `dir`, which finds the pods of its own namespace.
fn in_a_pod(dir: &Path, api: &ApiServer, authority: &str, token: &str) -> Program {
    let account = dir.join("account");
    fs::create_dir_all(&account).expect("a folder");
    replace(&account.join("namespace"), "shop");
    replace(&account.join("ca.crt"), authority);
    replace(&account.join("token"), token);
    let file = dir.join("c.yml");
    let section = "{role: pod, namespaces: {own_namespace: true}}";
    let text =
        format!("scrape_configs:\n- {{job_name: pods, scrape_interval: 1h, kubernetes_sd_configs: [{section}]}}\n");
    fs::write(&file, text).expect("written");
    let args = [
        format!("--config.file={}", file.display()),
        format!("--discovery.kubernetes-service-account={}", account.display()),
        "--scrape.discovery-reload-interval=100ms".to_owned(),
    ];
    let environment = [
        ("KUBERNETES_SERVICE_HOST", api.address.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", api.address.port().to_string()),
    ];
    Program::serve_with(&dir.join("data"), &args.each_ref().map(String::as_str), &environment)
}

fn provider(program: &Program) -> Value {
    let (_, body) = program.ask("GET", "/api/v1/status/discovery");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    answer["data"]["providers"][0].clone()
}

/// Waits until the job's provider is as it should be.
fn settle(program: &Program, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let told = provider(program);
        if done(&told) {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "{told}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_pod_finds_its_cluster_and_follows_its_rotating_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let own = Certificate::new("127.0.0.1");
    let api = ApiServer::tls(&own, "token-a");
    api.put("web-1", "127.0.0.1", 1);
    let program = in_a_pod(dir.path(), &api, &own.pem, "token-a");
    let told = settle(&program, |told| told["targets"] == 1);
    assert_eq!(
        (&told["health"], &told["lastError"]),
        (&"up".into(), &"".into()),
        "{told}"
    );
    program.ask_until("/api/v1/targets", "http://127.0.0.1:1/metrics");

    // The server knows the old token no more before the file has the new one.
    api.want("token-b");
    api.end_watches();
    api.put("web-2", "127.0.0.1", 2);
    let refused = |told: &Value| told["lastError"].as_str().is_some_and(|error| error.contains("401"));
    let told = settle(&program, refused);
    assert_eq!(
        (&told["targets"], &told["health"]),
        (&1.into(), &"down".into()),
        "what was found stays"
    );
    replace(&dir.path().join("account/token"), "token-b");
    let told = settle(&program, |told| told["targets"] == 2 && told["health"] == "up");
    assert_eq!(told["lastError"], "");
    let statuses = api.statuses(PODS);
    assert!(statuses.contains(&401) && statuses.last() == Some(&200), "{statuses:?}");

    // And the other way round: nobody notices.
    let refused = statuses.iter().filter(|status| **status == 401).count();
    replace(&dir.path().join("account/token"), "token-c");
    api.want("token-c");
    api.end_watches();
    api.delete("web-1");
    settle(&program, |told| told["targets"] == 1 && told["health"] == "up");
    let statuses = api.statuses(PODS);
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), refused);
    program.signal("TERM");
    let (code, _, log) = program.wait();
    assert_eq!(code, Some(0));
    assert!(
        !log.contains("token-a") && !log.contains("token-b") && !log.contains("token-c"),
        "{log}"
    );
}

#[test]
fn a_server_of_another_authority_is_refused_with_one_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let own = Certificate::new("127.0.0.1");
    let api = ApiServer::tls(&own, "token");
    api.put("web-1", "127.0.0.1", 1);
    let other = Certificate::new("127.0.0.1");
    let program = in_a_pod(dir.path(), &api, &other.pem, "token");
    let told = settle(&program, |told| told["health"] == "down");
    let error = told["lastError"].as_str().expect("a text");
    assert!(
        error.contains("certificate") && error.contains(&api.address.to_string()),
        "{error}"
    );
    // Tried again, told once; nothing was asked, so nobody has seen the token.
    let begun = Instant::now();
    while api.connections() < 2 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(api.statuses(PODS), [0u16; 0]);
    let (_, metrics) = program.ask("GET", "/metrics");
    assert!(metrics.contains("\ntidegauge_sd_unhealthy_providers 1\n"), "{metrics}");

    // The right authority is taken up without a restart.
    replace(&dir.path().join("account/ca.crt"), &own.pem);
    settle(&program, |told| told["health"] == "up" && told["targets"] == 1);
    program.signal("TERM");
    let (_, _, log) = program.wait();
    let told = log.lines().filter(|line| line.contains("discovery failed")).count();
    assert_eq!(told, 1, "{log}");
}
