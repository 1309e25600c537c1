//! Dashboards that users bring, as Grafana asks for them: their variables, and the expressions of all panels with the
//! variables in them, over data that their selectors meet.
//!
//! `dashboards_gaps.txt` has what cannot be answered, and why.

mod variables;

use crate::planted::{EVERY_MS, Planted, SAMPLES};
use crate::process::{Answer, Running, form, free_port, request, tidegauge};
use crate::remote_write::{Series, WriteRequest, packed, series};
use prost::Message;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tidegauge_model::{Labels, Timestamp};
use tidegauge_query::parser::{Expr, ParseOptions, parse};
use variables::{Variable, Variables};

/// The first dashboard's data begins here; the others' follow, each far enough behind that no offset leads from one
/// into another.
const START_MS: i64 = 1_700_000_000_000;
const APART_MS: i64 = 307 * 60_000;
const SAMPLES_PER_REQUEST: usize = 20_000;

/// A use of an expression.
#[derive(Debug)]
struct Panel {
    raw: String,
    instant: bool,
}

/// A dashboard, or a file of rules, which has no variables.
#[derive(Debug, Default)]
struct Dashboard {
    variables: Vec<Variable>,
    panels: Vec<Panel>,
}

fn read(name: &str) -> Vec<Value> {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let text = std::fs::read_to_string(Path::new(&shared).join("dashboards").join(name)).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    list.as_array().unwrap().clone()
}

fn dashboards() -> BTreeMap<String, Dashboard> {
    let mut all = BTreeMap::<String, Dashboard>::new();
    let source = |row: &Value| row["source"].as_str().unwrap().to_owned();
    for row in read("variables.json") {
        all.entry(source(&row)).or_default().variables.push(Variable::of(&row));
    }
    for row in read("exprs.json") {
        all.entry(source(&row)).or_default().panels.push(Panel {
            raw: row["raw"].as_str().unwrap().to_owned(),
            instant: row["kind"] != "range",
        });
    }
    all
}

/// What cannot be answered: dashboard and expression.
fn gaps() -> BTreeSet<(&'static str, &'static str)> {
    let lines = include_str!("dashboards_gaps.txt").lines();
    let rows = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let mut parts = row.split(" ¦ ");
        let (source, raw) = (parts.next().unwrap(), parts.next().unwrap_or_else(|| panic!("{row}")));
        assert!(parts.next().is_some_and(|why| !why.is_empty()), "no reason: {row}");
        (source, raw)
    })
    .collect()
}

