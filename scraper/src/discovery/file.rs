//! Targets written down in files (`file_sd_configs`): JSON or YAML by the end of the name, read again when they change.
//!
//! The folders are watched; a change has all files looked at and those read whose time, size or place on the disk is
//! another. All are read again after `refresh_interval`, and where a folder cannot be watched, files are looked at
//! every few seconds. A file that cannot be read or parsed (one that is being written, say) keeps the targets it gave
//! last; one that is gone has none.
//!
//! # Reference
//! Prometheus 3.5, `discovery/file/file.go`.

use super::groups::{GroupsError, Origin};
use super::watch::Watch;
use super::{Context, Discover, GroupSender, Report, TargetGroup, Update, glob};
use crate::config::FileSdConfig;
use crate::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::future::Future;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often files are looked at where they cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After a change, what is still being written gets this long.
const SETTLE: Duration = Duration::from_millis(100);
/// The most files that one section names; what comes behind them in order is left out, and told.
const MAX_FILES: usize = 10_000;
/// The most files whose faults are told at a time.
const MAX_TOLD: usize = 10;
/// The label that names the file.
const PATH_LABEL: &str = "__meta_filepath";

/// One section of `file_sd_configs`.
#[derive(Debug)]
pub(crate) struct FileDiscovery {
    files: Vec<String>,
    refresh: Duration,
    max_bytes: usize,
    metrics: Arc<Metrics>,
    report: Report,
    known: BTreeMap<PathBuf, Known>,
    max_files: usize,
}

/// What a file was when it was last read, and how many groups it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    stamp: Stamp,
    groups: usize,
    /// Why it could not be read, if so.
    problem: Option<String>,
}

/// What tells a file's content from an earlier one without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    place: (u64, u64),
    changed: [(i64, i64); 2],
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            bytes: meta.len(),
            place: (meta.dev(), meta.ino()),
            changed: [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())],
        }
    }
}

/// Why a file gave no targets.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
    #[error("longer than the {0} bytes allowed")]
    TooLong(usize),
    #[error(transparent)]
    Groups(#[from] GroupsError),
}

impl FileDiscovery {
    pub(crate) fn new(config: &FileSdConfig, context: &Context, report: Report) -> Self {
        Self {
            files: config.files.clone(),
            refresh: config.refresh_interval.get(),
            max_bytes: context.options.max_answer_bytes,
            metrics: Arc::clone(&context.metrics),
            report,
            known: BTreeMap::new(),
            max_files: MAX_FILES,
        }
    }

    /// Reads what changed (or everything) and gives the groups to send. Blocks on files.
    fn look(&mut self, everything: bool) -> Vec<TargetGroup> {
        let begun = Instant::now();
        let mut changed = Vec::new();
        let (paths, too_many) = self.paths();
        for path in &paths {
            let before = self.known.get(path);
            let Ok(meta) = std::fs::metadata(path) else { continue };
            let stamp = Stamp::of(&meta);
            if !everything && before.is_some_and(|before| before.stamp == stamp) {
                continue;
            }
            let had = before.map_or(0, |before| before.groups);
            let (groups, problem) = match self.read(path) {
                Ok(groups) => {
                    let count = groups.len();
                    changed.extend(groups);
                    // Groups that the file no longer has are sent without targets.
                    with_origin(path, |origin| changed.extend(origin.emptied(count, had)));
                    (count, None)
                }
                Err(problem) => {
                    self.metrics.sd.file_read_errors.inc();
                    (had, Some(format!("{}: {problem}", path.display())))
                }
            };
            // Remembered with its fault too, so that one bad file is told once and not at every look.
            let known = Known { stamp, groups, problem };
            self.known.insert(path.clone(), known);
        }
        self.known.retain(|path, known| {
            let stays = paths.contains(path);
            if !stays {
                self.metrics.sd.forget_file(&path.display().to_string());
                with_origin(path, |origin| changed.extend(origin.emptied(0, known.groups)));
            }
            stays
        });
        self.metrics.sd.file_scans.note(begun.elapsed());
        self.tell(begun.elapsed(), too_many);
        changed
    }

    /// Reports how all files are, and whether there are too many.
    fn tell(&self, took: Duration, too_many: bool) {
        let mut problems: Vec<&str> = self
            .known
            .values()
            .filter_map(|known| known.problem.as_deref())
            .take(MAX_TOLD)
            .collect();
        let over = format!(
            "more than the {} files allowed fit the patterns: the last in order of name are not read",
            self.max_files
        );
        if too_many {
            problems.push(&over);
        }
        if problems.is_empty() {
            self.report.succeeded(took);
        } else {
            self.report.partly(took, &problems.join("; "));
        }
    }

