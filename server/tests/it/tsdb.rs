//! `tidegauge tsdb`: the tools that look into stored data, on the real binary.

use crate::program::{Program, texts};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, Timestamp};
use tidegauge_tsdb::{Db, Fsync, Options};

const MINUTE: i64 = 60_000;

/// A store of two blocks and a log, closed: a sample a minute for six hours.
fn store(dir: &Path) {
    let clock = Arc::new(HandClock::at(Timestamp::from_millis(360 * MINUTE)));
    let options = Options {
        fsync: Fsync::Never,
        retention_ms: 0,
        maintenance: None,
        ..Options::default()
    };
    let db = Db::open(dir, options, clock).expect("a fresh store opens");
    for minute in 0..360 {
        let mut appender = db.appender();
        let timeline = appender.timeline("node").expect("a timeline");
        let row: Vec<_> = [
            ("up", "a", 1.0),
            ("up", "b", 0.5),
            ("requests_total", "a", minute as f64),
        ]
        .map(|(name, node, value)| {
            let labels = Labels::from_pairs([("__name__", name), ("node", node)]).expect("labels");
            (appender.resolve(Some(timeline), &labels).expect("a column"), value)
        })
        .into();
        let at = Timestamp::from_millis(minute * MINUTE);
        appender.append_row(timeline, at, &row).expect("it is taken");
        appender.commit(OnReject::Fail).expect("it is written");
    }
    db.maintain().expect("blocks are written");
    db.close().expect("it is closed");
}

fn made() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a folder");
    store(dir.path());
    let path = dir.path().display().to_string();
    (dir, path)
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").map_while(Result::ok) {
        match fs::read(entry.path()) {
            // The note in the lock says who held it last.
            Ok(_) if entry.file_name() == "lock" => {}
            Ok(bytes) => found.push((entry.path(), bytes)),
            Err(_) => found.extend(files(&entry.path())),
        }
    }
    found.sort();
    found
}

fn run(args: &[&str]) -> String {
    let (code, out, err) = texts(args);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}: {out}");
    out
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&run(args)).expect("JSON")
}

#[test]
fn list_shows_each_block() {
    let (_dir, path) = made();
    let text = run(&["tsdb", "list", &path]);
    assert!(
        text.contains("1970-01-01T02:00:00Z") && text.contains("B/SAMPLE"),
        "{text}"
    );
    assert!(
        text.lines()
            .last()
            .expect("a total")
            .starts_with("2 blocks, 720 samples"),
        "{text}"
    );
    let list = json(&["tsdb", "list", "--format=json", &path]);
    let first = &list[0];
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&first["min_time"], &first["max_time"]),
        (&Value::from(0), &Value::from(7_200_000))
    );
    assert_eq!(
        (&first["samples"], &first["series"], &first["level"]),
        (&360.into(), &3.into(), &0.into())
    );
    let id = first["id"].as_str().expect("an id");
    let bytes = fs::metadata(Path::new(&path).join(id).join("block"))
        .expect("the block")
        .len();
    assert_eq!(first["bytes"], Value::from(bytes));

    let empty = tempfile::tempdir().expect("a folder");
    assert_eq!(
        run(&["tsdb", "list", &empty.path().display().to_string()]),
        "no blocks\n"
    );
    let (code, _, err) = texts(&["tsdb", "list", "/nonexistent"]);
    assert_eq!(
        (code, err.as_str()),
        (Some(1), "tidegauge: /nonexistent is not a folder\n")
    );
}

#[test]
fn verify_is_silent_on_what_is_sound_and_names_what_is_not() {
    let (dir, path) = made();
    let before = files(dir.path());
    let text = run(&["tsdb", "verify", &path]);
    assert!(
        text.contains("2 blocks with 720 samples") && text.ends_with("all sound\n"),
        "{text}"
    );
    assert_eq!(
        json(&["tsdb", "verify", "--format=json", &path])["sound"],
        Value::from(true)
    );
    assert_eq!(before, files(dir.path()), "nothing is changed");

    let (block, mut bytes) = before
        .into_iter()
        .find(|(path, _)| path.ends_with("block"))
        .expect("a block");
    bytes[20] ^= 4;
    fs::write(&block, &bytes).expect("written");
    let (code, out, err) = texts(&["tsdb", "verify", &path]);
    assert_eq!(code, Some(1));
    let told = format!("damaged: {} at byte 16: frame fails its checksum", block.display());
    assert!(out.contains(&told), "{out}");
    assert!(err.contains("is damaged: 1 problems"), "{err}");
    let (code, out, _) = texts(&["tsdb", "verify", "--format=json", &path]);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["problems"][0]["offset"]), (Some(1), &Value::from(16)));
}

