//! One collection of objects that somebody wants, and what is known of it.

use super::changes::Changes;
use super::kind::Kind;
use super::metrics::{Event, KubernetesMetrics};
use super::object::{Key, Object};
use super::store::{Put, Store};
use crate::metrics::Metrics;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use tokio::sync::Notify;

/// What is watched. Equal ones at the same server are one watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchSpec {
    pub(super) kind: Kind,
    /// `None` is all of them.
    pub(super) namespace: Option<String>,
    pub(super) label_selector: Option<String>,
    pub(super) field_selector: Option<String>,
}

/// A watch: its store and who listens. One task writes, providers read.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) spec: WatchSpec,
    /// Ranks before the lock in [`Changes`]. Held while one object is put in or looked up; never across an await.
    state: Mutex<State>,
    /// Somebody stopped listening.
    pub(super) left: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    store: Store,
    progress: Progress,
    /// Why the last list or watch failed, if it did.
    problem: Option<String>,
    listeners: Vec<Arc<Changes>>,
    /// So that the log tells of the bound once.
    told_of_bound: bool,
}

/// What is known of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not all of them yet.
    Waiting,
    /// Nothing, as we may not have them.
    Refused,
    /// All of them.
    Known,
}

impl Watch {
    pub(super) fn new(spec: WatchSpec, max_objects: usize, metrics: &Arc<Metrics>) -> Self {
        metrics.kubernetes.watches.add(spec.kind, 1);
        Self {
            spec,
            state: Mutex::new(State {
                store: Store::new(max_objects),
                progress: Progress::Waiting,
                problem: None,
                listeners: Vec::new(),
                told_of_bound: false,
            }),
            left: Notify::new(),
            metrics: Arc::clone(metrics),
        }
    }

    fn kind(&self) -> Kind {
        self.spec.kind
    }

    fn counts(&self) -> &KubernetesMetrics {
        &self.metrics.kubernetes
    }

    /// Tells somebody of changes from now on; what is there already counts as changed.
    pub(super) fn listen(&self, changes: &Arc<Changes>) {
        let mut state = self.state.lock();
        for (key, _) in state.store.objects() {
            changes.note(self.kind(), key.clone());
        }
        state.listeners.push(Arc::clone(changes));
        changes.wake();
    }

    pub(super) fn leave(&self, changes: &Arc<Changes>) {
        let mut state = self.state.lock();
        state.listeners.retain(|listener| !Arc::ptr_eq(listener, changes));
        self.left.notify_one();
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.state.lock().listeners.is_empty()
    }

    pub(super) fn progress(&self) -> Progress {
        self.state.lock().progress
    }

    /// Why the last list or watch failed, if it did.
    pub(super) fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }

    /// A list or a watch failed. Objects that are known stay so.
    pub(super) fn failed(&self, problem: String, refused: bool) {
        let mut state = self.state.lock();
        state.problem = Some(problem);
        if refused && state.progress == Progress::Waiting {
            state.progress = Progress::Refused;
        }
        state.listeners.iter().for_each(|listener| listener.wake());
    }

    /// The API server answers as it should.
    pub(super) fn works(&self) {
        let mut state = self.state.lock();
        if state.problem.take().is_some() {
            state.listeners.iter().for_each(|listener| listener.wake());
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.state.lock().store.get(key)
    }

    /// Shows all objects, in no order. Nothing is put in meanwhile.
    pub(super) fn each(&self, mut show: impl FnMut(&Object)) {
        let state = self.state.lock();
        state.store.objects().for_each(|(_, object)| show(object));
    }

    /// The objects for which `wanted` holds.
    pub(super) fn keys_of(&self, mut wanted: impl FnMut(&Key, &Object) -> bool) -> Vec<Key> {
        let state = self.state.lock();
        let objects = state.store.objects().filter(|(key, object)| wanted(key, object));
        objects.map(|(key, _)| key.clone()).collect()
    }

    /// Puts an object in and tells the listeners if that changed anything.
    pub(super) fn put(&self, object: Object) {
        let key = object.key();
        if key.name.is_empty() {
            self.malformed("an object has no name");
            return;
        }
        let mut state = self.state.lock();
        let before = self.size(&state);
        let event = match state.store.put(&key, object) {
            Put::Added => Event::Add,
            Put::Updated => Event::Update,
            Put::Same => return,
            Put::Refused => {
                self.refuse(&mut state);
                return;
            }
        };
        self.changed(&state, before, event, &[key]);
    }

    pub(super) fn remove(&self, key: &Key) {
        let mut state = self.state.lock();
        let before = self.size(&state);
        if state.store.remove(key) {
            self.changed(&state, before, Event::Delete, std::slice::from_ref(key));
        }
    }

    pub(super) fn begin_list(&self) {
        let mut state = self.state.lock();
        state.store.begin_list();
        state.told_of_bound = false;
    }

    /// All of a list has come: what was not in it has gone.
    pub(super) fn end_list(&self) {
        let mut state = self.state.lock();
        let before = self.size(&state);
        let gone = state.store.end_list();
        self.changed(&state, before, Event::Delete, &gone);
        state.progress = Progress::Known;
        state.problem = None;
        state.listeners.iter().for_each(|listener| listener.wake());
    }

    /// An object could not be read. What is known of it stays.
    pub(super) fn malformed(&self, problem: &str) {
        self.counts().malformed_objects.add(self.kind(), 1);
        tracing::error!(
            resource = self.kind().resource(),
            problem,
            "cannot read a Kubernetes object"
        );
    }

    fn refuse(&self, state: &mut MutexGuard<'_, State>) {
        self.counts().refused_objects.add(self.kind(), 1);
        if !std::mem::replace(&mut state.told_of_bound, true) {
            tracing::error!(
                resource = self.kind().resource(),
                held = state.store.len(),
                "a watch holds as many objects as it may: more are left out (see --discovery.kubernetes-max-objects; namespaces \
                 or selectors would make it fewer)"
            );
        }
    }

    fn size(&self, state: &State) -> (usize, usize) {
        (state.store.len(), state.store.bytes())
    }

    fn changed(&self, state: &State, before: (usize, usize), event: Event, keys: &[Key]) {
        let after = self.size(state);
        let counts = self.counts();
        counts.objects.add(self.kind(), difference(after.0, before.0));
        counts.object_bytes.add(self.kind(), difference(after.1, before.1));
        for key in keys {
            counts.event(self.kind(), event);
            for listener in &state.listeners {
                listener.note(self.kind(), key.clone());
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (objects, bytes) = self.size(&self.state.lock());
        let counts = self.counts();
        counts.objects.add(self.kind(), difference(0, objects));
        counts.object_bytes.add(self.kind(), difference(0, bytes));
        counts.watches.add(self.kind(), -1);
    }
}

fn difference(after: usize, before: usize) -> i64 {
    i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
}
