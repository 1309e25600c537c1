//! A crowd that looks at dashboards while many targets are scraped: no scrape is missed, nobody gets an error but what
//! is declared, and memory stays within its limit.
//!
//! The short form runs with all tests; `TIDEGAUGE_CROWD_SECONDS`, `_CLIENTS`, `_TARGETS`, `_SERIES` (of a target) and
//! `_INTERVAL` (in seconds) make it longer and larger, as `just nightly` does.

use crate::process::{Running, form, free_port, tidegauge};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the program may take, and what it then has resident at most.
const MEMORY_LIMIT: &str = "256MiB";
const MEMORY_BYTES: u64 = 256 << 20;
/// How often a dashboard is looked at anew.
const REFRESH: Duration = Duration::from_secs(5);

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(format!("TIDEGAUGE_CROWD_{name}")).ok();
    given.map_or(default, |n| n.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Serves the metrics of any target, told apart by the path, until it is dropped with the test.
fn exporter(series: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let begun = Instant::now();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream, series, begun));
        }
    });
    port
}

fn serve(stream: TcpStream, series: u64, begun: Instant) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        head(&mut reader)?;
        let now = begun.elapsed().as_millis() as u64;
        let mut body = String::new();
        for n in 0..series {
            let (name, mode, code) = (n % 10, n / 10 % 10, n / 100);
            let value = now * (n % 7 + 1) / 10;
            let _ = writeln!(body, "crowd_{name}_total{{mode=\"m{mode}\",code=\"{code}\"}} {value}");
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all((head + &body).as_bytes()).ok()?;
    }
}

/// The lines of a message up to the empty one.
fn head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some(lines);
        }
        lines.push(line.to_ascii_lowercase());
    }
}

/// Asks on a connection that stays; gives the status once the whole answer is there.
fn ask(reader: &mut BufReader<TcpStream>, path: &str, body: &str) -> Option<u16> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    reader.get_mut().write_all(request.as_bytes()).ok()?;
    let lines = head(reader)?;
    let status = lines.first()?.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
    let skip = |reader: &mut BufReader<TcpStream>, bytes: u64| {
        let skipped = std::io::copy(&mut reader.take(bytes), &mut std::io::sink()).ok()?;
        (skipped == bytes).then_some(())
    };
    if let Some(length) = header("content-length: ") {
        skip(reader, length.parse().ok()?)?;
        return Some(status);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let bytes = u64::from_str_radix(line.trim(), 16).ok()?;
        skip(reader, bytes + 2)?;
        if bytes == 0 {
            return Some(status);
        }
    }
}

/// What a client's dashboard asks for.
fn panels(target: u64, now: u64) -> Vec<(String, String)> {
    let (start, end) = ((now - 600).to_string(), now.to_string());
    let instance = format!("instance=\"t{target}\"");
    let range = |query: String| {
        let params = [("query", &*query), ("start", &start), ("end", &end), ("step", "15")];
        ("/api/v1/query_range".to_owned(), form(&params))
    };
    let instant = |query: String| ("/api/v1/query".to_owned(), form(&[("query", &query), ("time", &end)]));
    let selector = format!("crowd_0_total{{{instance}}}");
    let found = form(&[("match[]", &selector), ("start", &start), ("end", &end)]);
    vec![
        (
            format!("/api/v1/label/instance/values?{}", form(&[("match[]", "up")])),
            String::new(),
        ),
        (format!("/api/v1/label/mode/values?{found}"), String::new()),
        ("/api/v1/series".to_owned(), found),
        range(format!("sum by (mode) (rate(crowd_1_total{{{instance}}}[1m]))")),
        range(format!("topk(5, rate(crowd_2_total{{{instance}}}[1m]))")),
        range(format!("crowd_3_total{{{instance},mode=\"m3\"}}")),
        range("sum(rate(crowd_4_total{mode=\"m4\"}[1m]))".to_owned()),
        instant(format!("count by (code) ({{__name__=~\"crowd_.*\",{instance}}})")),
        instant("sum(up)".to_owned()),
    ]
}

