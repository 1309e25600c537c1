//! Targets written down in files (`file_sd_configs`): JSON or YAML, read again when they change.
//!
//! Files are looked at every few seconds and read when their time or size has changed; all are read again after
//! `refresh_interval`. A file that cannot be read or parsed keeps the targets it gave last; one that is gone has none.

use super::{Discover, GroupSender, TargetGroup, Update, fixed};
use crate::config::{FileSdConfig, StaticConfig};
use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegauge_model::LabelsBuilder;
use tokio::time::Instant;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest file that is read.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// The most files that one section names.
const MAX_FILES: usize = 10_000;

/// One section of `file_sd_configs`.
#[derive(Debug)]
pub(crate) struct FileDiscovery {
    files: Vec<String>,
    refresh: Duration,
    look_every: Duration,
    known: BTreeMap<PathBuf, Known>,
}

/// What a file was when it was last read, and how many groups it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    modified: Option<SystemTime>,
    bytes: u64,
    groups: usize,
}

/// Why a file gave no targets.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
    #[error("longer than {MAX_FILE_BYTES} bytes")]
    TooLong,
    #[error("not a list of target groups: {0}")]
    Parse(#[from] serde_yaml_ng::Error),
    #[error("{0}")]
    Group(String),
}

impl FileDiscovery {
    pub(crate) fn new(config: &FileSdConfig) -> Self {
        let refresh = config.refresh_interval.get();
        Self {
            files: config.files.clone(),
            refresh,
            look_every: LOOK_EVERY.min(refresh).max(Duration::from_millis(10)),
            known: BTreeMap::new(),
        }
    }

    /// Reads what changed (or everything) and gives the groups to send. Blocks on files.
    fn look(&mut self, everything: bool, metrics: &Metrics) -> Vec<TargetGroup> {
        let mut changed = Vec::new();
        let paths = self.paths();
        for path in &paths {
            let before = self.known.get(path).cloned();
            let Ok(meta) = std::fs::metadata(path) else { continue };
            let same = before
                .as_ref()
                .is_some_and(|b| b.modified == meta.modified().ok() && b.bytes == meta.len());
            if same && !everything {
                continue;
            }
            let groups = match read(path) {
                Ok(groups) => groups,
                Err(problem) => {
                    metrics.sd_failures.inc();
                    // Remembered as it is, so that one bad file is told once and not at every look.
                    let groups = before.map_or(0, |b| b.groups);
                    let known = Known {
                        modified: meta.modified().ok(),
                        bytes: meta.len(),
                        groups,
                    };
                    self.known.insert(path.clone(), known);
                    tracing::error!(file = %path.display(), %problem, "cannot read target groups");
                    continue;
                }
            };
            let count = groups.len();
            changed.extend(groups);
            // Groups that the file no longer has are sent without targets.
            changed.extend((count..before.map_or(0, |b| b.groups)).map(|at| empty_group(path, at)));
            let known = Known {
                modified: meta.modified().ok(),
                bytes: meta.len(),
                groups: count,
            };
            self.known.insert(path.clone(), known);
        }
        let gone: Vec<PathBuf> = self
            .known
            .keys()
            .filter(|path| !paths.contains(path))
            .cloned()
            .collect();
        for path in gone {
            let known = self.known.remove(&path);
            changed.extend((0..known.map_or(0, |k| k.groups)).map(|at| empty_group(&path, at)));
        }
        changed
    }

    /// The files that exist now.
    fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self
            .files
            .iter()
            .flat_map(|pattern| expand(Path::new(pattern)))
            .collect();
        paths.sort();
        paths.dedup();
        paths.truncate(MAX_FILES);
        paths
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
            let mut read_all_at = Instant::now();
            loop {
                let everything = Instant::now() >= read_all_at;
                if everything {
                    read_all_at = Instant::now() + self.refresh;
                }
                let counters = Arc::clone(&metrics);
                let looked = tokio::task::spawn_blocking(move || {
                    let groups = self.look(everything, &counters);
                    (self, groups)
                });
                let Ok((again, groups)) = looked.await else { return };
                self = again;
                if !groups.is_empty() && to.send(Update { provider, groups }).await.is_err() {
                    return;
                }
                tokio::time::sleep(self.look_every).await;
            }
        })
    }
}

