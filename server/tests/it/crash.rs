//! `kill -9` in a loop while samples come in by both doors; nothing that was acknowledged may be missing.
//!
//! Two witnesses: a remote-write sender that notes each request answered 204, and an exporter whose counter is the
//! number of the scrape, of which everything a query has shown once must be there for ever.

use crate::process::{Running, free_port, tidegauge};
use prost::Message;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
}

#[derive(Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Message)]
struct Point {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

const SERIES: usize = 40;

/// Request number `n`: every series gets the value `n` at `start_ms + n` milliseconds.
fn write_request(start_ms: i64, n: u64) -> Vec<u8> {
    let label = |name: &str, value: String| Label {
        name: name.into(),
        value,
    };
    let timeseries = (0..SERIES)
        .map(|i| TimeSeries {
            labels: vec![label("__name__", "written".into()), label("i", format!("{i:02}"))],
            samples: vec![Point {
                value: n as f64,
                timestamp: start_ms + n as i64,
            }],
        })
        .collect();
    let message = WriteRequest { timeseries }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).unwrap()
}

/// Answers every request with a counter that says how often it was asked.
pub(crate) fn exporter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let scrapes = Arc::new(AtomicU64::new(0));
        for stream in listener.incoming() {
            let (Ok(mut stream), scrapes) = (stream, scrapes.clone()) else {
                continue;
            };
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..n]);
                    if !seen.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    seen.clear();
                    let n = scrapes.fetch_add(1, Ordering::SeqCst) + 1;
                    let body: String = (0..50)
                        .map(|i| format!("scraped_total{{i=\"{i:02}\"}} {n}\n"))
                        .collect();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    if stream.write_all((head + &body).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

pub(crate) fn start(dir: &Path, port: u16) -> Running {
    let args = [
        format!("--config.file={}", dir.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    Running::start(&tidegauge(), &args, port, "/-/ready", &dir.join("log"))
}

/// All samples of a series as (milliseconds, value).
pub(crate) fn samples(server: &Running, selector: &str) -> Vec<(i64, f64)> {
    let data = server.api("/api/v1/query", &[("query", &format!("{selector}[1h]"))]);
    let Some(series) = data["result"].get(0) else {
        return Vec::new();
    };
    let point = |p: &serde_json::Value| {
        (
            (p[0].as_f64().unwrap() * 1000.0).round() as i64,
            p[1].as_str().unwrap().parse().unwrap(),
        )
    };
    series["values"].as_array().unwrap().iter().map(point).collect()
}

/// Sends requests until the server dies or time is up; gives the number of the first one not acknowledged.
pub(crate) fn send_until(server_port: u16, start_ms: i64, from: u64, until: Instant) -> u64 {
    let mut n = from;
    while Instant::now() < until {
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
        ];
        match crate::process::request(
            server_port,
            "POST",
            "/api/v1/write",
            &headers,
            &write_request(start_ms, n),
        ) {
            Some(answer) if answer.status == 204 => n += 1,
            // It stops: the sender is to try again.
            Some(answer) if answer.status == 503 => break,
            Some(answer) => panic!("remote write answered {answer:?}"),
            None => break,
        }
    }
    n
}

/// Everything acknowledged or once seen must be there, whole, and nothing twice.
pub(crate) fn check(server: &Running, start_ms: i64, acknowledged: u64, scraped: &[(i64, f64)], round: usize) {
    for i in [0, SERIES / 2, SERIES - 1] {
        let found = samples(server, &format!("written{{i=\"{i:02}\"}}"));
        // The last request may have been stored although its answer was lost.
        assert!(
            found.len() as u64 == acknowledged || found.len() as u64 == acknowledged + 1,
            "round {round}: {acknowledged} requests acknowledged, {} samples found in series {i}",
            found.len()
        );
        for (n, (at, value)) in found.iter().enumerate() {
            assert_eq!(
                (*at, *value),
                (start_ms + n as i64, n as f64),
                "round {round}, series {i}"
            );
        }
    }
    let now = samples(server, "scraped_total{i=\"49\"}");
    for (i, seen) in scraped.iter().enumerate() {
        assert_eq!(
            now.get(i),
            Some(seen),
            "round {round}: a scraped sample seen before the kill is gone or changed"
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let seconds = std::env::var("TIDEGAUGE_CRASH_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(10u64);
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "global: {{scrape_interval: 50ms, scrape_timeout: 50ms}}\nscrape_configs:\n- job_name: crash\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter()
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let began = Instant::now();
    let start_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - 600_000;
    let (mut acknowledged, mut scraped, mut round) = (0, Vec::new(), 0);
    let mut server = start(dir.path(), free_port());
    while began.elapsed() < Duration::from_secs(seconds) || round < 3 {
        round += 1;
        // Uneven lengths, so that the kill meets every phase of a commit, a sync and a segment.
        let until = Instant::now() + Duration::from_millis(300 + (round as u64 * 137) % 500);
        let port = server.port;
        let (from, at) = (acknowledged, until + Duration::from_secs(1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sender = std::thread::spawn(move || send_until(port, start_ms, from, at));
        while Instant::now() < until {
            *seen.lock().unwrap() = samples(&server, "scraped_total{i=\"49\"}");
        }
        server.kill();
        acknowledged = sender.join().unwrap();
        scraped = std::mem::take(&mut *seen.lock().unwrap());
        server = start(dir.path(), free_port());
        check(&server, start_ms, acknowledged, &scraped, round);
        // Stored without an answer: it counts from now on.
        acknowledged = samples(&server, "written{i=\"00\"}").len() as u64;
    }
    assert!(acknowledged > 0 && !scraped.is_empty(), "the test saw no sample at all");
    println!(
        "{round} kills, {acknowledged} requests acknowledged, {} scrapes",
        scraped.len()
    );
}