/// Counts of all clients.
#[derive(Debug, Default)]
struct Told {
    well: AtomicU64,
    busy: AtomicU64,
    wrong: AtomicU64,
    slowest_ms: AtomicU64,
}

/// Looks at a dashboard again and again.
fn client(port: u16, target: u64, stop: &AtomicBool, told: &Told) {
    let mut connection: Option<BufReader<TcpStream>> = None;
    while !stop.load(Ordering::Relaxed) {
        let looked = Instant::now();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        for (path, body) in panels(target, now) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let begun = Instant::now();
            let reader = connection
                .get_or_insert_with(|| BufReader::new(TcpStream::connect(("127.0.0.1", port)).expect("it listens")));
            let status = ask(reader, &path, &body);
            let count = match status {
                Some(200) => &told.well,
                Some(503) => &told.busy,
                _ => {
                    connection = None;
                    &told.wrong
                }
            };
            count.fetch_add(1, Ordering::Relaxed);
            told.slowest_ms
                .fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
        std::thread::park_timeout(REFRESH.saturating_sub(looked.elapsed()));
    }
}

fn metric(server: &Running, name: &str) -> f64 {
    let text = server.get("/metrics").expect("an answer").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_crowd_of_dashboards_does_not_keep_scrapes_from_their_turns() {
    let (length, clients) = (setting("SECONDS", 6), setting("CLIENTS", 20));
    let (targets, series, interval) = (setting("TARGETS", 20), setting("SERIES", 200), setting("INTERVAL", 2));
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let exporter = exporter(series);
    let names: Vec<String> = (0..targets).map(|n| format!("t{n}")).collect();
    let config = format!(
        "global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s}}\nscrape_configs:\n- job_name: crowd\n  \
         static_configs: [{{targets: {names:?}}}]\n  relabel_configs:\n  \
         - {{source_labels: [__address__], target_label: instance}}\n  \
         - {{source_labels: [__address__], target_label: __metrics_path__, replacement: '/$1'}}\n  \
         - {{target_label: __address__, replacement: '127.0.0.1:{exporter}'}}\n"
    );
    let file = dir.path().join("config.yml");
    std::fs::write(&file, config).unwrap();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--memory.limit={MEMORY_LIMIT}"),
    ];
    let mut server = Running::start(&tidegauge(), &args, port, "/-/ready", &dir.path().join("log"));
    server.wait_for(
        |server| metric(server, "tidegauge_scrape_scrapes_total") >= targets as f64,
        "each target to be scraped",
    );

    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Told::default()));
    let begun = Instant::now();
    let crowd: Vec<_> = (0..clients)
        .map(|n| {
            let (stop, told) = (stop.clone(), told.clone());
            std::thread::spawn(move || client(port, n % targets, &stop, &told))
        })
        .collect();
    while begun.elapsed() < Duration::from_secs(length) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    stop.store(true, Ordering::Relaxed);
    for one in crowd {
        one.thread().unpark();
        one.join().expect("it ends");
    }

    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let up = server.api(
        "/api/v1/query",
        &[("query", &format!("count(min_over_time(up[{}s]) == 1)", length + 1))],
    );
    let scrapes = metric(&server, "tidegauge_scrape_scrapes_total");
    let (missed, failed) = (
        metric(&server, "tidegauge_scrape_missed_total"),
        metric(&server, "tidegauge_scrape_failures_total"),
    );
    let resident = server.most_resident_bytes();
    println!(
        "{clients} clients, {targets} targets of {series} series every {interval} s, {length} s: {} answers, {} busy, the slowest after {} ms; \
         {scrapes} scrapes, {missed} missed, {failed} failed; {:.1} MiB at most",
        of(&told.well),
        of(&told.busy),
        of(&told.slowest_ms),
        resident as f64 / (1 << 20) as f64
    );
    assert_eq!(of(&told.wrong), 0, "neither 200 nor 503");
    assert!(of(&told.well) >= clients * 9, "only {told:?}");
    assert_eq!((missed, failed), (0.0, 0.0), "scrapes missed and failed");
    assert_eq!(up["result"][0]["value"][1], targets.to_string(), "{up}");
    assert!(resident <= MEMORY_BYTES, "{resident} bytes");
}
