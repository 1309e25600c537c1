//! Real senders (Prometheus with 1.0, Prometheus with 2.0, vmagent) push to a tidegauge that is killed and started again in
//! between: nothing is lost, nothing comes twice.
//!
//! ```text
//!   fed by this test --1.0--> Prometheus --1.0--\
//!                    --1.0--> Prometheus --2.0---> tidegauge   kill -9 at a third and at two thirds
//!                    --1.0--> vmagent ----1.0---/
//! ```

use crate::process::{Running, free_port, peer, request, tidegauge};
use crate::remote_write::{WriteRequest, packed, series};
use prost::Message;
use std::path::Path;
use std::time::{Duration, Instant};

/// Samples of all senders together, unless `TIDEGAUGE_SENDER_SAMPLES` says another number.
const SAMPLES: u64 = 300_000;
const SENDERS: [&str; 3] = ["prometheus-1.0", "prometheus-2.0", "vmagent"];
/// Steps of one request to a sender.
const STEPS: i64 = 10;

/// What is fed.
#[derive(Clone, Copy)]
struct Load {
    series: i64,
    steps: i64,
    every_ms: i64,
    start_ms: i64,
}

impl Load {
    fn new(samples: u64) -> Self {
        let each = samples.div_ceil(SENDERS.len() as u64);
        let series = (each / 200).clamp(10, 2000);
        let steps = each.div_ceil(series * STEPS.unsigned_abs()).cast_signed() * STEPS;
        let series = series.cast_signed();
        // Prometheus sends what is newer than its own start, and takes what is up to ten minutes ahead.
        let every_ms = (500_000 / steps).min(1000);
        assert!(
            every_ms > 0,
            "{samples} samples do not fit into the time that senders take"
        );
        let start_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 + 2000;
        Self {
            series,
            steps,
            every_ms,
            start_ms,
        }
    }

    fn each(self) -> u64 {
        (self.series * self.steps).cast_unsigned()
    }

    /// The request that brings some steps.
    fn body(self, sender: &str, from: i64) -> Vec<u8> {
        let all = (0..self.series).map(|i| {
            let name = i.to_string();
            let points: Vec<(i64, f64)> = (from..from + STEPS)
                .map(|step| (self.start_ms + step * self.every_ms, (step * (i % 7 + 1)) as f64))
                .collect();
            series(&[("__name__", "fed"), ("i", &name), ("sender", sender)], &points)
        });
        packed(&WriteRequest { series: all.collect() }.encode_to_vec())
    }

    /// Hands everything to a sender.
    fn feed(self, sender: &str, port: u16) {
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        for from in (0..self.steps).step_by(STEPS as usize) {
            let answer = request(port, "POST", "/api/v1/write", &headers, &self.body(sender, from)).unwrap();
            assert_eq!(answer.status, 204, "{sender}: {}", answer.body);
        }
    }

    /// The time at which a query sees all of it.
    fn end(self) -> String {
        ((self.start_ms + self.steps * self.every_ms) / 1000 + 1).to_string()
    }
}

