//! A cluster's API server with its aggregation layer: it says who is to be trusted, reviews who may what, and hands the
//! metrics APIs on as kubectl and the autoscaler come to them.
//!
//! A bearer token is the name of its user.

use crate::apiserver::{Answer, ApiServer, Asked};
use crate::tls_client::{Answered, Authority, Client, Pair};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where the API server tells whom to trust.
pub(crate) const CONFIG_MAPS: &str = "/api/v1/configmaps";
/// The name in the certificate that it shows to who answers for it.
pub(crate) const PROXY: &str = "front-proxy-client";
/// The groups that are handed on.
const GROUPS: [&str; 3] = ["metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"];

/// Who answers for the API server.
struct Backend {
    address: String,
    /// What its certificate must be for: `tidegauge-metrics-api.tidegauge.svc`.
    name: String,
    /// Who may have signed it, in PEM.
    authorities: String,
}

/// What the layer knows.
struct Layer {
    /// Signs what the API server shows when it hands on.
    front: Authority,
    /// Signs the certificates of users.
    users: Authority,
    shown: Pair,
    backend: Mutex<Option<Backend>>,
    denied: Mutex<BTreeSet<String>>,
}

/// A cluster.
pub(crate) struct Aggregator {
    pub(crate) api: ApiServer,
    layer: Arc<Layer>,
}

impl Aggregator {
    /// One without objects, but for the map that says whom to trust.
    pub(crate) fn start() -> Self {
        let front = Authority::new("front-proxy-ca");
        let layer = Arc::new(Layer {
            shown: front.user(PROXY, &[]),
            front,
            users: Authority::new("kubernetes"),
            backend: Mutex::default(),
            denied: Mutex::default(),
        });
        let api = ApiServer::plain();
        for collection in [
            "/api/v1/nodes",
            "/apis/autoscaling/v2/horizontalpodautoscalers",
            CONFIG_MAPS,
        ] {
            api.open(collection);
        }
        let own = Arc::clone(&layer);
        api.others(move |asked| own.answer(asked));
        let cluster = Self { api, layer };
        cluster.trust(&cluster.layer.front);
        cluster
    }

    /// From now on this authority signs for those who hand requests on.
    pub(crate) fn trust(&self, front: &Authority) {
        self.api.put_object(
            CONFIG_MAPS,
            json!({
                "metadata": {"namespace": "kube-system", "name": "extension-apiserver-authentication"},
                "data": {
                    "client-ca-file": self.layer.users.pem(),
                    "requestheader-client-ca-file": front.pem(),
                    "requestheader-allowed-names": format!("[{PROXY:?}]"),
                    "requestheader-username-headers": "[\"X-Remote-User\"]",
                    "requestheader-group-headers": "[\"X-Remote-Group\"]",
                    "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
                },
            }),
        );
    }

    /// Signs for those who hand requests on.
    pub(crate) fn front(&self) -> &Authority {
        &self.layer.front
    }

    /// Hands the metrics APIs on to this address, whose certificate is for this name and signed by one of these authorities.
    pub(crate) fn hand_on(&self, address: &str, name: &str, authorities: &str) {
        *self.layer.backend.lock().expect("a lock") = Some(Backend {
            address: address.to_owned(),
            name: name.to_owned(),
            authorities: authorities.to_owned(),
        });
    }

    /// This user may do nothing any more.
    pub(crate) fn deny(&self, user: &str) {
        self.layer.denied.lock().expect("a lock").insert(user.to_owned());
    }

    /// A kubeconfig of a user.
    pub(crate) fn kubeconfig(&self, dir: &Path, user: &str) -> PathBuf {
        self.api.kubeconfig(dir, user)
    }
}

impl Layer {
    fn answer(&self, asked: &Asked) -> Option<Answer> {
        let json = |value: Value| Some((200, value.to_string()));
        match asked.path.as_str() {
            "/version" => json(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})),
            "/api" => json(json!({"kind": "APIVersions", "versions": ["v1"]})),
            "/apis" => json(json!({"kind": "APIGroupList", "apiVersion": "v1",
                "groups": GROUPS.iter().filter_map(|group| self.group(group)).collect::<Vec<_>>()})),
            "/api/v1" => json(json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
                {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list", "watch"]},
                {"name": "nodes", "singularName": "node", "namespaced": false, "kind": "Node", "verbs": ["get", "list", "watch"]},
                {"name": "services", "singularName": "service", "namespaced": true, "kind": "Service", "verbs": ["get", "list"]},
                {"name": "namespaces", "singularName": "namespace", "namespaced": false, "kind": "Namespace", "verbs": ["get", "list"]},
            ]})),
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => json(self.access(&asked.body)),
            "/apis/authentication.k8s.io/v1/tokenreviews" => json(self.token(&asked.body)),
            path if GROUPS.iter().any(|group| path.starts_with(&format!("/apis/{group}"))) => Some(self.hand_on(asked)),
            _ => None,
        }
    }

    fn access(&self, body: &[u8]) -> Value {
        let mut review: Value = serde_json::from_slice(body).expect("a review");
        let user = review["spec"]["user"].as_str().unwrap_or_default().to_owned();
        let allowed = !self.denied.lock().expect("a lock").contains(&user);
        review["status"] = json!({"allowed": allowed});
        review
    }

    fn token(&self, body: &[u8]) -> Value {
        let mut review: Value = serde_json::from_slice(body).expect("a review");
        let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
        review["status"] = match token.strip_prefix("not-") {
            Some(_) => json!({"authenticated": false}),
            None => json!({"authenticated": true, "user": {"username": token, "groups": ["system:authenticated"]}}),
        };
        review
    }

    /// A group as its server tells it.
    fn group(&self, group: &str) -> Option<Value> {
        let told = self.forward("GET", &format!("/apis/{group}"), &[], "system:kube-aggregator")?;
        (told.status == 200).then(|| serde_json::from_str(&told.body).expect("JSON"))
    }

    fn hand_on(&self, asked: &Asked) -> Answer {
        let header = |name: &str| {
            asked
                .headers
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.as_str())
        };
        let user = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let target = match asked.query.as_str() {
            "" => asked.path.clone(),
            query => format!("{}?{query}", asked.path),
        };
        let accept = header("accept").unwrap_or("*/*");
        let user = user.unwrap_or("system:anonymous");
        match self.forward(&asked.method, &target, &[("Accept", accept)], user) {
            Some(answered) => (answered.status, answered.body),
            None => (
                503,
                "{\"kind\":\"Status\",\"status\":\"Failure\",\"code\":503}".to_owned(),
            ),
        }
    }

    /// One request as the layer makes it, of a user.
    fn forward(&self, method: &str, target: &str, headers: &[(&str, &str)], user: &str) -> Option<Answered> {
        let backend = self.backend.lock().expect("a lock");
        let backend = backend.as_ref()?;
        let client = Client::named(&backend.address, &backend.name, &backend.authorities, Some(&self.shown));
        let mut all = vec![("X-Remote-User", user), ("X-Remote-Group", "system:authenticated")];
        all.extend_from_slice(headers);
        client.try_ask_with(method, target, &all).ok()
    }
}