fn parsed(text: &str) -> Expr {
    parse(text, &ParseOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// What a dashboard's variables and panels ask for, from a time on. What says most comes first, and serves for what says
/// less: two series where a panel expects one would be no data that anybody has.
fn plant(dashboard: &Dashboard, start_ms: i64) -> Planted {
    let mut wished = Variables::default();
    let mut asked: Vec<(Expr, Vec<(String, String)>)> = Vec::new();
    for variable in &dashboard.variables {
        let value = variable.wish(&wished);
        if let Some((selector, label)) = variable.label_values(&wished) {
            let expr = parsed(selector.as_deref().unwrap_or("labelled"));
            asked.push((expr, vec![(label, value.clone())]));
        } else if let Some(query) = variable.query_result(&wished) {
            asked.push((parsed(&query), vec![]));
        }
        wished.set(variable, vec![value]);
    }
    let panels = dashboard.panels.iter();
    asked.extend(panels.map(|panel| (parsed(&wished.filled_in(&panel.raw)), vec![])));
    let mut selectors: Vec<_> = asked
        .iter()
        .flat_map(|(expr, further)| expr.selectors().into_iter().map(move |selector| (selector, further)))
        .collect();
    selectors.sort_by_key(|(selector, further)| std::cmp::Reverse(selector.matchers.len() + further.len()));
    let mut planted = Planted::default();
    for (selector, further) in selectors {
        planted.selector_unless_met(selector, further, start_ms);
    }
    planted
}

/// Sends samples as they would have come: the older ones first.
fn send(server: &Running, planted: &Planted) -> usize {
    let mut by_time = BTreeMap::<Timestamp, Vec<(&Labels, f64)>>::new();
    for (labels, samples) in &planted.series {
        for (at, value) in samples {
            by_time.entry(*at).or_default().push((labels, *value));
        }
    }
    let mut waiting = BTreeMap::<&Labels, Vec<(i64, f64)>>::new();
    let (mut held, mut sent) = (0, 0);
    let mut rows = by_time.into_iter().peekable();
    while let Some((at, row)) = rows.next() {
        held += row.len();
        for (labels, value) in row {
            waiting.entry(labels).or_default().push((at.millis(), value));
        }
        // What lies far apart goes apart: within a request, series come one after the other.
        let next_is_far = rows
            .peek()
            .is_none_or(|(next, _)| next.millis() - at.millis() > EVERY_MS);
        if held >= SAMPLES_PER_REQUEST || next_is_far {
            let all: Vec<Series> = std::mem::take(&mut waiting).into_iter().map(written).collect();
            let body = packed(&WriteRequest { series: all }.encode_to_vec());
            let headers = [
                ("Content-Type", "application/x-protobuf"),
                ("Content-Encoding", "snappy"),
            ];
            let answer = request(server.port, "POST", "/api/v1/write", &headers, &body).unwrap();
            assert_eq!(answer.status, 204, "{}", answer.body);
            sent += std::mem::take(&mut held);
        }
    }
    sent
}

fn written((labels, samples): (&Labels, Vec<(i64, f64)>)) -> Series {
    let pairs: Vec<(&str, &str)> = labels.iter().collect();
    series(&pairs, &samples)
}

/// Grafana's way to ask: a form by POST, but for the values of a label.
fn ask(server: &Running, path: &str, params: &[(&str, &str)]) -> Result<Value, String> {
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("User-Agent", "Grafana/12.1.0"),
    ];
    let answer = match path.starts_with("/api/v1/label/") {
        true => server.get(&format!("{path}?{}", form(params))),
        false => request(server.port, "POST", path, &headers, form(params).as_bytes()),
    };
    told(answer.ok_or("no answer")?)
}

fn told(answer: Answer) -> Result<Value, String> {
    let mut body: Value = serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {}", answer.body))?;
    match (answer.status, &body["status"]) {
        (200, status) if status == "success" => Ok(body["data"].take()),
        (status, _) => Err(format!("{status}: {}", body["error"])),
    }
}

/// What came of all.
#[derive(Debug, Default)]
struct Tally {
    variables: usize,
    panels: usize,
    calls: usize,
    filled: usize,
    wrong: Vec<String>,
    met_gaps: BTreeSet<(String, String)>,
}

/// Asks for the values of a dashboard's variables, as each is chosen from what those before it are.
fn choose(server: &Running, name: &str, dashboard: &Dashboard, end_ms: i64, tally: &mut Tally) -> Variables {
    let (start, end) = (seconds(end_ms - SAMPLES * EVERY_MS), seconds(end_ms));
    let mut chosen = Variables::default();
    let mut wished = Variables::default();
    for variable in &dashboard.variables {
        let wish = variable.wish(&wished);
        let found = if let Some((selector, label)) = variable.label_values(&chosen) {
            let mut params = vec![("start", &*start), ("end", &*end)];
            params.extend(selector.as_deref().map(|selector| ("match[]", selector)));
            Some(ask(server, &format!("/api/v1/label/{label}/values"), &params).map(|data| texts(&data)))
        } else if let Some(query) = variable.query_result(&chosen) {
            let rows = ask(server, "/api/v1/query", &[("query", &query), ("time", &end)]);
            Some(rows.map(|data| variable.picked(&data)))
        } else if let Some(selector) = variable.bare(&chosen) {
            let params = [("match[]", &*selector), ("start", &start), ("end", &end)];
            Some(ask(server, "/api/v1/series", &params).map(|_| Vec::new()))
        } else {
            None
        };
        tally.variables += usize::from(found.is_some());
        let values = match found {
            None => vec![wish.clone()],
            Some(Ok(values)) => {
                if values.is_empty() && variable.bare(&chosen).is_none() {
                    tally.wrong.push(format!("{name} ${}: no values", variable.name));
                }
                variable.choose(values, &wish)
            }
            Some(Err(why)) => {
                tally.wrong.push(format!("{name} ${}: {why}", variable.name));
                Vec::new()
            }
        };
        chosen.set(variable, values);
        wished.set(variable, vec![wish]);
    }
    chosen
}

fn texts(data: &Value) -> Vec<String> {
    let values = data.as_array().into_iter().flatten();
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn seconds(ms: i64) -> String {
    (ms / 1000).to_string()
}

/// Asks for each panel, at one time and over some steps.
fn show(server: &Running, name: &str, dashboard: &Dashboard, chosen: &Variables, end_ms: i64, tally: &mut Tally) {
    let step_ms = 2 * EVERY_MS;
    let aligned = |ms: i64| seconds(ms - ms.rem_euclid(step_ms));
    let (start, end) = (aligned(end_ms - 20 * EVERY_MS), aligned(end_ms));
    let gaps = gaps();
    for panel in &dashboard.panels {
        let query = chosen.filled_in(&panel.raw);
        let step = seconds(step_ms);
        let range = [("query", &*query), ("start", &*start), ("end", &*end), ("step", &*step)];
        let instant = [("query", &*query), ("time", &*seconds(end_ms))];
        let answers = [
            ask(server, "/api/v1/query_range", &range),
            ask(server, "/api/v1/query", &instant),
        ];
        tally.panels += 1;
        tally.calls += 2;
        let gap = gaps.contains(&(name, panel.raw.as_str()));
        let mut failed = false;
        for answer in &answers {
            match answer {
                Ok(data) if data["resultType"].is_string() && !data["result"].is_null() => {}
                Ok(data) => tally.wrong.push(format!("{name}: {query}: odd {data}")),
                Err(why) => {
                    failed = true;
                    if !gap {
                        tally.wrong.push(format!("{name} ¦ {} ¦ {query}: {why}", panel.raw));
                    }
                }
            }
        }
        if gap && failed {
            tally.met_gaps.insert((name.to_owned(), panel.raw.clone()));
        }
        let asked = &answers[usize::from(panel.instant)];
        let rows = asked.as_ref().ok().and_then(|data| data["result"].as_array());
        tally.filled += usize::from(rows.is_some_and(|rows| !rows.is_empty()));
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn dashboards_are_answered_as_grafana_asks_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = dir.path().join("config.yml");
    std::fs::write(&file, "global: {scrape_interval: 15s}\n").unwrap();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
        "--storage.tsdb.retention.time=100y".to_owned(),
    ];
    let server = Running::start(&tidegauge(), &args, port, "/-/ready", &dir.path().join("log"));
    let dashboards = dashboards();
    let mut planted = Planted::default();
    for (dashboard, nth) in dashboards.values().zip(0..) {
        let own = plant(dashboard, START_MS + nth * APART_MS);
        planted.unmet += own.unmet;
        for (labels, samples) in own.series {
            planted.series.entry(labels).or_default().extend(samples);
        }
    }
    let sent = send(&server, &planted);
    println!(
        "{} series, {sent} samples, {} selectors not met",
        planted.series.len(),
        planted.unmet
    );

    let mut tally = Tally::default();
    for ((name, dashboard), nth) in dashboards.iter().zip(0..) {
        let end_ms = START_MS + nth * APART_MS + (SAMPLES - 2) * EVERY_MS;
        let chosen = choose(&server, name, dashboard, end_ms, &mut tally);
        show(&server, name, dashboard, &chosen, end_ms, &mut tally);
    }
    let Tally {
        variables,
        panels,
        calls,
        filled,
        wrong,
        met_gaps,
    } = tally;
    println!(
        "{} dashboards and files of rules: {variables} variables asked for, {panels} expressions in {calls} calls, {filled} with a result",
        dashboards.len()
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let stale: Vec<_> = gaps()
        .into_iter()
        .filter(|(name, raw)| !met_gaps.contains(&((*name).to_owned(), (*raw).to_owned())))
        .collect();
    assert!(stale.is_empty(), "answered after all: {stale:?}");
    assert!(
        variables > 80 && panels > 1300,
        "{variables} variables, {panels} expressions"
    );
    assert!(filled * 100 > panels * 80, "only {filled} of {panels} have a result");
}
