//! Looks at autoscalers in the cluster: their scale by a call, their pods from what is watched, their metrics in process.

use super::autoscalers::LookOnce;
use super::board::{Board, Id, Memory};
use super::kinds::Kinds;
use super::look::{Decided, Look, Outcome, Sighted, ambiguous, invalid_selector, look};
use super::object::Controller;
use super::requests::{PodLevel, Said, request};
use super::scale::{Resource, TargetScale};
use super::sourced::Sourced;
use crate::hpa::formula::Request;
use crate::hpa::pods::{Phase, Pod, Ready, Status};
use crate::hpa::{Barred, Hpa};
use crate::kubeapi::{Selector, Sources};
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::Timestamp;
use tidegauge_scraper::{Call, Container, Pod as SeenPod};
use tokio::sync::Semaphore;

/// No look takes longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Looks at a time that somebody asked for.
const ASKED_AT_A_TIME: usize = 2;

/// Looks, one autoscaler at a time.
pub struct Looker {
    sources: Arc<Sources>,
    board: Arc<Board>,
    kinds: Kinds,
    /// Which pods each autoscaler of the cluster controls, since its last look. Held while it is looked up.
    selectors: Mutex<BTreeMap<Id, Selector>>,
    /// For looks that somebody asked for; the next one waits.
    places: Semaphore,
}

impl std::fmt::Debug for Looker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Looker").finish_non_exhaustive()
    }
}

/// Amounts of resources by their names.
type Amounts = Vec<(Arc<str>, Arc<str>)>;

/// A pod and where its requests stand.
struct Met {
    pod: Pod,
    /// Those of each container that goes on running.
    requests: Vec<(Arc<str>, Amounts)>,
    /// Those of the pod as a whole.
    own: Amounts,
    /// It is controlled by these autoscalers too.
    rivals: Vec<Id>,
}

impl Looker {
    pub(super) fn new(sources: Arc<Sources>, board: Arc<Board>) -> Self {
        Self {
            sources,
            board,
            kinds: Kinds::default(),
            selectors: Mutex::default(),
            places: Semaphore::new(ASKED_AT_A_TIME),
        }
    }

    /// Forgets which pods autoscalers control that are no more.
    pub(super) fn keep(&self, is_there: impl Fn(&Id) -> bool) {
        self.selectors.lock().retain(|id, _| is_there(id));
    }

    /// Takes the turn of an autoscaler of the cluster.
    pub(super) async fn turn(self: Arc<Self>, id: Id) {
        let Some(turn) = self.board.begin(&id) else { return };
        let Ok(hpa) = turn.shown.hpa else { return };
        let (memory, look) = self.look(Some(&id), hpa, turn.shown.controller, turn.memory).await;
        self.board.end(&id, memory, look);
    }

    /// Looks at an autoscaler, in the cluster by its id or only written down.
    async fn look(
        self: &Arc<Self>,
        id: Option<&Id>,
        hpa: Arc<Hpa>,
        controller: Arc<Controller>,
        mut memory: Memory,
    ) -> (Memory, Look) {
        let seen = match tokio::time::timeout(PATIENCE, self.see(id, &hpa)).await {
            Ok(seen) => seen,
            Err(_) => Err(format!("it took longer than {} s to look at it", PATIENCE.as_secs())),
        };
        let now = self.sources.clock.now();
        let settings = self.board.options().settings.clone();
        let outcome = match seen {
            Err(why) => Outcome::Blocked(why),
            Ok((scale, selector)) => {
                let (looker, hpa, id) = (Arc::clone(self), Arc::clone(&hpa), id.cloned());
                let remembered = memory.clone();
                let decide = move || looker.decide(id.as_ref(), &hpa, &controller, remembered, &scale, selector, now);
                match tokio::task::spawn_blocking(decide).await {
                    Ok((after, decided)) => {
                        memory = after;
                        Outcome::Decided(Box::new(decided))
                    }
                    Err(_) => Outcome::Blocked("the look ended before its time".to_owned()),
                }
            }
        };
        let look = Look {
            at: now,
            hpa,
            settings,
            outcome,
        };
        (memory, look)
    }

    /// The scale of the target, and its selector.
    async fn see(&self, id: Option<&Id>, hpa: &Hpa) -> Result<(TargetScale, Result<Selector, Barred>), String> {
        let cluster = &self.sources.cluster;
        let resource = self.kinds.resource(cluster, &hpa.target).await?;
        let path = resource.scale_path(&hpa.namespace, &hpa.target.name);
        let reply = cluster.call(Call::get(path)).await.map_err(|error| error.to_string())?;
        if reply.status != 200 {
            return Err(refused(&resource, hpa, reply.status, &reply.body));
        }
        let scale = TargetScale::read(&reply.body)?;
        if !self.sources.pods.is_complete() {
            return Err(match self.sources.pods.problem() {
                Some(problem) => format!("the pods are not known: {problem}"),
                None => "the pods are not known yet".to_owned(),
            });
        }
        let selector = match scale.selector.as_str() {
            "" => Err(invalid_selector(None)),
            text => Selector::parse(text).map_err(|why| invalid_selector(Some(&why))),
        };
        if let (Some(id), Ok(selector)) = (id, &selector) {
            self.selectors.lock().insert(id.clone(), selector.clone());
        }
        Ok((scale, selector))
    }

