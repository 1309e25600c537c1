//! The file of what was deleted of a block, beside its block: served, added to, cleaned, opened again.

use super::{block, log, reseal};
use crate::block::{BLOCK_FILE, TOMBSTONES_FILE};
use crate::fs::{Fs, MemoryFs};
use crate::{Db, Error, Fsync, Options};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tidegauge_model::{Matcher, TimeRange, Timestamp};

const FOLDER: &str = "data";

fn folder() -> PathBuf {
    Path::new(FOLDER).join(block::id().to_string())
}

fn open(disk: &MemoryFs) -> Result<Arc<Db>, Error> {
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = Options {
        fsync: Fsync::Never,
        maintenance: None,
        ..Options::default()
    };
    Db::open_with(fs, Path::new(FOLDER), options, Arc::new(super::Noon))
}

/// A block, what its file of tombstones may be, and how many samples it has without one.
#[derive(Debug)]
struct Image {
    block: Vec<u8>,
    tombstones: Vec<Vec<u8>>,
    samples: usize,
}

impl Image {
    fn get() -> Option<&'static Self> {
        static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
        IMAGE.get_or_init(Self::make).as_ref()
    }

    fn make() -> Option<Self> {
        let mut image = Self {
            block: block::seeds().into_iter().next()?,
            tombstones: Vec::new(),
            samples: 0,
        };
        let disk = image.disk(None)?;
        let db = open(&disk).ok()?;
        image.samples = log::read(&db)?;
        for (matcher, first, last) in [
            (Matcher::equal("__name__", "up"), 10_000, 20_000),
            (Matcher::equal("a", "value-003"), 0, 5_000),
            (Matcher::equal("a", "value-005"), 40_000, 50_000),
            (Matcher::equal("b", "value-2"), 15_000, 45_000),
        ] {
            let range = TimeRange::new(Timestamp::from_millis(first), Timestamp::from_millis(last));
            db.delete(&[matcher], range).ok()?;
            image.tombstones.push(disk.read(&folder().join(TOMBSTONES_FILE)).ok()?);
        }
        Some(image)
    }

    /// A store of the block, with this file beside it.
    fn disk(&self, tombstones: Option<&[u8]>) -> Option<MemoryFs> {
        let disk = MemoryFs::new();
        disk.create_dir_all(&folder()).ok()?;
        disk.plant(&folder().join(BLOCK_FILE), &self.block).ok()?;
        if let Some(bytes) = tombstones {
            disk.plant(&folder().join(TOMBSTONES_FILE), bytes).ok()?;
        }
        Some(disk)
    }
}

pub(super) fn run(bytes: &[u8]) {
    let Some(image) = Image::get() else { return };
    let _refused = serve(image, bytes);
    let mut sealed = bytes.to_vec();
    if reseal::tombstones(&mut sealed, block::id().bits()).is_some() {
        let _refused = serve(image, &sealed);
    }
}

/// Whatever the file hides, the store shows as much of the block before it is cleaned as after.
fn serve(image: &Image, bytes: &[u8]) -> Option<()> {
    let disk = image.disk(Some(bytes))?;
    let db = open(&disk).ok()?;
    let shown = log::read(&db)?;
    assert!(shown <= image.samples, "tombstones add nothing");
    let range = TimeRange::new(Timestamp::from_millis(30_000), Timestamp::from_millis(31_000));
    db.delete(&[Matcher::equal("a", "value-007")], range).ok()?;
    let left = log::read(&db)?;
    assert!(left <= shown, "more is hidden than before");
    db.clean_tombstones().ok()?;
    assert_eq!(log::read(&db), Some(left), "what is cleaned was hidden");
    drop(db);
    let again = open(&disk).ok()?;
    assert_eq!(log::read(&again), Some(left), "a second opening finds the same");
    Some(())
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    Image::get().map(|image| image.tombstones.clone()).unwrap_or_default()
}
