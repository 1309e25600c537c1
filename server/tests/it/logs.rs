//! What is written down of requests and queries.

use crate::program::Program;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Waits for a file to hold a text.
fn file_until(path: &Path, text: &str) -> String {
    let begun = Instant::now();
    loop {
        let held = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        if held.contains(text) {
            return held;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{} never held {text:?}: {held}",
            path.display()
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn queries_are_logged_as_the_configuration_says_and_a_reload_opens_the_file_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let (config, log) = (dir.path().join("c.yml"), dir.path().join("q.log"));
    fs::write(&config, "global: {query_log_file: q.log}\n").expect("written");
    let flags = [
        format!("--config.file={}", config.display()),
        "--web.enable-lifecycle".to_owned(),
    ];
    let program = Program::serve(&dir.path().join("data"), &[&flags[0], &flags[1]]);
    let ask = |query: &str| program.ask("GET", &format!("/api/v1/query?query={query}&time=5")).0;
    assert_eq!(
        (ask("vector(1)"), ask("vector("), ask("topk(2,vector(2))")),
        (200, 400, 200)
    );
    let held = file_until(&log, "topk");
    let lines: Vec<serde_json::Value> = held
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    // What is no query is not logged, as upstream.
    assert_eq!(lines.len(), 2, "{held}");
    assert_eq!(lines[0]["params"]["query"], "vector(1)");
    assert_eq!(lines[0]["params"]["start"], "1970-01-01T00:00:05.000Z");
    assert_eq!(lines[0]["httpRequest"]["path"], "/api/v1/query");
    assert_eq!(lines[0]["httpRequest"]["clientIP"], "127.0.0.1");

    fs::rename(&log, dir.path().join("q.old")).expect("moved");
    assert_eq!(program.ask("POST", "/-/reload").0, 200);
    assert_eq!(ask("vector(3)"), 200);
    assert_eq!(file_until(&log, "vector(3)").lines().count(), 1);

    fs::write(&config, "global: {query_log_file: none/q.log}\n").expect("written");
    let (status, told) = program.ask("POST", "/-/reload");
    assert!(status == 500 && told.contains("cannot open the query log"), "{told}");
    assert_eq!(ask("vector(4)"), 200);
    file_until(&log, "vector(4)");

    fs::write(&config, "").expect("written");
    program.signal("HUP");
    program.ask_until("/metrics", "\ntidegauge_query_log_enabled 0\n");
    assert_eq!(ask("vector(5)"), 200);
    assert!(!fs::read_to_string(&log).expect("it is there").contains("vector(5)"));
}

#[test]
fn queries_that_ran_at_a_crash_are_named_by_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &[]);
    let query = "quantile_over_time(0.5,quantile_over_time(0.5,vector(time())[1d:1s])[1d:1s])";
    let mut stream = TcpStream::connect(&program.address).expect("it listens");
    let request = format!("GET /api/v1/query?query={query} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    file_until(&dir.path().join("queries.active"), "quantile_over_time(0.5,quantile");
    program.signal("KILL");
    drop(program);
    let program = Program::serve(dir.path(), &[]);
    let told = program.log_until("these queries did not end in the last run");
    assert!(
        told.contains("vector(time())[1d:1s]") && told.contains("level=WARN"),
        "{told}"
    );
    // They are told once.
    program.signal("TERM");
    program.wait();
    let program = Program::serve(dir.path(), &[]);
    program.signal("TERM");
    let (_, _, log) = program.wait();
    assert!(!log.contains("these queries"), "{log}");
}

#[test]
fn requests_are_logged_without_their_parameters_where_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--web.access-log", "--log.format=json"]);
    program.ask("GET", "/api/v1/query?query=vector(12345)");
    let line = loop {
        let line = program.log_until("\"msg\":\"request\"");
        if line.contains("/api/v1/query\"") {
            break line;
        }
    };
    let value: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(
        (&value["method"], &value["status"], &value["client"]),
        (&"GET".into(), &"200".into(), &"127.0.0.1".into())
    );
    assert!(!line.contains("12345"), "{line}");
    let path = format!("/{}", "x".repeat(5000));
    program.ask("GET", &path);
    let line = program.log_until("/xxx");
    assert!(line.contains("\"404\"") && line.len() < 600, "{line}");
}
