//! A disk that does not answer a sync: commits go on beside it.

use crate::support::{all, at, labels, open, options};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegauge_model::{Appendable, CommitError, OnReject};
use tidegauge_tsdb::fs::{DirEntry, FileBytes, Fs, LockGuard, MemoryFs, ReadFile, SyncFile, WriteFile};
use tidegauge_tsdb::{Db, Error, Fsync, Options, Replay};

/// How long to wait for what must come, before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells of each sync beside a writer, and holds it until it is told how to end.
#[derive(Debug)]
struct Gate {
    begun: Sender<()>,
    end: Mutex<Receiver<Ending>>,
    /// Syncs by the writer itself, which commits would wait for.
    by_writer: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Well,
    Failure,
}

#[derive(Debug, Clone)]
struct StallFs {
    disk: MemoryFs,
    gate: Arc<Gate>,
    /// What is told of the replay while each file of the log is read.
    watch: Option<(Arc<Replay>, Told)>,
}

/// First, last and current segment, as often as they were looked at.
type Told = Arc<Mutex<Vec<(u64, u64, u64)>>>;

#[derive(Debug)]
struct Writer {
    file: Box<dyn WriteFile>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Syncer {
    file: Arc<dyn SyncFile>,
    gate: Arc<Gate>,
}

impl SyncFile for Syncer {
    fn sync(&self) -> Result<(), Error> {
        self.gate.begun.send(()).unwrap();
        match self.gate.end.lock().unwrap().recv_timeout(PATIENCE).unwrap() {
            Ending::Well => self.file.sync(),
            Ending::Failure => Err(Error::Invalid {
                what: "the disk is gone".into(),
            }),
        }
    }
}

impl WriteFile for Writer {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes)
    }
    fn sync(&mut self) -> Result<(), Error> {
        self.gate.by_writer.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }
    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(Syncer {
            file: self.file.syncer(),
            gate: Arc::clone(&self.gate),
        })
    }
    fn len(&self) -> u64 {
        self.file.len()
    }
    fn truncate(&mut self, len: u64) -> Result<(), Error> {
        self.file.truncate(len)
    }
}

impl StallFs {
    fn wrap(&self, file: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        let gate = Arc::clone(&self.gate);
        Box::new(Writer { file, gate })
    }
}

impl Fs for StallFs {
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.disk.create(path).map(|f| self.wrap(f))
    }
    fn append(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.disk.append(path).map(|f| self.wrap(f))
    }
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>, Error> {
        self.disk.open(path)
    }
    fn map(&self, path: &Path) -> Result<FileBytes, Error> {
        if let Some((replay, told)) = &self.watch
            && path.parent().is_some_and(|folder| folder.ends_with("wal"))
        {
            told.lock().unwrap().push(replay.segments());
        }
        self.disk.map(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.disk.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.disk.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.disk.remove_dir_all(path)
    }
    fn create_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.disk.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, Error> {
        self.disk.read_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        self.disk.sync_dir(path)
    }
    fn len(&self, path: &Path) -> Result<u64, Error> {
        self.disk.len(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
    fn lock(&self, path: &Path, note: &str) -> Result<LockGuard, Error> {
        self.disk.lock(path, note)
    }
}

fn append(db: &Db, step: i64) -> Result<(), CommitError> {
    let mut appender = db.appender();
    let timeline = appender.timeline("t").unwrap();
    let series = appender.resolve(Some(timeline), &labels("m")).unwrap();
    appender
        .append_row(timeline, at(step), &[(series, step as f64)])
        .unwrap();
    appender.commit(OnReject::Fail).map(drop)
}

#[test]
fn commits_go_on_while_a_sync_stalls_and_a_failed_one_closes_the_log() {
    let (begun, begins) = channel();
    let (ends, end) = channel();
    let end = Mutex::new(end);
    let disk = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(StallFs {
        disk: disk.clone(),
        gate: Arc::new(Gate {
            begun,
            end,
            by_writer: AtomicUsize::new(0),
        }),
        watch: None,
    });
    let every = Fsync::Interval(Duration::from_secs(3600));
    let db = open(&fs, options(every)).unwrap();
    append(&db, 1).unwrap();
    let beside = |ending: Ending, step: i64| {
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| db.sync());
            begins.recv_timeout(PATIENCE).unwrap();
            let (done, committed) = channel();
            let db = &db;
            scope.spawn(move || done.send(append(db, step)));
            let in_time = committed.recv_timeout(Duration::from_secs(10));
            ends.send(ending).unwrap();
            assert!(matches!(in_time, Ok(Ok(()))), "the commit waited for the disk");
            syncing.join().unwrap()
        })
    };
    beside(Ending::Well, 2).unwrap();
    // What came beside the first sync is not clean: the next one covers it.
    beside(Ending::Well, 3).unwrap();
    assert!(beside(Ending::Failure, 4).is_err());
    let closed = append(&db, 5);
    assert!(matches!(closed, Err(CommitError::Closed(_))), "{closed:?}");
    assert!(db.sync().is_err(), "nothing makes it well but a restart");
    assert_eq!(all(&*db)[&labels("m")].len(), 4, "reads go on");
    disk.crash();
    drop(db);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(&fs, options(every)).unwrap();
    let times: Vec<i64> = all(&*db)[&labels("m")].iter().map(|s| s.0).collect();
    assert!(times.starts_with(&[1, 2]), "synced before the cut: {times:?}");
}

