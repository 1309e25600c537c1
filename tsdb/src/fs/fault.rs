//! A disk that fails on demand.

use super::{DirEntry, FileBytes, Fs, LockGuard, MemoryFs, ReadFile, SyncFile, WriteFile};
use crate::Error;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and reports an error; later ones work.
    Error,
    /// A write leaves half its bytes and reports an error; later ones work. Others: as [`Fault::Error`].
    ShortWrite,
    /// As [`Fault::ShortWrite`], and every later change fails as well, until [`FaultFs::revive`].
    Halt,
}

/// [`MemoryFs`] whose changes are numbered from 0 and fail where the test says. Clones are the same one.
///
/// A change is a call of `create`, `append`, `rename`, `hard_link`, `remove_file`, `remove_dir_all`,
/// `create_dir_all`, `sync_dir`, `lock`, `write_all`, `sync` or `truncate`.
#[derive(Debug, Clone)]
pub struct FaultFs {
    disk: MemoryFs,
    plan: Arc<Mutex<Plan>>,
}

/// Operations that fail until further notice: a read-only remount, permissions taken away, a bad sector.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Which, by the name they have in [`Error::Io`]: `create`, `open` (for writing), `rename`, `link`, `remove`,
    /// `sync`, `lock`, `write`, `truncate`; of reading, which is no change: `read`, `map`, `list`. Empty: all changes.
    pub actions: &'static [&'static str],
    /// Only paths that contain this text.
    pub path: String,
    /// What the system says, as `errno`: 5 (`EIO`), 13 (`EACCES`), 28 (`ENOSPC`), 30 (`EROFS`).
    pub errno: i32,
}

#[derive(Debug, Default)]
struct Plan {
    done: u64,
    fail_at: Option<(u64, Fault)>,
    halted: bool,
    refusal: Option<Refusal>,
    /// Bytes that may still be written; `None`: any number.
    room: Option<u64>,
}

/// What to do with one change.
enum Verdict {
    Go,
    Fail(io::Error),
    Half(io::Error),
}

impl FaultFs {
    /// Wraps a disk; nothing fails until asked for.
    pub fn new(disk: MemoryFs) -> Self {
        Self {
            disk,
            plan: Arc::default(),
        }
    }

    /// The disk below, which never fails.
    pub fn disk(&self) -> &MemoryFs {
        &self.disk
    }

    /// How many changes were tried so far.
    pub fn changes(&self) -> u64 {
        self.plan.lock().done
    }

    /// Lets the change with this number fail (numbers count from 0 since the start, see [`FaultFs::changes`]).
    pub fn fail_at(&self, change: u64, fault: Fault) {
        self.plan.lock().fail_at = Some((change, fault));
    }

    /// Lets the disk be full after this many more bytes; `None` lifts it.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.plan.lock().room = bytes;
    }

    /// Refuses operations until it is called with `None`.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.plan.lock().refusal = refusal;
    }

    /// Ends a halt; forgets a planned fault and what is refused.
    pub fn revive(&self) {
        let mut plan = self.plan.lock();
        plan.halted = false;
        plan.fail_at = None;
        plan.refusal = None;
    }

    fn read(&self, action: &'static str, path: &Path) -> Result<(), Error> {
        match &self.plan.lock().refusal {
            Some(refusal) if refusal.actions.contains(&action) && refusal.names(path) => {
                Err(Error::io(action, path, refusal.error()))
            }
            _ => Ok(()),
        }
    }

    fn change(&self, action: &'static str, path: &Path) -> Result<(), Error> {
        match self.plan.lock().next(action, path) {
            Verdict::Go => Ok(()),
            Verdict::Fail(error) | Verdict::Half(error) => Err(Error::io(action, path, error)),
        }
    }

    fn wrap(&self, path: &Path, file: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        Box::new(Writer {
            fs: self.clone(),
            path: path.to_owned(),
            file,
        })
    }
}

impl Refusal {
    fn names(&self, path: &Path) -> bool {
        path.to_string_lossy().contains(&self.path)
    }

    fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

impl Plan {
    fn next(&mut self, action: &'static str, path: &Path) -> Verdict {
        let number = self.done;
        self.done += 1;
        if let Some(refusal) = &self.refusal
            && (refusal.actions.is_empty() || refusal.actions.contains(&action))
            && refusal.names(path)
        {
            return Verdict::Fail(refusal.error());
        }
        if self.halted {
            return Verdict::Fail(io::Error::other("the disk is halted"));
        }
        match self.fail_at {
            Some((at, fault)) if at == number => match fault {
                Fault::Error => Verdict::Fail(io::Error::other("injected fault")),
                Fault::ShortWrite => Verdict::Half(io::Error::other("injected short write")),
                Fault::Halt => {
                    self.halted = true;
                    Verdict::Half(io::Error::other("injected halt"))
                }
            },
            _ => Verdict::Go,
        }
    }
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.change("create", path)?;
        Ok(self.wrap(path, self.disk.create(path)?))
    }

    fn append(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.change("open", path)?;
        Ok(self.wrap(path, self.disk.append(path)?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>, Error> {
        Ok(Arc::new(Reader {
            fs: self.clone(),
            path: path.to_owned(),
            file: self.disk.open(path)?,
        }))
    }

    fn map(&self, path: &Path) -> Result<FileBytes, Error> {
        self.read("map", path)?;
        self.disk.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.change("rename", from)?;
        self.disk.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.change("link", to)?;
        self.disk.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        self.change("remove", path)?;
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.change("remove", path)?;
        self.disk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.change("create", path)?;
        self.disk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, Error> {
        self.read("list", path)?;
        self.disk.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        self.change("sync", path)?;
        self.disk.sync_dir(path)
    }

    fn len(&self, path: &Path) -> Result<u64, Error> {
        self.disk.len(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }

    fn lock(&self, path: &Path, note: &str) -> Result<LockGuard, Error> {
        self.change("lock", path)?;
        self.disk.lock(path, note)
    }
}

#[derive(Debug)]
struct Writer {
    fs: FaultFs,
    path: PathBuf,
    file: Box<dyn WriteFile>,
}

#[derive(Debug)]
struct Reader {
    fs: FaultFs,
    path: PathBuf,
    file: Arc<dyn ReadFile>,
}

impl ReadFile for Reader {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.fs.read("read", &self.path)?;
        self.file.read_exact_at(offset, buf)
    }

    fn len(&self) -> u64 {
        self.file.len()
    }
}

#[derive(Debug)]
struct Syncer {
    fs: FaultFs,
    path: PathBuf,
    file: Arc<dyn SyncFile>,
}

impl SyncFile for Syncer {
    fn sync(&self) -> Result<(), Error> {
        self.fs.change("sync", &self.path)?;
        self.file.sync()
    }
}

impl WriteFile for Writer {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut plan = self.fs.plan.lock();
        let verdict = plan.next("write", &self.path);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let (take, error) = match (verdict, plan.room) {
            (Verdict::Fail(error), _) => (0, Some(error)),
            (Verdict::Half(error), _) => (bytes.len() / 2, Some(error)),
            (Verdict::Go, Some(room)) if room < bytes.len() as u64 => (room as usize, Some(full())),
            (Verdict::Go, _) => (bytes.len(), None),
        };
        if let Some(room) = &mut plan.room {
            *room = room.saturating_sub(take as u64);
        }
        drop(plan);
        self.file.write_all(bytes.get(..take).unwrap_or(bytes))?;
        error.map_or(Ok(()), |e| Err(Error::io("write", &self.path, e)))
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.fs.change("sync", &self.path)?;
        self.file.sync()
    }

    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(Syncer {
            fs: self.fs.clone(),
            path: self.path.clone(),
            file: self.file.syncer(),
        })
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn truncate(&mut self, len: u64) -> Result<(), Error> {
        self.fs.change("truncate", &self.path)?;
        self.file.truncate(len)
    }
}
