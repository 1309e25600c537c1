//! Out of the store: the ends of the series that tell what containers and nodes use.

use super::track::{Part, Source, Tail, Track};
use std::collections::HashMap;
use tidegauge_model::{
    ColumnBuf, ColumnKind, Lease, MatchOp, Matcher, Querier, ReadContext, SelectError, SelectHints, SeriesGroup,
    TimeRange, Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

/// The cgroup above all others: the node, as cAdvisor sees it.
const ROOT: &str = "/";
/// The container that old kubelets list for what holds a pod's network.
const PAUSE: &str = "POD";

/// About what the names of a container take, and what is said of it in an answer.
const TEXT_BYTES: usize = 512;

/// The names under which containers are told of, by the kubelet and by cAdvisor alike.
const CONTAINER: &[&str] = &[
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_start_time_seconds",
];
/// The kubelet's names for the node.
const NODE: &[&str] = &["node_cpu_usage_seconds_total", "node_memory_working_set_bytes"];

/// What a metric tells.
fn part(metric: &str) -> Option<Part> {
    Some(match metric {
        "container_cpu_usage_seconds_total" | "node_cpu_usage_seconds_total" => Part::Cpu,
        "container_memory_working_set_bytes" | "node_memory_working_set_bytes" => Part::Memory,
        "container_start_time_seconds" => Part::Started,
        _ => return None,
    })
}

/// What is looked for in the store, and as of when.
pub(crate) struct Reading<'a> {
    /// A view that reaches back twice as far as `lookback_ms`.
    pub(crate) querier: &'a dyn Querier,
    /// Now.
    pub(crate) at: Timestamp,
    /// A series whose last sample is older than this has ended.
    pub(crate) lookback_ms: i64,
    /// May it go on, and who pays.
    pub(crate) cx: &'a ReadContext,
}

/// Where pods are looked for. What is found there may be more than what is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope<'a> {
    /// In one namespace.
    pub(crate) namespace: Option<&'a str>,
    /// By their names, if these are few: nothing else is looked at then.
    pub(crate) names: Option<&'a [&'a str]>,
}

impl Scope<'_> {
    fn matchers(self) -> Vec<Matcher> {
        let mut matchers = vec![one_of("__name__", CONTAINER)];
        matchers.push(self.namespace.map(|namespace| Matcher::equal("namespace", namespace)));
        matchers.push(self.names.and_then(|names| one_of("pod", names)));
        matchers.into_iter().flatten().collect()
    }
}

/// That a label has one of some values; `None` if that cannot be put so that the index alone answers it.
fn one_of(label: &str, values: &[&str]) -> Option<Matcher> {
    if let [value] = values {
        return Some(Matcher::equal(label, *value));
    }
    let is_plain = |value: &&str| {
        value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !values.iter().all(is_plain) {
        return None;
    }
    Matcher::new(MatchOp::Regex, label, values.join("|")).ok()
}

/// A container by name. In order, those of a pod are neighbours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ContainerName {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
}

/// The range that has to be looked at: the last sample of a series and, as far back again, the one before.
pub(crate) fn range(at: Timestamp, lookback_ms: i64) -> TimeRange {
    TimeRange::new(at.saturating_sub(lookback_ms.saturating_mul(2)), at)
}

impl Reading<'_> {
    /// What is told of the containers of pods that are wanted.
    pub(super) fn containers(
        &self,
        scope: Scope<'_>,
        wanted: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Told<ContainerName>, SelectError> {
        let mut found = Tracks::new(|seen: &Seen| {
            let named = ![&seen.namespace, &seen.pod, &seen.container]
                .iter()
                .any(|name| name.is_empty());
            let wanted = named && seen.container != PAUSE && wanted(&seen.namespace, &seen.pod);
            wanted.then(|| ContainerName {
                namespace: seen.namespace.clone(),
                pod: seen.pod.clone(),
                container: seen.container.clone(),
            })
        });
        if scope.names.is_none_or(|names| !names.is_empty()) {
            self.read(&scope.matchers(), &mut found)?;
        }
        Ok(found.living())
    }

    /// What is told of nodes, by their names.
    pub(super) fn nodes(&self) -> Result<Told<String>, SelectError> {
        let mut found = Tracks::new(|seen: &Seen| Some(seen.node_name().to_owned()).filter(|name| !name.is_empty()));
        let matchers: Vec<Matcher> = one_of("__name__", NODE).into_iter().collect();
        self.read(&matchers, &mut found)?;
        let root = [one_of("__name__", CONTAINER), Some(Matcher::equal("id", ROOT))];
        let matchers: Vec<Matcher> = root.into_iter().flatten().collect();
        self.read(&matchers, &mut found)?;
        Ok(found.living())
    }

    /// Where last samples lie.
    fn recent(&self) -> TimeRange {
        TimeRange::new(self.at.saturating_sub(self.lookback_ms).saturating_add(1), self.at)
    }

    fn read<K, N: Fn(&Seen) -> Option<K>>(
        &self,
        matchers: &[Matcher],
        found: &mut Tracks<K, N>,
    ) -> Result<(), SelectError> {
        let oldest = self.at.saturating_sub(self.lookback_ms);
        let hints = SelectHints::range(range(self.at, self.lookback_ms));
        let groups = self.querier.select(matchers, &hints, self.cx)?;
        let (mut seen, mut buf) = (Seen::default(), ColumnBuf::default());
        for group in &groups {
            self.cx.cancel.check()?;
            // All of it is too old: nothing need be decoded.
            if group.timestamps().last().is_none_or(|last| *last <= oldest) {
                continue;
            }
            for series in (0..group.len()).filter(|series| group.kind(*series) == ColumnKind::Float) {
                seen.look(&**group, series);
                let Some(part) = part(&seen.metric) else { continue };
                let Some(track) = found.track(&seen) else { continue };
                if let Some(tail) = Tail::of(&group.read(series, &mut buf)?, oldest) {
                    track.set(part, tail);
                }
            }
            found.pay(self.cx)?;
        }
        Ok(())
    }
}

