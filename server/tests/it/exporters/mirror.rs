//! Serves recorded answers, the same bytes to everyone who asks, and notes who asked for what.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An answer as an exporter gave it.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) content_type: String,
    pub(crate) encoding: Option<&'static str>,
    pub(crate) body: Vec<u8>,
}

/// Gets an answer with this `Accept`, as the bytes it is.
pub(crate) fn record(port: u16, path: &str, accept: &str) -> Recorded {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    assert!(head.lines().next().unwrap().contains(" 200 "), "{path}: {head}");
    let content_type = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .starts_with("content-type:")
            .then(|| line[13..].trim().to_owned())
    });
    Recorded {
        content_type: content_type.unwrap_or_default(),
        encoding: None,
        body: answer.split_off(end + 4),
    }
}

/// Who asked for a path, and how: `User-Agent` up to its version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// How often since the answers changed last.
    pub(crate) times: usize,
    pub(crate) accept: String,
    /// `X-Prometheus-Scrape-Timeout-Seconds`.
    pub(crate) timeout: String,
}

#[derive(Debug, Default)]
struct Shared {
    answers: BTreeMap<String, Recorded>,
    asked: BTreeMap<(String, String), Asked>,
}

/// Answers on a port of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    done: Arc<AtomicBool>,
}

impl Mirror {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mirror = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
            done: Arc::default(),
        };
        let (shared, done) = (Arc::clone(&mirror.shared), Arc::clone(&mirror.done));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // One connection that fails is that client's affair.
                std::thread::spawn(move || drop(answer(stream, &shared)));
            }
        });
        mirror
    }

    /// Replaces all answers, by path.
    pub(crate) fn say(&self, answers: BTreeMap<String, Recorded>) {
        let mut shared = self.shared.lock().unwrap();
        shared.answers = answers;
        shared.asked.clear();
    }

    /// What someone asked of a path.
    pub(crate) fn asked(&self, path: &str, agent: &str) -> Asked {
        let shared = self.shared.lock().unwrap();
        shared
            .asked
            .get(&(path.to_owned(), agent.to_owned()))
            .cloned()
            .unwrap_or_default()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let mut to = stream;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let of = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let agent = of("user-agent").split('/').next().unwrap_or_default().to_owned();
        let found = {
            let mut shared = shared.lock().unwrap();
            let asked = shared.asked.entry((path.clone(), agent)).or_default();
            asked.times += 1;
            asked.accept = of("accept");
            asked.timeout = of("x-prometheus-scrape-timeout-seconds");
            shared.answers.get(&path).cloned()
        };
        let Some(found) = found else {
            to.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", found.body.len());
        if !found.content_type.is_empty() {
            head.push_str(&format!("Content-Type: {}\r\n", found.content_type));
        }
        if let Some(encoding) = found.encoding {
            head.push_str(&format!("Content-Encoding: {encoding}\r\n"));
        }
        to.write_all(format!("{head}\r\n").as_bytes())?;
        to.write_all(&found.body)?;
    }
}
