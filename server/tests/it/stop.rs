//! SIGTERM under load: it ends in time, and nothing that was acknowledged is missing afterwards.

use crate::crash::{check, exporter, samples, send_until, start};
use crate::process::{form, free_port, request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What was promised of a shutdown.
const WITHIN: Duration = Duration::from_secs(10);

/// Asks until it is told to stop; counts answers.
fn ask_on(port: u16, stop: &AtomicBool, answered: &AtomicU64) {
    let long = form(&[("query", "sum(count_over_time(written[20m:20ms]))"), ("timeout", "20s")]);
    let short = form(&[("query", "count(up)")]);
    while !stop.load(Ordering::Relaxed) {
        for params in [&short, &long] {
            if request(port, "GET", &format!("/api/v1/query?{params}"), &[], &[]).is_some() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_sigterm_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "global: {{scrape_interval: 50ms, scrape_timeout: 50ms}}\nscrape_configs:\n- job_name: stop\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter()
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let start_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - 600_000;
    let mut acknowledged = 0;
    let mut server = start(dir.path(), free_port());
    for round in 0..2 {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let port = server.port;
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || ask_on(port, &stop, &answered))
            })
            .collect();
        let (from, end) = (acknowledged, Instant::now() + Duration::from_secs(60));
        let sender = std::thread::spawn(move || send_until(port, start_ms, from, end));
        let enough = from + 50;
        server.wait_for(
            |s| {
                let written = samples(s, "written{i=\"00\"}").len() as u64;
                let scraped = samples(s, "scraped_total{i=\"49\"}").len();
                written >= enough && scraped > 5 && answered.load(Ordering::Relaxed) > 10
            },
            "load",
        );
        let scraped = samples(&server, "scraped_total{i=\"49\"}");
        let (code, took) = server.terminate();
        stop.store(true, Ordering::Relaxed);
        acknowledged = sender.join().unwrap();
        askers.into_iter().for_each(|asker| asker.join().unwrap());
        assert_eq!(code, Some(0), "round {round}");
        assert!(took < WITHIN, "round {round}: it took {took:?}");
        server = start(dir.path(), free_port());
        check(&server, start_ms, acknowledged, &scraped, round);
        acknowledged = samples(&server, "written{i=\"00\"}").len() as u64;
    }
}
