//! One thing to scrape: where it comes from, how it is labelled and called, how its last scrape went.
//!
//! ```text
//!   group labels + own labels + job's defaults = discovered labels
//!        |  relabel_configs: dropped, or
//!        v
//!   final labels  --  __meta_*  +  instance      -> URL, interval, timeout
//!        |
//!        v  without __*
//!   the labels of every sample
//! ```
//!
//! A target is what it is by its job, its visible labels and its URL: that is its identity within a pool, the key of
//! its timeline, and what spreads targets over the interval. An interval that changes does not make it another.

use crate::append::TargetState;
use crate::config::{PromDuration, ScrapeConfig, check_address};
use crate::discovery::TargetGroup;
use crate::metadata::Families;
use crate::relabel;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{Labels, LabelsBuilder, Timestamp, reserved};
use xxhash_rust::xxh3::xxh3_64;

/// Into so many parts an interval is divided at the least.
const TURNS: u64 = 20;
/// The most milliseconds from one moment at which targets have their turns to the next.
const MAX_APART_MS: u64 = 1000;

/// How a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape went well.
    Up,
    /// The last scrape failed.
    Down,
}

impl Health {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A target being scraped, as the API shows it.
#[derive(Debug, Clone)]
pub struct TargetStatus {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// Labels after it, those for our own use (`__...`) left out.
    pub labels: Labels,
    /// The job.
    pub scrape_pool: String,
    /// Where it is scraped.
    pub scrape_url: String,
    /// What went wrong last time; empty if nothing did.
    pub last_error: String,
    /// When it was last scraped; `None` if it was not yet.
    pub last_scrape: Option<Timestamp>,
    /// How long that took.
    pub last_duration: Duration,
    /// How it is.
    pub health: Health,
    /// How often it is scraped.
    pub interval: Duration,
    /// When a scrape of it is given up.
    pub timeout: Duration,
}

/// A target that relabelling dropped.
#[derive(Debug, Clone)]
pub struct DroppedTarget {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// The job.
    pub scrape_pool: String,
}

/// A target as it is to be scraped.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) discovered: Labels,
    /// What is added to every sample.
    pub(crate) labels: Labels,
    pub(crate) url: String,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Tells it from the others of its job.
    pub(crate) identity: u64,
    /// The durable name of its timeline.
    pub(crate) timeline_key: String,
}

/// What outlives a target's loop when a reload starts another in its place.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Of its scrapes alone.
    pub(crate) state: Mutex<TargetState>,
    /// Written by its scrapes, read by the API.
    last: Mutex<LastScrape>,
    /// Likewise.
    families: Mutex<Families>,
}

impl Live {
    pub(crate) fn last(&self) -> LastScrape {
        self.last.lock().clone()
    }

    /// Whether it is known what the next body will probably say.
    pub(crate) fn is_predicted(&self) -> bool {
        self.state.try_lock().is_some_and(|state| state.is_predicted())
    }

    pub(crate) fn set_last(&self, last: LastScrape) {
        *self.last.lock() = last;
    }

    pub(crate) fn families(&self) -> Families {
        Arc::clone(&self.families.lock())
    }

    pub(crate) fn set_families(&self, families: Families) {
        *self.families.lock() = families;
    }
}

/// How the last scrape went.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastScrape {
    pub(crate) at: Option<Timestamp>,
    pub(crate) took: Duration,
    pub(crate) error: String,
    pub(crate) health: Health,
}

/// What came of a discovered target.
#[derive(Debug)]
pub(crate) enum Made {
    /// It is to be scraped.
    Target(Box<Target>),
    /// Relabelling dropped it.
    Dropped(Labels),
}

