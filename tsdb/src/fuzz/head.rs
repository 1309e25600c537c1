//! What the head leaves on the disk: checkpoints, files of runs.

use super::{log, reseal};
use crate::fs::{EntryKind, Fs, MemoryFs};
use crate::head::runfile::{self, RunFile};
use crate::{Db, Error, Fsync, Malformed, Options};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const FOLDER: &str = "data";

/// A store that has checkpoints and files of runs, file by file, and how many samples it holds.
#[derive(Debug)]
struct Image {
    files: Vec<(PathBuf, Vec<u8>)>,
    samples: usize,
}

fn open(disk: &MemoryFs) -> Result<Arc<Db>, Error> {
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = Options {
        fsync: Fsync::Never,
        maintenance: None,
        out_of_order_ms: 3_600_000,
        max_exemplars: 8,
        run_file_bytes: 1,
        run_file_age: Duration::ZERO,
        checkpoint_log_bytes: 1,
        checkpoint_age: Duration::ZERO,
        ..Options::default()
    };
    Db::open_with(fs, Path::new(FOLDER), options, Arc::new(super::Noon))
}

impl Image {
    fn make() -> Option<Self> {
        let disk = MemoryFs::new();
        let db = open(&disk).ok()?;
        log::fill(&db, 0..130, 3)?;
        db.seal();
        db.maintain().ok()?;
        log::fill(&db, 130..140, 3)?;
        log::fill_kinds(&db, 140)?;
        db.maintain().ok()?;
        log::fill(&db, 141..143, 3)?;
        let samples = log::read(&db)?;
        drop(db);
        let (mut folders, mut files) = (vec![PathBuf::from(FOLDER)], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in disk.read_dir(&folder).ok()? {
                let path = folder.join(entry.name);
                match entry.kind {
                    EntryKind::Dir => folders.push(path),
                    EntryKind::File => files.push((path.clone(), disk.read(&path).ok()?)),
                }
            }
        }
        Some(Self { files, samples })
    }

    fn get() -> Option<&'static Self> {
        static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
        IMAGE.get_or_init(Self::make).as_ref()
    }

    /// The newest file with that ending.
    fn file(&self, ending: &str) -> Option<&(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = self
            .files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == ending))
            .collect();
        files.sort();
        files.pop()
    }

    /// The store with another content of one file.
    fn with(&self, path: &Path, bytes: &[u8]) -> Option<MemoryFs> {
        let disk = MemoryFs::new();
        for (name, content) in &self.files {
            disk.create_dir_all(name.parent()?).ok()?;
            disk.plant(name, if name == path { bytes } else { content }).ok()?;
        }
        Some(disk)
    }
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

pub(super) fn run_checkpoint(bytes: &[u8]) {
    let done = Image::get().and_then(|image| {
        let (path, _) = image.file("ckpt")?;
        let db = open(&image.with(path, bytes)?);
        // Its checksums tell damage, and the log has everything: nothing is lost, and nothing else comes.
        let db = db.ok()?;
        assert_eq!(
            log::read(&db),
            Some(image.samples),
            "a damaged checkpoint costs only time"
        );
        assert!(log::append(&db).is_ok());
        drop(db);
        let mut sealed = bytes.to_vec();
        reseal::checkpoint(&mut sealed, number_of(path)?)?;
        let disk = image.with(path, &sealed)?;
        if let Ok(db) = open(&disk) {
            let _told = (log::read(&db), log::append(&db));
            db.seal();
            let _told = (log::read(&db), db.maintain());
        }
        Some(())
    });
    let _tried = done;
}

pub(super) fn run_runs(bytes: &[u8]) {
    let done = Image::get().and_then(|image| {
        let (path, _) = image.file("runs")?;
        if let Ok(db) = open(&image.with(path, bytes)?) {
            let read = log::read(&db);
            assert!(
                read.is_none_or(|n| n == image.samples),
                "what is read is what was written"
            );
        }
        let number = number_of(path)?;
        let mut sealed = bytes.to_vec();
        reseal::runs(&mut sealed, number)?;
        let disk = MemoryFs::new();
        let folder = Path::new(FOLDER);
        disk.create_dir_all(folder).ok()?;
        disk.plant(&folder.join(runfile::FILES.name(number)), &sealed).ok()?;
        let file = RunFile::open(&disk, folder, number).ok()?;
        let _refused = read_runs(&file);
        Some(())
    });
    let _tried = done;
}

fn read_runs(file: &Arc<RunFile>) -> Result<(), Malformed> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for (_, run) in file.runs() {
        times.clear();
        // One that is damaged does not keep the others from being read.
        let _refused = run.times(&mut times);
        for column in 0..run.columns {
            values.clear();
            let chunk = run.chunk(column)?;
            if chunk.values(run.rows, &mut values).is_ok() {
                assert!(values.len() <= run.rows as usize);
            }
            run.find(run.series(column)?)?;
        }
    }
    Ok(())
}

pub(super) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let image = Image::get();
    image
        .and_then(|i| i.file("ckpt"))
        .map(|f| f.1.clone())
        .into_iter()
        .collect()
}

pub(super) fn runs_seeds() -> Vec<Vec<u8>> {
    let image = Image::get();
    image
        .and_then(|i| i.file("runs"))
        .map(|f| f.1.clone())
        .into_iter()
        .collect()
}
