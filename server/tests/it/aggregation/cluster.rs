//! A cluster's API server as the metrics APIs see it: whom to believe, who may, and which groups are answered where.

use crate::aggregator::CONFIG_MAPS;
use crate::apiserver::{Answer, ApiServer, Asked};
use crate::tls_client::Authority;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices/";

/// What is answered, and what was asked.
#[derive(Default)]
struct State {
    /// Users by their tokens.
    tokens: BTreeMap<String, Value>,
    /// Users who may read metrics; `None`: nobody may ask that.
    readers: Option<Vec<String>>,
    apiservices: BTreeMap<String, Value>,
    /// How often one was applied.
    applied: u64,
    /// The specs of reviews.
    reviews: Vec<Value>,
}

/// The server. Ends with the process.
pub(super) struct Cluster {
    api: ApiServer,
    state: Arc<Mutex<State>>,
}

impl Cluster {
    /// One that tells nobody whom to believe, and in which nobody may anything yet.
    pub(super) fn start() -> Self {
        let cluster = Self {
            api: ApiServer::plain(),
            state: Arc::default(),
        };
        cluster.api.open("/api/v1/nodes");
        let state = Arc::clone(&cluster.state);
        cluster
            .api
            .others(move |asked| state.lock().expect("a lock").answer(asked));
        cluster
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a lock")
    }

    /// A kubeconfig that leads here.
    pub(super) fn kubeconfig(&self, dir: &Path) -> PathBuf {
        self.api.kubeconfig(dir, "of-tidegauge")
    }

    /// These authorities sign for front proxies, and this one for clients.
    pub(super) fn trust(&self, front: &[&Authority], clients: &Authority) {
        let front: String = front.iter().map(|one| one.pem()).collect();
        let data = json!({
            "client-ca-file": clients.pem(),
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-client-ca-file": front,
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        });
        let metadata = json!({"namespace": "kube-system", "name": "extension-apiserver-authentication"});
        self.api
            .put_object(CONFIG_MAPS, json!({"metadata": metadata, "data": data}));
    }

    /// A token of a user.
    pub(super) fn token(&self, token: &str, user: &str) {
        let user = json!({"username": user, "groups": ["of-tokens"]});
        self.lock().tokens.insert(token.to_owned(), user);
    }

    /// Who may read metrics.
    pub(super) fn readers(&self, users: &[&str]) {
        self.lock().readers = Some(users.iter().map(|user| (*user).to_owned()).collect());
    }

    pub(super) fn put_api_service(&self, name: &str, spec: &Value) {
        let object = json!({"metadata": {"name": name, "resourceVersion": "1"}, "spec": spec});
        self.lock().apiservices.insert(name.to_owned(), object);
    }

    pub(super) fn api_service(&self, name: &str) -> Option<Value> {
        self.lock().apiservices.get(name).cloned()
    }

    /// What was asked about a user, last.
    pub(super) fn review_of(&self, user: &str) -> Option<Value> {
        let state = self.lock();
        state.reviews.iter().rev().find(|spec| spec["user"] == user).cloned()
    }

    pub(super) fn count_reviews(&self) -> usize {
        self.lock().reviews.len()
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Option<Answer> {
        let refused = |code: u16| {
            Some((
                code,
                json!({"kind": "Status", "message": "refused", "code": code}).to_string(),
            ))
        };
        if let Some(name) = asked.path.strip_prefix(SERVICES) {
            if asked.method == "GET" {
                return match self.apiservices.get(name) {
                    Some(object) => Some((200, object.to_string())),
                    None => refused(404),
                };
            }
            assert!(
                asked.method == "PATCH" && asked.query.contains("fieldManager=tidegauge"),
                "{}",
                asked.query
            );
            let mut object: Value = serde_json::from_slice(&asked.body).expect("JSON");
            self.applied += 1;
            object["metadata"]["resourceVersion"] = self.applied.to_string().into();
            self.apiservices.insert(name.to_owned(), object.clone());
            return Some((200, object.to_string()));
        }
        let review: Value = serde_json::from_slice(&asked.body).ok()?;
        let spec = &review["spec"];
        let status = match asked.path.as_str() {
            "/apis/authentication.k8s.io/v1/tokenreviews" => {
                match spec["token"].as_str().and_then(|token| self.tokens.get(token)) {
                    Some(user) => json!({"authenticated": true, "user": user}),
                    None => json!({"error": "no such token"}),
                }
            }
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                self.reviews.push(spec.clone());
                let Some(readers) = &self.readers else {
                    return refused(403);
                };
                match readers.iter().any(|user| spec["user"] == **user) {
                    true => json!({"allowed": true}),
                    false => json!({"allowed": false, "reason": "no role says so"}),
                }
            }
            _ => return None,
        };
        Some((201, json!({"status": status}).to_string()))
    }
}