impl Target {
    /// Makes a target of what discovery found.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub(crate) fn make(config: &ScrapeConfig, group: &TargetGroup, own: &Labels) -> Result<Made, String> {
        let discovered = discovered_labels(config, group, own);
        let Some(relabelled) = relabel::apply(&config.relabel_configs, discovered.clone()) else {
            return Ok(Made::Dropped(discovered));
        };
        let address = relabelled.value("__address__");
        if address.is_empty() {
            return Err("no address".to_owned());
        }
        check_address(address)?;
        let interval = positive_duration(relabelled.value("__scrape_interval__"), "interval")?;
        let timeout = positive_duration(relabelled.value("__scrape_timeout__"), "timeout")?;
        if timeout > interval {
            return Err(format!(
                "scrape timeout cannot be greater than scrape interval (\"{timeout}\" > \"{interval}\")"
            ));
        }
        let url = scrape_url(config, &relabelled)?;
        let mut visible = LabelsBuilder::from_labels(&relabelled);
        visible.retain(|name, _| !name.starts_with("__"));
        if visible.get(reserved::INSTANCE).is_empty() {
            visible.set(reserved::INSTANCE, address);
        }
        let labels = visible.build();
        let timeline_key = format!("scrape {} {labels} {url}", config.job_name);
        Ok(Made::Target(Box::new(Self {
            discovered,
            labels,
            url,
            interval: interval.get(),
            timeout: timeout.get(),
            identity: xxh3_64(timeline_key.as_bytes()),
            timeline_key,
        })))
    }

    /// When in each interval, counted from the Unix epoch, this target has its turn: one of [`TURNS`] moments at the
    /// least, at which some targets come together. Woken once for several, the process finds in the caches what the
    /// first of them brought there.
    pub(crate) fn offset(&self, seed: u64) -> Duration {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Whole milliseconds, as timestamps are.
        let step = (interval / TURNS / 1_000_000).clamp(1, MAX_APART_MS);
        Duration::from_millis((self.identity ^ seed) % interval / 1_000_000 / step * step)
    }

    /// As the API shows it.
    pub(crate) fn status(&self, pool: &str, live: &Live) -> TargetStatus {
        let last = live.last();
        TargetStatus {
            discovered_labels: self.discovered.clone(),
            labels: self.labels.clone(),
            scrape_pool: pool.to_owned(),
            scrape_url: self.url.clone(),
            last_error: last.error,
            last_scrape: last.at,
            last_duration: last.took,
            health: last.health,
            interval: self.interval,
            timeout: self.timeout,
        }
    }
}

/// The target's own labels, then the group's, then what the job says where they do not.
pub(crate) fn discovered_labels(config: &ScrapeConfig, group: &TargetGroup, own: &Labels) -> Labels {
    let mut labels = LabelsBuilder::from_labels(&group.labels);
    for (name, value) in own.iter() {
        labels.set(name, value);
    }
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_empty() {
            labels.set(name, value);
        }
    };
    default(reserved::JOB, &config.job_name);
    default("__scrape_interval__", &config.scrape_interval.to_string());
    default("__scrape_timeout__", &config.scrape_timeout.to_string());
    default("__metrics_path__", &config.metrics_path);
    default("__scheme__", &config.scheme);
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            default(&format!("__param_{name}"), first);
        }
    }
    labels.build()
}

fn positive_duration(text: &str, what: &str) -> Result<PromDuration, String> {
    let duration: PromDuration = text
        .parse()
        .map_err(|problem| format!("error parsing scrape {what}: {problem}"))?;
    if duration.is_zero() {
        return Err(format!("scrape {what} cannot be 0"));
    }
    Ok(duration)
}

