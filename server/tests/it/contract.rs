//! The same requests to a real Prometheus and to the real program, both holding the same samples and scraping the same
//! target: the same status, headers, and JSON in the same order.
//!
//! The requests are `testdata/api/contract.txt`. Where an answer cannot be equal, `contract_gaps.txt` says so and why; a
//! line of it that no answer needs fails, too.

mod difference;
mod table;

use crate::exporters::mirror::{Mirror, Recorded};
use crate::pair::Pair;
use crate::process::{Answer, Running, peer, request, tidegauge};
use crate::remote_write::{Series, series};
use difference::{Gaps, differences};
use std::collections::BTreeMap;
use std::process::Command;
use table::{Request, Table, Values};

/// How many requests the table holds at least.
const REQUESTS: usize = 4800;

/// What both scrape; nobody listens at port 1.
const CONFIG: &str = "global: {scrape_interval: 3s, scrape_timeout: 3s}
scrape_configs:
- job_name: contract
  static_configs: [{targets: ['TARGET'], labels: {env: 'test <&>'}}]
  relabel_configs:
  - {source_labels: [__address__], regex: '(.*):.*', target_label: host}
- job_name: down
  static_configs: [{targets: ['127.0.0.1:1']}]
- job_name: dropped
  static_configs: [{targets: ['10.0.0.1:1', '10.0.0.2:1']}]
  relabel_configs: [{action: drop}]
";

/// Every kind of metric, each sample with its time so that all scrapes store the same, with metadata and exemplars.
const EXPORTER: &str = r#"# HELP contract Things done.\nAnd a \"quote\", <&>.
# TYPE contract counter
contract_total{code="200"} 12 AT # {trace_id="abc"} 1 BEFORE.5
contract_total{code="500"} 3 AT
# HELP contract_seconds How long it took.
# TYPE contract_seconds histogram
# UNIT contract_seconds seconds
contract_seconds_bucket{le="0.1"} 1 AT # {trace_id="one",span_id="x"} 0.05 BEFORE
contract_seconds_bucket{le="1"} 3 AT # {trace_id="two"} 0.5 BEFORE.25
contract_seconds_bucket{le="+Inf"} 4 AT # {trace_id="é"} 1e9 BEFORE
contract_seconds_count 4 AT
contract_seconds_sum 5.5 AT
# TYPE contract_info info
# HELP contract_info About it.
contract_info{version="1"} 1 AT
# TYPE contract_state stateset
contract_state{contract_state="a"} 1 AT
# TYPE contract_quantiles summary
contract_quantiles{quantile="0.5"} 1 AT
contract_quantiles_count 4 AT
contract_quantiles_sum 5.5 AT
# TYPE contract_gauge gauge
contract_gauge 1.5 AT
contract_untyped 1 AT
# EOF
"#;

/// Values that are rare, a text to be escaped, and names beyond the old scheme.
fn odd(pair: &Pair) -> Vec<Series> {
    let values = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        5e-324,
        1e21,
        1e-7,
        123_456_789_012_345_680_000.0,
        0.1 + 0.2,
        1e20,
        f64::MAX,
    ];
    let times: Vec<i64> = (pair.start_ms..=pair.end_ms()).step_by(15_000).collect();
    let points = |value: f64| times.iter().map(|at| (*at, value)).collect::<Vec<_>>();
    let mut all: Vec<Series> = (0..)
        .zip(values)
        .map(|(n, value)| {
            let n = format!("{n:02}");
            let text = "a\"b\\c\nd\te\u{7}\u{1}<&>\u{2028}é\u{7f}";
            series(&[("__name__", "odd"), ("n", &n), ("text", text)], &points(value))
        })
        .collect();
    let names = [("__name__", "my.metric é"), ("my label", "1"), ("región", "x")];
    all.push(series(&names, &points(1.5)));
    all
}

/// Has both scrape the target, from the time on that it says something.
fn start_scraping(flags: &[&str], mirror: &Mirror) -> Pair {
    let config = CONFIG.replace("TARGET", &mirror.address.to_string());
    let mut pair = Pair::start(&config, flags);
    pair.write(odd(&pair));
    let at = pair.end_ms() / 1000;
    let body = EXPORTER
        .replace("AT", &at.to_string())
        .replace("BEFORE", &(at - 2).to_string());
    let recorded = Recorded {
        content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8".to_owned(),
        encoding: None,
        body: body.into_bytes(),
    };
    mirror.say(BTreeMap::from([("/metrics".to_owned(), recorded)]));
    for server in [&mut pair.theirs, &mut pair.ours] {
        // What is up and what is not is stored, and nothing is down that should be up.
        let scraped = |server: &Running| {
            let up = server.api("/api/v1/query", &[("query", "sum(up) == 1 and count(up) == 2")]);
            up["result"].as_array().is_some_and(|found| !found.is_empty())
        };
        server.wait_for(scraped, "a scrape");
    }
    pair
}

/// A server that answers before it has read all may close too early for the answer to be seen. One that fails gives none.
fn ask(server: &Running, sent: &Request) -> Option<Answer> {
    let headers: Vec<(&str, &str)> = sent.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    (0..5).find_map(|_| request(server.port, &sent.method, &sent.target, &headers, &sent.body))
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn requests_are_answered_as_prometheus_answers_them() {
    let table = Table::read(include_str!("../../../testdata/api/contract.txt"));
    let mut gaps = Gaps::read(include_str!("contract_gaps.txt"));
    let mirror = Mirror::start();
    let (mut asked, mut wrong) = (0, Vec::new());
    for (number, section) in table.sections.iter().enumerate() {
        let flags: Vec<&str> = section.flags.iter().map(String::as_str).collect();
        // The others are about flags alone, and scrapes take their time.
        let pair = match number {
            0 => start_scraping(&flags, &mirror),
            _ => Pair::start("global: {}\n", &flags),
        };
        let values = Values {
            start_s: pair.start_ms / 1000,
            // Not before the last scrape, in whole seconds.
            now_s: std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64 + 1,
            target: mirror.address.to_string(),
        };
        for request in table.requests(section, &values) {
            let (theirs, ours) = (ask(&pair.theirs, &request), ask(&pair.ours, &request));
            let mut told: Vec<String> = Vec::new();
            for difference in differences(theirs.as_ref(), ours.as_ref()) {
                if !gaps.allow(&request.name, &difference) {
                    told.push(difference.to_string());
                }
            }
            if !told.is_empty() {
                let name: String = request.name.chars().take(400).collect();
                wrong.push(format!("{name}\n{}", told.join("\n")));
            }
            asked += 1;
        }
    }
    wrong.extend(
        gaps.unused()
            .iter()
            .map(|line| format!("nothing needs this line: {line}")),
    );
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked >= REQUESTS, "{asked}");
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn an_origin_that_is_no_regex_keeps_both_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    for program in [peer("prometheus"), tidegauge()] {
        let output = Command::new(&program)
            .arg("--web.cors.origin=https?://(")
            .arg(format!("--storage.tsdb.path={}", dir.path().display()))
            .arg(format!("--config.file={}", dir.path().join("none.yml").display()))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && told.contains("could not compile CORS regex string"),
            "{told}"
        );
    }
}
