//! What is known of the cluster's autoscalers: each as the API server shows it, and what came of the last look at it.

use super::look::{Look, Outcome};
use super::object::{Controller, Shown};
use crate::hpa::decide::History;
use crate::hpa::spec::{Behavior, Settings};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// Which autoscaler.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Id {
    /// One by its names.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Bounds on what is watched, and what the cluster's controller is taken to be started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The most autoscalers that are looked at.
    pub max_autoscalers: usize,
    /// What the controller was started with; also how often is looked.
    pub settings: Settings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_autoscalers: 1000,
            settings: Settings::default(),
        }
    }
}

/// All autoscalers that are known of. Filled by whoever looks, read by the API.
#[derive(Debug)]
pub struct Board {
    pub(super) options: Options,
    /// Held while an entry is put in or read, never while anything is asked.
    pub(super) inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) entries: BTreeMap<Id, Entry>,
    /// What keeps autoscalers from being seen, in sentences.
    pub(super) problems: Vec<String>,
    pub(super) refused: usize,
    pub(super) looks: u64,
    pub(super) failures: u64,
}

/// What is known of one.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) shown: Shown,
    pub(super) memory: Memory,
    pub(super) look: Option<Arc<Look>>,
    /// Since when the controller wants another number.
    pub(super) differs_since: Option<Timestamp>,
}

/// What is remembered from look to look.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// As the controller remembers it.
    pub history: History,
    /// The first look.
    pub since: Option<Timestamp>,
    /// The last look, and the replicas it saw.
    last: Option<(Timestamp, i32)>,
}

impl Memory {
    /// Notes how many replicas there are. A number other than at the last look is a change, made when the controller
    /// says it last made one, if it does. Whether somebody else made it is not known.
    pub fn replicas(&mut self, behavior: Option<&Behavior>, controller: &Controller, now: Timestamp, replicas: i32) {
        self.history.set_scaled_to_zero(controller.scaled_to_zero());
        self.since.get_or_insert(now);
        if let Some((at, before)) = self.last.replace((now, replicas))
            && before != replicas
        {
            let told = controller.scaled_at.filter(|told| at < *told && *told <= now);
            self.history.changed(behavior, before, replicas, told.unwrap_or(now));
        }
    }
}

/// What a look begins with.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The autoscaler.
    pub shown: Shown,
    /// What is remembered of it.
    pub memory: Memory,
}

impl Board {
    /// One that knows of none.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            inner: Mutex::default(),
        }
    }

    /// The bounds.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Says what keeps autoscalers from being seen.
    pub fn set_problems(&self, problems: Vec<String>) {
        self.inner.lock().problems = problems;
    }

    /// What keeps autoscalers from being seen.
    pub fn problems(&self) -> Vec<String> {
        self.inner.lock().problems.clone()
    }

    /// Puts an autoscaler in, or what it has become. Says whether there is a place for it.
    pub fn show(&self, id: &Id, shown: Shown) -> bool {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.get_mut(id) {
            entry.shown = shown;
            return true;
        }
        if inner.entries.len() >= self.options.max_autoscalers {
            return false;
        }
        let entry = Entry {
            shown,
            memory: Memory::default(),
            look: None,
            differs_since: None,
        };
        inner.entries.insert(id.clone(), entry);
        true
    }

    /// Forgets all but these; `refused` are those for which there was no place.
    pub fn keep(&self, ids: &BTreeSet<Id>, refused: usize) {
        let mut inner = self.inner.lock();
        inner.entries.retain(|id, _| ids.contains(id));
        inner.refused = refused;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a look begins with; `None` if it has gone.
    pub fn begin(&self, id: &Id) -> Option<Turn> {
        let inner = self.inner.lock();
        let entry = inner.entries.get(id)?;
        Some(Turn {
            shown: entry.shown.clone(),
            memory: entry.memory.clone(),
        })
    }

    /// Keeps what came of a look.
    pub fn end(&self, id: &Id, memory: Memory, look: Look) {
        let mut inner = self.inner.lock();
        inner.looks += 1;
        let failed = match &look.outcome {
            Outcome::Decided(decided) => crate::hpa::explain::json::error(&decided.decision.path).is_some(),
            Outcome::Blocked(_) => true,
        };
        inner.failures += u64::from(failed);
        let Some(entry) = inner.entries.get_mut(id) else { return };
        let differs = match (look.decided(), entry.shown.controller.desired) {
            (Some(decided), Some(theirs)) => decided.decision.desired != theirs,
            _ => false,
        };
        entry.differs_since = differs.then(|| entry.differs_since.unwrap_or(look.at));
        entry.memory = memory;
        entry.look = Some(Arc::new(look));
    }

    /// What is known of one, copied.
    pub(super) fn entry(&self, id: &Id) -> Option<Entry> {
        self.inner.lock().entries.get(id).cloned()
    }
}