fn source(path: &Path, at: usize) -> String {
    format!("{}:{at}", path.display())
}

fn empty_group(path: &Path, at: usize) -> TargetGroup {
    TargetGroup {
        source: source(path, at),
        targets: Vec::new(),
        labels: tidegauge_model::Labels::empty(),
    }
}

/// Reads one file. YAML reads JSON as well.
fn read(path: &Path) -> Result<Vec<TargetGroup>, FileError> {
    if std::fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(FileError::TooLong);
    }
    let text = std::fs::read_to_string(path)?;
    let configs: Option<Vec<StaticConfig>> = serde_yaml_ng::from_str(&text)?;
    let configs = configs.unwrap_or_default();
    for config in &configs {
        for target in &config.targets {
            crate::config::check_address(target).map_err(FileError::Group)?;
        }
    }
    Ok(configs
        .iter()
        .enumerate()
        .map(|(at, config)| {
            let mut group = fixed::group(config, source(path, at));
            let mut labels = LabelsBuilder::from_labels(&group.labels);
            labels.set("__meta_filepath", &path.display().to_string());
            group.labels = labels.build();
            group
        })
        .collect())
}

/// The files a pattern names: `*` stands for any text in a file's name.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let Some(name) = pattern.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    if !name.contains('*') {
        return if pattern.is_file() {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        };
    }
    let folder = match pattern.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(|file| fits(name, file)))
        .map(|entry| pattern.with_file_name(entry.file_name()))
        .filter(|path| path.is_file())
        .take(MAX_FILES)
        .collect()
}

/// Whether a name fits a pattern with `*`.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(head) else {
        return false;
    };
    (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(tail, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, fit) in [
            ("*.json", "a.json", true),
            ("*.json", "a.yml", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "ac", false),
            ("x", "x", true),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn files_that_change_go_or_break_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = FileSdConfig {
            files: vec![
                path("*.json").display().to_string(),
                path("one.yml").display().to_string(),
            ],
            refresh_interval: crate::config::PromDuration::from_secs(300),
        };
        let mut discovery = FileDiscovery::new(&config);
        let metrics = Metrics::default();
        assert!(discovery.look(true, &metrics).is_empty());

        std::fs::write(
            path("a.json"),
            r#"[{"targets": ["a:1"], "labels": {"x": "y"}}, {"targets": ["b:1"]}]"#,
        )
        .unwrap();
        std::fs::write(path("one.yml"), "- targets: ['c:1']\n").unwrap();
        let groups = discovery.look(false, &metrics);
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0].labels.get("__meta_filepath"), path("a.json").to_str());
        assert!(discovery.look(false, &metrics).is_empty(), "nothing changed");

        std::fs::write(path("a.json"), r#"[{"targets": ["a:1", "a:2"]}]"#).unwrap();
        let groups = discovery.look(false, &metrics);
        assert_eq!(groups.iter().map(|g| g.targets.len()).collect::<Vec<_>>(), [2, 0]);

        std::fs::write(
            path("a.json"),
            "{nonsense, longer than before, so that the size differs",
        )
        .unwrap();
        assert!(
            discovery.look(false, &metrics).is_empty(),
            "a broken file keeps its targets"
        );
        assert_eq!(metrics.sd_failures.get(), 1);

        std::fs::remove_file(path("a.json")).unwrap();
        let groups = discovery.look(false, &metrics);
        assert_eq!(groups.iter().map(|g| g.targets.len()).collect::<Vec<_>>(), [0]);
    }
}
