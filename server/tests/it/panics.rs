//! A panic while a request is answered is nobody else's harm: 500, counted, logged with the request, and all that the
//! request held is free again.

use crate::site::{NOW_MS, Site, Switches, escape};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tidegauge_model::{Clock, Timestamp};
use tidegauge_query::EngineOptions;
use tidegauge_server::active::ActiveQueries;
use tidegauge_server::api::{ConfigView, LastReload};
use tidegauge_server::query_log::QueryLog;
use tracing_subscriber::fmt::MakeWriter;

/// A clock that panics when it was asked so many times; never while the number is negative.
#[derive(Debug, Default)]
struct Brittle(AtomicI64);

impl Clock for Brittle {
    fn now(&self) -> Timestamp {
        assert!(
            self.0.fetch_sub(1, Ordering::Relaxed) != 0,
            "the clock broke on purpose"
        );
        Timestamp::from_millis(NOW_MS)
    }
}

struct Broken;

impl ConfigView for Broken {
    fn yaml(&self) -> String {
        panic!("the configuration broke on purpose")
    }

    fn unsupported(&self) -> Vec<String> {
        Vec::new()
    }

    fn last_reload(&self) -> LastReload {
        LastReload {
            successful: true,
            at: Timestamp::from_millis(NOW_MS),
        }
    }
}

/// Keeps what is logged on this thread.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Kept {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Kept {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

struct Scene {
    site: Site,
    clock: Arc<Brittle>,
    folder: tempfile::TempDir,
}

impl Scene {
    /// One read at a time, so that a place that is not given back is missed at once.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Brittle(AtomicI64::new(-1)));
        let (active, _) = ActiveQueries::open(folder.path(), 1).unwrap();
        let query_log = QueryLog::default();
        query_log.reopen(&folder.path().join("queries.log")).unwrap();
        let site = Site::with(Switches {
            engine: EngineOptions {
                max_concurrency: 1,
                ..EngineOptions::default()
            },
            clock: Some(clock.clone()),
            config: Arc::new(Broken),
            query_log: Arc::new(query_log),
            active: Arc::new(active),
            ..Switches::default()
        });
        site.store(&[("__name__", "up"), ("job", "a")], &[(NOW_MS - 1000, 1.0)]);
        Self { site, clock, folder }
    }

    /// The next request panics where it asks for the time: the first time in its handler, the second in its task.
    fn arm(&self, after: i64) {
        self.clock.0.store(after, Ordering::Relaxed);
    }

    async fn panics(&self, place: &str) -> f64 {
        let text = self.site.get("/metrics").await.text;
        let name = format!("tidegauge_http_panics_total{{place=\"{place}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    fn active(&self) -> Vec<String> {
        let held = tempfile::tempdir().unwrap();
        std::fs::copy(
            self.folder.path().join("queries.active"),
            held.path().join("queries.active"),
        )
        .unwrap();
        unfinished(held.path())
    }
}

/// The queries that a file of active ones names.
fn unfinished(folder: &Path) -> Vec<String> {
    ActiveQueries::open(folder, 1).unwrap().1
}

/// A query, with the time that it is for, so that only its task needs the clock a second time.
fn query(expression: &str) -> String {
    format!("/api/v1/query?query={}&time={}", escape(expression), NOW_MS / 1000)
}

#[tokio::test]
async fn a_panic_is_answered_counted_and_logged_and_what_the_request_held_is_free_again() {
    let log = Kept::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let scene = Scene::new();
    let site = &scene.site;
    let requests = [
        ("in a handler", 0, query("up") + "&secret=hunter2"),
        ("in the task of a query", 1, query("up + 0") + "&secret=hunter2"),
        (
            "in a handler without a query",
            -1,
            "/api/v1/status/config?secret=hunter2".to_owned(),
        ),
    ];
    for (nth, (place, after, path)) in requests.iter().enumerate() {
        scene.arm(*after);
        let answer = site.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (500, "application/json"),
            "{place}"
        );
        let json = answer.json();
        assert_eq!(
            (json["status"].as_str(), json["errorType"].as_str()),
            (Some("error"), Some("internal")),
            "{place}"
        );
        assert!(!answer.text.contains("on purpose"), "{place}: {}", answer.text);
        let lines: Vec<String> = log
            .lines()
            .into_iter()
            .filter(|line| line.contains("this is a defect"))
            .collect();
        let [line] = lines.as_slice() else {
            panic!("{place}: one line is logged: {lines:?}");
        };
        let asked = path.split("&secret").next().unwrap().split("?secret").next().unwrap();
        assert!(
            line.contains(&format!("GET {asked}")) && line.contains("broke on purpose"),
            "{place}: {line}"
        );
        assert!(!line.contains("hunter2"), "{place}: {line}");
        assert_eq!(scene.panics("handler").await, (nth + 1) as f64, "{place}");
        assert!(scene.active().is_empty(), "{place}: {:?}", scene.active());
        // With one place among the reads, one that was not given back would end the next in the queue.
        scene.arm(-1);
        let next = site.get(&(query("up") + "&timeout=10")).await;
        assert_eq!(next.status.as_u16(), 200, "{place}: {}", next.text);
    }
}

/// On the listener's own threads, where a read is not handed to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_on_a_connection_ends_neither_it_nor_others() {
    use tidegauge_server::http::{ServeOptions, serve};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let scene = Scene::new();
    let app = scene.site.app.clone();
    let service = tower::service_fn(move |request| {
        let app = app.clone();
        async move { Ok(app.answer(request).await) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(serve(listener, service, ServeOptions::default(), stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for (after, expression, status) in [
        (1, "up * 1", 500),
        (-1, "up * 2", 200),
        (0, "up * 3", 500),
        (-1, "up * 4", 200),
    ] {
        scene.arm(after);
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", query(expression));
        stream.write_all(request.as_bytes()).await.unwrap();
        // Answers to these are short and end with a brace of the outermost object.
        let mut answer = Vec::new();
        while !(answer.ends_with(b"}") && answer.windows(4).any(|end| end == b"\r\n\r\n")) {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "the connection ended: {}", String::from_utf8_lossy(&answer));
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{expression}: {answer}"
        );
    }
    assert!(scene.active().is_empty());
    assert_eq!(scene.panics("handler").await, 2.0);
    drop(stream);
    stop.cancel();
    serving.await.unwrap().unwrap();
}
