//! The data directory: whose it is, who serves it, what lies where.

use crate::Error;
use crate::block::BlockId;
use crate::fs::{self, EntryKind, Fs, LockGuard};
use std::path::Path;

pub(crate) const MARKER: &str = "tidegauge";
pub(crate) const LOCK: &str = "lock";
pub(crate) const WAL: &str = "wal";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const RUNS: &str = "runs";
pub(crate) const CHECKPOINTS: &str = "checkpoint";
/// Blocks that cannot be read. Made when there is one.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The layout of the directory; a newer one is refused.
const LAYOUT: u64 = 1;
const MARKER_BYTES: u64 = 4096;

/// Claims a directory: refuses one that is not ours, takes its lock, writes its marker if there is none.
pub(crate) fn claim(fs: &dyn Fs, dir: &Path) -> Result<LockGuard, Error> {
    refuse_foreign(fs, dir)?;
    create_to_last(fs, dir)?;
    let lock = fs.lock(&dir.join(LOCK), &format!("process {}\n", std::process::id()))?;
    let marker = dir.join(MARKER);
    if fs.exists(&marker) {
        check_marker(fs, &marker)?;
    } else {
        let text = format!("tidegauge data, layout {LAYOUT}\n");
        fs::publish(fs, dir, MARKER, |file| file.write_all(text.as_bytes()))?;
    }
    for folder in [WAL, SNAPSHOTS, RUNS, CHECKPOINTS] {
        fs.create_dir_all(&dir.join(folder))?;
    }
    fs.sync_dir(dir)?;
    Ok(lock)
}

/// Makes the directory and those above it; their names last, for what lasts in them would be lost with a name.
fn create_to_last(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|d| !d.as_os_str().is_empty() && !fs.exists(d))
        .collect();
    fs.create_dir_all(dir)?;
    for made in missing {
        if let Some(parent) = made.parent() {
            fs.sync_dir(if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            })?;
        }
    }
    Ok(())
}

/// Refuses a marker that is not ours or of a newer layout.
pub(crate) fn check_marker(fs: &dyn Fs, path: &Path) -> Result<(), Error> {
    if fs.len(path)? > MARKER_BYTES {
        return Err(Error::corrupt(path, 0, "the marker of the data directory is too long"));
    }
    let bytes = fs.map(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let layout: Option<u64> = text
        .trim_end()
        .strip_prefix("tidegauge data, layout ")
        .and_then(|n| n.parse().ok());
    match layout {
        Some(found) if found > LAYOUT => Err(Error::NewerVersion {
            path: path.to_owned(),
            found,
            known: LAYOUT,
        }),
        Some(_) => Ok(()),
        None => Err(Error::corrupt(path, 0, "not the marker of a tidegauge data directory")),
    }
}

/// Looks for the files of other stores, by name and without touching them.
fn refuse_foreign(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    if !fs.exists(dir) || fs.exists(&dir.join(MARKER)) {
        return Ok(());
    }
    let foreign = |owner: &'static str, sign: &str| {
        Err(Error::ForeignDirectory {
            path: dir.to_owned(),
            owner,
            sign: sign.to_owned(),
        })
    };
    for entry in fs.read_dir(dir)? {
        let name = entry.name.as_str();
        if entry.kind == EntryKind::File {
            if name == "queries.active" {
                return foreign("Prometheus", name);
            }
            continue;
        }
        match name {
            "chunks_head" => return foreign("Prometheus", name),
            "indexdb" | "metadata" if fs.exists(&dir.join("data")) || fs.exists(&dir.join("indexdb")) => {
                return foreign("VictoriaMetrics", name);
            }
            WAL => {
                let entries = fs.read_dir(&dir.join(WAL))?;
                let sign = entries.iter().find(|e| {
                    e.name.starts_with("checkpoint.")
                        || (e.name.len() == 8 && e.name.bytes().all(|b| b.is_ascii_digit()))
                });
                if let Some(sign) = sign {
                    return foreign("Prometheus", &format!("wal/{}", sign.name));
                }
            }
            _ if name.parse::<BlockId>().is_ok() => {
                let block = dir.join(name);
                if fs.exists(&block.join("meta.json")) || fs.exists(&block.join("chunks")) {
                    return foreign("Prometheus", name);
                }
            }
            _ => {}
        }
    }
    Ok(())
}
