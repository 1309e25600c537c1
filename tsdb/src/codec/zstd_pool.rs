//! Decompressors that are used again: each takes longer to make than a small frame to decompress.

use parking_lot::Mutex;
use std::fmt;
use zstd::bulk::Decompressor;

/// Idle decompressors kept; each holds about 100 KB.
const MAX_IDLE: usize = 4;

/// Lends decompressors.
#[derive(Default)]
pub(crate) struct ZstdPool(Mutex<Vec<Decompressor<'static>>>);

impl ZstdPool {
    /// Decompresses to exactly `raw_len` bytes, which the caller has bounded; `None` if that is not what comes out.
    pub(crate) fn decompress(&self, stored: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let idle = self.0.lock().pop();
        let mut decompressor = match idle {
            Some(decompressor) => decompressor,
            None => Decompressor::new().ok()?,
        };
        let raw = decompressor.decompress(stored, raw_len);
        let mut idle = self.0.lock();
        if idle.len() < MAX_IDLE {
            idle.push(decompressor);
        }
        raw.ok().filter(|raw| raw.len() == raw_len)
    }
}

impl fmt::Debug for ZstdPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZstdPool({} idle)", self.0.lock().len())
    }
}