/// Segments end while the disk is busy; the next sync covers all of them.
#[test]
fn commits_go_on_over_the_ends_of_segments_while_a_sync_stalls() {
    let (begun, begins) = channel();
    let (ends, end) = channel();
    let disk = MemoryFs::new();
    let gate = Arc::new(Gate {
        begun,
        end: Mutex::new(end),
        by_writer: AtomicUsize::new(0),
    });
    let fs: Arc<dyn Fs> = Arc::new(StallFs {
        disk: disk.clone(),
        gate: Arc::clone(&gate),
        watch: None,
    });
    let options = Options {
        segment_bytes: 60,
        ..options(Fsync::Interval(Duration::from_secs(3600)))
    };
    let db = open(&fs, options.clone()).unwrap();
    append(&db, 1).unwrap();
    let at_start = gate.by_writer.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| db.sync());
        begins.recv_timeout(PATIENCE).unwrap();
        for step in 2..30 {
            append(&db, step).unwrap();
        }
        ends.send(Ending::Well).unwrap();
        syncing.join().unwrap().unwrap();
    });
    assert_eq!(gate.by_writer.load(Ordering::Relaxed), at_start, "no commit synced");
    let segments = disk
        .read_dir(&Path::new(crate::support::DIR).join("wal"))
        .unwrap()
        .len();
    assert!(segments > 5, "{segments} segments");
    (0..segments).for_each(|_| ends.send(Ending::Well).unwrap());
    db.sync().unwrap();
    disk.crash();
    drop(db);
    let fs: Arc<dyn Fs> = Arc::new(disk);
    let db = open(&fs, options).unwrap();
    assert_eq!(all(&*db)[&labels("m")].len(), 29);
}

#[test]
fn while_the_log_is_read_it_is_told_how_far() {
    let disk = MemoryFs::new();
    let plain: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = options(Fsync::Never);
    // Each start begins a segment of its own.
    for step in 1..4 {
        append(&open(&plain, options.clone()).unwrap(), step).unwrap();
    }
    let (begun, _begins) = channel();
    let (_ends, end) = channel();
    let (replay, told) = (Arc::new(Replay::default()), Told::default());
    let fs: Arc<dyn Fs> = Arc::new(StallFs {
        disk,
        gate: Arc::new(Gate {
            begun,
            end: Mutex::new(end),
            by_writer: AtomicUsize::new(0),
        }),
        watch: Some((Arc::clone(&replay), Arc::clone(&told))),
    });
    let options = Options {
        replay: Arc::clone(&replay),
        ..options
    };
    let db = open(&fs, options).unwrap();
    let (first, last, current) = replay.segments();
    assert!(last > first && current == last, "{first} {last} {current}");
    let expected: Vec<_> = (first..=last).map(|segment| (first, last, segment)).collect();
    assert_eq!(*told.lock().unwrap(), expected);
    assert_eq!(all(&*db)[&labels("m")].len(), 3);
}
