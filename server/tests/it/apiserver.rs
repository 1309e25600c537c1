//! An API server on loopback whose pods come and go: lists what there is, tells watches what changes.

use crate::certificate::Certificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[derive(Default)]
struct State {
    /// What a request must bear; without it, everyone may ask.
    token: Option<String>,
    version: usize,
    /// The JSON of each by name.
    pods: BTreeMap<String, String>,
    /// What happened: the version, and the line of a watch. Watches that begin are told what they missed.
    events: Vec<(usize, String)>,
    /// Watches of an earlier round have ended.
    round: usize,
    /// Paths asked for, and the status they got.
    asked: Vec<(String, u16)>,
    connections: usize,
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

    /// A pod comes, or becomes another.
    pub(crate) fn put(&self, name: &str, ip: &str, port: u16) {
        self.change(name, |version| {
            let pod = json!({
                "kind": "Pod", "apiVersion": "v1",
                "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version.to_string(), "labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "i", "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}]}]},
                "status": {"phase": "Running", "podIP": ip, "hostIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
            });
            Some(pod.to_string())
        });
    }

    /// A pod goes.
    pub(crate) fn delete(&self, name: &str) {
        self.change(name, |_| None);
    }

    fn change(&self, name: &str, to: impl FnOnce(usize) -> Option<String>) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        let pod = to(version);
        let before = match &pod {
            Some(pod) => state.pods.insert(name.to_owned(), pod.clone()),
            None => state.pods.remove(name),
        };
        let (kind, object) = match (pod, before) {
            (Some(pod), None) => ("ADDED", pod),
            (Some(pod), Some(_)) => ("MODIFIED", pod),
            (None, Some(before)) => ("DELETED", before),
            (None, None) => return,
        };
        state
            .events
            .push((version, format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")));
        drop(state);
        self.state.1.notify_all();
    }

    fn answer(&self, mut stream: impl Read + Write) {
        let Some((path, query, token)) = read_head(&mut stream) else {
            return;
        };
        let refused = |code: u16| {
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "refused", "code": code})
                .to_string()
        };
        let (status, body) = {
            let mut state = self.lock();
            let may = state.token.as_ref().is_none_or(|wanted| *wanted == token);
            let answer = match may {
                false => (401, Some(refused(401))),
                true if path != "/api/v1/pods" && path != "/api/v1/namespaces/shop/pods" => (403, Some(refused(403))),
                true if query.contains("sendInitialEvents=true") => (422, Some(refused(422))),
                true if query.contains("watch=true") => (200, None),
                true => {
                    let pods: Vec<&str> = state.pods.values().map(String::as_str).collect();
                    let list = format!(
                        r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"{}"}},"items":[{}]}}"#,
                        state.version,
                        pods.join(",")
                    );
                    (200, Some(list))
                }
            };
            state.asked.push((path, answer.0));
            answer
        };
        let length = body
            .as_ref()
            .map_or(String::new(), |body| format!("content-length: {}\r\n", body.len()));
        let head =
            format!("HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n{length}connection: close\r\n\r\n");
        let whole = head + body.as_deref().unwrap_or_default();
        let written = stream.write_all(whole.as_bytes()).and_then(|()| stream.flush());
        if written.is_ok() && body.is_none() {
            self.tell(&mut stream, &query);
        }
    }

    /// A watch: what happened since the version asked for, and whatever happens until it ends.
    fn tell(&self, stream: &mut impl Write, query: &str) {
        let version = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let version = version.and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut state = self.lock();
        let round = state.round;
        let mut next = state.events.partition_point(|(of, _)| *of <= version);
        while state.round == round {
            let lines: String = state.events[next..].iter().map(|(_, line)| line.as_str()).collect();
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

/// What answers a connection.
trait TcpAnswer: Fn(&ApiServer, TcpStream) + Send + Sync + 'static {}

impl<F: Fn(&ApiServer, TcpStream) + Send + Sync + 'static> TcpAnswer for F {}

/// Path, query and token of a request.
fn read_head(stream: &mut impl Read) -> Option<(String, String, String)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 1 << 16 {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let token = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("authorization")
            .then(|| value.trim().strip_prefix("Bearer "))?
    });
    Some((path.to_owned(), query.to_owned(), token.unwrap_or_default().to_owned()))
}