/// Whether anything is told of now.
pub(super) fn is_anything_told(reading: &Reading<'_>) -> Result<bool, SelectError> {
    for name in NODE.iter().chain(CONTAINER) {
        let hints = SelectHints::range(reading.recent());
        let matchers = [Matcher::equal("__name__", *name)];
        let groups = reading.querier.select(&matchers, &hints, reading.cx)?;
        if groups.iter().any(|group| !group.timestamps().is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tracks, each with the name of what it tells of.
#[derive(Debug)]
pub(super) struct Told<K> {
    pub(super) list: Vec<(K, Track)>,
    /// Pays for them and for what is made of them.
    _held: Option<Lease>,
}

/// Tracks as they are found; series of one track agree in all labels but their names.
struct Tracks<K, N> {
    list: Vec<(K, Track)>,
    held: Option<Lease>,
    /// How many of them are paid for.
    paid: usize,
    by_identity: HashMap<u64, usize>,
    /// What a series tells of; `None` if that is of no interest.
    name: N,
}

impl<K, N: Fn(&Seen) -> Option<K>> Tracks<K, N> {
    fn new(name: N) -> Self {
        Self {
            list: Vec::new(),
            held: None,
            paid: 0,
            by_identity: HashMap::new(),
            name,
        }
    }

    /// Those that have not ended.
    fn living(mut self) -> Told<K> {
        self.list.retain(|(_, track)| track.newest().is_some());
        Told {
            list: self.list,
            _held: self.held,
        }
    }

    /// Takes memory for what was found since the last time.
    fn pay(&mut self, cx: &ReadContext) -> Result<(), SelectError> {
        let new = self.list.len().saturating_sub(self.paid);
        let bytes = new.saturating_mul(size_of::<(K, Track)>() + TEXT_BYTES) as u64;
        match &mut self.held {
            Some(held) => held.grow(bytes)?,
            None => self.held = Some(cx.meter.lease(bytes)?),
        }
        self.paid = self.list.len();
        Ok(())
    }

    /// The track that a series belongs to.
    fn track(&mut self, seen: &Seen) -> Option<&mut Track> {
        // Where cAdvisor counts by processor, it has the sum as well.
        if !matches!(seen.cpu.as_str(), "" | "total") {
            return None;
        }
        let identity = xxh3_64(&seen.others);
        let place = match self.by_identity.get(&identity) {
            Some(place) => *place,
            None => {
                let name = (self.name)(seen)?;
                let source = if seen.id.is_empty() {
                    Source::Resource
                } else {
                    Source::Cadvisor
                };
                self.list.push((name, Track::new(source, identity)));
                self.by_identity.insert(identity, self.list.len() - 1);
                self.list.len() - 1
            }
        };
        self.list.get_mut(place).map(|(_, track)| track)
    }
}

/// The labels of a series that matter here. Kept from one series to the next for its memory.
#[derive(Debug, Default)]
struct Seen {
    metric: String,
    namespace: String,
    pod: String,
    container: String,
    node: String,
    instance: String,
    id: String,
    cpu: String,
    /// All labels but those in which series of one track differ.
    others: Vec<u8>,
}

impl Seen {
    fn look(&mut self, group: &dyn SeriesGroup, series: usize) {
        let fields = [
            &mut self.metric,
            &mut self.namespace,
            &mut self.pod,
            &mut self.container,
            &mut self.node,
            &mut self.instance,
            &mut self.id,
            &mut self.cpu,
        ];
        fields.into_iter().for_each(String::clear);
        self.others.clear();
        group.visit_labels(series, &mut |name, value| {
            let field = match name {
                "__name__" => Some(&mut self.metric),
                "namespace" => Some(&mut self.namespace),
                "pod" => Some(&mut self.pod),
                "container" => Some(&mut self.container),
                "node" => Some(&mut self.node),
                "instance" => Some(&mut self.instance),
                "id" => Some(&mut self.id),
                "cpu" => Some(&mut self.cpu),
                _ => None,
            };
            if let Some(field) = field {
                field.push_str(value);
            }
            if !matches!(name, "__name__" | "cpu") {
                for text in [name, value] {
                    self.others.extend_from_slice(text.as_bytes());
                    self.others.push(0xff);
                }
            }
        });
    }

    /// The node that was scraped: by the label that says so, else by the target's, without its port.
    fn node_name(&self) -> &str {
        if !self.node.is_empty() {
            return &self.node;
        }
        match self.instance.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.instance,
        }
    }
}
