//! An API server on loopback whose objects come and go: lists what there is, tells watches what changes.

use crate::certificate::Certificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

const PODS: &str = "/api/v1/pods";

/// A collection of objects, as the API has it for all namespaces: `/api/v1/pods`.
type Collection = String;

/// What a request says.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    fn token(&self) -> &str {
        let found = self.headers.iter().find(|(name, _)| name == "authorization");
        found
            .and_then(|(_, value)| value.strip_prefix("Bearer "))
            .unwrap_or_default()
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

/// Status and JSON.
pub(crate) type Answer = (u16, String);

/// Answers what is no collection; nothing if it does not know either.
type Others = Arc<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

#[derive(Default)]
struct State {
    /// What a request must bear; without it, everyone may ask.
    token: Option<String>,
    version: usize,
    /// The JSON of each object by collection, namespace and name.
    objects: BTreeMap<Collection, BTreeMap<(String, String), String>>,
    /// What happened: the version, where, and the line of a watch. Watches that begin are told what they missed.
    events: Vec<(usize, Collection, (String, String), String)>,
    /// Watches of an earlier round have ended.
    round: usize,
    /// Paths asked for, and the status they got.
    asked: Vec<(String, u16)>,
    connections: usize,
    others: Option<Others>,
}

/// The server. Ends with the process.
#[derive(Clone)]
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl ApiServer {
    /// One that speaks plain HTTP.
    pub(crate) fn plain() -> Self {
        Self::serve(Self::answer)
    }

    /// One that speaks TLS with this certificate, and wants a token.
    pub(crate) fn tls(own: &Certificate, token: &str) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let certificate = CertificateDer::from_pem_slice(own.pem.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate], key).expect("they fit"));
        let server = Self::serve(move |server, stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            server.answer(&mut stream);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        server.want(token);
        server
    }

    fn serve<S: TcpAnswer>(answer: S) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            state: Arc::default(),
        };
        server.open(PODS);
        let (own, answer) = (server.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                own.lock().connections += 1;
                let (own, answer) = (own.clone(), Arc::clone(&answer));
                std::thread::spawn(move || answer(&own, stream));
            }
        });
        server
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("a lock")
    }

    /// A kubeconfig that leads to it, for who shows this token.
    pub(crate) fn kubeconfig(&self, dir: &Path, token: &str) -> PathBuf {
        let path = dir.join(format!("kubeconfig-{token}"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"token": token}}],
        });
        std::fs::write(&path, config.to_string()).expect("written");
        path
    }

    /// From now on this token is wanted.
    pub(crate) fn want(&self, token: &str) {
        self.lock().token = Some(token.to_owned());
    }

    /// All watches end.
    pub(crate) fn end_watches(&self) {
        self.lock().round += 1;
        self.state.1.notify_all();
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }

    /// The statuses that a path got, in order.
    pub(crate) fn statuses(&self, path: &str) -> Vec<u16> {
        let state = self.lock();
        let of = state.asked.iter().filter(|(asked, _)| asked == path);
        of.map(|(_, status)| *status).collect()
    }

    /// There is such a collection, be it empty.
    pub(crate) fn open(&self, collection: &str) {
        self.lock().objects.entry(collection.to_owned()).or_default();
    }

    /// There is no such collection any more: it is refused.
    pub(crate) fn close(&self, collection: &str) {
        self.lock().objects.remove(collection);
    }

    /// Who answers what is no collection.
    pub(crate) fn others(&self, answer: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) {
        self.lock().others = Some(Arc::new(answer));
    }

    /// A pod comes, or becomes another.
    pub(crate) fn put(&self, name: &str, ip: &str, port: u16) {
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "i", "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIP": ip, "hostIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        self.put_object(PODS, pod);
    }

    /// A pod goes.
    pub(crate) fn delete(&self, name: &str) {
        self.change(PODS, ("shop".to_owned(), name.to_owned()), None);
    }

    /// An object comes, or becomes another.
    pub(crate) fn put_object(&self, collection: &str, object: Value) {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        self.change(collection, (text("namespace"), text("name")), Some(object));
    }

    fn change(&self, collection: &str, key: (String, String), to: Option<Value>) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        let to = to.map(|mut object| {
            object["metadata"]["resourceVersion"] = version.to_string().into();
            object.to_string()
        });
        let objects = state.objects.entry(collection.to_owned()).or_default();
        let before = match &to {
            Some(object) => objects.insert(key.clone(), object.clone()),
            None => objects.remove(&key),
        };
        let (kind, object) = match (to, before) {
            (Some(object), None) => ("ADDED", object),
            (Some(object), Some(_)) => ("MODIFIED", object),
            (None, Some(before)) => ("DELETED", before),
            (None, None) => return,
        };
        let line = format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        state.events.push((version, collection.to_owned(), key, line));
        drop(state);
        self.state.1.notify_all();
    }

    fn answer(&self, mut stream: impl Read + Write) {
        let Some(asked) = read(&mut stream) else {
            return;
        };
        let (status, body) = match self.told(&asked) {
            Told::Answer(answer) => answer,
            Told::Watch(place) => {
                let head = "HTTP/1.1 200 -\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
                self.lock().asked.push((asked.path.clone(), 200));
                if stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).is_ok() {
                    self.tell(&mut stream, &asked, &place);
                }
                return;
            }
        };
        self.lock().asked.push((asked.path, status));
        let head = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream
            .write_all((head + &body).as_bytes())
            .and_then(|()| stream.flush());
    }

    fn told(&self, asked: &Asked) -> Told {
        let refused = |code: u16| {
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "refused", "code": code});
            Told::Answer((code, status.to_string()))
        };
        let state = self.lock();
        if state.token.as_ref().is_some_and(|wanted| *wanted != asked.token()) {
            return refused(401);
        }
        let found = state
            .objects
            .keys()
            .find_map(|collection| Some((collection.clone(), place(collection, &asked.path)?)));
        let Some((collection, (namespace, name))) = found else {
            let others = state.others.clone();
            // It may ask this server itself.
            drop(state);
            return match others.and_then(|others| others(asked)) {
                Some(answer) => Told::Answer(answer),
                None => refused(403),
            };
        };
        let field = asked.parameter("fieldSelector");
        let place = Place {
            collection,
            namespace,
            name: name.or_else(|| Some(field?.strip_prefix("metadata.name=")?.to_owned())),
        };
        match asked.parameter("watch").as_deref() {
            Some("true") if asked.parameter("sendInitialEvents").is_some() => refused(422),
            Some("true") => Told::Watch(place),
            _ => {
                let objects = state.objects.get(&place.collection).into_iter().flatten();
                let objects: Vec<&str> = objects
                    .filter(|(key, _)| place.has(key))
                    .map(|(_, object)| object.as_str())
                    .collect();
                let is_object = asked.path.rsplit('/').next() == place.name.as_deref();
                match (is_object, objects.first()) {
                    (true, Some(object)) => Told::Answer((200, (*object).to_owned())),
                    (true, None) => refused(404),
                    (false, _) => Told::Answer((
                        200,
                        format!(
                            r#"{{"kind":"{}","apiVersion":"v1","metadata":{{"resourceVersion":"{}"}},"items":[{}]}}"#,
                            list_kind(&place.collection),
                            state.version,
                            objects.join(",")
                        ),
                    )),
                }
            }
        }
    }

    /// A watch: what happened since the version asked for, and whatever happens until it ends.
    fn tell(&self, stream: &mut impl Write, asked: &Asked, place: &Place) {
        let version = asked.parameter("resourceVersion").and_then(|text| text.parse().ok());
        let version: usize = version.unwrap_or(0);
        let mut state = self.lock();
        let round = state.round;
        let mut next = state.events.partition_point(|(of, ..)| *of <= version);
        while state.round == round {
            let lines: String = state.events[next..]
                .iter()
                .filter(|(_, collection, key, _)| *collection == place.collection && place.has(key))
                .map(|(.., line)| line.as_str())
                .collect();
            next = state.events.len();
            if lines.is_empty() {
                state = self.state.1.wait(state).expect("a lock");
                continue;
            }
            drop(state);
            if stream
                .write_all(lines.as_bytes())
                .and_then(|()| stream.flush())
                .is_err()
            {
                return;
            }
            state = self.lock();
        }
    }
}

