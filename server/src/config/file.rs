//! Reads a configuration file into a [`Config`].

use super::error::ConfigError;
use super::hpa_metrics::HpaMetrics;
use super::yaml::{Fault, Node, Place, Value};
use super::{PromDuration, de, show, validate};
use crate::preset;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tidegauge_model::Labels;
use tidegauge_scraper::config::{self as scrape, GlobalConfig, ScrapeConfig};
use tidegauge_scraper::files_named;
use tidegauge_scraper::naming::NameScheme;

/// A larger file is refused: it is read whole.
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 20;
/// The files of `scrape_config_files` together.
const MAX_INCLUDED_BYTES: u64 = 64 << 20;
/// The most files that `scrape_config_files` may name.
const MAX_INCLUDED_FILES: usize = 10_000;

/// The configuration that is used without a file.
const BUILT_IN: &str = include_str!("default.yml");

/// All top-level keys.
const SECTIONS: [&str; 12] = [
    "global",
    "runtime",
    "alerting",
    "rule_files",
    "scrape_config_files",
    "scrape_configs",
    "storage",
    "tracing",
    "remote_write",
    "remote_read",
    "otlp",
    "tidegauge",
];

/// A configuration that was read, checked and completed.
#[derive(Debug, Clone)]
pub struct Config {
    global: GlobalConfig,
    jobs: Vec<ScrapeConfig>,
    external_labels: Labels,
    out_of_order: PromDuration,
    max_exemplars: usize,
    hpa_metrics: HpaMetrics,
    has_cluster: bool,
    unsupported: Vec<Unsupported>,
    yaml: String,
}

/// How many exemplars are kept if the file does not say, as upstream.
const MAX_EXEMPLARS: usize = 100_000;

/// A section or key that is valid and has no effect in this version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unsupported {
    /// Its name, as in `alerting` or `storage.tsdb.retention`.
    pub section: String,
    /// The line where it first stands.
    pub line: usize,
}

impl Config {
    /// `global`, complete.
    pub fn global(&self) -> &GlobalConfig {
        &self.global
    }

    /// The jobs of the file and of its `scrape_config_files`, complete.
    pub fn jobs(&self) -> &[ScrapeConfig] {
        &self.jobs
    }

    /// The labels of everything that leaves this server, with the environment's values put in.
    pub fn external_labels(&self) -> &Labels {
        &self.external_labels
    }

    /// How far behind the newest sample a late one may be: `storage.tsdb.out_of_order_time_window`.
    pub fn out_of_order(&self) -> PromDuration {
        self.out_of_order
    }

    /// `storage.exemplars.max_exemplars`: how many are kept where the feature `exemplar-storage` is on; 0 keeps none.
    pub fn max_exemplars(&self) -> usize {
        self.max_exemplars
    }

    /// What `tidegauge` says of metrics for autoscalers.
    pub fn hpa_metrics(&self) -> &HpaMetrics {
        &self.hpa_metrics
    }

    /// Whether the preset for Kubernetes is asked for, here or on the command line.
    pub fn has_cluster(&self) -> bool {
        self.has_cluster
    }

    /// What the file says without effect, in order of name.
    pub fn unsupported(&self) -> &[Unsupported] {
        &self.unsupported
    }

    /// The whole as YAML, defaults filled in and secrets masked.
    pub fn effective_yaml(&self) -> &str {
        &self.yaml
    }

    /// In a few words, for people.
    pub fn summary(&self) -> String {
        match self.jobs.len() {
            1 => "1 scrape job".to_owned(),
            n => format!("{n} scrape jobs"),
        }
    }
}

/// Reads and checks a file, as a start does, and a reload.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_with(path, &preset::Flags::default())
}

/// The same with the presets that the command line asks for.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong.
pub fn load_with(path: &Path, presets: &preset::Flags) -> Result<Config, ConfigError> {
    let text = read_file(path, MAX_FILE_BYTES)?;
    parse(&text, path, presets, &|name| std::env::var(name).ok())
}

