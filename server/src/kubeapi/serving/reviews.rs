//! What the cluster is asked about a caller: whose token this is, and whether somebody may do something.
//!
//! Both are questions to the API server, a `TokenReview` and a `SubjectAccessReview`. Its answers count for ten seconds, as
//! they do at every API server; so many questions run at a time, the others wait.

use super::attributes::{Attributes, Resource};
use super::remembered::{Remembered, Tagger};
use super::user::User;
use crate::api::Listing;
use axum::body::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegauge_model::MetricKind;
use tokio::sync::Semaphore;

/// For how long an answer counts.
const KEEP: Duration = Duration::from_secs(10);
/// Questions at a time.
const AT_A_TIME: usize = 16;

/// Asks the API server to make an object, and gives the status and the body of its answer.
pub(super) trait Reviewer: fmt::Debug + Send + Sync {
    /// # Errors
    /// If there is no answer, in words.
    fn create(&self, path: &'static str, body: Bytes) -> BoxFuture<'_, Result<(u16, Bytes), String>>;
}

/// A kind of question.
#[derive(Debug)]
struct Kind {
    path: &'static str,
    resource: &'static str,
    version: &'static str,
    kind: &'static str,
}

const TOKEN: Kind = Kind {
    path: "/apis/authentication.k8s.io/v1/tokenreviews",
    resource: "tokenreviews.authentication.k8s.io",
    version: "authentication.k8s.io/v1",
    kind: "TokenReview",
};
const ACCESS: Kind = Kind {
    path: "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    resource: "subjectaccessreviews.authorization.k8s.io",
    version: "authorization.k8s.io/v1",
    kind: "SubjectAccessReview",
};

/// Whether somebody may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Allowed,
    /// Why not, often nothing.
    Denied(String),
}

