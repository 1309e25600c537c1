//! Files that are there whole or not at all.

use super::{Fs, WriteFile};
use crate::Error;
use std::path::Path;

/// Ending of a file that is not whole yet.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Writes a file under a name that does not count, and gives it its own once it is on the disk: in the place of one
/// that was there. When it returns, it lasts; gives its length. If it fails, nothing of it is left, but for one case: a
/// folder that cannot be synced may hold the new file.
pub(crate) fn publish(
    fs: &dyn Fs,
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn WriteFile) -> Result<(), Error>,
) -> Result<u64, Error> {
    let temporary = dir.join(format!("{name}{UNFINISHED}"));
    let written = fs.create(&temporary).and_then(|mut file| {
        write(&mut *file)?;
        file.sync()?;
        file.forget_cached();
        fs.rename(&temporary, &dir.join(name))?;
        Ok(file.len())
    });
    match written {
        Ok(bytes) => fs.sync_dir(dir).map(|()| bytes),
        Err(e) => {
            remove(fs, &temporary);
            Err(e)
        }
    }
}

/// Removes a file that is of no use: if it stays, it is tried again at the next start.
pub(crate) fn remove(fs: &dyn Fs, path: &Path) {
    match fs.remove_file(path) {
        Err(e) if !e.is_not_found() => {
            tracing::debug!(error = %e, path = %path.display(), "a file that is not needed stays behind");
        }
        Ok(()) | Err(_) => {}
    }
}
