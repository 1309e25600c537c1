//! A disk in memory that knows what would survive a power cut.
//!
//! Files and folders are nodes; a folder maps names to nodes. Each node keeps two versions, what programs see and
//! what is on the medium: syncing copies the first to the second, a crash the second to the first. The root exists
//! always; everything else, folders too, lasts only once the folder above it was synced.

use super::{DirEntry, EntryKind, FileBytes, Fs, LockGuard, ReadFile, SyncFile, WriteFile};
use crate::Error;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A file system in memory, for tests. Clones are the same one.
#[derive(Debug, Clone)]
pub struct MemoryFs(Arc<Mutex<Disk>>);

type NodeNo = usize;

const ROOT: NodeNo = 0;

#[derive(Debug)]
struct Disk {
    nodes: Vec<Node>,
    locked: BTreeSet<NodeNo>,
    /// Handles of an earlier boot are dead.
    boot: u64,
}

#[derive(Debug)]
enum Node {
    File {
        seen: Arc<Vec<u8>>,
        synced: Arc<Vec<u8>>,
    },
    Dir {
        seen: BTreeMap<String, NodeNo>,
        synced: BTreeMap<String, NodeNo>,
    },
}

impl Node {
    fn file() -> Self {
        Self::File {
            seen: Arc::default(),
            synced: Arc::default(),
        }
    }

    fn dir() -> Self {
        Self::Dir {
            seen: BTreeMap::new(),
            synced: BTreeMap::new(),
        }
    }
}

