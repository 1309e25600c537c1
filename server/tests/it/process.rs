//! Starts real programs and talks to them over loopback, as a user's tools would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test: the one cargo built for this run, unless `TIDEGAUGE_BIN` names another (the release build).
pub(crate) fn tidegauge() -> PathBuf {
    std::env::var_os("TIDEGAUGE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tidegauge").into(), PathBuf::from)
}

/// A peer's program; fails the test that asked where `TIDEGAUGE_PEERS` is not set.
pub(crate) fn peer(name: &str) -> PathBuf {
    let folder = std::env::var("TIDEGAUGE_PEERS").expect("TIDEGAUGE_PEERS names the folder of the peers' programs");
    let path = Path::new(&folder).join(name);
    assert!(path.exists(), "{} is not there: see .ci/peers.sh", path.display());
    path
}

/// A port nobody listens on now. Another process may take it in between: callers retry by failing loudly.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running program, killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Running {
    /// Starts a program with its output in `log` and waits until `ready_path` answers 200.
    pub(crate) fn start(program: &Path, args: &[String], port: u16, ready_path: &str, log: &Path) -> Self {
        let mut running = Self::spawn(program, args, port, log);
        running.wait_for(|r| r.get(ready_path).is_some_and(|a| a.status == 200), "to be ready");
        running
    }

    fn spawn(program: &Path, args: &[String], port: u16, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        Self {
            child,
            port,
            log: log.to_owned(),
        }
    }

    /// Starts a server with this configuration on a port of its own, its data and its log below `dir`.
    pub(crate) fn serve(program: &Path, name: &str, dir: &Path, config: &str, flags: &[&str]) -> Self {
        Self::serve_to(program, name, dir, config, flags, &[])
    }

    /// The same, and `headers` show who asks whether it is ready.
    pub(crate) fn serve_to(
        program: &Path,
        name: &str,
        dir: &Path,
        config: &str,
        flags: &[&str],
        headers: &[(&str, &str)],
    ) -> Self {
        let port = free_port();
        let file = dir.join(format!("{name}.yml"));
        std::fs::write(&file, config).unwrap();
        let mut args = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", dir.join(name).display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let ready = format!("{}/-/ready", prefix(flags));
        let mut running = Self::spawn(program, &args, port, &dir.join(format!("{name}.log")));
        let asked = |server: &Self| request(server.port, "GET", &ready, headers, &[]);
        running.wait_for(
            |server| asked(server).is_some_and(|answer| answer.status == 200),
            "to be ready",
        );
        running
    }

    /// Waits until `done` holds; fails with the program's log if it ends or takes too long.
    pub(crate) fn wait_for(&mut self, done: impl Fn(&Self) -> bool, what: &str) {
        let began = Instant::now();
        loop {
            if done(self) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "waited for {what}; ended: {ended:?}; log:\n{}",
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The most memory it ever held, in bytes.
    pub(crate) fn most_resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = line.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        kib << 10
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit code and how long the end took.
    pub(crate) fn terminate(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        (code, began.elapsed())
    }

    /// GET; `None` if nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<Answer> {
        request(self.port, "GET", path, &[], &[])
    }

    /// The `data` of an API answer; fails unless it is a success.
    pub(crate) fn api(&self, path: &str, params: &[(&str, &str)]) -> serde_json::Value {
        let answer = self.get(&format!("{path}?{}", form(params))).expect("an answer");
        let body: serde_json::Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{path} {params:?}: {e}: {}", answer.body));
        assert_eq!(body["status"], "success", "{path} {params:?}: {}", answer.body);
        body["data"].clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
    /// The body as it came.
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    /// The value of a header, empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

/// The path of the external URL that flags name, which all paths of a server lie below.
pub(crate) fn prefix(flags: &[&str]) -> String {
    let url = flags.iter().find_map(|flag| flag.strip_prefix("--web.external-url="));
    url.map_or(String::new(), |url| {
        let url: url::Url = url.parse().unwrap();
        url.path().trim_end_matches('/').to_owned()
    })
}

/// Percent-encodes parameters.
pub(crate) fn form(params: &[(&str, &str)]) -> String {
    let encode = |s: &str| percent_encoding::utf8_percent_encode(s, percent_encoding::NON_ALPHANUMERIC).to_string();
    params
        .iter()
        .map(|(k, v)| format!("{}={}", encode(k), encode(v)))
        .collect::<Vec<_>>()
        .join("&")
}

/// One request as HTTP/1.0, so that the answer is neither chunked nor kept open.
pub(crate) fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let bytes = answer.split_off(end + 4);
    answer.truncate(end);
    let head = String::from_utf8_lossy(&answer).into_owned();
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head,
        body: String::from_utf8_lossy(&bytes).into_owned(),
        bytes,
    })
}