/// The configuration of a process without a file that is asked for presets: nothing else.
///
/// # Errors
/// Only if a preset is wrong in itself.
pub fn presets_alone(presets: &preset::Flags) -> Result<Config, ConfigError> {
    parse("", Path::new("(no file)"), presets, &|_| None)
}

/// The configuration that is used without a file; `address` is what this process listens on, with the prefix of its
/// routes behind it, if there is one.
///
/// # Errors
/// Only if the address cannot be a target.
pub fn built_in(address: &str) -> Result<Config, ConfigError> {
    let (address, prefix) = match address.find('/') {
        Some(at) => address.split_at(at),
        None => (address, ""),
    };
    let text = BUILT_IN
        .replace("@ADDRESS@", address)
        .replace("@PREFIX@", prefix.trim_end_matches('/'));
    let path = Path::new("(built-in configuration)");
    parse(&text, path, &preset::Flags::default(), &|_| None)
}

/// The text of a file of at most so many bytes.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<String, ConfigError> {
    let fail = |source| ConfigError::Read {
        file: path.to_owned(),
        source,
    };
    // The size that the system tells is not asked: pipes and devices have none.
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(fail)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > most {
        let message = match most {
            MAX_FILE_BYTES => format!("the file has more than the {most} bytes allowed"),
            _ => format!("the files of scrape_config_files have more than the {MAX_INCLUDED_BYTES} bytes allowed"),
        };
        return Err(fail(std::io::Error::other(message)));
    }
    String::from_utf8(bytes).map_err(|e| ConfigError::at(path, &not_utf8(&e)))
}

/// Points at the first byte that is no part of a text.
fn not_utf8(error: &std::string::FromUtf8Error) -> Fault {
    let (good, bad) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
    let good = String::from_utf8_lossy(good);
    let place = Place {
        line: good.matches('\n').count() + 1,
        column: good.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1,
    };
    let found = bad.first().copied().unwrap_or_default();
    Fault::new(place, format!("not valid UTF-8: byte {found:#04x}"))
}

fn parse(
    text: &str,
    path: &Path,
    presets: &preset::Flags,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let root = Node::parse(text).map_err(|f| ConfigError::at(path, &f))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = Reader { path, root: &root, env };
    let (mut global, external_labels) = read.global_section().map_err(|f| ConfigError::at(path, &f))?;
    read.other_sections(&global).map_err(|f| ConfigError::at(path, &f))?;
    let own = read.jobs(&global).map_err(|f| ConfigError::at(path, &f))?;
    let preset = preset::wanted(root.get("tidegauge"), presets).map_err(|f| ConfigError::at(path, &f))?;
    let hpa_metrics = HpaMetrics::read(root.get("tidegauge")).map_err(|f| ConfigError::at(path, &f))?;
    let brought = match &preset {
        Some(preset) => preset.jobs(&root, &global, folder)?,
        None => Vec::new(),
    };
    preset::check_names(&brought, &own).map_err(|f| ConfigError::at(path, &f))?;
    let mut unsupported = read.unsupported();
    let shown: Vec<ScrapeConfig> = own.into_iter().chain(brought.clone()).map(|(job, _)| job).collect();
    let mut jobs = shown.clone();
    let mut names: HashMap<String, PathBuf> = jobs.iter().map(|job| (job.job_name.clone(), path.to_owned())).collect();
    let mut left = MAX_INCLUDED_BYTES;
    for file in read.included()? {
        let text = read_file(&file, left.min(MAX_FILE_BYTES))?;
        left -= text.len() as u64;
        let more = included_jobs(&text, &file, &global, env)?;
        preset::check_names(&brought, &more).map_err(|f| ConfigError::at(&file, &f))?;
        for (job, at) in &more {
            if let Some(first) = names.insert(job.job_name.clone(), file.clone()) {
                let error = scrape::ConfigError::DuplicateJob(job.job_name.clone());
                let fault = Fault::new(
                    *at,
                    format!("{error}, first found in {:?}", first.display().to_string()),
                );
                return Err(ConfigError::at(&file, &fault.below_key("scrape_configs", *at)));
            }
        }
        jobs.extend(more.into_iter().map(|(job, _)| job));
    }
    unsupported.sort();
    unsupported.dedup_by(|b, a| a.section == b.section);
    global.set_directory(folder);
    // A preset is shown as the jobs it brings.
    let own = root.get("tidegauge").filter(|_| preset.is_none());
    let yaml = show::yaml(&global, &shown, &root, own, folder);
    let out_of_order = root
        .get("storage")
        .and_then(|storage| storage.get("tsdb")?.get("out_of_order_time_window")?.as_text())
        .and_then(|text| text.parse().ok());
    Ok(Config {
        // Its form was checked with the section.
        out_of_order: out_of_order.unwrap_or(PromDuration::from_millis(0)),
        global,
        jobs,
        external_labels,
        max_exemplars: max_exemplars(&root),
        hpa_metrics,
        has_cluster: preset.is_some(),
        unsupported,
        yaml,
    })
}