    /// The part of a look that waits for nobody, but reads the store.
    #[expect(clippy::too_many_arguments, reason = "it is what a look consists of")]
    fn decide(
        &self,
        id: Option<&Id>,
        hpa: &Hpa,
        controller: &Controller,
        mut memory: Memory,
        scale: &TargetScale,
        selector: Result<Selector, Barred>,
        now: Timestamp,
    ) -> (Memory, Decided) {
        memory.replicas(hpa.behavior.as_ref(), controller, now, scale.replicas.spec);
        let (met, barred) = match selector {
            Err(barred) => (Vec::new(), Some(barred)),
            Ok(selector) => {
                let met = self.meet(id, hpa, &selector);
                let barred = shared(id, &met, &scale.selector);
                (met, barred)
            }
        };
        let pods: Vec<Pod> = met.iter().map(|met| met.pod.clone()).collect();
        let requests = |no: usize, resource: &str, container: Option<&str>| match met.get(no) {
            Some(met) => met.request(resource, container),
            None => Request::NoPodRequest,
        };
        let sighted = Sighted {
            now,
            hpa,
            settings: &self.board.options().settings,
            scale,
            pods: &pods,
            requests: &requests,
            barred: barred.as_ref(),
        };
        let metrics = Sourced::new(&self.sources);
        let decided = look(&sighted, &metrics, &mut memory.history);
        (memory, decided)
    }

    /// The pods of a selector, by name, and who else controls them.
    fn meet(&self, id: Option<&Id>, hpa: &Hpa, selector: &Selector) -> Vec<Met> {
        let rivals: Vec<(Id, Selector)> = match id {
            None => Vec::new(),
            Some(id) => {
                let selectors = self.selectors.lock();
                let others = selectors
                    .iter()
                    .filter(|(other, _)| *other != id && other.namespace == id.namespace);
                others
                    .map(|(other, selector)| (other.clone(), selector.clone()))
                    .collect()
            }
        };
        let mut met = Vec::new();
        self.sources.pods.each(|pod| {
            let labels = pod.meta().labels();
            if pod.meta().namespace() == hpa.namespace && selector.matches(|name| labels.get(name)) {
                let also = rivals
                    .iter()
                    .filter(|(_, selector)| selector.matches(|name| labels.get(name)));
                met.push(Met::new(pod, also.map(|(id, _)| id.clone()).collect()));
            }
        });
        met.sort_unstable_by(|a, b| a.pod.name.cmp(&b.pod.name));
        met
    }
}

impl LookOnce for Arc<Looker> {
    /// If there is one of its name in the cluster, what is remembered of that counts.
    fn look_once(&self, hpa: Hpa) -> BoxFuture<'_, Look> {
        let turn = self.board.begin(&Id::new(&hpa.namespace, &hpa.name));
        let (memory, controller) = turn.map_or_else(Default::default, |turn| (turn.memory, turn.shown.controller));
        let look = async move {
            let _place = self.places.acquire().await;
            self.look(None, Arc::new(hpa), controller, memory).await.1
        };
        look.boxed()
    }
}

impl Met {
    fn new(pod: &SeenPod, rivals: Vec<Id>) -> Self {
        let pairs = |container: &Container| {
            let requests = container.requests().iter();
            requests.map(|(name, amount)| (name.into(), amount.into())).collect()
        };
        let running = pod.containers().iter().filter(|one| !one.is_init() || one.is_sidecar());
        Self {
            requests: running.map(|one| (one.name().into(), pairs(one))).collect(),
            own: pod
                .requests()
                .iter()
                .map(|(name, amount)| (name.into(), amount.into()))
                .collect(),
            pod: read(pod),
            rivals,
        }
    }

    fn request(&self, resource: &str, container: Option<&str>) -> Request {
        fn of<'a>(pairs: &'a [(Arc<str>, Arc<str>)], resource: &str) -> Option<&'a str> {
            let found = pairs.iter().find(|(name, _)| &**name == resource);
            found.map(|(_, amount)| &**amount)
        }
        let said = self.requests.iter().map(|(container, requests)| Said {
            container,
            amount: of(requests, resource),
        });
        let own = match self.own.as_slice() {
            [] => PodLevel::None,
            own => PodLevel::Some(of(own, resource)),
        };
        request(said, own, container)
    }
}

/// What the controller looks at of a pod.
fn read(pod: &SeenPod) -> Pod {
    Pod {
        name: pod.meta().name().into(),
        phase: match pod.phase() {
            "Pending" => Phase::Pending,
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            _ => Phase::Unknown,
        },
        deleting: pod.is_deleting(),
        started: pod.started(),
        ready: pod.ready().map(|(status, since)| Ready {
            status: match status {
                "true" => Status::True,
                "false" => Status::False,
                _ => Status::Unknown,
            },
            since,
        }),
    }
}

/// Whether other autoscalers control pods of this one.
fn shared(id: Option<&Id>, met: &[Met], selector: &str) -> Option<Barred> {
    let mut all: Vec<String> = met.iter().flat_map(|met| &met.rivals).map(Id::to_string).collect();
    if all.is_empty() {
        return None;
    }
    all.extend(id.map(Id::to_string));
    all.sort_unstable();
    all.dedup();
    Some(ambiguous(selector, all.iter().map(String::as_str)))
}

#[derive(Deserialize)]
struct StatusJson {
    #[serde(default)]
    message: String,
}

/// What a refusal of a scale means.
fn refused(resource: &Resource, hpa: &Hpa, status: u16, body: &[u8]) -> String {
    let said = serde_json::from_slice(body).map_or_else(|_| String::new(), |status: StatusJson| status.message);
    let said = match said.as_str() {
        "" => format!("the API server answers {status}"),
        said => said.chars().take(300).collect(),
    };
    let permission = resource.scale_permission();
    let what = format!("cannot get {permission} {}/{}: {said}", hpa.namespace, hpa.target.name);
    match status {
        401 | 403 => format!("{what} (the service account needs the verb get on {permission})"),
        _ => what,
    }
}