#[test]
fn analyze_tells_bytes_and_cardinality() {
    let (_dir, path) = made();
    let text = run(&["tsdb", "analyze", &path]);
    for part in [
        "series       3 of 2 metrics",
        "labels       2 names, 4 pairs",
        "Bytes by section",
        "Bytes of values by codec",
        "requests_total",
        "node=\"a\"",
        "Series by time",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let all = json(&["tsdb", "analyze", "--format=json", "--limit=1", &path]);
    assert_eq!((&all["samples"], &all["series"]), (&720.into(), &3.into()));
    assert_eq!(
        all["metrics_by_series"],
        serde_json::json!([{
            "name": "up", "series": 2, "samples": 480, "value_bytes": all["metrics_by_series"][0]["value_bytes"]
        }])
    );
    let each = json(&["tsdb", "analyze", "--format=json", "--each", &path]);
    assert_eq!(each.as_array().map(Vec::len), Some(2));
    let id = each[1]["blocks"][0]["id"].as_str().expect("an id");
    let one = json(&["tsdb", "analyze", "--format=json", "--block", id, &path]);
    assert_eq!(one, each[1]);
    let (code, _, err) = texts(&["tsdb", "analyze", "--block=x", &path]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no block id"), "{err}");
}

#[test]
fn dump_writes_what_was_appended_and_changes_nothing() {
    let (dir, path) = made();
    let before = files(dir.path());
    let text = run(&["tsdb", "dump", &path]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3 * 360 + 1);
    assert_eq!(
        (lines[0], lines[1]),
        ("requests_total{node=\"a\"} 0 0", "requests_total{node=\"a\"} 1 60")
    );
    assert_eq!(
        lines[359], "requests_total{node=\"a\"} 359 21540",
        "what only the log has is there"
    );
    assert_eq!((lines[360], lines[720]), ("up{node=\"a\"} 1 0", "up{node=\"b\"} 0.5 0"));
    assert_eq!(lines.last(), Some(&"# EOF"));

    let some = run(&[
        "tsdb",
        "dump",
        "--match=up{node=\"a\"}",
        "--match",
        "{__name__=\"up\",node=~\"a|c\"}",
        "--min-time=1970-01-01T01:00:00Z",
        "--max-time",
        "3660000",
        &path,
    ]);
    assert_eq!(some, "up{node=\"a\"} 1 3600\nup{node=\"a\"} 1 3660\n# EOF\n");
    assert_eq!(before, files(dir.path()), "nothing is changed");
    let (code, _, err) = texts(&["tsdb", "dump", "--match={", &path]);
    assert_eq!(code, Some(1));
    assert!(err.contains("--match={"), "{err}");
}

#[test]
fn a_served_store_is_not_dumped_but_its_snapshot_is_and_its_blocks_are_read() {
    let (dir, path) = made();
    let server = Program::serve(
        dir.path(),
        &[
            "--web.enable-admin-api",
            "--storage.tsdb.retention.time=100y",
            "--storage.encoding=gorilla",
        ],
    );
    server.ask_until(
        "/api/v1/query?query=scrape_samples_scraped%7Bjob%3D%22tidegauge%22%7D",
        "\"value\"",
    );
    let (code, out, err) = texts(&["tsdb", "dump", &path]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    for part in [
        "a running server holds this data",
        "/api/v1/admin/tsdb/snapshot",
        "locked by another process",
    ] {
        assert!(err.contains(part), "{part} in {err}");
    }
    run(&["tsdb", "list", &path]);
    run(&["tsdb", "verify", &path]);

    let (status, body) = server.ask("POST", "/api/v1/admin/tsdb/snapshot");
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let name = answer["data"]["name"].as_str().expect("a name");
    let snapshot = dir.path().join("snapshots").join(name);
    let snapshot = snapshot.display().to_string();
    let before = files(Path::new(&snapshot));
    let dumped = run(&["tsdb", "dump", "--match=scrape_samples_scraped", &snapshot]);
    assert!(dumped.lines().count() > 1, "{dumped}");
    run(&["tsdb", "verify", &snapshot]);
    assert_eq!(before, files(Path::new(&snapshot)), "nothing is added to a snapshot");

    // What this server wrote is all Gorilla's; what was there before is as it was.
    let each = json(&["tsdb", "analyze", "--format=json", "--each", &snapshot]);
    let newest = each.as_array().and_then(|all| all.last()).expect("the head's block");
    assert!(newest["samples"].as_u64().is_some_and(|n| n > 100), "{newest}");
    let codecs: Vec<&Value> = newest["codecs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| &c["codec"])
        .collect();
    assert_eq!(codecs, ["xor"]);
}

#[test]
fn helps_have_examples() {
    for tool in ["list", "verify", "analyze", "dump"] {
        let help = run(&["tsdb", tool, "--help"]);
        assert!(
            help.contains("Examples:") && help.contains(&format!("tidegauge tsdb {tool}")),
            "{help}"
        );
    }
    assert_eq!(texts(&["tsdb"]).0, Some(2));
}
