//! Every kind of bad target at once, and a good one that must not notice.

use super::hostile::{endless, silent};
use super::rig::{Reply, Rig, Target, eventually, serve};
use axum::Router;
use axum::http::{Response, StatusCode};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegauge_model::Meter;
use tidegauge_scraper::ScrapeOptions;

/// Other series at each scrape.
async fn churning() -> SocketAddr {
    let count = Arc::new(AtomicU64::new(0));
    let answer = move || {
        let scrape = count.fetch_add(1, Ordering::Relaxed);
        let mut body = String::new();
        for series in 0..100 {
            writeln!(body, "churn{{scrape=\"{scrape}\",series=\"{series}\"}} 1").unwrap();
        }
        std::future::ready(([("content-type", "text/plain")], body))
    };
    serve(Router::new().fallback(answer)).await
}

/// Redirects to itself.
async fn circling() -> SocketAddr {
    let answer = || async {
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert("location", "/metrics".parse().unwrap());
        response
    };
    serve(Router::new().fallback(answer)).await
}

const INTERVAL_MS: i64 = 1000;
const SCRAPES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_target_among_bad_ones_keeps_its_schedule() {
    let good = Target::start(Reply::text("good 1\n")).await;
    // Not from 0: a byte of zero at the front of a line ends a body, for upstream too.
    let garbage: Vec<u8> = (1..20_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let garbage = Target::start(Reply::text(garbage)).await;
    let bad = [
        silent().await,
        endless("a", Duration::from_millis(100)).await,
        endless("a 1\n".repeat(1000), Duration::ZERO).await,
        garbage.address,
        circling().await,
    ];
    let churning = churning().await;
    let options = ScrapeOptions {
        bodies: Meter::new("scrape bodies", 8 << 20),
        max_body_bytes: 1 << 20,
        ..ScrapeOptions::default()
    };
    let meter = options.bodies.clone();
    let rig = Rig::with(options);
    let mut yaml = String::new();
    let others: Vec<String> = bad.iter().chain([&churning]).map(ToString::to_string).collect();
    for (name, targets) in [("good", vec![good.address.to_string()]), ("bad", others)] {
        writeln!(
            yaml,
            "- job_name: {name}\n  scrape_interval: {INTERVAL_MS}ms\n  scrape_timeout: {INTERVAL_MS}ms\n  \
             static_configs: [{{targets: {targets:?}}}]"
        )
        .unwrap();
    }
    rig.apply(&yaml);
    eventually("scrapes of the good target", || rig.one("good").len() >= SCRAPES).await;

    // By number of turn, so that a busy machine may be late but no turn may be left out.
    let times: Vec<i64> = rig.one("good").iter().map(|(at, _)| *at).collect();
    let turns = (times[SCRAPES - 1] - times[0] + INTERVAL_MS / 2) / INTERVAL_MS;
    assert_eq!(turns, SCRAPES as i64 - 1, "{times:?}");
    for (labels, samples) in rig.series("up") {
        let well = [good.address, churning]
            .iter()
            .any(|address| labels.contains(&format!("\"{address}\"")));
        let up = if well { 1.0 } else { 0.0 };
        assert!(samples.len() >= 2, "{labels}: {samples:?}");
        assert!(samples.iter().all(|(_, value)| *value == up), "{labels}: {samples:?}");
    }
    let active = rig.manager.targets().active;
    for (address, error) in bad.iter().zip([
        "context deadline exceeded",
        "context deadline exceeded",
        "",
        "",
        "stopped after 10 redirects",
    ]) {
        let at = format!("http://{address}/metrics");
        let target = active.iter().find(|target| target.scrape_url == at).unwrap();
        assert!(
            !target.last_error.is_empty() && target.last_error.ends_with(error),
            "{at}: {}",
            target.last_error
        );
    }
    rig.manager.stop().await;
    assert_eq!(meter.used(), 0, "all is given back");
}
