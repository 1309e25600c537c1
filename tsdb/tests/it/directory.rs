//! Whose a directory is.

use crate::support::{DIR, all, at, labels, open, options};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, CommitError, OnReject};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Error, Fsync, Options, SnapshotHead};

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

fn store(path: &Path) -> Result<Arc<Db>, Error> {
    Db::open(path, options(Fsync::Always), Arc::new(HandClock::at(at(1_000_000))))
}

fn commit(db: &Db, time: i64) -> Result<(), CommitError> {
    let mut appender = db.appender();
    let timeline = appender.timeline("t").unwrap();
    let series = appender.resolve(Some(timeline), &labels("m")).unwrap();
    appender
        .append_row(timeline, at(time), &[(series, time as f64)])
        .unwrap();
    appender.commit(OnReject::Fail).map(|_| ())
}

fn times(db: &Db) -> Vec<i64> {
    all(db)
        .get(&labels("m"))
        .map_or(vec![], |s| s.iter().map(|s| s.0).collect())
}

#[test]
fn a_file_where_a_folder_should_be_is_named() {
    for (file, named) in [("", ""), ("wal", "wal"), ("snapshots", "snapshots")] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        if file.is_empty() {
            std::fs::write(&path, b"x").unwrap();
        } else {
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(file), b"x").unwrap();
        }
        let error = store(&path).unwrap_err();
        let at_fault = if named.is_empty() {
            path.clone()
        } else {
            path.join(named)
        };
        assert!(
            matches!(&error, Error::Io { path, source, .. } if *path == at_fault
                && matches!(source.kind(), ErrorKind::NotADirectory | ErrorKind::AlreadyExists)),
            "{file:?}: {error:?}"
        );
        assert_eq!(std::fs::read(at_fault).unwrap(), b"x", "it is left as it was");
    }
}

#[test]
fn a_file_with_the_name_of_a_block_and_a_folder_with_that_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let block = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    // No folder is no block: it is left alone and the rest serves.
    std::fs::write(dir.path().join(block), b"x").unwrap();
    let db = store(dir.path()).unwrap();
    commit(&db, 1).unwrap();
    drop(db);
    std::fs::remove_file(dir.path().join(block)).unwrap();
    // A block whose file is a folder cannot be read: it is set aside, and the rest serves.
    std::fs::create_dir_all(dir.path().join(block).join("block")).unwrap();
    let db = store(dir.path()).unwrap();
    let aside = db.metrics().blocks_quarantined.load(Ordering::Relaxed);
    assert_eq!((aside, times(&db)), (1, vec![1]));
    drop(db);
    // A segment that is a folder is in the way of the next one.
    std::fs::create_dir(dir.path().join("wal/00000003.seg")).unwrap();
    let error = store(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if path.ends_with("wal/00000003.seg")),
        "{error:?}"
    );
}

#[test]
fn a_link_to_a_folder_is_that_folder_and_a_dangling_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link, dangling) = (
        dir.path().join("real"),
        dir.path().join("link"),
        dir.path().join("dangling"),
    );
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
    let db = store(&link).unwrap();
    commit(&db, 1).unwrap();
    match store(&real) {
        Err(Error::Locked { .. }) => {}
        other => panic!("one folder by two names is one store: {other:?}"),
    }
    drop(db);
    let db = store(&real).unwrap();
    assert_eq!(times(&db), [1]);
    let error = store(&dangling).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if *path == dangling),
        "{error:?}"
    );
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn relative_paths_and_paths_that_are_no_text_work() {
    let dir = tempfile::tempdir().unwrap();
    let up: PathBuf = std::env::current_dir()
        .unwrap()
        .components()
        .skip(1)
        .map(|_| "..")
        .collect();
    let relative = up.join(dir.path().strip_prefix("/").unwrap()).join("a/b");
    assert!(relative.is_relative());
    let odd = dir.path().join(OsStr::from_bytes(b"not \xff text"));
    for path in [relative, odd] {
        let db = store(&path).unwrap();
        commit(&db, 1).unwrap();
        db.snapshot(SnapshotHead::Include).unwrap();
        drop(db);
        let db = store(&path).unwrap();
        assert_eq!(times(&db), [1], "{}", path.display());
        assert!(matches!(store(&path), Err(Error::Locked { .. })));
    }
    // Names in it that are no text are none of ours.
    std::fs::write(dir.path().join("a/b").join(OsStr::from_bytes(b"\xfe")), b"x").unwrap();
    assert_eq!(times(&store(&dir.path().join("a/b")).unwrap()), [1]);
}

/// Started by the test below, in a process of its own.
#[test]
#[ignore = "the other process of the test of two processes"]
fn holds_a_directory_until_its_input_ends() {
    let Some(path) = std::env::var_os("TIDEGAUGE_HOLD") else {
        return;
    };
    let db = store(Path::new(&path)).unwrap();
    println!("\nheld by {}", std::process::id());
    let _ended = std::io::stdin().read(&mut [0]);
    drop(db);
}

