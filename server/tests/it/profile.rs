//! Profiles of processor and memory, as `pprof` reads them.

use crate::program::Program;
use prost::Message;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The parts of `profile.proto` that are looked at.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    types: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    locations: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    functions: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    lines: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn unpacked(packed: &[u8]) -> Self {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut bytes)
            .expect("gzip");
        Self::decode(&*bytes).expect("a profile")
    }

    fn text(&self, number: i64) -> &str {
        &self.strings[number as usize]
    }

    /// The names of the functions of a sample, the innermost first.
    fn stack(&self, sample: &Sample) -> Vec<&str> {
        let places = sample.locations.iter();
        let places = places.map(|id| self.locations.iter().find(|place| place.id == *id).expect("a location"));
        let lines = places.flat_map(|place| &place.lines);
        lines
            .map(|line| {
                let function = self.functions.iter().find(|function| function.id == line.function);
                self.text(function.expect("a function").name)
            })
            .collect()
    }
}

/// Status and body, which may be of any bytes.
fn ask(address: &str, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes())
        .expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let head = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
    let status = String::from_utf8_lossy(&answer[..head]);
    let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), answer[head + 4..].to_vec())
}

#[test]
fn a_profile_of_the_processor_names_what_evaluates_queries() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--web.enable-profiling"]);
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(2));
    let query = "/api/v1/query?query=sum_over_time(sqrt(vector(time()))[2000s:1s])&time=100000";
    let (first, second) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(ask(&program.address, query).0, 200);
            }
        });
        let taken = || {
            ready.wait();
            ask(&program.address, "/debug/pprof/profile?seconds=2")
        };
        let (one, other) = (scope.spawn(taken), scope.spawn(taken));
        let both = (one.join().expect("an answer"), other.join().expect("an answer"));
        stop.store(true, Ordering::Relaxed);
        both
    });
    let (taken, refused) = if first.0 == 200 {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(refused.0, 409, "{}", String::from_utf8_lossy(&refused.1));
    assert_eq!(taken.0, 200, "{}", String::from_utf8_lossy(&taken.1));
    let profile = Profile::unpacked(&taken.1);
    let types: Vec<_> = profile
        .types
        .iter()
        .map(|of| (profile.text(of.kind), profile.text(of.unit)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert!(profile.duration_nanos >= 2_000_000_000, "{}", profile.duration_nanos);
    let evaluating: i64 = profile
        .samples
        .iter()
        .filter(|sample| {
            profile
                .stack(sample)
                .iter()
                .any(|name| name.contains("tidegauge_query::"))
        })
        .map(|sample| sample.values[0])
        .sum();
    let all: i64 = profile.samples.iter().map(|sample| sample.values[0]).sum();
    println!("{evaluating} of {all} samples are of queries");
    assert!(evaluating >= 5, "{evaluating} of {all}: {:?}", profile.strings);
    // Another one can be taken once it has ended.
    assert_eq!(ask(&program.address, "/debug/pprof/profile?seconds=1").0, 200);
}

#[test]
fn a_profile_of_the_memory_adds_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--web.enable-profiling"]);
    let (status, packed) = ask(&program.address, "/debug/pprof/heap");
    assert_eq!(status, 200);
    let profile = Profile::unpacked(&packed);
    let sum: i64 = profile.samples.iter().map(|sample| sample.values[0]).sum();
    let resident = program.resident_kib() as i64 * 1024;
    assert!(sum > resident / 2 && sum < resident * 2, "{sum} of {resident}");
    assert!(
        profile
            .samples
            .iter()
            .all(|sample| profile.stack(sample).last() == Some(&"tidegauge"))
    );
}

#[test]
fn profiles_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = |(status, body): (u16, Vec<u8>)| (status, String::from_utf8(body).expect("a text"));
    let program = Program::serve(
        &dir.path().join("on"),
        &["--web.enable-profiling", "--memory.limit=16MB"],
    );
    for seconds in ["0", "301", "-1", "1.5", "x", "99999999999999999999"] {
        let (status, body) = text(ask(
            &program.address,
            &format!("/debug/pprof/profile?seconds={seconds}"),
        ));
        assert_eq!(status, 400, "{seconds}");
        assert!(
            body.contains("\"errorType\":\"bad_data\"") && body.contains("invalid parameter \\\"seconds\\\""),
            "{body}"
        );
    }
    let (status, body) = text(ask(&program.address, "/debug/pprof/profile?seconds=1"));
    assert_eq!(status, 503);
    assert!(body.contains("are left of --memory.limit"), "{body}");
    drop(program);
    let program = Program::serve(&dir.path().join("off"), &[]);
    for path in ["/debug/pprof/profile", "/debug/pprof/heap"] {
        let (status, body) = text(ask(&program.address, path));
        assert_eq!(
            (status, &*body),
            (403, "profiles are taken with --web.enable-profiling alone\n"),
            "{path}"
        );
    }
}
