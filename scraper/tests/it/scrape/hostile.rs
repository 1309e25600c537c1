//! Targets that mean ill or are ill: each gets its one error, and nobody else notices.

use super::rig::{Reply, Rig, Target, eventually, job, serve};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Response;
use futures_util::{StreamExt as _, stream};
use std::convert::Infallible;
use std::time::Duration;
use tidegauge_model::Meter;
use tidegauge_scraper::{Health, ScrapeOptions};

/// A target that sends chunks for ever, with a pause between them.
pub(super) async fn endless(chunk: impl Into<Bytes>, pause: Duration) -> std::net::SocketAddr {
    let chunk = chunk.into();
    let answer = move || async move {
        let chunks = stream::repeat(chunk).then(move |chunk| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(chunk)
        });
        let mut response = Response::new(Body::from_stream(chunks));
        response
            .headers_mut()
            .insert("content-type", "text/plain".parse().unwrap());
        response
    };
    serve(Router::new().fallback(answer)).await
}

/// A target that takes connections and says nothing.
pub(super) async fn silent() -> std::net::SocketAddr {
    serve(Router::new().fallback(std::future::pending::<()>)).await
}

#[tokio::test]
async fn a_bad_line_fails_the_scrape_and_stores_nothing() {
    let target = Target::start(Reply::text("good 1\nbad{ 2\n")).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, ""));
    let error = rig.error().await;
    assert!(
        error.ends_with("(line 2 of the body)") && error.contains("bad{"),
        "{error}"
    );
    assert!(rig.series("good").is_empty());
    assert_eq!(
        (rig.last("up"), rig.last("scrape_samples_scraped")),
        (Some(0.0), Some(1.0))
    );

    target.say(Reply::text("good 1\n"));
    eventually("the target to heal", || rig.target().health == Health::Up).await;
    target.say(Reply::text(b"good{a=\"\xff\"} 1\n".to_vec()));
    let error = rig.error().await;
    assert!(error.contains("invalid UTF-8 label value"), "{error}");
    eventually("staleness", || rig.ends_stale("good")).await;
}

#[tokio::test]
async fn of_a_series_repeated_in_one_body_the_first_value_counts() {
    let target = Target::start(Reply::text("a{x=\"1\"} 1\na{x=\"2\"} 2\na{x=\"1\"} 3\n")).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, ""));
    rig.scrapes(3).await;
    let values: Vec<f64> = rig.series("a")[0].1.iter().map(|(_, value)| *value).collect();
    assert!(
        values.len() >= 2 && values.iter().all(|value| *value == 1.0),
        "{values:?}"
    );
    assert_eq!(rig.last("up"), Some(1.0));
    assert!(rig.metric("tidegauge_scrape_samples_duplicate_total") >= 2.0);
    let added: f64 = rig.one("scrape_series_added").iter().map(|(_, added)| added).sum();
    assert_eq!(added, 2.0, "a series is new once");
}

#[tokio::test]
async fn long_bodies_are_refused_as_they_come() {
    let long = "a 1\n".repeat(3000);
    let target = Target::start(Reply::text(long.clone())).await;
    let rig = Rig::new();
    rig.apply(&job(
        target.address,
        "body_size_limit: 10KB\nextra_scrape_metrics: true",
    ));
    assert_eq!(rig.error().await, "body size limit exceeded");
    eventually("the report", || rig.last("scrape_body_size_bytes") == Some(-1.0)).await;

    // Short as it comes, long when inflated.
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut to, long.as_bytes()).unwrap();
    let mut reply = Reply::text(to.finish().unwrap());
    reply.headers.push(("content-encoding", "gzip".to_owned()));
    assert!(reply.body.len() < 1000);
    target.say(reply);
    rig.scrapes(3).await;
    assert_eq!(rig.target().last_error, "body size limit exceeded");
    assert!(rig.metric("tidegauge_scrape_over_body_limit_total") >= 3.0);

    target.say(Reply::text("a 1\n"));
    eventually("the target to heal", || rig.target().health == Health::Up).await;
    eventually("the report", || rig.last("scrape_body_size_bytes") == Some(4.0)).await;
}

#[tokio::test]
pub(super) async fn endless_bodies_end_at_the_bound_or_the_deadline() {
    let fast = endless("a 1\n".repeat(5000), Duration::ZERO).await;
    let options = ScrapeOptions {
        max_body_bytes: 100_000,
        ..ScrapeOptions::default()
    };
    let rig = Rig::with(options);
    let slower = "- job_name: test\n  scrape_interval: 2s\n  scrape_timeout: 2s\n";
    rig.apply(&format!("{slower}  static_configs: [{{targets: ['{fast}']}}]\n"));
    assert_eq!(rig.error().await, "body size limit exceeded");

    let drip = endless("a 1\n", Duration::from_millis(5)).await;
    let rig = Rig::new();
    rig.apply(&job(drip, ""));
    assert_eq!(
        rig.error().await,
        format!("Get \"http://{drip}/metrics\": context deadline exceeded")
    );
}

#[tokio::test]
async fn bodies_share_one_budget() {
    let target = Target::start(Reply::text("a 1\n".repeat(5000))).await;
    let options = ScrapeOptions {
        bodies: Meter::new("scrape bodies", 10_000),
        ..ScrapeOptions::default()
    };
    let meter = options.bodies.clone();
    let rig = Rig::with(options);
    rig.apply(&job(target.address, ""));
    let error = rig.error().await;
    assert!(
        error.starts_with("memory share \"scrape bodies\" is used up"),
        "{error}"
    );
    assert!(rig.metric("tidegauge_scrape_over_budget_total") >= 1.0);
    rig.manager.stop().await;
    assert_eq!(meter.used(), 0, "all is given back");
}

#[tokio::test]
async fn a_silent_target_delays_nobody() {
    let good = Target::start(Reply::text("a 1\n")).await;
    let (silent, drip) = (silent().await, endless("a 1\n", Duration::from_millis(5)).await);
    let rig = Rig::new();
    rig.apply(&format!(
        "- job_name: test\n  scrape_interval: 200ms\n  scrape_timeout: 190ms\n  static_configs: [{{targets: ['{}', '{silent}', '{drip}']}}]",
        good.address
    ));
    eventually("some scrapes", || {
        let up = rig.series("up");
        up.len() == 3 && up.iter().all(|(_, samples)| samples.len() >= 5)
    })
    .await;
    let instance = format!("instance=\"{}\"", good.address);
    for (labels, samples) in rig.series("up") {
        let up = if labels.contains(&instance) { 1.0 } else { 0.0 };
        assert!(samples.iter().all(|(_, value)| *value == up), "{labels}: {samples:?}");
    }
    let times: Vec<i64> = rig.one("a").iter().map(|(at, _)| *at).collect();
    // Within a tenth: this machine is shared. What matters is that no time was waited out for another.
    assert!(
        times.windows(2).all(|pair| (pair[1] - pair[0] - 200).abs() <= 100),
        "{times:?}"
    );
    let errors: Vec<String> = rig.manager.targets().active.into_iter().map(|t| t.last_error).collect();
    assert_eq!(
        errors
            .iter()
            .filter(|error| error.ends_with("context deadline exceeded"))
            .count(),
        2,
        "{errors:?}"
    );
}
