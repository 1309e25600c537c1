//! What ends is marked: series, targets, failed scrapes; and what only pauses is not.

use super::rig::{Reply, Rig, Target, eventually, job};
use tidegauge_model::is_stale;

#[tokio::test]
async fn a_series_that_vanishes_ends_with_a_marker() {
    let target = Target::start(Reply::text("a 1\nb 1\nc 1\n")).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, ""));
    rig.scrapes(2).await;
    target.say(Reply::text("a 1\nc 1\n"));
    eventually("staleness", || rig.ends_stale("b")).await;
    rig.scrapes(2).await;
    let b = rig.one("b");
    assert_eq!(b.iter().filter(|(_, value)| is_stale(*value)).count(), 1, "once: {b:?}");
    let up = rig.one("up");
    assert!(
        up.iter().any(|(at, _)| *at == b.last().unwrap().0),
        "in the row of its scrape"
    );
    assert!(!rig.ends_stale("a") && !rig.ends_stale("c"));

    target.say(Reply::text("a 1\nb 2\nc 1\n"));
    eventually("the series to return", || rig.last("b") == Some(2.0)).await;
}

#[tokio::test]
async fn a_failed_scrape_ends_all_series_but_the_report() {
    let target = Target::start(Reply::text("a 1\nb 1\n")).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, ""));
    rig.scrapes(2).await;
    let mut broken = Reply::text("");
    broken.status = 500;
    target.say(broken);
    assert_eq!(
        rig.error().await,
        "server returned HTTP status 500 Internal Server Error"
    );
    rig.scrapes(2).await;
    let (a, up) = (rig.one("a"), rig.one("up"));
    assert_eq!(a.iter().filter(|(_, value)| is_stale(*value)).count(), 1, "once: {a:?}");
    assert!(rig.ends_stale("b"));
    assert_eq!(up.last().unwrap().1, 0.0);
    let added = rig
        .one("scrape_series_added")
        .iter()
        .map(|(_, value)| *value)
        .sum::<f64>();
    assert_eq!(added, 2.0);

    target.say(Reply::text("a 1\nb 1\n"));
    eventually("the series to return", || {
        rig.last("a") == Some(1.0) && rig.last("b") == Some(1.0)
    })
    .await;
    let added = rig
        .one("scrape_series_added")
        .iter()
        .map(|(_, value)| *value)
        .sum::<f64>();
    assert_eq!(added, 2.0, "they are not new");
}

#[tokio::test]
async fn a_target_that_goes_is_marked_after_two_intervals() {
    let target = Target::start(Reply::text("a 1\n")).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, ""));
    rig.scrapes(2).await;
    rig.apply("[]");
    assert!(rig.manager.targets().active.is_empty());
    let before = rig.one("a").last().unwrap().0;
    eventually("staleness", || rig.ends_stale("a") && rig.ends_stale("up")).await;
    let marked = rig.one("a").last().unwrap().0;
    assert!(marked > before && marked - before < 5000, "{before} {marked}");
    assert!(rig.ends_stale("scrape_series_added"));
    let seen = target.seen();
    rig.manager.stop().await;
    assert_eq!(target.seen(), seen);
}

#[tokio::test]
async fn a_target_that_returns_in_time_goes_on_as_if_nothing_had_been() {
    let target = Target::start(Reply::text("a 1\n")).await;
    let rig = Rig::new();
    let yaml = job(target.address, "").replace("50ms", "300ms");
    rig.apply(&yaml);
    rig.scrapes(2).await;
    rig.apply(&yaml.replace(&format!("['{}']", target.address), "[]"));
    assert!(rig.manager.targets().active.is_empty());
    rig.apply(&yaml);
    rig.scrapes(5).await;
    let a = rig.one("a");
    assert!(a.iter().all(|(_, value)| !is_stale(*value)), "{a:?}");
    let added = rig
        .one("scrape_series_added")
        .iter()
        .map(|(_, value)| *value)
        .sum::<f64>();
    assert_eq!(added, 1.0, "what was known of it is not forgotten");
}

#[tokio::test]
async fn stopping_marks_nothing() {
    let target = Target::start(Reply::text("a 1\n")).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, ""));
    rig.scrapes(2).await;
    rig.manager.stop().await;
    assert_eq!(rig.last("a"), Some(1.0));
    assert_eq!(rig.last("up"), Some(1.0));
    let refused = rig.manager.apply(vec![], &tidegauge_model::Labels::empty());
    assert_eq!(refused.unwrap_err().to_string(), "scraping has been stopped");
}
