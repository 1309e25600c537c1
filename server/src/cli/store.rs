//! The store as the tools that only read it open it.

use super::complain;
use crate::clock::SystemClock;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidegauge_tsdb::fs::{OverlayFs, RealFs};
use tidegauge_tsdb::{Db, Error, Options};

/// Opens the store without changing it: on an overlay that keeps changes to itself. Its lock is taken meanwhile.
pub(super) fn open(dir: &Path) -> anyhow::Result<Arc<Db>> {
    let fs = Arc::new(OverlayFs::new(Arc::new(RealFs::new())));
    let options = Options {
        maintenance: None,
        ..Options::default()
    };
    let db = Db::open_with(fs, dir, options, Arc::new(SystemClock)).map_err(|e| match e {
        Error::Locked { .. } => anyhow::Error::from(e).context(
            "a running server holds this data: stop it, or take a snapshot (POST /api/v1/admin/tsdb/snapshot, needs \
             --web.enable-admin-api) and read the folder below snapshots/ that it names",
        ),
        e => e.into(),
    })?;
    let metrics = db.metrics();
    for (count, what) in [
        (&metrics.wal_damaged, "damaged places of the log"),
        (&metrics.blocks_damaged, "damaged blocks"),
    ] {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            complain(format_args!(
                "{count} {what} are left out; `tidegauge tsdb verify` tells where"
            ));
        }
    }
    Ok(db)
}
