//! The authority and the serving certificate that are made here, in a folder of the data directory.
//!
//! ```text
//!   authority.pem   key and certificate of each authority that is good, the oldest first   0600
//!   serving.pem     key and certificate of the listener                                    0600
//!   ca.crt          the certificates of the authorities: what callers are to trust         0644
//! ```
//!
//! An authority is good for ten years. When two thirds of them are over, the next one stands beside it, and callers are
//! told of both; the older one goes on signing while it outlives what it signs, so that whoever is told by hand has
//! years for it.

use super::pair::{Pair, SERVING_SECONDS, seconds};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tidegauge_model::Timestamp;

const AUTHORITY: &str = "authority.pem";
const SERVING: &str = "serving.pem";
/// What callers are to trust.
pub(crate) const BUNDLE: &str = "ca.crt";
/// Longer files are none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// Certificates made here.
#[derive(Debug)]
pub(super) struct Own {
    dir: PathBuf,
    /// What the serving certificate is for.
    names: Vec<String>,
    /// The oldest first.
    authorities: Vec<Pair>,
    serving: Option<Pair>,
}

impl Own {
    /// Reads what the folder holds; [`Own::tend`] makes what is missing.
    ///
    /// # Errors
    /// If the folder cannot be made or read. What stands in it and cannot be used is told in the log and made anew.
    pub(super) fn open(dir: PathBuf, names: Vec<String>) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let read = |name: &str| -> io::Result<Vec<Pair>> {
            let path = dir.join(name);
            let Some(bytes) = bounded(&path)? else {
                return Ok(Vec::new());
            };
            Ok(Pair::read(&bytes).unwrap_or_else(|problem| {
                tracing::warn!(path = %path.display(), problem, "cannot be used and is made anew");
                Vec::new()
            }))
        };
        let (authorities, serving) = (read(AUTHORITY)?, read(SERVING)?.pop());
        Ok(Self {
            dir,
            names,
            authorities,
            serving,
        })
    }

    /// Makes what is missing and replaces what ages. Says whether anything is another now.
    ///
    /// # Errors
    /// What cannot be made or written; what is there stays.
    pub(super) fn tend(&mut self, now: Timestamp) -> Result<bool, String> {
        let told = |e: io::Error| format!("{}: {e}", self.dir.display());
        let mut changed = false;
        if self.authorities.iter().any(|one| !one.is_good(now)) {
            self.authorities.retain(|one| one.is_good(now));
            changed = true;
        }
        if self.authorities.last().is_none_or(|newest| newest.is_ageing(now)) {
            self.authorities.push(Pair::authority(now)?);
            changed = true;
        }
        let bundle = self.bundle();
        if changed || bounded(&self.dir.join(BUNDLE)).map_err(told)?.as_deref() != Some(bundle.as_bytes()) {
            let all: String = self.authorities.iter().map(Pair::pem).collect();
            write(&self.dir, AUTHORITY, &all, 0o600).map_err(told)?;
            write(&self.dir, BUNDLE, &bundle, 0o644).map_err(told)?;
            changed = true;
        }
        if self.serving.as_ref().is_none_or(|serving| !self.is_fit(serving, now)) {
            let last = seconds(now).saturating_add(SERVING_SECONDS);
            let outlives = self.authorities.iter().find(|one| one.until() >= last);
            let signer = outlives.or(self.authorities.last()).ok_or("there is no authority")?;
            let made = signer.sign(&self.names, now)?;
            write(&self.dir, SERVING, &made.pem(), 0o600).map_err(told)?;
            self.serving = Some(made);
            changed = true;
        }
        Ok(changed)
    }

    fn is_fit(&self, serving: &Pair, now: Timestamp) -> bool {
        let known = self.authorities.iter().any(|one| one.is_called(&serving.issuer));
        known && serving.is_good(now) && !serving.is_ageing(now) && serving.names == self.names
    }

    /// The certificates that callers are to trust, in PEM.
    pub(super) fn bundle(&self) -> String {
        self.authorities.iter().map(Pair::cert_pem).collect()
    }

    /// What the listener shows.
    pub(super) fn serving(&self) -> Option<&Pair> {
        self.serving.as_ref()
    }
}

/// A file's bytes, `None` if it is not there.
pub(super) fn bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;

    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "{} has more than {MAX_BYTES} bytes",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

