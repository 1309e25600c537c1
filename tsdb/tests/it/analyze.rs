//! `analyze`: counts over several blocks are those of what was stored.

use crate::support::{DIR, at, open, options};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{Appendable, Labels, OnReject};
use tidegauge_tsdb::column::EncodingChoice;
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Analysis, AnalyzeOptions, Db, Fsync, Options, analyze};

const HOUR: i64 = 3600 * 1000;
const MINUTE: i64 = 60 * 1000;

fn pod(metric: &str, pod: i64) -> Labels {
    let pod = format!("pod-{pod}");
    Labels::from_pairs([("__name__", metric), ("job", "pods"), ("pod", &pod)]).unwrap()
}

/// Four hours a sample a minute: `still` of ten pods all the time, `busy` of a pod that is another one every hour.
fn store(encoding: EncodingChoice) -> (Arc<dyn Fs>, Arc<Db>) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let options = Options {
        block_ms: HOUR,
        retention_ms: 0,
        encoding,
        ..options(Fsync::Never)
    };
    let db = open(&fs, options).unwrap();
    for minute in 0..330 {
        let mut appender = db.appender();
        let timeline = appender.timeline("pods").unwrap();
        let mut row: Vec<_> = (0..10)
            .map(|p| (appender.resolve(Some(timeline), &pod("still", p)).unwrap(), 7.0))
            .collect();
        let busy = appender.resolve(Some(timeline), &pod("busy", minute / 60)).unwrap();
        row.push((busy, (minute * minute % 977) as f64 / 7.0));
        appender.append_row(timeline, at(minute * MINUTE), &row).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    }
    db.maintain().unwrap();
    (fs, db)
}

fn of(fs: &Arc<dyn Fs>, options: &AnalyzeOptions) -> Analysis {
    let found = analyze(fs, Path::new(DIR), options).unwrap();
    assert_eq!(found.samples, found.codecs.iter().map(|c| c.samples).sum::<u64>());
    let stored: f64 = found.codecs.iter().map(|c| c.stored_bytes).sum();
    assert!(
        (stored - found.bytes.values as f64).abs() < 1.0,
        "{stored} of {:?}",
        found.bytes
    );
    found
}

#[test]
fn what_is_counted_is_what_was_stored() {
    let (fs, _db) = store(EncodingChoice::Auto);
    let all = of(
        &fs,
        &AnalyzeOptions {
            window_ms: HOUR,
            ..AnalyzeOptions::default()
        },
    );
    let hours = all.blocks.len() as u64;
    assert!(hours >= 3, "{hours} blocks");
    assert_eq!((all.samples, all.series), (11 * 60 * hours, 10 + hours));
    assert_eq!((all.metrics, all.label_names, all.untracked), (2, 3, 0));
    assert_eq!(all.label_pairs, 2 + 1 + 10, "two metrics, one job, ten pods");
    assert_eq!(all.bytes.total, all.blocks.iter().map(|b| b.bytes).sum::<u64>());

    let names: Vec<_> = all
        .metrics_by_series
        .iter()
        .map(|m| (m.name.as_str(), m.series, m.samples))
        .collect();
    assert_eq!(names, [("still", 10, 600 * hours), ("busy", hours, 60 * hours)]);
    assert_eq!(
        all.metrics_by_bytes[0].name, "busy",
        "ten constants are less than one noise"
    );
    let labels: Vec<_> = all
        .labels_by_values
        .iter()
        .map(|l| (l.name.as_str(), l.values, l.series))
        .collect();
    assert_eq!(
        labels,
        [
            ("pod", 10, 10 + hours),
            ("__name__", 2, 10 + hours),
            ("job", 1, 10 + hours)
        ]
    );
    assert_eq!(all.labels_by_bytes[0].value_bytes, 10 * "pod-0".len() as u64);
    let pair = &all.pairs_by_series[0];
    assert_eq!(
        (pair.name.as_str(), pair.value.as_str(), pair.series, pair.churned),
        ("job", "pods", 10 + hours, hours)
    );
    let churning: Vec<_> = all
        .pairs_by_churn
        .iter()
        .map(|p| (p.value.as_str(), p.churned))
        .collect();
    assert_eq!(churning[..2], [("busy", hours), ("pods", hours)]);

    let windows: Vec<_> = all
        .churn
        .iter()
        .map(|w| (w.start.millis() / HOUR, w.series, w.started, w.stopped))
        .collect();
    let last = hours as i64 - 1;
    let expected: Vec<_> = (0..=last)
        .map(|h| (h, 11, u64::from(h > 0), u64::from(h < last)))
        .collect();
    assert_eq!(windows, expected);
}

#[test]
fn one_block_alone_and_short_lists() {
    let (fs, _db) = store(EncodingChoice::Auto);
    let all = of(&fs, &AnalyzeOptions::default());
    let one = AnalyzeOptions {
        blocks: vec![all.blocks[1].id],
        limit: 1,
        ..AnalyzeOptions::default()
    };
    let one = of(&fs, &one);
    assert_eq!((one.blocks.len(), one.series, one.samples), (1, 11, 660));
    assert_eq!(
        (
            one.labels_by_values.len(),
            one.pairs_by_series.len(),
            one.pairs_by_churn.len()
        ),
        (1, 1, 0)
    );
    assert_eq!(one.labels_by_values[0].name, "pod");

    let few = of(
        &fs,
        &AnalyzeOptions {
            max_tracked: 3,
            ..AnalyzeOptions::default()
        },
    );
    assert_eq!(
        (few.label_pairs, few.series),
        (3, all.series),
        "series are counted whatever is tracked"
    );
    assert!(few.untracked > 0);

    let missing = AnalyzeOptions {
        blocks: vec!["01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()],
        ..AnalyzeOptions::default()
    };
    let error = analyze(&fs, Path::new(DIR), &missing).unwrap_err().to_string();
    assert!(error.contains("no block 01ARZ3NDEKTSV4RRFFQ69G5FAV"), "{error}");
}

#[test]
fn forced_gorilla_is_all_there_is() {
    let (fs, _db) = store(EncodingChoice::Gorilla);
    let forced = of(&fs, &AnalyzeOptions::default());
    let codecs: Vec<_> = forced.codecs.iter().map(|c| c.codec.as_str()).collect();
    assert_eq!(codecs, ["xor"]);
    let (fs, _db) = store(EncodingChoice::Auto);
    let free = of(&fs, &AnalyzeOptions::default());
    assert!(free.codecs.len() > 1, "{:?}", free.codecs);
    assert!(free.bytes.values < forced.bytes.values);
}

#[test]
fn a_block_that_cannot_be_read_is_told_and_the_others_count() {
    let (fs, _db) = store(EncodingChoice::Auto);
    let all = of(&fs, &AnalyzeOptions::default());
    let path = Path::new(DIR).join(all.blocks[0].id.to_string()).join("block");
    let mut file = fs.append(&path).unwrap();
    file.truncate(all.blocks[0].bytes - 1).unwrap();
    let left = of(&fs, &AnalyzeOptions::default());
    assert_eq!(left.blocks.len() + 1, all.blocks.len());
    assert_eq!(left.unreadable.len(), 1);
    assert_eq!(left.unreadable[0].path, path);
}
