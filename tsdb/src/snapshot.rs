//! Snapshots: the blocks by hard links, and the head as one more block.

use crate::Error;
use crate::block::{self, BlockRange};
use crate::db::{Db, SnapshotHead};
use crate::directory::SNAPSHOTS;
use crate::flush::Content;
use std::path::Path;
use std::sync::atomic::Ordering;
use tidegauge_model::Timestamp;

impl Db {
    fn snapshot_name(&self, folder: &Path) -> String {
        let now = self.clock.now().millis();
        loop {
            let name = format!("{now}-{:08x}", self.names.fetch_add(1, Ordering::Relaxed));
            if !self.fs.exists(&folder.join(&name)) {
                return name;
            }
        }
    }

    /// See [`Db::snapshot`].
    pub(crate) fn write_snapshot(&self, head: SnapshotHead) -> Result<String, Error> {
        let _maintenance = self.maintenance.lock();
        let folder = self.dir.join(SNAPSHOTS);
        let name = self.snapshot_name(&folder);
        let temporary = folder.join(format!("{name}.tmp"));
        let written = self.fill_snapshot(head, &temporary).and_then(|()| {
            self.fs.rename(&temporary, &folder.join(&name))?;
            self.fs.sync_dir(&folder)
        });
        if let Err(e) = written {
            if let Err(e) = self.fs.remove_dir_all(&temporary) {
                tracing::debug!(error = %e, "a part of a snapshot stays behind");
            }
            return Err(e);
        }
        Ok(name)
    }

    fn fill_snapshot(&self, head: SnapshotHead, folder: &Path) -> Result<(), Error> {
        self.fs.create_dir_all(folder)?;
        let blocks = self.blocks.read().clone();
        for block in blocks.iter() {
            block::link_block(&*self.fs, &self.dir, block.meta().id, folder)?;
        }
        if head == SnapshotHead::Include {
            self.seal_before(i64::MAX);
            let (oldest, newest, late) = {
                let state = self.head.state.read();
                (state.oldest(), state.newest, state.late.clone())
            };
            let flushed = self.flushed();
            let range = |from: i64, to: i64| BlockRange::new(Timestamp::from_millis(from), Timestamp::from_millis(to));
            // One block for all of it, one for late samples between the blocks' times; the head of the store itself stays
            // as it is.
            let first_late = late.oldest();
            if let Some(oldest) = first_late.filter(|t| *t < flushed) {
                self.write_block(folder, range(oldest, flushed), &late, Content::Late)?;
            }
            let oldest = oldest.into_iter().chain(first_late).min();
            if let Some(oldest) = oldest.map(|t| t.max(flushed)).filter(|t| *t <= newest) {
                let range = range(oldest, newest.saturating_add(1));
                self.write_block(folder, range, &late, Content::All)?;
            }
        }
        self.fs.sync_dir(folder)
    }
}
