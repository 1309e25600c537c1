//! A real Prometheus and the real program, started alike and written the same samples.

use crate::process::{Running, peer, prefix, request, tidegauge};
use crate::remote_write::{Series, WriteRequest, packed, series};
use prost::Message;

/// Samples are this far apart.
const EVERY_MS: i64 = 15_000;
/// How many each series has: 40 minutes, so that Prometheus takes them in any order of series.
const SAMPLES: i64 = 160;

/// Both servers and the time of the first sample.
pub(crate) struct Pair {
    pub(crate) theirs: Running,
    pub(crate) ours: Running,
    pub(crate) start_ms: i64,
    /// What all paths lie below.
    pub(crate) prefix: String,
    _dir: tempfile::TempDir,
}

impl Pair {
    /// Starts both with a configuration and flags, and writes them [`data`].
    pub(crate) fn start(config: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags = [flags, &["--web.enable-remote-write-receiver"]].concat();
        let start = |program, name| Running::serve(program, name, dir.path(), config, &flags);
        let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        let pair = Self {
            theirs: start(&peer("prometheus"), "theirs"),
            ours: start(&tidegauge(), "ours"),
            start_ms: (now_ms - (SAMPLES + 10) * EVERY_MS) / 60_000 * 60_000,
            prefix: prefix(&flags),
            _dir: dir,
        };
        pair.write(data(pair.start_ms));
        pair
    }

    /// Writes the same series to both.
    pub(crate) fn write(&self, series: Vec<Series>) {
        let body = packed(&WriteRequest { series }.encode_to_vec());
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let path = format!("{}/api/v1/write", self.prefix);
        for server in [&self.theirs, &self.ours] {
            let answer = request(server.port, "POST", &path, &headers, &body).unwrap();
            assert_eq!(answer.status, 204, "{}", answer.body);
        }
    }

    /// Seconds after the first sample as a parameter.
    pub(crate) fn at(&self, seconds: i64) -> String {
        (self.start_ms / 1000 + seconds).to_string()
    }

    /// When the last sample is.
    pub(crate) fn end_ms(&self) -> i64 {
        self.start_ms + (SAMPLES - 1) * EVERY_MS
    }
}

/// Counters of two jobs, gauges with ends and gaps, buckets, and labels long and short.
fn data(start_ms: i64) -> Vec<Series> {
    let points = |value: &dyn Fn(i64) -> Option<f64>| -> Vec<(i64, f64)> {
        (0..SAMPLES)
            .filter_map(|k| value(k).map(|v| (start_ms + k * EVERY_MS, v)))
            .collect()
    };
    let mut all = Vec::new();
    for i in 0..24i64 {
        let (instance, job) = (format!("host-{i}:9100"), if i % 3 == 0 { "a" } else { "b" });
        let labels = [("__name__", "m_total"), ("instance", instance.as_str()), ("job", job)];
        all.push(series(&labels, &points(&|k| Some((k * (i + 3)) as f64))));
    }
    for i in 0..9i64 {
        let instance = format!("host-{i}:9100");
        let labels = [("__name__", "gauge"), ("instance", instance.as_str())];
        // Some begin late, some end early, one has a hole.
        let here = |k: i64| (i % 3 != 0 || k > 40) && (i % 4 != 1 || k < 90) && (i != 5 || !(50..80).contains(&k));
        all.push(series(&labels, &points(&|k| here(k).then(|| ((k * i) % 17) as f64))));
    }
    for le in ["0.1", "1", "10", "+Inf"] {
        let bound = le.parse::<f64>().unwrap_or(30.0);
        let labels = [("__name__", "h_bucket"), ("job", "a"), ("le", le)];
        all.push(series(
            &labels,
            &points(&|k| Some((k as f64 * bound.min(20.0)).floor())),
        ));
    }
    let long = "x".repeat(300);
    for i in 0..40 {
        let n = format!("{i}");
        let labels = [
            ("__name__", "some"),
            ("long", long.as_str()),
            ("n", n.as_str()),
            ("name", "na\u{ef}ve"),
        ];
        let labels = if i % 2 == 0 { &labels[..] } else { &labels[..3] };
        all.push(series(labels, &points(&|_| Some(f64::from(i)))));
    }
    all
}
