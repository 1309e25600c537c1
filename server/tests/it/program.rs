//! The real binary as a child: started on a free port, asked over HTTP, stopped by signal.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// No step of a test takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program. Killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// What it said at the start.
    pub(crate) greeting: Vec<String>,
    /// Where it listens.
    pub(crate) address: String,
}

/// Runs the program to its end; gives exit code and the texts of both streams.
pub(crate) fn texts(args: &[&str]) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegauge"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stdout = lines(child.stdout.take().expect("piped"));
    let stderr = lines(child.stderr.take().expect("piped"));
    let read = |stream: &Receiver<String>| {
        let mut text = String::new();
        loop {
            match stream.recv_timeout(PATIENCE) {
                Ok(line) => text.push_str(&(line + "\n")),
                Err(RecvTimeoutError::Disconnected) => return Some(text),
                Err(RecvTimeoutError::Timeout) => return None,
            }
        }
    };
    let (out, err) = (read(&stdout), read(&stderr));
    if out.is_none() || err.is_none() {
        drop(child.kill());
    }
    let code = child.wait().expect("it was started").code();
    (
        code,
        out.unwrap_or("(did not end)".to_owned()),
        err.unwrap_or("(did not end)".to_owned()),
    )
}

impl Program {
    /// Serves from `data` on a free port until it says where.
    pub(crate) fn serve(data: &Path, args: &[&str]) -> Self {
        Self::serve_with(data, args, &[])
    }

    /// The same with more in its environment.
    pub(crate) fn serve_with(data: &Path, args: &[&str], environment: &[(&str, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegauge"))
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        let mut greeting = Vec::new();
        while greeting.len() < 3 {
            match stdout.recv_timeout(PATIENCE) {
                Ok(line) => greeting.push(line),
                Err(_) => panic!(
                    "no greeting; it said: {}",
                    stderr.try_iter().collect::<Vec<_>>().join("\n")
                ),
            }
        }
        let address = greeting[0]
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .expect("an address in the first line")
            .to_owned();
        Self {
            child,
            stdout,
            stderr,
            greeting,
            address,
        }
    }

    /// One request; gives status and body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut request = String::new();
        let _ = write!(request, "{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        request.push_str("Connection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        (status, body)
    }

    /// Asks until the body holds `text`, since scrapes and signals take their time.
    pub(crate) fn ask_until(&self, path: &str, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let (_, body) = self.ask("GET", path);
            if body.contains(text) {
                return body;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} never held {text:?}; last: {body}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// How much memory it has resident.
    #[cfg_attr(
        not(feature = "kubernetes"),
        allow(dead_code, reason = "for tests of discovery there alone")
    )]
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        number.expect("a number")
    }

    /// How much of the processor it has had, in seconds.
    #[cfg_attr(
        not(feature = "kubernetes"),
        allow(dead_code, reason = "for tests of the metrics APIs alone")
    )]
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .expect("kill exists");
        assert!(sent.success());
    }

    /// Waits for a line of the log that holds `text`.
    pub(crate) fn log_until(&self, text: &str) -> String {
        loop {
            let line = self
                .stderr
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("the log never held {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The same, doing something again and again meanwhile.
    pub(crate) fn log_until_while(&self, text: &str, again: impl Fn()) -> String {
        let begun = Instant::now();
        loop {
            again();
            if let Some(line) = self.stderr.try_iter().find(|line| line.contains(text)) {
                return line;
            }
            assert!(begun.elapsed() < PATIENCE, "the log never held {text:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits for the end; gives the exit code, how long it took, and the rest of the log.
    pub(crate) fn wait(mut self) -> (Option<i32>, Duration, String) {
        let begun = Instant::now();
        let mut log = String::new();
        // The stream ends with the process.
        while let Ok(line) = self.stderr.recv_timeout(PATIENCE) {
            log.push_str(&line);
            log.push('\n');
        }
        let code = self.child.wait().expect("it was started").code();
        assert_eq!(
            self.stdout.try_iter().count(),
            0,
            "standard output holds the greeting alone"
        );
        (code, begun.elapsed(), log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Lines of a stream as they come. The channel ends with the stream.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}
