//! `global.query_log_file`: one line of JSON for each PromQL query, with the fields of upstream's.
//!
//! The file is opened anew at each reload, so that it may have been moved away before. What cannot be written is counted,
//! and told once.

use crate::api::Listing;
use crate::http::Caller;
use axum::http::Request;
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegauge_model::{MetricKind, Timestamp};
use tidegauge_query::QueryStats;

/// A query is logged up to this many bytes.
const MAX_QUERY_BYTES: usize = 64 << 10;

/// The log of queries; none until one is opened.
#[derive(Debug, Default)]
pub struct QueryLog {
    /// Read for each query: so it costs nothing where there is no log.
    open: AtomicBool,
    file: RwLock<Option<Mutex<File>>>,
    failed: AtomicU64,
}

/// Who asked, over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) ip: Option<IpAddr>,
    pub(crate) method: String,
    pub(crate) path: String,
}

impl Asker {
    /// Who sends a request.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self {
            ip: Caller::ip(request.extensions()),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
        }
    }
}

/// A query as it is logged.
#[derive(Debug)]
pub(crate) struct Logged<'q> {
    pub(crate) query: &'q str,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) step_ms: i64,
    /// What it took, or what was wrong.
    pub(crate) outcome: Result<&'q QueryStats, String>,
}

impl QueryLog {
    /// Opens a file at its end; none with an empty path.
    ///
    /// # Errors
    /// What the system says; the log before stays.
    pub fn reopen(&self, path: &Path) -> Result<(), String> {
        let file = if path.as_os_str().is_empty() {
            None
        } else {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            let problem = |e| format!("cannot open the query log {}: {e}", path.display());
            Some(Mutex::new(opened.map_err(problem)?))
        };
        let mut held = self.file.write();
        self.open.store(file.is_some(), Ordering::Relaxed);
        *held = file;
        Ok(())
    }

    /// Whether queries are logged.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Writes a line.
    pub(crate) fn write(&self, now: Timestamp, asker: &Asker, logged: &Logged<'_>) {
        let mut line = line(now, asker, logged);
        line.push('\n');
        let file = self.file.read();
        let Some(file) = &*file else { return };
        // One write, so that lines of several processes do not mix.
        if let Err(error) = file.lock().write_all(line.as_bytes())
            && self.failed.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!(%error, "a query could not be logged; further ones are counted alone");
        }
    }

    /// For `/metrics`.
    pub(crate) fn list(&self) -> Vec<Listing> {
        let one = |value| vec![(Vec::new(), value)];
        vec![
            (
                "tidegauge_query_log_enabled",
                "Whether queries are logged.",
                MetricKind::Gauge,
                one(f64::from(u8::from(self.is_open()))),
            ),
            (
                "tidegauge_query_log_failures_total",
                "Queries that could not be logged.",
                MetricKind::Counter,
                one(self.failed.load(Ordering::Relaxed) as f64),
            ),
        ]
    }
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| at.millis().to_string(), |t| format!("{t:.3}"))
}

fn line(now: Timestamp, asker: &Asker, logged: &Logged<'_>) -> String {
    let cut = logged
        .query
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= MAX_QUERY_BYTES);
    let query = logged
        .query
        .get(..cut.unwrap_or(logged.query.len()))
        .unwrap_or_default();
    let mut members = Map::new();
    let mut put = |key: &str, value: Value| members.insert(key.to_owned(), value);
    put("time", rfc3339(now).into());
    put("level", "INFO".into());
    put("msg", "promql query logged".into());
    put(
        "params",
        json!({
            "end": rfc3339(logged.end),
            "query": query,
            "start": rfc3339(logged.start),
            "step": logged.step_ms / 1000,
        }),
    );
    match &logged.outcome {
        Ok(taken) => put("stats", stats(taken)),
        Err(problem) => put("error", problem.clone().into()),
    };
    put("spanID", "0000000000000000".into());
    put(
        "httpRequest",
        json!({
            "clientIP": asker.ip.map_or_else(String::new, |ip| ip.to_string()),
            "method": asker.method,
            "path": asker.path,
        }),
    );
    Value::Object(members).to_string()
}

fn stats(taken: &QueryStats) -> Value {
    let total = taken.prepare + taken.eval + taken.sort;
    json!({
        "timings": {
            "evalTotalTime": total.as_secs_f64(),
            "resultSortTime": taken.sort.as_secs_f64(),
            "queryPreparationTime": taken.prepare.as_secs_f64(),
            "innerEvalTime": taken.eval.as_secs_f64(),
            "execQueueTime": taken.queue.as_secs_f64(),
            "execTotalTime": (total + taken.queue).as_secs_f64(),
        },
        "samples": {
            "totalQueryableSamples": taken.samples,
            "peakSamples": taken.peak_samples,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker {
            ip: "10.0.0.1".parse().ok(),
            method: "GET".into(),
            path: "/api/v1/query".into(),
        }
    }

    #[test]
    fn a_line_has_the_fields_of_upstreams() {
        let taken = QueryStats {
            samples: 7,
            ..QueryStats::default()
        };
        let at = Timestamp::from_millis(1_796_000_000_500);
        let mut logged = Logged {
            query: "up{a=\"\n\"}",
            start: at,
            end: at,
            step_ms: 15_000,
            outcome: Ok(&taken),
        };
        let read = |logged: &Logged<'_>| -> Value { serde_json::from_str(&line(at, &asker(), logged)).unwrap() };
        let value = read(&logged);
        assert_eq!(value["time"], "2026-11-30T00:53:20.500Z");
        assert_eq!(value["params"]["query"], "up{a=\"\n\"}");
        assert_eq!(value["params"]["step"], 15);
        assert_eq!(value["stats"]["samples"]["totalQueryableSamples"], 7);
        assert_eq!(value["httpRequest"]["clientIP"], "10.0.0.1");
        assert!(value.get("error").is_none());
        logged.outcome = Err("query timed out".into());
        let value = read(&logged);
        assert!(value["error"] == "query timed out" && value.get("stats").is_none());
        let long = "é".repeat(MAX_QUERY_BYTES);
        logged.query = &long;
        assert!(read(&logged)["params"]["query"].as_str().unwrap().len() <= MAX_QUERY_BYTES + 1);
    }

    #[test]
    fn a_reload_opens_the_file_anew_and_a_bad_one_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (log, path) = (QueryLog::default(), dir.path().join("q.log"));
        let taken = QueryStats::default();
        let write = |log: &QueryLog| {
            let at = Timestamp::from_millis(0);
            let (query, outcome) = ("up", Ok(&taken));
            let logged = Logged {
                query,
                start: at,
                end: at,
                step_ms: 0,
                outcome,
            };
            log.write(at, &asker(), &logged);
        };
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
        write(&log);
        assert!(!log.is_open() && !path.exists());
        log.reopen(&path).unwrap();
        write(&log);
        let moved = dir.path().join("q.old");
        std::fs::rename(&path, &moved).unwrap();
        write(&log);
        assert!(log.reopen(&dir.path().join("none/q.log")).is_err());
        write(&log);
        assert_eq!((lines(&moved), lines(&path)), (3, 0));
        log.reopen(&path).unwrap();
        write(&log);
        assert_eq!((lines(&moved), lines(&path)), (3, 1));
        log.reopen(Path::new("")).unwrap();
        assert!(!log.is_open());
    }
}