    /// The files that exist now, and whether there are more of them than are read.
    fn paths(&self) -> (BTreeSet<PathBuf>, bool) {
        let mut paths = BTreeSet::new();
        let mut too_many = false;
        for pattern in &self.files {
            paths.extend(glob::expand(pattern, self.max_files + 1));
            while paths.len() > self.max_files {
                too_many = true;
                paths.pop_last();
            }
        }
        (paths, too_many)
    }

    fn read(&self, path: &Path) -> Result<Vec<TargetGroup>, FileError> {
        let file = File::open(path)?;
        let modified = file.metadata()?.mtime();
        let mut text = Vec::new();
        file.take(self.max_bytes as u64 + 1).read_to_end(&mut text)?;
        if text.len() > self.max_bytes {
            return Err(FileError::TooLong(self.max_bytes));
        }
        let json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        let groups = with_origin(
            path,
            |origin| if json { origin.json(&text) } else { origin.yaml(&text) },
        )?;
        self.metrics
            .sd
            .set_file_time(path.display().to_string(), modified as f64);
        Ok(groups)
    }

    /// Has the folders of the files watched; whether all are.
    fn watch(&self, watch: &Watch) -> bool {
        let patterns = self.files.iter().map(|pattern| glob::folder(pattern));
        let found = self.known.keys().filter_map(|path| path.parent().map(Path::to_owned));
        let folders: BTreeSet<PathBuf> = patterns.chain(found).collect();
        let mut all = true;
        for folder in folders {
            let place = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                &folder
            };
            if let Err(problem) = watch.add(place) {
                self.metrics.sd.file_watch_errors.inc();
                tracing::debug!(folder = %place.display(), %problem, "cannot watch a folder of target files");
                all = false;
            }
        }
        all
    }
}

impl Drop for FileDiscovery {
    fn drop(&mut self) {
        for path in self.known.keys() {
            self.metrics.sd.forget_file(&path.display().to_string());
        }
    }
}

impl Discover for FileDiscovery {
    fn run(
        mut self: Box<Self>,
        provider: usize,
        to: GroupSender,
        metrics: Arc<Metrics>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let watch = Watch::new().inspect_err(|problem| {
                metrics.sd.file_watch_errors.inc();
                tracing::warn!(%problem, "files of targets cannot be watched; they are looked at every few seconds");
            });
            let watch = watch.ok();
            let (mut read_all_at, mut first) = (Instant::now(), true);
            loop {
                let everything = Instant::now() >= read_all_at;
                if everything {
                    read_all_at = Instant::now() + self.refresh;
                }
                // Before the look, so that nothing is missed between the two.
                let mut watched = watch.as_ref().is_some_and(|watch| self.watch(watch));
                let looked = tokio::task::spawn_blocking(move || {
                    let groups = self.look(everything);
                    (self, groups)
                });
                let Ok((again, groups)) = looked.await else { return };
                self = again;
                if (first || !groups.is_empty()) && to.send(Update { provider, groups }).await.is_err() {
                    return;
                }
                first = false;
                // Folders that only the look has found.
                watched = watched && watch.as_ref().is_some_and(|watch| self.watch(watch));
                let mut next = read_all_at;
                if !watched {
                    next = next.min(Instant::now() + LOOK_EVERY);
                }
                match &watch {
                    Some(watch) => match tokio::time::timeout_at(next, watch.changed()).await {
                        Ok(Ok(())) => tokio::time::sleep(SETTLE).await,
                        Ok(Err(_)) => tokio::time::sleep(LOOK_EVERY).await,
                        Err(_) => {}
                    },
                    None => tokio::time::sleep_until(next).await,
                }
            }
        })
    }
}

