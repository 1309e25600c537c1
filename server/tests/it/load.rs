//! Many who connect and say little do not keep others from asking.

use crate::program::Program;
use crate::tls_client::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// As many files as the system lets this process have.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, most);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn idle_connections_and_half_sent_heads_do_not_stop_queries() {
    let asked = std::env::var("TIDEGAUGE_IDLE_CONNECTIONS").ok();
    let wanted: u64 = asked.and_then(|n| n.parse().ok()).unwrap_or(1500);
    // What the test itself and its server's pipes need is left.
    let count = wanted.min(raise_open_files().saturating_sub(200)) as usize;
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--web.max-connections=100"]);
    let client = Client::plain(&program.address);
    let mut held = Vec::with_capacity(count);
    let mut slowest = Duration::ZERO;
    for i in 0..count {
        let mut stream = TcpStream::connect(&program.address).expect("it listens");
        if i % 3 == 0 {
            // It may have been closed for another by now.
            drop(stream.write_all(b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\nX-Slow: "));
        }
        held.push(stream);
        if i % 50 == 0 {
            let begun = Instant::now();
            assert_eq!(
                client.ask("GET", "/api/v1/query?query=vector(1)", None).status,
                200,
                "after {i}"
            );
            slowest = slowest.max(begun.elapsed());
        }
    }
    let metrics = client.ask("GET", "/metrics", None).body;
    let value = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name}"))
    };
    assert!(value("tidegauge_http_connections") <= 102.0);
    assert!(value("tidegauge_http_connections_cut_total{reason=\"room\"}") >= count as f64 - 102.0);
    println!("{count} connections held, the slowest query took {slowest:?}");
    drop(held);
}

#[test]
fn who_sends_slowly_or_not_at_all_is_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--web.read-timeout=200ms"]);
    for sent in [
        "",
        "PRI * HTTP/2.0\r\n",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nq",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        let mut stream = TcpStream::connect(&program.address).expect("it listens");
        stream.write_all(sent.as_bytes()).expect("it reads");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        let mut rest = Vec::new();
        // Closed by whichever way; only not at our own timeout.
        let read = std::io::Read::read_to_end(&mut stream, &mut rest);
        let waited =
            read.is_err_and(|e| matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
        assert!(!waited, "{sent:?} holds its connection");
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{sent:?}");
    }
}

#[test]
fn who_opens_streams_and_gives_them_up_is_sent_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &[]);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for i in 0..2000u32 {
        let stream = (2 * i + 1).to_be_bytes();
        // HEADERS of `GET http /`, with all flags of an end; then RST_STREAM, cancelled.
        bytes.extend_from_slice(b"\0\0\x03\x01\x05");
        bytes.extend_from_slice(&stream);
        bytes.extend_from_slice(&[0x82, 0x86, 0x84]);
        bytes.extend_from_slice(b"\0\0\x04\x03\0");
        bytes.extend_from_slice(&stream);
        bytes.extend_from_slice(&8u32.to_be_bytes());
    }
    let mut stream = TcpStream::connect(&program.address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    let mut reading = stream.try_clone().expect("a second end");
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        let ended = std::io::Read::read_to_end(&mut reading, &mut answer);
        (
            ended.map_or_else(|e| e.kind() == std::io::ErrorKind::ConnectionReset, |_| true),
            answer,
        )
    });
    // The server may be gone before all is sent.
    drop(stream.write_all(&bytes));
    let (ended, answer) = reader.join().expect("it reads");
    assert!(ended, "the connection stays open");
    // GOAWAY, if it came through before the end of the connection.
    let frames = frames(&answer);
    assert!(frames.is_empty() || frames.contains(&7), "{frames:?}");
    assert_eq!(Client::plain(&program.address).ask("GET", "/-/ready", None).status, 200);
}

/// The kinds of the frames in a stream of HTTP/2.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = bytes {
        kinds.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}
