//! A real Prometheus: started on an empty folder, filled by remote write, asked over connections that stay open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tidegauge_model::{Labels, stale_marker};

use crate::generate::DataSet;

/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a series one request carries: late samples would be taken another way.
const SLICE_MS: i64 = 600_000;

const CONFIG: &str = "global: {evaluation_interval: 1m}\n";

/// A running Prometheus, killed when dropped.
#[derive(Debug)]
pub(super) struct Prometheus {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one; fails the test that asked where `TIDEGAUGE_PEERS` is not set.
    pub(super) fn start(features: &str) -> Self {
        let folder = std::env::var("TIDEGAUGE_PEERS").expect("TIDEGAUGE_PEERS names the folder of the peers' programs");
        let program = Path::new(&folder).join("prometheus");
        assert!(program.exists(), "{} is not there: see .ci/peers.sh", program.display());
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, CONFIG).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(&program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args([
                "--storage.tsdb.retention.time=100y",
                "--web.enable-remote-write-receiver",
                "--log.level=warn",
            ])
            .arg(format!("--enable-feature={features}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut started = Self { child, port, dir };
        started.wait();
        started
    }

    fn wait(&mut self) {
        let began = Instant::now();
        while Connection::open(self.port)
            .and_then(|mut c| c.send("GET", "/-/ready", "", b""))
            .is_none_or(|a| a.0 != 200)
        {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "prometheus is not ready; ended: {ended:?}; log:\n{}",
                std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// A connection for questions.
    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.port).expect("a connection")
    }

    /// Writes all samples, in order of time as a sender would.
    ///
    /// A stale marker before all else makes the series in order of their labels: upstream adds up, picks and keeps
    /// series in the order they were made in.
    pub(super) fn fill(&self, data: &DataSet) {
        let mut connection = self.connect();
        let all = || {
            data.series
                .iter()
                .flat_map(|(_, samples)| samples.iter().map(|(at, _)| *at))
        };
        let (Some(first), Some(last)) = (all().min(), all().max()) else {
            return;
        };
        let mut births = Vec::new();
        for (labels, _) in &data.series {
            field(&mut births, 1, &series(labels, &[(first - SLICE_MS, stale_marker())]));
        }
        write(&mut connection, &births);
        let mut from = first;
        while from <= last {
            let mut request = Vec::new();
            for (labels, samples) in &data.series {
                let slice: Vec<(i64, f64)> = samples
                    .iter()
                    .copied()
                    .filter(|(at, _)| (from..from + SLICE_MS).contains(at))
                    .collect();
                if !slice.is_empty() {
                    field(&mut request, 1, &series(labels, &slice));
                }
            }
            write(&mut connection, &request);
            from += SLICE_MS;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one request of remote write 1.0.
fn write(connection: &mut Connection, request: &[u8]) {
    let body = snap::raw::Encoder::new().compress_vec(request).unwrap();
    let headers = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";
    let (status, text) = connection
        .send("POST", "/api/v1/write", headers, &body)
        .expect("an answer");
    assert_eq!(status, 204, "{text}");
}

/// `TimeSeries` of remote write 1.0.
fn series(labels: &Labels, samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels.iter() {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut out, 1, &label);
    }
    for (at, value) in samples {
        // Written in full: `-0.0` and NaN have bits to keep.
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&value.to_bits().to_le_bytes());
        sample.push(2 << 3);
        varint(&mut sample, *at as u64);
        field(&mut out, 2, &sample);
    }
    out
}

/// A field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One connection, kept open from question to question.
#[derive(Debug)]
pub(super) struct Connection {
    port: u16,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self {
            port,
            stream: BufReader::new(stream),
        })
    }

    /// Posts a form to the API and reads the JSON that comes back, whatever the status.
    pub(super) fn ask(&mut self, path: &str, params: &[(&str, &str)]) -> serde_json::Value {
        let form: Vec<String> = params.iter().map(|(k, v)| format!("{k}={}", encoded(v))).collect();
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        let body = form.join("&");
        let (_, text) = self
            .send("POST", path, headers, body.as_bytes())
            .unwrap_or_else(|| panic!("no answer to {path} {params:?}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path} {params:?}: {error}: {text}"))
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<(u16, String)> {
        let (port, length) = (self.port, body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {length}\r\n\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).ok()?;
        self.receive()
    }

    fn receive(&mut self) -> Option<(u16, String)> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(": ") {
                None => break,
                Some(("content-length", n)) => length = n.parse().ok()?,
                Some(("transfer-encoding", how)) => chunked = how == "chunked",
                Some(_) => {}
            }
        }
        let mut body = Vec::new();
        if !chunked {
            self.take(length, &mut body)?;
            return Some((status, String::from_utf8(body).ok()?));
        }
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).ok()?;
            self.take(size, &mut body)?;
            self.line()?;
            if size == 0 {
                break;
            }
        }
        Some((status, String::from_utf8(body).ok()?))
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        Some(line.strip_suffix("\r\n")?.to_owned())
    }

    fn take(&mut self, bytes: usize, into: &mut Vec<u8>) -> Option<()> {
        let at = into.len();
        into.resize(at + bytes, 0);
        self.stream.read_exact(into.get_mut(at..)?).ok()
    }
}

/// Percent-encodes all but letters and digits.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