/// Writes a file whole or not at all.
fn write(dir: &Path, name: &str, text: &str, mode: u32) -> io::Result<()> {
    // Nobody else may read it from its beginning.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(dir.join(name)).map_err(|e| e.error)?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;
    const BEGIN: i64 = 1_800_000_000;

    fn day(n: i64) -> Timestamp {
        Timestamp::from_millis((BEGIN + n * DAY) * 1000)
    }

    fn open(dir: &Path, name: &str) -> Own {
        Own::open(
            dir.join("kubernetes-api"),
            vec![name.to_owned(), "localhost".to_owned()],
        )
        .unwrap()
    }

    /// How many authorities there are, and which of them signed.
    fn signed_by(own: &Own) -> (usize, usize) {
        let issuer = &own.serving().unwrap().issuer;
        let at = own.authorities.iter().position(|one| one.is_called(issuer));
        (own.authorities.len(), at.unwrap())
    }

    #[test]
    fn what_was_made_is_found_again_and_nobody_else_reads_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let mut own = open(dir.path(), "a.b.svc");
        assert!(own.tend(day(0)).unwrap() && !own.tend(day(0)).unwrap());
        let (bundle, serving) = (own.bundle(), own.serving().unwrap().pem());
        let mut again = open(dir.path(), "a.b.svc");
        assert!(!again.tend(day(1)).unwrap());
        assert_eq!(
            (again.bundle(), again.serving().unwrap().pem()),
            (bundle.clone(), serving)
        );
        for (name, mode) in [(AUTHORITY, 0o600), (SERVING, 0o600), (BUNDLE, 0o644)] {
            let found = fs::metadata(dir.path().join("kubernetes-api").join(name)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
        }
        let written = fs::read_to_string(dir.path().join("kubernetes-api").join(BUNDLE)).unwrap();
        assert!(written == bundle && !written.contains("PRIVATE"));
        // Another service: another certificate of the same authority.
        let mut other = open(dir.path(), "c.b.svc");
        assert!(other.tend(day(1)).unwrap());
        assert_eq!(
            (other.bundle(), &*other.serving().unwrap().names[0]),
            (bundle, "c.b.svc")
        );
    }

    #[test]
    fn certificates_are_replaced_in_time_and_authorities_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let mut own = open(dir.path(), "a.b.svc");
        let (mut changes, mut first_of_two, mut signs, mut bundle) = (0, None, None, String::new());
        for n in (0..3700).step_by(10) {
            let before = own.bundle();
            changes += i32::from(own.tend(day(n)).unwrap());
            assert!(own.serving().unwrap().is_good(day(n)));
            let (count, at) = signed_by(&own);
            if count == 2 && first_of_two.is_none() {
                first_of_two = Some(n);
                assert!(own.bundle().starts_with(&before), "the old one stays");
                bundle = own.bundle();
            }
            if count == 2 && at == 1 && signs.is_none() {
                signs = Some(n);
            }
        }
        // Two thirds of 3650 days; the last that the old one signed is replaced when it is ageing.
        assert_eq!(first_of_two, Some(2440));
        assert!(signs.is_some_and(|n| n > 3200 && n < 3650), "{signs:?}");
        assert!(changes < 20, "{changes}");
        assert_eq!(signed_by(&own), (1, 0), "the old one has gone");
        assert!(bundle.ends_with(&own.bundle()));
    }

    #[test]
    fn what_is_damaged_lost_or_from_the_future_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kubernetes-api");
        let mut own = open(dir.path(), "a.b.svc");
        own.tend(day(100)).unwrap();
        let bundle = own.bundle();
        fs::write(folder.join(SERVING), "-----BEGIN NONSENSE-----").unwrap();
        fs::remove_file(folder.join(BUNDLE)).unwrap();
        let mut own = open(dir.path(), "a.b.svc");
        assert!(own.serving().is_none() && own.tend(day(100)).unwrap());
        assert_eq!(fs::read_to_string(folder.join(BUNDLE)).unwrap(), bundle);
        fs::write(folder.join(AUTHORITY), "").unwrap();
        let mut own = open(dir.path(), "a.b.svc");
        assert!(own.tend(day(100)).unwrap());
        assert_ne!(own.bundle(), bundle);
        assert_eq!(
            signed_by(&own),
            (1, 0),
            "a certificate of the lost authority is of no use"
        );
        let mut own = open(dir.path(), "a.b.svc");
        assert!(own.tend(day(0)).unwrap() && own.serving().unwrap().is_good(day(0)));
        fs::write(folder.join(SERVING), vec![b'x'; (MAX_BYTES + 1) as usize]).unwrap();
        assert!(Own::open(folder, vec![]).is_err());
    }
}