/// The bound on exemplars. That it is a whole number was checked with the shapes; below 0 it keeps none.
fn max_exemplars(root: &Node) -> usize {
    let key = ["storage", "exemplars", "max_exemplars"];
    let node = key.iter().try_fold(root, |node, key| node.get(key));
    let text = node.and_then(Node::as_text);
    text.and_then(|text| text.parse::<i64>().ok())
        .map_or(MAX_EXEMPLARS, |n| usize::try_from(n).unwrap_or(0))
}

/// One file on its way to a [`Config`].
struct Reader<'r> {
    path: &'r Path,
    root: &'r Node,
    env: &'r dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn global_section(&self) -> Result<(GlobalConfig, Labels), Fault> {
        if !matches!(self.root.value, Value::Map(_) | Value::Null) {
            let message = format!(
                "cannot unmarshal {} into the sections of a configuration",
                self.root.kind()
            );
            return Err(Fault::new(self.root.at, message));
        }
        let Some(node) = self.root.get("global").filter(|n| !n.is_null()) else {
            return Ok((GlobalConfig::absent(), Labels::empty()));
        };
        let inside = |f: Fault| f.below_key("global", node.at);
        let mut global: GlobalConfig = de::read(node).map_err(inside)?;
        let labels = self.external_labels(node, &mut global).map_err(inside)?;
        let global = global.finish().map_err(|e| inside(fault_of(&e, node)))?;
        Ok((global, labels))
    }

    /// Puts the environment's values in and checks the names.
    fn external_labels(&self, node: &Node, global: &mut GlobalConfig) -> Result<Labels, Fault> {
        let classic = global.metric_name_validation_scheme == Some(NameScheme::Legacy);
        for (key, value) in node.get("external_labels").map_or(&[][..], Node::entries) {
            let name = key.text.as_str();
            if name.is_empty() || (classic && !is_classic_label_name(name)) {
                let message = format!("{name:?} is not a valid label name");
                return Err(Fault::new(key.at, message)
                    .below_key(name, key.at)
                    .below_key("external_labels", key.at));
            }
            let raw = value.as_text().unwrap_or("");
            let expanded = expand(raw, &|variable| {
                let found = (self.env)(variable).filter(|v| !v.is_empty());
                if found.is_none() {
                    tracing::warn!(
                        variable,
                        label = name,
                        "environment variable of an external label is empty"
                    );
                }
                found.unwrap_or_default()
            });
            global.external_labels.insert(name.to_owned(), expanded);
        }
        Labels::from_pairs(global.external_labels.iter()).map_err(|e| Fault::new(node.at, e.to_string()))
    }

    /// Everything beside `global` and the jobs.
    fn other_sections(&self, global: &GlobalConfig) -> Result<(), Fault> {
        for (key, node) in self.root.entries() {
            let name = key.text.as_str();
            if !SECTIONS.contains(&name) {
                let message = de::unknown_key(name, SECTIONS);
                return Err(Fault::new(key.at, message).below_key(name, key.at));
            }
            if node.is_null() {
                continue;
            }
            let inside = |f: Fault| f.below_key(name, node.at);
            if let Some(shape) = validate::shape(name) {
                super::schema::check(node, shape).map_err(inside)?;
            }
            validate::section(name, node).map_err(inside)?;
            if name == "otlp" && global.metric_name_validation_scheme == Some(NameScheme::Legacy) {
                validate::otlp_with_legacy_names(node).map_err(inside)?;
            }
        }
        Ok(())
    }

    fn jobs(&self, global: &GlobalConfig) -> Result<Vec<(ScrapeConfig, Place)>, Fault> {
        match self.root.get("scrape_configs") {
            Some(list) => {
                let mut jobs = jobs(list, global).map_err(|f| f.below_key("scrape_configs", list.at))?;
                let folder = self.path.parent().unwrap_or(Path::new(""));
                jobs.iter_mut().for_each(|(job, _)| job.set_directory(folder));
                Ok(jobs)
            }
            None => Ok(Vec::new()),
        }
    }

    /// What this file says without effect, the jobs apart.
    fn unsupported(&self) -> Vec<Unsupported> {
        let mut found = Vec::new();
        for (key, node) in self.root.entries().iter().filter(|(_, n)| !n.is_null()) {
            match key.text.as_str() {
                "global" | "scrape_configs" | "scrape_config_files" | "tidegauge" => {}
                "storage" => found.extend(storage_keys(node)),
                section => found.push(Unsupported {
                    section: section.to_owned(),
                    line: key.at.line,
                }),
            }
        }
        found
    }

    /// The files that `scrape_config_files` names, in order. A pattern that meets none adds none; a name without
    /// wildcards must be that of a file.
    fn included(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let patterns = self.root.get("scrape_config_files");
        let wrong = |i: usize, item: &Node, message: String| {
            let fault = Fault::new(item.at, message).below_item(i, item.at);
            ConfigError::at(self.path, &fault.below_key("scrape_config_files", item.at))
        };
        let mut files = Vec::new();
        for (i, item) in patterns.map_or(&[][..], Node::items).iter().enumerate() {
            let pattern = folder.join(item.as_text().unwrap_or_default());
            let found = matching_files(&pattern);
            if let [one] = found.as_slice()
                && *one == pattern
                && let Err(problem) = fs::metadata(one)
            {
                return Err(wrong(
                    i,
                    item,
                    format!("cannot read the file {}: {problem}", one.display()),
                ));
            }
            files.extend(found);
            if files.len() > MAX_INCLUDED_FILES {
                let message = format!("more than the {MAX_INCLUDED_FILES} files allowed are named up to here");
                return Err(wrong(i, item, message));
            }
        }
        Ok(files)
    }
}

