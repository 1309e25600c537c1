//! What a request may take at most: each bound is a flag, is answered clearly, and is counted.

use crate::program::Program;
use crate::site::{Site, Switches};
use axum::body::Body;
use axum::http::Request;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tidegauge_model::Meter;
use tidegauge_query::EngineOptions;

/// Sends bytes as they are and reads to the end of the connection.
fn raw(program: &Program, bytes: &str) -> String {
    let mut stream = TcpStream::connect(&program.address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream.write_all(bytes.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    // What was sent and not read makes the end of a connection a reset.
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn refused(program: &Program, reason: &str) -> f64 {
    let (_, text) = program.ask("GET", "/metrics");
    let name = format!("tidegauge_http_requests_refused_total{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

#[test]
fn requests_that_are_too_large_are_told_which_bound_they_pass() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = [
        "--web.max-url-size=2KB",
        "--web.max-head-size=8KB",
        "--web.max-form-size=4KB",
        "--web.remote-write-receiver.max-body-size=4KB",
        "--web.enable-remote-write-receiver",
    ];
    let program = Program::serve(dir.path(), &flags);
    let head = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let get = |query: &str, headers: &str| head(&format!("GET /api/v1/query?query={query}"), headers);
    let post = |path: &str, headers: &str, body: &str| head(&format!("POST {path}"), headers) + body;
    let (long, query) = ("1".repeat(5000), "/api/v1/query");
    let many: String = (0..101).map(|i| format!("X-{i}: y\r\n")).collect();
    for (request, status, told, reason) in [
        (
            get(&"1".repeat(2500), ""),
            414,
            "2048 bytes (--web.max-url-size)",
            "url",
        ),
        (
            get("1", &format!("X-Long: {}\r\n", "y".repeat(20_000))),
            431,
            "",
            "head",
        ),
        (get("1", &many), 431, "", "head"),
        // The length alone is enough to be refused.
        (
            post(query, &format!("{FORM}\r\nContent-Length: 4097\r\n"), ""),
            413,
            "4096 bytes (--web.max-form-size)",
            "body",
        ),
        (
            post(
                query,
                &format!("{FORM}\r\nTransfer-Encoding: chunked\r\n"),
                &format!("1388\r\n{long}\r\n0\r\n\r\n"),
            ),
            413,
            "\"errorType\":\"bad_data\"",
            "body",
        ),
        (
            post("/api/v1/write", "Content-Length: 4097\r\n", ""),
            413,
            "4096 bytes (--web.remote-write-receiver.max-body-size)",
            "body",
        ),
    ] {
        let before = refused(&program, reason);
        let answer = raw(&program, &request);
        let start = request.get(..40).unwrap_or(&request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{start:?}: {answer}"
        );
        assert!(answer.contains(told), "{start:?}: {answer}");
        assert_eq!(refused(&program, reason), before + 1.0, "{start:?}");
    }
    // Just below the bounds.
    let fits = format!("query=1&x={}", "1".repeat(4000));
    let answer = raw(
        &program,
        &post(query, &format!("{FORM}\r\nContent-Length: {}\r\n", fits.len()), &fits),
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = raw(
        &program,
        &get(
            &format!("1&x={}", "1".repeat(1900)),
            &format!("X-Long: {}\r\n", "y".repeat(4000)),
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn bodies_that_come_too_slowly_are_told_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(
        dir.path(),
        &["--web.read-timeout=300ms", "--web.enable-remote-write-receiver"],
    );
    let post = |path: &str, headers: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\nContent-Length: 9\r\n\r\nq")
    };
    for (request, status, told) in [
        (
            post("/api/v1/query", FORM),
            408,
            "\"errorType\":\"timeout\",\"error\":\"the form body did not come in time",
        ),
        (post("/api/v1/write", "X-A: b"), 503, "retry-after: "),
    ] {
        let before = refused(&program, "slow");
        let answer = raw(&program, &request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(told),
            "{answer}"
        );
        assert_eq!(refused(&program, "slow"), before + 1.0);
    }
}

#[tokio::test]
async fn forms_take_memory_of_what_queries_have() {
    let memory = Meter::new("queries", 64 << 10);
    let site = Site::with(Switches {
        engine: EngineOptions {
            memory: memory.clone(),
            ..EngineOptions::default()
        },
        ..Switches::default()
    });
    let post = async |bytes: usize| {
        let form = format!("query=1&x={}", "1".repeat(bytes));
        site.post_form("/api/v1/query", &form).await
    };
    let answer = post(100_000).await;
    let told = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &told["errorType"]),
        (503, &"unavailable".into()),
        "{told}"
    );
    assert_eq!(post(30_000).await.status.as_u16(), 200);
    assert_eq!(memory.used(), 0);
    // A body that breaks off is the client's doing.
    let broken = futures_util::stream::iter([Ok("query=1"), Err(std::io::Error::other("gone"))]);
    let request = Request::post("/api/v1/query")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from_stream(broken))
        .unwrap();
    let answer = site.send(request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].clone()),
        (400, "the form body was cut off".into())
    );
    assert_eq!(memory.used(), 0);
}
