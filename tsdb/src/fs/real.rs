//! The real disk.

use super::{DirEntry, EntryKind, FileBytes, Fs, LockGuard, ReadFile, SyncFile, WriteFile};
use crate::Error;
use rustix::fs::{Advice, FlockOperation};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl RealFs {
    /// The file system of the machine.
    pub fn new() -> Self {
        Self
    }
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
}

#[derive(Debug)]
struct Syncer {
    path: PathBuf,
    file: Arc<File>,
}

#[derive(Debug)]
struct Reader {
    path: PathBuf,
    file: File,
    len: u64,
}

/// Errors of one path: `at("open", path)` for `map_err`.
fn at<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Error + use<'p> {
    move |source| Error::io(action, path, source)
}

impl Fs for RealFs {
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        let file = File::create(path).map_err(at("create", path))?;
        Ok(Box::new(Writer {
            path: path.to_owned(),
            file: Arc::new(file),
            len: 0,
        }))
    }

    fn append(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at("open", path))?;
        let len = file.seek(SeekFrom::End(0)).map_err(at("open", path))?;
        Ok(Box::new(Writer {
            path: path.to_owned(),
            file: Arc::new(file),
            len,
        }))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>, Error> {
        let file = File::open(path).map_err(at("open", path))?;
        let len = file.metadata().map_err(at("open", path))?.len();
        Ok(Arc::new(Reader {
            path: path.to_owned(),
            file,
            len,
        }))
    }

    fn map(&self, path: &Path) -> Result<FileBytes, Error> {
        let file = File::open(path).map_err(at("open", path))?;
        if file.metadata().map_err(at("open", path))?.len() == 0 {
            return Ok(FileBytes::owned([]));
        }
        map_file(&file).map_err(at("map", path)).map(FileBytes::mapped)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        fs::rename(from, to).map_err(at("rename", from))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        fs::hard_link(from, to).map_err(at("link", to))
    }

    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        fs::remove_file(path).map_err(at("remove", path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), Error> {
        fs::remove_dir_all(path).map_err(at("remove", path))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), Error> {
        fs::create_dir_all(path).map_err(at("create", path))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, Error> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(at("list", path))? {
            let entry = entry.map_err(at("list", path))?;
            let kind = if entry.file_type().map_err(at("list", path))?.is_dir() {
                EntryKind::Dir
            } else {
                EntryKind::File
            };
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, kind });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        let dir = File::open(path).map_err(at("open", path))?;
        dir.sync_all().map_err(at("sync", path))
    }

    fn len(&self, path: &Path) -> Result<u64, Error> {
        Ok(fs::metadata(path).map_err(at("open", path))?.len())
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn lock(&self, path: &Path, note: &str) -> Result<LockGuard, Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at("open", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = Vec::new();
                // Only decoration for the message, so a failure to read it is no failure.
                let _ = (&mut file).take(200).read_to_end(&mut holder);
                return Err(Error::Locked {
                    path: path.to_owned(),
                    holder: String::from_utf8_lossy(&holder).trim().to_owned(),
                });
            }
            Err(errno) => return Err(Error::io("lock", path, errno.into())),
        }
        file.set_len(0).map_err(at("write", path))?;
        file.write_all(note.as_bytes()).map_err(at("write", path))?;
        Ok(LockGuard::new(file))
    }
}

impl WriteFile for Writer {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match (&*self.file).write_all(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // How much went in is not told; the position is.
                self.len = (&*self.file).stream_position().unwrap_or(self.len);
                Err(Error::io("write", &self.path, error))
            }
        }
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.file.sync_data().map_err(at("sync", &self.path))
    }

    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(Syncer {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
        })
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn truncate(&mut self, len: u64) -> Result<(), Error> {
        self.file.set_len(len).map_err(at("truncate", &self.path))?;
        (&*self.file)
            .seek(SeekFrom::Start(len))
            .map_err(at("truncate", &self.path))?;
        self.len = len;
        Ok(())
    }

    fn forget_cached(&self) {
        // Advice: a system that does not take it keeps the pages, no more.
        let _ = rustix::fs::fadvise(&*self.file, 0, None, Advice::DontNeed);
    }
}

impl SyncFile for Syncer {
    fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(at("sync", &self.path))
    }
}

impl ReadFile for Reader {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.file.read_exact_at(buf, offset).map_err(at("read", &self.path))
    }

    fn len(&self) -> u64 {
        self.len
    }
}

#[expect(unsafe_code, reason = "a memory map cannot be made without it")]
fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the file was opened for reading and is mapped read-only. Callers map only files that are complete
    // (blocks after their rename, sealed segments), which the store never writes to or cuts again, and the data
    // directory is locked against other processes; so the bytes do not change while the map lives.
    unsafe { memmap2::Mmap::map(file) }
}

#[expect(unsafe_code, reason = "advice that drops pages is not safe for every map")]
pub(super) fn forget_map(map: &memmap2::Mmap) {
    // SAFETY: the map is a read-only one of a file that is complete (see `map_file`): pages that are dropped come back
    // from the file with the same bytes.
    let advised = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    // Advice: a system that does not take it keeps the pages, no more.
    drop(advised);
}