/// A fault of a section where it stands: as deep on the way that the error tells as the file goes, since a key may have
/// its value from elsewhere.
fn fault_of(error: &scrape::ConfigError, section: &Node) -> Fault {
    fault_below(section, error.path(), error.to_string())
}

/// What is wrong at the end of a way from a section, or as near to it as the section goes.
pub(super) fn fault_below(section: &Node, path: &[scrape::Step], message: String) -> Fault {
    let mut way = vec![];
    let mut node = section;
    for step in path {
        let next = match step {
            scrape::Step::Key(key) => node.get(key),
            scrape::Step::Item(item) => node.items().get(*item),
        };
        let Some(next) = next else { break };
        node = next;
        way.push(step);
    }
    let at = node.at;
    let fault = Fault::new(at, message);
    way.iter().rev().fold(fault, |fault, step| match step {
        scrape::Step::Key(key) => fault.below_key(key, at),
        scrape::Step::Item(item) => fault.below_item(*item, at),
    })
}

/// `storage`: each key by itself, since some are obeyed.
fn storage_keys(node: &Node) -> Vec<Unsupported> {
    let mut found = Vec::new();
    for (key, value) in node.entries() {
        let nested = if key.text == "tsdb" { value.entries() } else { &[] };
        if !matches!(key.text.as_str(), "tsdb" | "exemplars") {
            found.push((format!("storage.{}", key.text), key.at.line));
        }
        let obeyed = |name: &str| name == "out_of_order_time_window";
        for (inner, value) in nested.iter().filter(|(k, v)| !v.is_null() && !obeyed(&k.text)) {
            let zero = value.as_text().is_some_and(|t| matches!(t, "0" | "0s"));
            if !zero {
                found.push((format!("storage.tsdb.{}", inner.text), inner.at.line));
            }
        }
    }
    found
        .into_iter()
        .map(|(section, line)| Unsupported { section, line })
        .collect()
}

