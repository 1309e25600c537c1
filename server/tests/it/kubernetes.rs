//! The real program beside a real Prometheus 3.5.3, both discovering in the same cluster: an API server on loopback
//! with the objects of `testdata/kubernetes/objects.json`. Both show the same targets with the same discovered labels.

use crate::process::{Running, peer, tidegauge};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Kinds of objects, and their collections.
const COLLECTIONS: [(&str, &str); 6] = [
    ("Node", "/api/v1/nodes"),
    ("Pod", "/api/v1/pods"),
    ("Service", "/api/v1/services"),
    ("Endpoints", "/api/v1/endpoints"),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("Ingress", "/apis/networking.k8s.io/v1/ingresses"),
];

const ROLES: [&str; 6] = ["node", "pod", "service", "endpoints", "endpointslice", "ingress"];

/// Starts the API server; it ends with the tests. Lists are as they are, watches say nothing for ever.
fn api_server() -> u16 {
    let objects = std::fs::read_to_string("../testdata/kubernetes/objects.json").unwrap();
    let objects: Vec<Value> = serde_json::from_str(&objects).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, objects) = (stream.unwrap(), objects.clone());
            std::thread::spawn(move || drop(answer(&stream, &objects)));
        }
    });
    port
}

/// Answers the requests of one connection.
fn answer(stream: &TcpStream, objects: &[Value]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let mut to = stream;
    loop {
        let Some(request) = lines.next() else { return Ok(()) };
        let request = request?;
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let target = request.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let kind = COLLECTIONS.iter().find(|(_, collection)| *collection == path);
        let (status, body) = match kind {
            None => ("404 Not Found", r#"{"kind":"Status","code":404}"#.to_owned()),
            Some(_) if query.contains("sendInitialEvents") => (
                "422 Unprocessable Entity",
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}"#.to_owned(),
            ),
            Some(_) if query.contains("watch=true") => {
                to.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
                )?;
                // Until the client goes.
                while lines.next().is_some_and(|line| line.is_ok()) {}
                return Ok(());
            }
            Some((kind, _)) => ("200 OK", list(kind, path, objects)),
        };
        write!(
            to,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
}

fn list(kind: &str, path: &str, objects: &[Value]) -> String {
    let items: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    let group = path.strip_prefix("/apis/").and_then(|path| path.rsplit_once('/'));
    let version = group.map_or("v1", |(group, _)| group);
    serde_json::json!({
        "kind": format!("{kind}List"), "apiVersion": version, "metadata": {"resourceVersion": "100"}, "items": items
    })
    .to_string()
}

fn config(port: u16) -> String {
    let mut text = "global: {scrape_interval: 1h}\nscrape_configs:\n".to_owned();
    for role in ROLES {
        let section = format!("role: {role}, api_server: 'http://127.0.0.1:{port}'");
        text.push_str(&format!(
            "- {{job_name: {role}, kubernetes_sd_configs: [{{{section}}}]}}\n"
        ));
        let attached = format!("{section}, attach_metadata: {{node: true}}");
        text.push_str(&format!(
            "- {{job_name: {role}-attached, kubernetes_sd_configs: [{{{attached}}}]}}\n"
        ));
    }
    text
}

/// Job and discovered labels of every target.
fn discovered(server: &Running) -> BTreeSet<String> {
    let data = server.api("/api/v1/targets", &[("state", "active")]);
    let targets = data["activeTargets"].as_array().unwrap();
    let told = targets.iter().map(|target| {
        let mut labels = target["discoveredLabels"].as_object().unwrap().clone();
        // Of later versions.
        labels.retain(|name, _| !name.starts_with("__meta_kubernetes_node_condition_"));
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {}", target["scrapePool"], labels.join(" "))
    });
    told.collect()
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn every_role_finds_what_prometheus_finds() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(api_server());
    let mut ours = Running::serve(&tidegauge(), "tidegauge", dir.path(), &config, &[]);
    let mut theirs = Running::serve(&peer("prometheus"), "prometheus", dir.path(), &config, &[]);
    // Prometheus hands targets over every five seconds: when every job has some, it has all of them.
    let complete = |server: &Running| {
        let found = discovered(server);
        let has = |job: String| found.iter().any(|target| target.starts_with(&format!("\"{job}\" ")));
        ROLES
            .iter()
            .all(|role| has((*role).to_owned()) && has(format!("{role}-attached")))
    };
    theirs.wait_for(complete, "targets of every job");
    ours.wait_for(complete, "targets of every job");
    let (ours, theirs) = (discovered(&ours), discovered(&theirs));
    assert!(theirs.len() > 30, "{}", theirs.len());
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nnot there: {extra:#?}"
    );
}
