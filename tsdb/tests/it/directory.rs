//! Whose a directory is.

use crate::support::{DIR, at, open, options};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Error, Fsync, Options};

fn plant(disk: &MemoryFs, path: &str) {
    let path = Path::new(DIR).join(path);
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    disk.plant(&path, b"not ours").unwrap();
}

#[test]
fn foreign_directories_are_refused_by_name_and_left_alone() {
    for (file, owner) in [
        ("chunks_head/000001", "Prometheus"),
        ("wal/00000000", "Prometheus"),
        ("wal/checkpoint.00000003/00000000", "Prometheus"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV/meta.json", "Prometheus"),
        ("queries.active", "Prometheus"),
        ("indexdb/x/y", "VictoriaMetrics"),
    ] {
        let disk = MemoryFs::new();
        plant(&disk, file);
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let error = open(&fs, options(Fsync::Never)).unwrap_err();
        assert!(
            matches!(&error, Error::ForeignDirectory { owner: o, .. } if *o == owner),
            "{file}: {error}"
        );
        assert_eq!(
            disk.read_dir(Path::new(DIR)).unwrap().len(),
            1,
            "{file}: nothing was added"
        );
    }
}

#[test]
fn a_second_process_is_refused_and_a_closed_store_lets_go() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let first = open(&fs, options(Fsync::Never)).unwrap();
    assert!(matches!(open(&fs, options(Fsync::Never)), Err(Error::Locked { .. })));
    first.close().unwrap();
    open(&fs, options(Fsync::Never)).unwrap();
}

#[test]
fn a_newer_layout_is_refused() {
    let disk = MemoryFs::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.plant(&Path::new(DIR).join("tidegauge"), b"tidegauge data, layout 2\n")
        .unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk);
    assert!(matches!(
        open(&fs, options(Fsync::Never)),
        Err(Error::NewerVersion { found: 2, known: 1, .. })
    ));
}

#[test]
fn odd_options_are_refused_before_anything_is_touched() {
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    assert!(matches!(
        open(
            &fs,
            Options {
                block_ms: 0,
                ..Options::default()
            }
        ),
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        open(
            &fs,
            Options {
                out_of_order_ms: -1,
                ..Options::default()
            }
        ),
        Err(Error::Invalid { .. })
    ));
    assert!(!disk.exists(Path::new(DIR)));
}

#[test]
fn the_real_disk_works_and_says_which_path_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::at(at(1_000_000)));
    let path = dir.path().join("data");
    let db = Db::open(&path, options(Fsync::Always), clock.clone()).unwrap();
    assert!(matches!(
        Db::open(&path, options(Fsync::Always), clock.clone()),
        Err(Error::Locked { .. })
    ));
    db.close().unwrap();
    drop(db);
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let error = Db::open(&dir.path().join("file"), options(Fsync::Always), clock).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}