/// A list of jobs, each read and completed by itself so that its errors have a place.
pub(crate) fn jobs(list: &Node, global: &GlobalConfig) -> Result<Vec<(ScrapeConfig, Place)>, Fault> {
    if !matches!(list.value, Value::List(_) | Value::Null) {
        return Err(Fault::new(
            list.at,
            format!("cannot unmarshal {} into a list of jobs", list.kind()),
        ));
    }
    let mut done: Vec<(ScrapeConfig, Place)> = Vec::new();
    for (i, item) in list.items().iter().enumerate() {
        let inside = |f: Fault| f.below_item(i, item.at);
        let job: Option<ScrapeConfig> = de::read(item).map_err(inside)?;
        let finished = scrape::finish(vec![job], global).map_err(|e| inside(fault_of(&e, item)))?;
        for job in finished {
            if done.iter().any(|(other, _)| other.job_name == job.job_name) {
                let at = item.get("job_name").map_or(item.at, |n| n.at);
                let error = scrape::ConfigError::DuplicateJob(job.job_name);
                return Err(inside(Fault::new(at, error.to_string()).below_key("job_name", at)));
            }
            done.push((job, item.at));
        }
    }
    Ok(done)
}

/// The jobs of a file that `scrape_config_files` names: it holds `scrape_configs` and nothing else.
fn included_jobs(
    text: &str,
    path: &Path,
    global: &GlobalConfig,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(ScrapeConfig, Place)>, ConfigError> {
    let root = Node::parse(text).map_err(|f| ConfigError::at(path, &f))?;
    let read = Reader { path, root: &root, env };
    for (key, _) in root.entries() {
        if key.text != "scrape_configs" {
            let message = match key.text.as_str() {
                "scrape_config_files" => {
                    "an included file holds scrape_configs alone: it includes no others".to_owned()
                }
                other => de::unknown_key(other, ["scrape_configs"]),
            };
            return Err(ConfigError::at(
                path,
                &Fault::new(key.at, message).below_key(&key.text, key.at),
            ));
        }
    }
    read.jobs(global).map_err(|f| ConfigError::at(path, &f))
}

/// The files whose name fits the last part of a path, sorted; what has no wildcards names itself.
fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    if name.contains(['*', '?', '[']) {
        files_named(&pattern.to_string_lossy(), MAX_INCLUDED_FILES + 1)
    } else if name.is_empty() {
        Vec::new()
    } else {
        vec![pattern.to_owned()]
    }
}