/// Does something with a file as the origin of groups.
fn with_origin<T>(path: &Path, work: impl FnOnce(&Origin<'_>) -> T) -> T {
    let place = path.display().to_string();
    work(&Origin {
        place: &place,
        label: PATH_LABEL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PromDuration;
    use crate::discovery::SourceConfig;
    use crate::discovery::source::tests::context;

    fn discovery(files: &[PathBuf]) -> (FileDiscovery, Arc<Metrics>) {
        let config = FileSdConfig {
            files: files.iter().map(|path| path.display().to_string()).collect(),
            refresh_interval: PromDuration::from_secs(300),
        };
        let mut context = context();
        context.options.max_answer_bytes = 1000;
        let report = Report::new("job", &SourceConfig::File(config.clone()), &context);
        let metrics = Arc::clone(&context.metrics);
        (FileDiscovery::new(&config, &context, report), metrics)
    }

    fn counts(groups: &[TargetGroup]) -> Vec<usize> {
        groups.iter().map(|group| group.targets.len()).collect()
    }

    #[test]
    fn files_that_change_go_or_break_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (mut discovery, metrics) = discovery(&[path("*.json"), path("one.yml")]);
        assert!(discovery.look(true).is_empty());

        std::fs::write(
            path("a.json"),
            r#"[{"targets": ["a:1"], "labels": {"x": "y"}}, {"targets": ["b:1"]}]"#,
        )
        .unwrap();
        std::fs::write(path("one.yml"), "- targets: ['c:1']\n").unwrap();
        let groups = discovery.look(false);
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0].labels.get("__meta_filepath"), path("a.json").to_str());
        assert_eq!(groups[0].source, format!("{}:0", path("a.json").display()));
        assert!(discovery.look(false).is_empty(), "nothing changed");
        assert_eq!(discovery.look(true).len(), 3, "all are read now and then");

        std::fs::write(path("a.json"), r#"[{"targets": ["a:1", "a:2"]}]"#).unwrap();
        assert_eq!(counts(&discovery.look(false)), [2, 0]);

        // A file that is being written.
        std::fs::write(path("a.json"), r#"[{"targets": ["a:1", "#).unwrap();
        assert!(discovery.look(false).is_empty(), "a broken file keeps its targets");
        assert!(discovery.look(false).is_empty());
        assert_eq!(metrics.sd.file_read_errors.get(), 1);
        assert!(
            discovery
                .report
                .problem()
                .unwrap()
                .contains("a.json: not a list of target groups in JSON")
        );

        std::fs::remove_file(path("a.json")).unwrap();
        assert_eq!(counts(&discovery.look(false)), [0]);
        assert_eq!(discovery.report.problem(), None);
        std::fs::write(path("a.json"), format!("[{}]", " ".repeat(1000))).unwrap();
        assert!(discovery.look(false).is_empty());
        assert!(
            discovery
                .report
                .problem()
                .unwrap()
                .ends_with("longer than the 1000 bytes allowed")
        );
    }

    #[test]
    fn a_file_swapped_for_another_of_the_same_length_and_time_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("one"), r#"[{"targets": ["a:1"]}]"#).unwrap();
        std::fs::write(path("two"), r#"[{"targets": ["b:1"]}]"#).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for name in ["one", "two"] {
            File::options()
                .write(true)
                .open(path(name))
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        // As a mounted ConfigMap does: the name is a link.
        std::os::unix::fs::symlink(path("one"), path("a.json")).unwrap();
        let (mut discovery, metrics) = discovery(&[path("a.json")]);
        assert_eq!(discovery.look(false)[0].targets[0].get("__address__"), Some("a:1"));
        let listed = metrics.sd.list();
        let times = listed
            .iter()
            .find(|family| family.0 == "prometheus_sd_file_mtime_seconds")
            .unwrap();
        assert_eq!(
            times.3,
            [(
                vec![("filename", path("a.json").display().to_string())],
                1_700_000_000.0
            )]
        );
        std::os::unix::fs::symlink(path("two"), path("new")).unwrap();
        std::fs::rename(path("new"), path("a.json")).unwrap();
        assert_eq!(discovery.look(false)[0].targets[0].get("__address__"), Some("b:1"));
        drop(discovery);
        assert!(
            metrics
                .sd
                .list()
                .iter()
                .find(|f| f.0 == "prometheus_sd_file_mtime_seconds")
                .unwrap()
                .3
                .is_empty()
        );
    }
    #[test]
    fn files_beyond_the_most_are_told_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.yml", "b.yml", "c.yml"] {
            std::fs::write(path(name), format!("- targets: ['{name}:1']\n")).unwrap();
        }
        // One file that two patterns name is one.
        let (mut discovery, metrics) = discovery(&[path("*.yml"), path("b.yml")]);
        discovery.max_files = 2;
        assert_eq!(discovery.look(true).len(), 2);
        assert_eq!(
            discovery.report.problem().unwrap(),
            "more than the 2 files allowed fit the patterns: the last in order of name are not read"
        );
        assert_eq!(metrics.sd_failures.get(), 1);
        std::fs::remove_file(path("a.yml")).unwrap();
        let groups = discovery.look(false);
        assert_eq!(counts(&groups), [1, 0], "one is read, one is gone");
        assert_eq!(discovery.report.problem(), None);
    }
}