/// What a list of a collection is called, where programs insist on it.
fn list_kind(collection: &str) -> &'static str {
    match collection.rsplit('/').next() {
        Some("pods") => "PodList",
        Some("nodes") => "NodeList",
        _ => "List",
    }
}

/// How a request goes on.
enum Told {
    Answer(Answer),
    Watch(Place),
}

/// The objects of a collection that a request is about.
struct Place {
    collection: Collection,
    namespace: Option<String>,
    name: Option<String>,
}

impl Place {
    fn has(&self, (namespace, name): &(String, String)) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && self.name.as_ref().is_none_or(|wanted| wanted == name)
    }
}

/// Namespace and name that a path means, if it is one of a collection.
fn place(collection: &str, path: &str) -> Option<(Option<String>, Option<String>)> {
    let (root, resource) = collection.rsplit_once('/')?;
    let parts: Vec<&str> = path.strip_prefix(root)?.split('/').skip(1).collect();
    let owned = |text: &str| Some(text.to_owned());
    match parts.as_slice() {
        [of] if *of == resource => Some((None, None)),
        // An object of no namespace.
        [of, name] if *of == resource => Some((None, owned(name))),
        ["namespaces", namespace, of] if *of == resource => Some((owned(namespace), None)),
        ["namespaces", namespace, of, name] if *of == resource => Some((owned(namespace), owned(name))),
        _ => None,
    }
}

/// What answers a connection.
trait TcpAnswer: Fn(&ApiServer, TcpStream) + Send + Sync + 'static {}

impl<F: Fn(&ApiServer, TcpStream) + Send + Sync + 'static> TcpAnswer for F {}

/// A whole request.
fn read(stream: &mut impl Read) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 1 << 16 {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })
}
