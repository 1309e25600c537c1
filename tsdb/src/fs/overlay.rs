//! A file system to read, with changes that stay in memory: how tools open a store without changing it.

use super::{DirEntry, EntryKind, FileBytes, Fs, LockGuard, MemoryFs, ReadFile, WriteFile};
use crate::Error;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shows another file system and takes changes to itself: what is written, renamed or removed is so for its users
/// alone, is never durable, and is forgotten with it. Costs as much memory as the files that are changed.
///
/// A lock file that exists below is locked there, so that nobody else changes what is being read.
#[derive(Debug)]
pub struct OverlayFs {
    below: Arc<dyn Fs>,
    above: MemoryFs,
    /// What lies below and is not to be seen, with all that is in it.
    gone: Mutex<BTreeSet<PathBuf>>,
}

impl OverlayFs {
    /// An overlay of that file system, without changes.
    pub fn new(below: Arc<dyn Fs>) -> Self {
        Self {
            below,
            above: MemoryFs::new(),
            gone: Mutex::default(),
        }
    }

    /// Whether a path is to be looked for below.
    fn is_below(&self, path: &Path) -> bool {
        let gone = self.gone.lock();
        !path.ancestors().any(|p| gone.contains(p)) && self.below.exists(path)
    }

    /// The file system that has the file now.
    fn holder(&self, path: &Path) -> &dyn Fs {
        if self.above.exists(path) || !self.is_below(path) {
            &self.above
        } else {
            &*self.below
        }
    }

    /// Makes the folder of a path above, if there is one to be seen.
    fn prepare(&self, path: &Path) -> Result<(), Error> {
        match path.parent() {
            Some(parent) if self.is_below(parent) => self.above.create_dir_all(parent),
            _ => Ok(()),
        }
    }

    /// Copies what lies below to above, where it is not there yet.
    fn copy_up(&self, path: &Path) -> Result<(), Error> {
        if !self.is_below(path) {
            return Ok(());
        }
        if let Ok(entries) = self.below.read_dir(path) {
            self.above.create_dir_all(path)?;
            for entry in entries {
                self.copy_up(&path.join(entry.name))?;
            }
        } else if !self.above.exists(path) {
            self.prepare(path)?;
            let bytes = self.below.map(path)?;
            self.above.create(path)?.write_all(&bytes)?;
        }
        Ok(())
    }

    fn hide(&self, path: &Path) {
        self.gone.lock().insert(path.to_owned());
    }

    /// Removes what is above and hides what is below.
    fn remove(&self, path: &Path, remove: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let below = self.is_below(path);
        let removed = if self.above.exists(path) || !below {
            remove()
        } else {
            Ok(())
        };
        if below {
            self.hide(path);
        }
        removed
    }
}

impl Fs for OverlayFs {
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.prepare(path)?;
        self.above.create(path)
    }

    fn append(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.copy_up(path)?;
        self.prepare(path)?;
        self.above.append(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>, Error> {
        self.holder(path).open(path)
    }

    fn map(&self, path: &Path) -> Result<FileBytes, Error> {
        self.holder(path).map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.copy_up(from)?;
        self.prepare(to)?;
        self.above.rename(from, to)?;
        if self.is_below(from) {
            self.hide(from);
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        if self.is_below(to) {
            return Err(Error::io("link", to, io::ErrorKind::AlreadyExists.into()));
        }
        self.copy_up(from)?;
        self.prepare(to)?;
        self.above.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        self.remove(path, || self.above.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.remove(path, || self.above.remove_dir_all(path))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.above.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, Error> {
        let mut entries: BTreeMap<String, EntryKind> = BTreeMap::new();
        if self.is_below(path) {
            let below = self.below.read_dir(path)?.into_iter();
            entries.extend(
                below
                    .filter(|e| self.is_below(&path.join(&e.name)))
                    .map(|e| (e.name, e.kind)),
            );
        }
        if self.above.exists(path) || !self.is_below(path) {
            entries.extend(self.above.read_dir(path)?.into_iter().map(|e| (e.name, e.kind)));
        }
        let entries = entries.into_iter();
        Ok(entries.map(|(name, kind)| DirEntry { name, kind }).collect())
    }

    fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        if self.above.exists(path) {
            self.above.sync_dir(path)
        } else {
            // Nothing in it was changed.
            self.below.read_dir(path).map(drop)
        }
    }

    fn len(&self, path: &Path) -> Result<u64, Error> {
        self.holder(path).len(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.above.exists(path) || self.is_below(path)
    }

    fn lock(&self, path: &Path, note: &str) -> Result<LockGuard, Error> {
        if self.is_below(path) {
            return self.below.lock(path, note);
        }
        self.prepare(path)?;
        self.above.lock(path, note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fs: &dyn Fs, path: &str) -> String {
        String::from_utf8(fs.map(Path::new(path)).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn changes_are_seen_through_it_and_nowhere_else() {
        let disk = MemoryFs::new();
        disk.create_dir_all(Path::new("/d/old")).unwrap();
        for path in ["/d/a", "/d/b", "/d/old/c"] {
            disk.plant(Path::new(path), path.as_bytes()).unwrap();
        }
        let fs = OverlayFs::new(Arc::new(disk.clone()));
        let path = Path::new;
        fs.append(path("/d/a")).unwrap().truncate(2).unwrap();
        fs.create(path("/d/new")).unwrap().write_all(b"x").unwrap();
        fs.remove_file(path("/d/b")).unwrap();
        fs.rename(path("/d/old"), path("/d/moved")).unwrap();
        fs.hard_link(path("/d/moved/c"), path("/d/linked")).unwrap();
        fs.sync_dir(path("/d")).unwrap();
        let names: Vec<String> = fs.read_dir(path("/d")).unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["a", "linked", "moved", "new"]);
        assert_eq!(
            (text(&fs, "/d/a"), text(&fs, "/d/moved/c")),
            ("/d".into(), "/d/old/c".into())
        );
        assert!(fs.map(path("/d/b")).unwrap_err().is_not_found());
        assert!(fs.remove_file(path("/d/b")).unwrap_err().is_not_found());
        assert!(!fs.exists(path("/d/old/c")) && fs.len(path("/d/new")).unwrap() == 1);
        assert!(fs.hard_link(path("/d/new"), path("/d/a")).is_err());
        fs.remove_dir_all(path("/d/moved")).unwrap();
        fs.create_dir_all(path("/d/old")).unwrap();
        assert!(
            fs.read_dir(path("/d/old")).unwrap().is_empty(),
            "what was renamed does not come back"
        );

        let names: Vec<String> = disk.read_dir(path("/d")).unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["a", "b", "old"]);
        assert_eq!(
            (text(&disk, "/d/a"), text(&disk, "/d/old/c")),
            ("/d/a".into(), "/d/old/c".into())
        );
    }

    #[test]
    fn a_lock_below_is_taken_below() {
        let disk = MemoryFs::new();
        disk.plant(Path::new("/lock"), b"").unwrap();
        let fs = OverlayFs::new(Arc::new(disk.clone()));
        let held = fs.lock(Path::new("/lock"), "me").unwrap();
        assert!(matches!(
            disk.lock(Path::new("/lock"), "you"),
            Err(Error::Locked { .. })
        ));
        drop(held);
        disk.lock(Path::new("/lock"), "you").unwrap();
        fs.lock(Path::new("/other"), "me").unwrap();
        assert!(!disk.exists(Path::new("/other")));
    }
}