impl Default for MemoryFs {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryFs {
    /// An empty file system.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Disk {
            nodes: vec![Node::dir()],
            locked: BTreeSet::new(),
            boot: 0,
        })))
    }

    /// Cuts the power: what was not synced is gone, open handles and locks are dead.
    pub fn crash(&self) {
        let mut disk = self.0.lock();
        disk.boot += 1;
        disk.locked.clear();
        for node in &mut disk.nodes {
            match node {
                Node::File { seen, synced } => seen.clone_from(synced),
                Node::Dir { seen, synced } => seen.clone_from(synced),
            }
        }
    }

    /// Ends the process without a power cut: what was written stays, open handles and locks are dead.
    pub fn kill(&self) {
        let mut disk = self.0.lock();
        disk.boot += 1;
        disk.locked.clear();
    }

    /// Makes everything last, as a quiet minute would.
    pub fn sync_all(&self) {
        for node in &mut self.0.lock().nodes {
            match node {
                Node::File { seen, synced } => synced.clone_from(seen),
                Node::Dir { seen, synced } => synced.clone_from(seen),
            }
        }
    }

    /// The content of a file.
    ///
    /// # Errors
    /// [`Error::Io`] if there is none.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let disk = self.0.lock();
        let node = disk.find(path).map_err(|e| Error::io("open", path, e))?;
        Ok(disk.content(node).map_err(|e| Error::io("open", path, e))?.to_vec())
    }

    /// Puts a file in place, synced with its name, to stand for one that damage has changed.
    ///
    /// # Errors
    /// [`Error::Io`] if its folder is missing.
    pub fn plant(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.create(path)?;
        file.write_all(bytes)?;
        file.sync()?;
        self.sync_dir(path.parent().unwrap_or(Path::new("")))
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        let disk = self.0.lock();
        let files = disk.nodes.iter().filter_map(|n| match n {
            Node::File { seen, .. } => Some(seen.len() as u64),
            Node::Dir { .. } => None,
        });
        files.sum()
    }

    fn with<T>(
        &self,
        action: &'static str,
        path: &Path,
        f: impl FnOnce(&mut Disk) -> Result<T, io::Error>,
    ) -> Result<T, Error> {
        f(&mut self.0.lock()).map_err(|e| Error::io(action, path, e))
    }

    fn writer(&self, action: &'static str, path: &Path, truncate: Truncate) -> Result<Box<dyn WriteFile>, Error> {
        let (node, boot, len) = self.with(action, path, |disk| {
            let (dir, name) = disk.place(path)?;
            let node = match disk.entries(dir)?.get(&name) {
                Some(node) => *node,
                None => disk.add(dir, name, Node::file())?,
            };
            let content = disk.content_mut(node)?;
            if truncate == Truncate::Yes {
                content.clear();
            }
            let len = content.len();
            Ok((node, disk.boot, len as u64))
        })?;
        Ok(Box::new(Writer {
            handle: Handle {
                fs: self.clone(),
                path: path.to_owned(),
                node,
                boot,
            },
            len,
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Truncate {
    Yes,
    No,
}

fn kind(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

fn names(path: &Path) -> Result<Vec<String>, io::Error> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(kind(io::ErrorKind::InvalidInput))?.to_owned());
            }
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}

impl Disk {
    fn node(&self, node: NodeNo) -> Result<&Node, io::Error> {
        self.nodes.get(node).ok_or_else(|| kind(io::ErrorKind::NotFound))
    }

    fn node_mut(&mut self, node: NodeNo) -> Result<&mut Node, io::Error> {
        self.nodes.get_mut(node).ok_or_else(|| kind(io::ErrorKind::NotFound))
    }

    fn entries(&self, dir: NodeNo) -> Result<&BTreeMap<String, NodeNo>, io::Error> {
        match self.node(dir)? {
            Node::Dir { seen, .. } => Ok(seen),
            Node::File { .. } => Err(kind(io::ErrorKind::NotADirectory)),
        }
    }

    fn entries_mut(&mut self, dir: NodeNo) -> Result<&mut BTreeMap<String, NodeNo>, io::Error> {
        match self.node_mut(dir)? {
            Node::Dir { seen, .. } => Ok(seen),
            Node::File { .. } => Err(kind(io::ErrorKind::NotADirectory)),
        }
    }

    fn content(&self, file: NodeNo) -> Result<&Arc<Vec<u8>>, io::Error> {
        match self.node(file)? {
            Node::File { seen, .. } => Ok(seen),
            Node::Dir { .. } => Err(kind(io::ErrorKind::IsADirectory)),
        }
    }

    fn content_mut(&mut self, file: NodeNo) -> Result<&mut Vec<u8>, io::Error> {
        match self.node_mut(file)? {
            Node::File { seen, .. } => Ok(Arc::make_mut(seen)),
            Node::Dir { .. } => Err(kind(io::ErrorKind::IsADirectory)),
        }
    }

    fn find_names(&self, names: &[String]) -> Result<NodeNo, io::Error> {
        let mut node = ROOT;
        for name in names {
            let next = self.entries(node)?.get(name);
            node = *next.ok_or_else(|| kind(io::ErrorKind::NotFound))?;
        }
        Ok(node)
    }

    fn find(&self, path: &Path) -> Result<NodeNo, io::Error> {
        self.find_names(&names(path)?)
    }

    /// The folder of a path, which must exist, and the name in it, which need not.
    fn place(&self, path: &Path) -> Result<(NodeNo, String), io::Error> {
        let mut names = names(path)?;
        let name = names.pop().ok_or_else(|| kind(io::ErrorKind::IsADirectory))?;
        let dir = self.find_names(&names)?;
        self.entries(dir)?;
        Ok((dir, name))
    }

    fn add(&mut self, dir: NodeNo, name: String, node: Node) -> Result<NodeNo, io::Error> {
        let no = self.nodes.len();
        self.entries_mut(dir)?.insert(name, no);
        self.nodes.push(node);
        Ok(no)
    }
}

impl Fs for MemoryFs {
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.writer("create", path, Truncate::Yes)
    }

    fn append(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error> {
        self.writer("open", path, Truncate::No)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>, Error> {
        let (node, boot, len) = self.with("open", path, |disk| {
            let node = disk.find(path)?;
            Ok((node, disk.boot, disk.content(node)?.len() as u64))
        })?;
        Ok(Arc::new(Reader {
            handle: Handle {
                fs: self.clone(),
                path: path.to_owned(),
                node,
                boot,
            },
            len,
        }))
    }

    fn map(&self, path: &Path) -> Result<FileBytes, Error> {
        self.read(path).map(FileBytes::owned)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.with("rename", from, |disk| {
            let (from_dir, from_name) = disk.place(from)?;
            let (to_dir, to_name) = disk.place(to)?;
            let node = *disk
                .entries(from_dir)?
                .get(&from_name)
                .ok_or_else(|| kind(io::ErrorKind::NotFound))?;
            if let Some(old) = disk.entries(to_dir)?.get(&to_name)
                && let Node::Dir { seen, .. } = disk.node(*old)?
                && !seen.is_empty()
            {
                return Err(kind(io::ErrorKind::DirectoryNotEmpty));
            }
            disk.entries_mut(from_dir)?.remove(&from_name);
            disk.entries_mut(to_dir)?.insert(to_name, node);
            Ok(())
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.with("link", to, |disk| {
            let node = disk.find(from)?;
            disk.content(node)?;
            let (dir, name) = disk.place(to)?;
            if disk.entries(dir)?.contains_key(&name) {
                return Err(kind(io::ErrorKind::AlreadyExists));
            }
            disk.entries_mut(dir)?.insert(name, node);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        self.with("remove", path, |disk| {
            disk.content(disk.find(path)?)?;
            let (dir, name) = disk.place(path)?;
            disk.entries_mut(dir)?.remove(&name);
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.with("remove", path, |disk| {
            disk.entries(disk.find(path)?)?;
            let (dir, name) = disk.place(path)?;
            disk.entries_mut(dir)?.remove(&name);
            Ok(())
        })
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), Error> {
        self.with("create", path, |disk| {
            let mut dir = ROOT;
            for name in names(path)? {
                dir = match disk.entries(dir)?.get(&name) {
                    Some(node) => *node,
                    None => disk.add(dir, name, Node::dir())?,
                };
            }
            disk.entries(dir).map(|_| ())
        })
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, Error> {
        self.with("list", path, |disk| {
            let entries = disk.entries(disk.find(path)?)?;
            let list = entries.iter().map(|(name, node)| {
                let kind = match disk.node(*node)? {
                    Node::File { .. } => EntryKind::File,
                    Node::Dir { .. } => EntryKind::Dir,
                };
                Ok(DirEntry {
                    name: name.clone(),
                    kind,
                })
            });
            list.collect()
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        self.with("sync", path, |disk| {
            let dir = disk.find(path)?;
            match disk.node_mut(dir)? {
                Node::Dir { seen, synced } => synced.clone_from(seen),
                Node::File { .. } => return Err(kind(io::ErrorKind::NotADirectory)),
            }
            Ok(())
        })
    }

    fn len(&self, path: &Path) -> Result<u64, Error> {
        self.with("open", path, |disk| Ok(disk.content(disk.find(path)?)?.len() as u64))
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.lock().find(path).is_ok()
    }

    fn lock(&self, path: &Path, note: &str) -> Result<LockGuard, Error> {
        let holder = self.read(path).unwrap_or_default();
        let (node, boot, free) = self.with("lock", path, |disk| {
            let (dir, name) = disk.place(path)?;
            let node = match disk.entries(dir)?.get(&name) {
                Some(node) => *node,
                None => disk.add(dir, name, Node::file())?,
            };
            let free = disk.locked.insert(node);
            if free {
                *disk.content_mut(node)? = note.as_bytes().to_vec();
            }
            Ok((node, disk.boot, free))
        })?;
        if !free {
            return Err(Error::Locked {
                path: path.to_owned(),
                holder: String::from_utf8_lossy(&holder).trim().to_owned(),
            });
        }
        Ok(LockGuard::new(Held {
            fs: self.clone(),
            node,
            boot,
        }))
    }
}

#[derive(Debug)]
struct Held {
    fs: MemoryFs,
    node: NodeNo,
    boot: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut disk = self.fs.0.lock();
        if disk.boot == self.boot {
            disk.locked.remove(&self.node);
        }
    }
}

#[derive(Debug, Clone)]
struct Handle {
    fs: MemoryFs,
    path: PathBuf,
    node: NodeNo,
    boot: u64,
}

impl Handle {
    fn with<T>(&self, action: &'static str, f: impl FnOnce(&mut Disk) -> Result<T, io::Error>) -> Result<T, Error> {
        self.fs.with(action, &self.path, |disk| {
            if disk.boot != self.boot {
                return Err(io::Error::other("the file was open when the process ended"));
            }
            f(disk)
        })
    }
}

impl SyncFile for Handle {
    fn sync(&self) -> Result<(), Error> {
        self.with("sync", |disk| {
            if let Node::File { seen, synced } = disk.node_mut(self.node)? {
                synced.clone_from(seen);
            }
            Ok(())
        })
    }
}

#[derive(Debug)]
struct Writer {
    handle: Handle,
    len: u64,
}

impl WriteFile for Writer {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (node, len) = (self.handle.node, self.len as usize);
        self.handle.with("write", |disk| {
            let content = disk.content_mut(node)?;
            content.resize(len, 0);
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        SyncFile::sync(&self.handle)
    }

    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(self.handle.clone())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn truncate(&mut self, len: u64) -> Result<(), Error> {
        let node = self.handle.node;
        self.handle.with("truncate", |disk| {
            disk.content_mut(node)?.resize(len as usize, 0);
            Ok(())
        })?;
        self.len = len;
        Ok(())
    }
}

#[derive(Debug)]
struct Reader {
    handle: Handle,
    len: u64,
}

impl ReadFile for Reader {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let node = self.handle.node;
        self.handle.with("read", |disk| {
            let content = disk.content(node)?;
            let start = usize::try_from(offset).map_err(|_| kind(io::ErrorKind::UnexpectedEof))?;
            let found = start.checked_add(buf.len()).and_then(|end| content.get(start..end));
            buf.copy_from_slice(found.ok_or_else(|| kind(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn len(&self) -> u64 {
        self.len
    }
}