/// Asks and remembers.
#[derive(Debug)]
pub(super) struct Reviews {
    reviewer: Box<dyn Reviewer>,
    tagger: Tagger,
    tokens: Remembered<Option<User>>,
    decisions: Remembered<Decision>,
    running: Semaphore,
    failed: AtomicU64,
    /// What was wrong the last time; told once.
    problem: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Answer<S> {
    status: Option<S>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: User,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AccessStatus {
    allowed: bool,
    denied: bool,
    reason: String,
    evaluation_error: String,
}

impl Reviews {
    /// Remembers up to `most` answers of either kind.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn new(reviewer: Box<dyn Reviewer>, most: usize) -> Result<Self, String> {
        Ok(Self {
            reviewer,
            tagger: Tagger::new()?,
            tokens: Remembered::new(most, KEEP),
            decisions: Remembered::new(most, KEEP),
            running: Semaphore::new(AT_A_TIME),
            failed: AtomicU64::new(0),
            problem: Mutex::default(),
        })
    }

    /// Whose token this is; `None`: nobody's.
    ///
    /// # Errors
    /// Why nobody could tell, and what would put it right.
    pub(super) async fn whose(&self, token: &str) -> Result<Option<User>, String> {
        let tag = self.tagger.tag([token.as_bytes()]);
        let asked = async {
            let status: TokenStatus = self.ask(&TOKEN, json!({"token": token})).await?;
            let known = status.authenticated && !status.user.name.is_empty();
            Ok(known.then_some(status.user))
        };
        self.tokens.or_ask(tag, asked).await
    }

    /// Whether a user may do what a request asks for.
    ///
    /// # Errors
    /// Why nobody could tell, and what would put it right.
    pub(super) async fn may(&self, user: &User, wanted: &Attributes) -> Result<Decision, String> {
        if user.is_master() {
            return Ok(Decision::Allowed);
        }
        let spec = spec(user, wanted);
        // Its text is the same for the same question: all within it has an order.
        let tag = self.tagger.tag([spec.to_string().as_bytes()]);
        let asked = async {
            let status: AccessStatus = self.ask(&ACCESS, spec).await?;
            if status.allowed && !status.denied {
                return Ok(Decision::Allowed);
            }
            let why = if status.reason.is_empty() {
                status.evaluation_error
            } else {
                status.reason
            };
            Ok(Decision::Denied(why))
        };
        self.decisions.or_ask(tag, asked).await
    }

    async fn ask<S: for<'de> Deserialize<'de> + Default>(&self, kind: &Kind, spec: Value) -> Result<S, String> {
        let body = json!({"kind": kind.kind, "apiVersion": kind.version, "spec": spec}).to_string();
        let _running = self.running.acquire().await.map_err(|e| e.to_string())?;
        let answer = self.reviewer.create(kind.path, body.into()).await;
        let read = answer.and_then(|(status, body)| kind.read(status, &body));
        match &read {
            Ok(_) => drop(self.problem.lock().take()),
            Err(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut told = self.problem.lock();
                if told.as_ref() != Some(why) {
                    tracing::error!(error = why, "cannot ask the cluster who may read metrics");
                    *told = Some(why.clone());
                }
            }
        }
        read
    }

    /// For `/metrics`.
    pub(super) fn list(&self) -> Vec<Listing> {
        let kinds = [("token", self.tokens.counts()), ("access", self.decisions.counts())];
        let of = |value: fn(&(u64, u64)) -> u64| {
            let rows = kinds
                .iter()
                .map(|(kind, counts)| (vec![("kind", (*kind).to_owned())], value(counts) as f64));
            rows.collect::<Vec<_>>()
        };
        let held = [("token", self.tokens.len()), ("access", self.decisions.len())];
        let held = held.map(|(kind, count)| (vec![("kind", kind.to_owned())], count as f64));
        let failed = self.failed.load(Ordering::Relaxed) as f64;
        vec![
            (
                "tidegauge_kubernetes_api_reviews_total",
                "Questions to the API server about callers: whose token one is, and what they may.",
                MetricKind::Counter,
                of(|(_, asked)| *asked),
            ),
            (
                "tidegauge_kubernetes_api_reviews_remembered_total",
                "Such questions whose answer was known from less than ten seconds before.",
                MetricKind::Counter,
                of(|(found, _)| *found),
            ),
            (
                "tidegauge_kubernetes_api_reviews_held",
                "Answers that are remembered.",
                MetricKind::Gauge,
                held.to_vec(),
            ),
            (
                "tidegauge_kubernetes_api_review_failures_total",
                "Such questions to which there was no answer.",
                MetricKind::Counter,
                vec![(Vec::new(), failed)],
            ),
        ]
    }
}

impl Kind {
    fn read<S: for<'de> Deserialize<'de> + Default>(&self, status: u16, body: &[u8]) -> Result<S, String> {
        let resource = self.resource;
        if matches!(status, 200 | 201) {
            let answer: Result<Answer<S>, _> = serde_json::from_slice(body);
            let answer =
                answer.map_err(|e| format!("cannot read what the API server answered to a {}: {e}", self.kind))?;
            return Ok(answer.status.unwrap_or_default());
        }
        let told: Value = serde_json::from_slice(body).unwrap_or_default();
        let told: String = told["message"].as_str().unwrap_or_default().chars().take(300).collect();
        if matches!(status, 401 | 403) {
            return Err(format!(
                "tidegauge may not create {resource} ({status}: {told}): bind its service account to the ClusterRole \
                 \"system:auth-delegator\""
            ));
        }
        Err(format!(
            "cannot create {resource}: the API server answered {status}: {told}"
        ))
    }
}

/// What a review asks. Groups are in no order that counts.
fn spec(user: &User, wanted: &Attributes) -> Value {
    let mut spec = json!({"user": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        spec["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    match wanted {
        Attributes::Path { verb, path } => spec["nonResourceAttributes"] = json!({"verb": verb, "path": path}),
        Attributes::Resource(resource) => spec["resourceAttributes"] = attributes(resource),
    }
    spec
}

fn attributes(resource: &Resource) -> Value {
    let Resource {
        verb,
        group,
        version,
        namespace,
        resource,
        subresource,
        name,
    } = resource;
    let mut given = serde_json::Map::new();
    for (key, value) in [
        ("verb", *verb),
        ("group", group),
        ("version", version),
        ("namespace", namespace),
        ("resource", resource),
        ("subresource", subresource),
        ("name", name),
    ] {
        if !value.is_empty() {
            given.insert(key.to_owned(), value.into());
        }
    }
    given.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Arc;

    /// Answers as it is told to, and keeps what it was asked.
    #[derive(Debug, Default, Clone)]
    pub(in crate::kubeapi::serving) struct Told {
        pub(in crate::kubeapi::serving) asked: Arc<Mutex<Vec<Value>>>,
        pub(in crate::kubeapi::serving) answer: Arc<Mutex<Option<(u16, Value)>>>,
    }

    impl Told {
        pub(in crate::kubeapi::serving) fn answer(&self, status: u16, body: Value) {
            *self.answer.lock() = Some((status, body));
        }

        pub(in crate::kubeapi::serving) fn asked(&self) -> Vec<Value> {
            self.asked.lock().clone()
        }
    }

    impl Reviewer for Told {
        fn create(&self, path: &'static str, body: Bytes) -> BoxFuture<'_, Result<(u16, Bytes), String>> {
            Box::pin(async move {
                let mut asked: Value = serde_json::from_slice(&body).unwrap();
                asked["path"] = path.into();
                self.asked.lock().push(asked);
                let answer = self.answer.lock().clone();
                let (status, body) = answer.ok_or("nobody is there")?;
                Ok((status, body.to_string().into()))
            })
        }
    }

    fn alice() -> User {
        User {
            name: "alice".to_owned(),
            groups: vec!["dev".to_owned()],
            ..User::default()
        }
    }

    fn pods() -> Attributes {
        Attributes::Resource(Resource {
            verb: "list",
            group: "metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            namespace: "shop".to_owned(),
            resource: "pods".to_owned(),
            ..Resource::default()
        })
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_nobody_keeps_it() {
        let told = Told::default();
        let reviews = Reviews::new(Box::new(told.clone()), 8).unwrap();
        told.answer(
            201,
            json!({"status": {"authenticated": true, "user": {"username": "alice", "groups": ["dev"], "extra": {"k": ["v"]}}}}),
        );
        for _ in 0..2 {
            let user = reviews.whose("hunter2hunter2").await.unwrap().unwrap();
            assert_eq!(
                (user.name.as_str(), &user.extra["k"][..]),
                ("alice", &["v".to_owned()][..])
            );
        }
        assert_eq!(
            told.asked(),
            [
                json!({"path": TOKEN.path, "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
                "spec": {"token": "hunter2hunter2"}})
            ]
        );
        assert!(
            !format!("{reviews:?}")
                .replace(&format!("{told:?}"), "")
                .contains("hunter2")
        );
        told.answer(201, json!({"status": {"error": "expired"}}));
        assert_eq!(reviews.whose("another").await, Ok(None));
    }

    #[tokio::test]
    async fn what_somebody_may_is_asked_with_all_that_counts() {
        let told = Told::default();
        let reviews = Reviews::new(Box::new(told.clone()), 8).unwrap();
        told.answer(201, json!({"status": {"allowed": true}}));
        assert_eq!(reviews.may(&alice(), &pods()).await, Ok(Decision::Allowed));
        told.answer(201, json!({"status": {"allowed": false, "reason": "no"}}));
        assert_eq!(
            reviews.may(&alice(), &pods()).await,
            Ok(Decision::Allowed),
            "remembered"
        );
        let bob = User {
            name: "bob".to_owned(),
            ..alice()
        };
        assert_eq!(reviews.may(&bob, &pods()).await, Ok(Decision::Denied("no".to_owned())));
        let path = Attributes::Path {
            verb: "get".to_owned(),
            path: "/version".to_owned(),
        };
        assert_eq!(reviews.may(&bob, &path).await, Ok(Decision::Denied("no".to_owned())));
        told.answer(201, json!({"status": {"allowed": true, "denied": true}}));
        assert_eq!(reviews.may(&alice(), &path).await, Ok(Decision::Denied(String::new())));
        let asked = told.asked();
        assert_eq!(asked.len(), 4);
        assert_eq!(
            asked[0]["spec"],
            json!({"user": "alice", "groups": ["dev"], "resourceAttributes": {"verb": "list", "group": "metrics.k8s.io",
                "version": "v1beta1", "namespace": "shop", "resource": "pods"}})
        );
        assert_eq!(
            asked[2]["spec"]["nonResourceAttributes"],
            json!({"verb": "get", "path": "/version"})
        );
        let master = User {
            groups: vec!["system:masters".to_owned()],
            ..bob
        };
        assert_eq!(reviews.may(&master, &pods()).await, Ok(Decision::Allowed));
        assert_eq!(told.asked().len(), 4, "nobody is asked about those who may everything");
    }

    #[tokio::test]
    async fn what_cannot_be_asked_says_what_is_missing_and_is_asked_again() {
        let told = Told::default();
        let reviews = Reviews::new(Box::new(told.clone()), 8).unwrap();
        let failed = async || reviews.may(&alice(), &pods()).await.unwrap_err();
        assert_eq!(failed().await, "nobody is there");
        told.answer(403, json!({"message": "User \"tidegauge\" cannot create"}));
        let why = failed().await;
        assert!(
            why.contains("may not create subjectaccessreviews.authorization.k8s.io"),
            "{why}"
        );
        assert!(why.contains("system:auth-delegator"), "{why}");
        let why = reviews.whose("t").await.unwrap_err();
        assert!(
            why.contains("may not create tokenreviews.authentication.k8s.io"),
            "{why}"
        );
        told.answer(500, json!({"message": "etcd"}));
        assert!(failed().await.contains("answered 500: etcd"));
        told.answer(201, json!("?"));
        assert!(failed().await.contains("cannot read"));
        told.answer(201, json!({}));
        assert_eq!(
            reviews.may(&alice(), &pods()).await,
            Ok(Decision::Denied(String::new()))
        );
    }
}
