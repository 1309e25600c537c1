//! New configurations and discovery while all is running.

use super::rig::{Reply, Rig, Target, eventually, job};
use std::time::Duration;
use tidegauge_model::is_stale;
use tidegauge_scraper::ScrapeOptions;

#[tokio::test]
async fn the_same_configuration_again_disturbs_nothing() {
    let target = Target::start(Reply::text("a 1\n")).await;
    let rig = Rig::new();
    let yaml = job(target.address, "");
    rig.apply(&yaml);
    for _ in 0..5 {
        rig.scrapes(1).await;
        rig.apply(&yaml);
    }
    let times: Vec<i64> = rig.one("up").iter().map(|(at, _)| *at).collect();
    assert!(times.len() >= 5);
    let added: f64 = rig.one("scrape_series_added").iter().map(|(_, value)| *value).sum();
    assert_eq!(added, 1.0);
}

#[tokio::test]
async fn a_changed_job_keeps_what_its_targets_knew() {
    let target = Target::start(Reply::text("a 1\nb 1\n")).await;
    let other = Target::start(Reply::text("other 1\n")).await;
    let rig = Rig::new();
    let second = format!(
        "- job_name: second\n  scrape_interval: 50ms\n  scrape_timeout: 50ms\n  static_configs: [{{targets: ['{}']}}]\n",
        other.address
    );
    rig.apply(&(job(target.address, "") + &second));
    eventually("samples", || rig.last("other").is_some() && rig.last("a").is_some()).await;
    let rule = "metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]\nscrape_interval: 60ms";
    let changed = job(target.address, rule).replacen("  scrape_interval: 50ms\n", "", 1);
    rig.apply(&(changed + &second));
    eventually("the dropped series to end", || rig.ends_stale("b")).await;
    rig.scrapes(4).await;
    for metric in ["a", "other"] {
        let samples = rig.one(metric);
        assert!(
            samples.iter().all(|(_, value)| !is_stale(*value)),
            "{metric}: {samples:?}"
        );
    }
    let active = rig.manager.targets().active;
    assert_eq!(active.len(), 2);
    assert_eq!(active[1].interval, Duration::from_millis(60));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_obeyed_changes_nothing() {
    let target = Target::start(Reply::text("a 1\n")).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, ""));
    rig.scrapes(1).await;
    let bad = super::rig::jobs(&job(target.address, "proxy_url: 'http://[bad'"));
    let error = rig.manager.apply(bad, &tidegauge_model::Labels::empty()).unwrap_err();
    assert!(error.to_string().starts_with("job \"test\": proxy_url:"), "{error}");
    rig.scrapes(2).await;
    assert_eq!(rig.last("up"), Some(1.0));
}

#[tokio::test]
async fn targets_come_and_go_with_their_files() {
    let target = Target::start(Reply::text("a 1\n")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("targets.json");
    let mut options = ScrapeOptions::default();
    options.discovery.sync_interval = Duration::from_millis(20);
    let rig = Rig::with(options);
    rig.apply(&format!(
        "- job_name: files
  scrape_interval: 50ms
  scrape_timeout: 50ms
  file_sd_configs: [{{files: ['{}/*.json'], refresh_interval: 1h}}]
",
        folder.path().display()
    ));
    assert!(rig.manager.targets().active.is_empty());
    let group = format!(
        r#"[{{"targets": ["{}"], "labels": {{"env": "file"}}}}]"#,
        target.address
    );
    std::fs::write(&path, group).unwrap();
    eventually("a sample", || rig.last("a") == Some(1.0)).await;
    assert_eq!(rig.target().labels.get("env"), Some("file"));
    assert_eq!(rig.target().discovered_labels.get("__meta_filepath"), path.to_str());
    std::fs::remove_file(&path).unwrap();
    eventually("the target to go", || rig.manager.targets().active.is_empty()).await;
    eventually("staleness", || rig.ends_stale("a")).await;
    rig.manager.stop().await;
}

#[tokio::test]
async fn targets_beyond_the_most_are_left_out_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = ScrapeOptions::default();
    options.discovery.sync_interval = Duration::from_millis(20);
    options.discovery.room_interval = Duration::from_millis(20);
    options.discovery.max_targets = 4;
    let rig = Rig::with(options);
    let write = |name: &str, targets: usize| {
        let targets: Vec<String> = (0..targets).map(|n| format!("'127.0.0.1:{}'", n + 1)).collect();
        let new = folder.path().join("new");
        std::fs::write(&new, format!("- targets: [{}]\n", targets.join(", "))).unwrap();
        std::fs::rename(new, folder.path().join(name)).unwrap();
    };
    write("a.yml", 3);
    let section = |job: &str| {
        format!(
            "- job_name: {job}\n  scrape_interval: 1h\n  static_configs: [{{targets: ['127.0.0.2:1', '127.0.0.2:2']}}]\n  \
             file_sd_configs: [{{files: ['{}/{job}.yml'], refresh_interval: 1h}}]\n",
            folder.path().display()
        )
    };
    rig.apply(&(section("a") + &section("b")));
    let counts = || {
        let active = rig.manager.targets().active;
        let of = |job: &str| active.iter().filter(|target| target.scrape_pool == job).count();
        (of("a"), of("b"))
    };
    // Those that the file itself names are not counted.
    eventually("the first", || counts() == (5, 2)).await;
    write("b.yml", 2);
    let told = || rig.manager.discovery()[1].last_error.clone();
    eventually("the limit to be told", || told().contains("more than 4 targets")).await;
    assert_eq!(counts(), (5, 2));
    write("a.yml", 1);
    eventually("the others", || counts() == (3, 4)).await;
    assert_eq!(told(), "");
    let listed = rig.manager.metrics().list();
    let of = |name: &str| listed.iter().find(|family| family.0 == name).unwrap().3[0].1;
    assert_eq!(of("tidegauge_sd_targets"), 3.0);
    assert!(of("tidegauge_sd_groups_refused_total") >= 1.0);
    assert_eq!(of("tidegauge_sd_unhealthy_providers"), 0.0);
}