fn is_classic_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar. What is no name after a dollar is left as it is.
fn expand(text: &str, value_of: &dyn Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let word = |s: &str| {
            s.bytes()
                .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
                .count()
        };
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            out.push_str(&value_of(name));
            rest = tail;
        } else if word(after) > 0 {
            let (name, tail) = after.split_at(word(after));
            out.push_str(&value_of(name));
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, ConfigError> {
        parse(text, Path::new("p.yml"), &preset::Flags::default(), &|name| {
            (name == "TEST").then(|| "value".to_owned())
        })
    }

    fn error(text: &str) -> String {
        config(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let c = config("").unwrap();
        assert_eq!((c.jobs().len(), c.unsupported().len()), (0, 0));
        assert_eq!(c.global().scrape_interval.to_string(), "1m");
    }

    #[test]
    fn the_built_in_configuration_scrapes_itself_and_the_node() {
        let c = built_in("127.0.0.1:1234/prefix/").unwrap();
        let jobs: Vec<_> = c
            .jobs()
            .iter()
            .map(|j| {
                (
                    j.job_name.as_str(),
                    j.metrics_path.as_str(),
                    j.static_configs[0].targets[0].as_str(),
                )
            })
            .collect();
        assert_eq!(
            jobs,
            [
                ("tidegauge", "/prefix/metrics", "127.0.0.1:1234"),
                ("node", "/metrics", "127.0.0.1:9100")
            ]
        );
        assert_eq!(c.jobs()[0].scrape_interval.to_string(), "5s");
        assert!(c.unsupported().is_empty());
    }

    #[test]
    fn errors_name_file_line_column_and_key() {
        for (text, expected) in [
            (
                "global:\n  scrape_intervall: 1s\n",
                "p.yml:2:3: global.scrape_intervall: field scrape_intervall not found here; did you mean scrape_interval?",
            ),
            (
                "scrape_config: []\n",
                "p.yml:1:1: scrape_config: field scrape_config not found here; did you mean scrape_configs?",
            ),
            (
                "scrape_configs:\n  - job_name: a\n    static_configs:\n      - targts: [x]\n",
                "p.yml:4:9: scrape_configs[0].static_configs[0].targts: field targts not found here; did you mean targets?",
            ),
            (
                "scrape_configs:\n  - job_name: a\n    scrape_interval: 5\n",
                "p.yml:3:22: scrape_configs[0].scrape_interval: not a valid duration string: \"5\"",
            ),
            (
                "scrape_configs:\n  - job_name: a\n    static_configs:\n    - targets: [x, 'b/c']\n",
                "p.yml:4:20: scrape_configs[0].static_configs[0].targets[1]: \"b/c\" is not a valid hostname",
            ),
            (
                "scrape_configs:\n  - job_name: a\n    static_configs:\n    - targets: []\n      labels:\n        '': x\n",
                "p.yml:6:13: scrape_configs[0].static_configs[0].labels.: \"\" is not a valid label name",
            ),
            (
                "scrape_configs:\n  - job_name: a\n    metric_name_validation_scheme: legacy\n    relabel_configs:\n    - target_label: b\n    \
                 - target_label: a-b\n",
                "p.yml:6:7: scrape_configs[0].relabel_configs[1]: \"a-b\" is invalid 'target_label' for replace action",
            ),
            (
                "global:\n  scrape_interval: 1s\n  scrape_timeout: 2s\n",
                "p.yml:3:19: global.scrape_timeout: global scrape timeout greater than scrape interval",
            ),
            (
                "global: {scrape_timeout: 20s}\nscrape_configs:\n  - job_name: a\n    scrape_timeout: 2m\n",
                "p.yml:4:21: scrape_configs[0].scrape_timeout: scrape timeout greater than scrape interval",
            ),
            (
                "scrape_configs:\n  - job_name: a\n    oauth2:\n      client_id: x\n      token_url: u\n      tls_config:\n        key: k\n",
                "p.yml:7:9: scrape_configs[0].oauth2.tls_config: exactly one of cert or cert_file must be",
            ),
            (
                "scrape_configs:\n  - job_name: a\n    http_headers:\n      Host: {values: [x]}\n",
                "p.yml:4:13: scrape_configs[0].http_headers.Host: setting header \"Host\" is not allowed",
            ),
            (
                "scrape_configs:\n  - job_name: a\n  - job_name: a\n",
                "p.yml:3:15: scrape_configs[1].job_name: found multiple scrape configs with job name \"a\"",
            ),
            (
                "global: 1\n",
                "p.yml:1:9: global: cannot unmarshal a text into a mapping",
            ),
            ("a: [1\n", "p.yml:2:1: not valid YAML: "),
            (
                "- a\n",
                "p.yml:1:1: cannot unmarshal a list into the sections of a configuration",
            ),
            (
                "global: {}\nglobal: {}\n",
                "p.yml:2:1: field global already set in line 1",
            ),
        ] {
            let error = error(text);
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
    }

    #[test]
    fn exemplars_are_bounded_as_upstream() {
        let max = |text: &str| config(text).unwrap().max_exemplars();
        assert_eq!(max("global: {}\n"), 100_000);
        assert_eq!(max("storage: {exemplars: {max_exemplars: 7}}\n"), 7);
        assert_eq!(max("storage: {exemplars: {max_exemplars: -1}}\n"), 0);
        let listed = config("storage: {exemplars: {max_exemplars: 7}}\n").unwrap();
        assert_eq!(listed.unsupported(), []);
    }

    #[test]
    fn what_has_no_effect_is_listed_by_line() {
        let c = config(
            "rule_files: [a.yml]\nalerting:\n  alertmanagers: []\nstorage:\n  tsdb:\n    out_of_order_time_window: 30m\n    \
             stale_series_compaction_threshold: 0.5\nglobal: {query_log_file: q}\n",
        )
        .unwrap();
        let listed: Vec<_> = c.unsupported().iter().map(|u| (u.section.as_str(), u.line)).collect();
        assert_eq!(
            listed,
            [
                ("alerting", 2),
                ("rule_files", 1),
                ("storage.tsdb.stale_series_compaction_threshold", 7),
            ]
        );
        assert_eq!(c.out_of_order(), PromDuration::from_millis(30 * 60 * 1000));
        for text in [
            "storage: {tsdb: {out_of_order_time_window: 0}}",
            "storage: {tsdb: {}}",
            "storage:",
            "",
        ] {
            assert_eq!(
                config(text).unwrap().out_of_order(),
                PromDuration::from_millis(0),
                "{text}"
            );
        }
        assert!(error("storage: {tsdb: {out_of_order_time_window: soon}}").contains("not a valid duration"));
    }

    #[test]
    fn external_labels_take_the_environment() {
        let c = config(
            "global:\n  external_labels:\n    a: ${TEST}\n    b: x$TEST-$$y\n    c: ${NONE}\n    d: 'cost $ 5'\n",
        )
        .unwrap();
        let labels: Vec<_> = c.external_labels().iter().collect();
        assert_eq!(labels, [("a", "value"), ("b", "xvalue-$y"), ("d", "cost $ 5")]);
        assert!(
            error("global:\n  metric_name_validation_scheme: legacy\n  external_labels: {a-b: c}\n")
                .contains("\"a-b\" is not a valid label name")
        );
    }

    #[test]
    fn secrets_are_never_shown() {
        let c = config(
            "remote_write:\n  - url: http://x\n    basic_auth: {username: u, password: hunter2}\nscrape_configs:\n  - job_name: a\n    \
             basic_auth: {username: u, password: hunter2}\n",
        )
        .unwrap();
        assert!(!c.effective_yaml().contains("hunter2") && !format!("{c:?}").contains("hunter2"));
        assert!(c.effective_yaml().contains("<secret>"));
    }

    #[test]
    fn included_files_add_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "main.yml",
            "scrape_config_files: ['more*.yml']\nscrape_configs:\n  - job_name: a\n",
        );
        write("more1.yml", "scrape_configs:\n  - job_name: b\n");
        let main = dir.path().join("main.yml");
        let names: Vec<_> = load(&main).unwrap().jobs().iter().map(|j| j.job_name.clone()).collect();
        assert_eq!(names, ["a", "b"]);
        write("more2.yml", "scrape_configs:\n  - job_name: a\n");
        assert!(load(&main).unwrap_err().to_string().contains("more2.yml:2:5"));
        write("more2.yml", "global: {}\n");
        assert!(
            load(&main)
                .unwrap_err()
                .to_string()
                .contains("more2.yml:1:1: global: field global not found here")
        );
    }

    #[test]
    fn relative_paths_are_seen_from_the_folder_of_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(dir.path().join("more")).unwrap();
        let job = |name: &str| {
            format!(
                "scrape_configs:\n  - job_name: {name}\n    basic_auth: {{username: u, password_file: pw}}\n    \
                 tls_config: {{ca_file: ca.pem, cert_file: /abs/cert, key_file: key}}\n    \
                 http_headers: {{x: {{files: [h]}}}}\n    file_sd_configs: [{{files: [sd/*.json]}}]\n"
            )
        };
        fs::write(
            dir.path().join("main.yml"),
            format!("scrape_config_files: ['more/*.yml']\n{}", job("a")),
        )
        .unwrap();
        fs::write(dir.path().join("more/b.yml"), job("b")).unwrap();
        let config = load(&dir.path().join("main.yml")).unwrap();
        for (job, below) in config.jobs().iter().zip(["", "more/"]) {
            let path = |path: &Option<PathBuf>| path.as_ref().unwrap().display().to_string();
            let tls = job.tls_config.as_ref().unwrap();
            assert_eq!(
                path(&job.basic_auth.as_ref().unwrap().password_file),
                at(&format!("{below}pw"))
            );
            assert_eq!(path(&tls.ca_file), at(&format!("{below}ca.pem")));
            assert_eq!(path(&tls.cert_file), "/abs/cert");
            assert_eq!(path(&tls.key_file), at(&format!("{below}key")));
            assert_eq!(job.http_headers["x"].files, [dir.path().join(format!("{below}h"))]);
            assert_eq!(job.file_sd_configs[0].files, [at(&format!("{below}sd/*.json"))]);
        }
        assert!(
            config.effective_yaml().contains(&at("more/*.yml")),
            "{}",
            config.effective_yaml()
        );
    }

    #[test]
    fn includes_that_are_missing_or_nested_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let problem = || load(&dir.path().join("main.yml")).unwrap_err().to_string();
        write("main.yml", "scrape_config_files:\n  - none-*.yml\n  - missing.yml\n");
        let text = problem();
        assert!(
            text.contains("main.yml:3:5: scrape_config_files[1]: cannot read the file") && text.contains("missing.yml")
        );
        write("main.yml", "scrape_config_files: [main.yml]\n");
        assert!(problem().contains("main.yml:1:1: scrape_config_files: an included file holds scrape_configs alone"));
        write(
            "main.yml",
            "scrape_config_files: [more-?.yml]\nscrape_configs: [{job_name: a}]\n",
        );
        write("more-1.yml", "scrape_configs: [{job_name: a}]\n");
        let text = problem();
        assert!(
            text.contains("more-1.yml:1:") && text.contains("first found in") && text.contains("main.yml\""),
            "{text}"
        );
    }

    #[test]
    fn kinds_of_discovery_that_are_not_built_in_are_refused_by_name() {
        let text = error("scrape_configs:\n  - job_name: a\n    consul_sd_configs: [{server: x}]\n");
        assert!(
            text.starts_with("p.yml:3:24: scrape_configs[0].consul_sd_configs: this kind of discovery is not built in"),
            "{text}"
        );
        assert!(config("scrape_configs: [{job_name: a, consul_sd_configs: []}]").is_ok());
        let text = error("scrape_configs: [{job_name: a, authorization: {credentials_ref: x}}]");
        assert!(
            text.contains("authorization.credentials_ref: cannot use secret ref without manager"),
            "{text}"
        );
    }
}