fn receiver(dir: &Path, port: u16) -> Running {
    let args = [
        format!("--storage.tsdb.path={}", dir.join("tidegauge").display()),
        format!("--config.file={}", dir.join("empty.yml").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    Running::start(&tidegauge(), &args, port, "/-/ready", &dir.join("tidegauge.log"))
}

fn prometheus(dir: &Path, name: &str, message: &str, to: u16) -> Running {
    let port = free_port();
    let file = dir.join(format!("{name}.yml"));
    let config = format!(
        "remote_write:\n- url: http://127.0.0.1:{to}/api/v1/write\n  protobuf_message: {message}\n  \
         queue_config: {{batch_send_deadline: 500ms, max_backoff: 500ms}}\n  metadata_config: {{send_interval: 1s}}\n"
    );
    std::fs::write(&file, config).unwrap();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.join(name).display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let log = dir.join(format!("{name}.log"));
    Running::start(&peer("prometheus"), &args, port, "/-/ready", &log)
}

fn vmagent(dir: &Path, to: u16) -> Running {
    let port = free_port();
    let args = [
        format!("-remoteWrite.url=http://127.0.0.1:{to}/api/v1/write"),
        format!("-remoteWrite.tmpDataPath={}", dir.join("vmagent").display()),
        format!("-httpListenAddr=127.0.0.1:{port}"),
        // With several, a series' samples overtake each other.
        "-remoteWrite.queues=1".to_owned(),
        "-remoteWrite.flushInterval=500ms".to_owned(),
        "-remoteWrite.retryMaxTime=1s".to_owned(),
    ];
    Running::start(&peer("vmagent"), &args, port, "/health", &dir.join("vmagent.log"))
}

/// What a server says to a query of one value; 0 if it says nothing.
fn number(server: &Running, query: &str, time: &str) -> f64 {
    let data = server.api("/api/v1/query", &[("query", query), ("time", time)]);
    let value = data.pointer("/result/0/value/1").and_then(serde_json::Value::as_str);
    value.map_or(0.0, |value| value.parse().unwrap())
}

fn count(server: &Running, selector: &str, time: &str) -> u64 {
    number(server, &format!("sum(count_over_time({selector}[20m]))"), time) as u64
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn real_senders_lose_nothing_and_double_nothing_over_two_kills() {
    let samples = std::env::var("TIDEGAUGE_SENDER_SAMPLES").map_or(SAMPLES, |text| text.parse().unwrap());
    // A few hundred thousand samples per second pass at most; a busy machine has a minute on top.
    let patience = Duration::from_secs(120 + samples / 10_000);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.yml"), "global: {}\n").unwrap();
    let port = free_port();
    let mut ours = receiver(dir.path(), port);
    let senders = [
        prometheus(dir.path(), SENDERS[0], "prometheus.WriteRequest", port),
        prometheus(dir.path(), SENDERS[1], "io.prometheus.write.v2.Request", port),
        vmagent(dir.path(), port),
    ];
    let load = Load::new(samples);
    let (total, end) = (load.each() * SENDERS.len() as u64, load.end());
    let began = Instant::now();
    let feeding: Vec<_> = SENDERS
        .iter()
        .zip(&senders)
        .map(|(name, sender)| {
            let port = sender.port;
            std::thread::spawn(move || load.feed(name, port))
        })
        .collect();
    let mut messages = Vec::new();
    let mut killed_at = Vec::new();
    for part in 1..=3 {
        let wanted = total * part / 3;
        loop {
            let arrived = count(&ours, "fed", &end);
            if arrived >= wanted {
                killed_at.push(arrived);
                break;
            }
            assert!(
                began.elapsed() < patience,
                "{arrived} of {wanted} samples after {:?}:\n{}",
                began.elapsed(),
                logs(dir.path())
            );
            std::thread::park_timeout(Duration::from_millis(100));
        }
        messages.push(ours.get("/metrics").unwrap().body);
        if part < 3 {
            ours.kill();
            ours = receiver(dir.path(), port);
        }
    }
    let took = began.elapsed();
    for feeder in feeding {
        feeder.join().unwrap();
    }
    for (name, sender) in SENDERS.iter().zip(&senders) {
        let selector = format!("fed{{sender=\"{name}\"}}");
        assert_eq!(
            count(&ours, &selector, &end),
            load.each(),
            "{name}\n{}",
            logs(dir.path())
        );
        for query in [
            format!("count({selector})"),
            format!("sum(sum_over_time({selector}[20m]))"),
            format!("min(count_over_time({selector}[20m]))"),
            format!("max(count_over_time({selector}[20m]))"),
            format!("sum(last_over_time({selector}[20m]))"),
        ] {
            if name.starts_with("prometheus") {
                assert_eq!(number(&ours, &query, &end), number(sender, &query, &end), "{query}");
            }
        }
        let least = number(&ours, &format!("min(count_over_time({selector}[20m]))"), &end);
        assert_eq!(least, load.steps as f64, "{name}");
    }
    for version in ["1.0", "2.0"] {
        let none = format!("tidegauge_remote_write_messages_total{{version=\"{version}\"}} 0\n");
        assert!(
            messages.iter().any(|metrics| !metrics.contains(&none)),
            "nobody sent {version}"
        );
    }
    for metrics in &messages {
        assert!(
            metrics.contains("tidegauge_remote_write_requests_total{outcome=\"failed\"} 0\n"),
            "{metrics}"
        );
    }
    println!(
        "{total} samples of {} series by {} senders in {took:.1?}, killed at {killed_at:?}",
        load.series * SENDERS.len() as i64,
        SENDERS.len()
    );
}

/// The ends of all logs.
fn logs(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "log") {
            let log = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = log.lines().rev().take(10).collect();
            text.push_str(&format!("--- {}\n{}\n", path.display(), lines.join("\n")));
        }
    }
    text
}