/// `scheme://address/path?parameters`; a parameter's label replaces its first value.
fn scrape_url(config: &ScrapeConfig, labels: &Labels) -> Result<String, String> {
    let scheme = labels.value("__scheme__");
    if scheme != "http" && scheme != "https" {
        return Err(format!("unsupported scheme {scheme:?}: it must be http or https"));
    }
    let mut params = config.params.clone();
    for (name, value) in labels.iter() {
        if let Some(param) = name.strip_prefix("__param_") {
            let values = params.entry(param.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    let path = labels.value("__metrics_path__");
    let slash = if path.is_empty() || path.starts_with('/') {
        ""
    } else {
        "/"
    };
    let mut url = format!(
        "{scheme}://{}{slash}{}",
        labels.value("__address__"),
        escaped_path(path)
    );
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, values) in &params {
        for value in values {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if !query.is_empty() {
        url.push('?');
        url.push_str(&query);
    }
    match url::Url::parse(&url) {
        Ok(_) => Ok(url),
        Err(problem) => Err(format!("{url:?} is not a valid URL: {problem}")),
    }
}

/// A path is text, not a URL: `?` and `#` in it belong to it.
fn escaped_path(path: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const SET: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'?')
        .add(b'`');
    utf8_percent_encode(path, SET).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GlobalConfig, finish};

    fn config(yaml: &str) -> ScrapeConfig {
        let job = serde_yaml_ng::from_str(yaml).unwrap();
        finish(vec![Some(job)], &GlobalConfig::absent()).unwrap().remove(0)
    }

    fn make(yaml: &str, labels: &[(&str, &str)]) -> Result<Made, String> {
        let config = config(yaml);
        let group = TargetGroup {
            source: "0".into(),
            targets: vec![],
            labels: Labels::from_pairs([("env", "group"), ("team", "x"), ("__meta_a", "b")]).unwrap(),
        };
        Target::make(&config, &group, &Labels::from_pairs(labels.iter().copied()).unwrap())
    }

    fn target(yaml: &str, labels: &[(&str, &str)]) -> Target {
        match make(yaml, labels).unwrap() {
            Made::Target(target) => *target,
            Made::Dropped(labels) => panic!("dropped: {labels}"),
        }
    }

    #[test]
    fn labels_come_from_target_group_and_job_in_this_order() {
        let t = target("job_name: node", &[("__address__", "h:9100"), ("env", "own")]);
        assert_eq!(
            t.labels.to_string(),
            r#"{env="own", instance="h:9100", job="node", team="x"}"#
        );
        assert_eq!(t.url, "http://h:9100/metrics");
        assert_eq!(
            t.discovered.to_string(),
            r#"{__address__="h:9100", __meta_a="b", __metrics_path__="/metrics", __scheme__="http", __scrape_interval__="1m", __scrape_timeout__="10s", env="own", job="node", team="x"}"#
        );
        assert_eq!(
            (t.interval, t.timeout),
            (Duration::from_secs(60), Duration::from_secs(10))
        );
    }

    #[test]
    fn parameters_and_ports_stand_in_the_url_as_given() {
        let yaml =
            "{job_name: a, scheme: https, metrics_path: probe, params: {module: [x, 'y z'], 'match[]': ['{a=\"b\"}']}}";
        let t = target(
            yaml,
            &[("__address__", "h"), ("__param_module", "over"), ("__param_new", "1")],
        );
        assert_eq!(
            t.url,
            "https://h/probe?match%5B%5D=%7Ba%3D%22b%22%7D&module=over&module=y+z&new=1"
        );
    }

    #[test]
    fn bad_targets_are_told_in_upstreams_words() {
        for (labels, problem) in [
            (vec![], "no address"),
            (
                vec![("__address__", "http://x")],
                "\"http://x\" is not a valid hostname",
            ),
            (
                vec![("__address__", "x"), ("__scrape_interval__", "5x")],
                "error parsing scrape interval: not a valid duration string: \"5x\"",
            ),
            (
                vec![("__address__", "x"), ("__scrape_timeout__", "0s")],
                "scrape timeout cannot be 0",
            ),
            (
                vec![("__address__", "x"), ("__scrape_timeout__", "2m")],
                "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")",
            ),
            (
                vec![("__address__", "x"), ("__scheme__", "ftp")],
                "unsupported scheme \"ftp\": it must be http or https",
            ),
        ] {
            assert_eq!(make("job_name: a", &labels).unwrap_err(), problem);
        }
        assert!(make("job_name: a", &[("__address__", "a b:1")]).is_err());
    }

    #[test]
    fn identity_is_labels_and_url_but_not_the_interval() {
        let t = |yaml: &str, address: &str| target(yaml, &[("__address__", address)]);
        let a = t("job_name: a", "h:1");
        assert_eq!(a.identity, t("{job_name: a, scrape_interval: 15s}", "h:1").identity);
        assert_ne!(a.identity, t("job_name: a", "h:2").identity);
        assert_ne!(a.identity, t("{job_name: a, metrics_path: /x}", "h:1").identity);
        assert!(a.offset(7) < a.interval && a.offset(7) != a.offset(0x1234_5678_9abc));
        assert_eq!(a.offset(7).as_millis() % 1000, 0);
        assert_eq!(
            t("{job_name: a, scrape_interval: 5s, scrape_timeout: 5s}", "h:1")
                .offset(7)
                .as_millis()
                % 250,
            0
        );
        let often = t("{job_name: a, scrape_interval: 10ms, scrape_timeout: 10ms}", "h:1");
        assert!(often.offset(7) < often.interval);
    }

    #[test]
    fn targets_are_spread_over_the_interval() {
        let mut turns = [0; 10];
        for n in 0..1000 {
            let target = target(
                "{job_name: a, scrape_interval: 10s}",
                &[("__address__", &format!("h{n}:1"))],
            );
            turns[target.offset(7).as_secs() as usize] += 1;
        }
        assert!(turns.iter().all(|count| (60..=140).contains(count)), "{turns:?}");
    }
}