#[test]
fn another_process_is_named_by_the_one_that_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "directory::holds_a_directory_until_its_input_ends",
        ])
        .env("TIDEGAUGE_HOLD", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).find(|line| line.starts_with("held by "));
    assert_eq!(held, Some(format!("held by {}", other.id())));
    match store(dir.path()) {
        Err(Error::Locked { holder, path }) => {
            assert_eq!(holder, format!("process {}", other.id()));
            assert_eq!(path, dir.path().join("lock"));
        }
        other => panic!("{other:?}"),
    }
    // Killed, it leaves its lock file behind, and no lock.
    other.kill().unwrap();
    other.wait().unwrap();
    commit(&store(dir.path()).unwrap(), 1).unwrap();
}

/// Does something as a user whom permissions bind. Root is bound by none, so its thread becomes another user meanwhile:
/// the system keeps users by thread.
fn as_anyone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::thread::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(None, Some(nobody), None).unwrap();
            }
            work()
        });
        worker.join().unwrap()
    })
}

fn permit(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn permissions_taken_away_while_it_runs_refuse_appends_until_they_are_back() {
    let dir = tempfile::tempdir().unwrap();
    permit(dir.path(), 0o755);
    let small = Options {
        segment_bytes: 200,
        block_ms: 1000,
        ..options(Fsync::Always)
    };
    let clock = Arc::new(HandClock::at(at(1_000_000)));
    let db = Db::open(dir.path(), small.clone(), clock.clone()).unwrap();
    for time in 0..3 {
        commit(&db, time).unwrap();
    }
    let wal = dir.path().join("wal");
    permit(&wal, 0o555);
    let (mut taken, mut refused) = (3, None);
    as_anyone(|| {
        // The open segment still takes what fits.
        while refused.is_none() && taken < 100 {
            match commit(&db, taken) {
                Ok(()) => taken += 1,
                Err(error) => refused = Some(error),
            }
        }
    });
    assert!(
        matches!(&refused, Some(CommitError::Log(why)) if why.contains("wal/0000000") && why.contains("ermission")),
        "{refused:?}"
    );
    assert_eq!(
        times(&db),
        (0..taken).collect::<Vec<_>>(),
        "reads go on, none is half there"
    );
    permit(&wal, 0o755);
    for time in taken..taken + 3 {
        commit(&db, time).unwrap();
    }
    drop(db);
    let db = Db::open(dir.path(), small, clock).unwrap();
    assert_eq!(times(&db), (0..taken + 3).collect::<Vec<_>>());
}

#[test]
fn a_folder_that_may_not_be_made_or_entered_is_named() {
    let dir = tempfile::tempdir().unwrap();
    permit(dir.path(), 0o555);
    let error = as_anyone(|| store(&dir.path().join("data"))).unwrap_err();
    let denied = |error: &Error, name: &Path| {
        matches!(error, Error::Io { path, source, .. }
            if path.starts_with(name) && source.kind() == ErrorKind::PermissionDenied)
    };
    assert!(denied(&error, &dir.path().join("data")), "{error:?}");
    permit(dir.path(), 0o755);
    let closed = dir.path().join("closed");
    drop(store(&closed).unwrap());
    permit(&closed, 0o000);
    let error = as_anyone(|| store(&closed)).unwrap_err();
    assert!(denied(&error, &closed), "{error:?}");
    permit(&closed, 0o755);
}

/// The disk of the machine says it is full where the next segment should be.
#[test]
fn a_full_disk_of_the_machine_refuses_appends_and_heals() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        println!("no {} here: not tried", full.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let small = Options {
        segment_bytes: 200,
        ..options(Fsync::Never)
    };
    let clock = Arc::new(HandClock::at(at(1_000_000)));
    let db = Db::open(dir.path(), small.clone(), clock.clone()).unwrap();
    commit(&db, 0).unwrap();
    let next = dir.path().join("wal/00000002.seg");
    std::os::unix::fs::symlink(full, &next).unwrap();
    let mut taken = 1;
    let refused = loop {
        match commit(&db, taken) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "no segment ends");
    };
    assert!(
        matches!(&refused, CommitError::Log(why) if why.contains("00000002.seg") && why.contains("once there is room")),
        "{refused}"
    );
    assert!(
        full.exists() && std::fs::symlink_metadata(&next).is_err(),
        "its leavings are taken away"
    );
    commit(&db, taken).unwrap();
    drop(db);
    let db = Db::open(dir.path(), small, clock).unwrap();
    assert_eq!(times(&db), (0..=taken).collect::<Vec<_>>());
}
