//! Every parameter of the document, given badly in every way: 400 `bad_data`, and the parameter is named.

use super::document::{Document, Kind, Operation, Parameter};
use super::stored;
use crate::site::{Answer, NOW_MS, Site, escape};
use axum::body::Body;
use axum::http::{Method, Request};
use std::collections::BTreeSet;

/// What is not answered by an error that names the parameter, though it is wrong.
struct Silence {
    /// The operations, by the end of the path; empty for all.
    path: &'static str,
    parameter: &'static str,
    /// The ways of giving it badly; empty for all.
    ways: &'static [&'static str],
    /// What is answered instead.
    instead: Instead,
    /// Why that is so.
    #[expect(dead_code, reason = "it is there to be read")]
    why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Instead {
    /// The parameter is taken in another sense.
    Taken,
    /// 400 whose text does not hold the name.
    Unnamed,
    /// 503, as the time is up.
    TimeIsUp,
}

use Instead::{Taken, TimeIsUp, Unnamed};

const fn silence(
    path: &'static str,
    parameter: &'static str,
    ways: &'static [&'static str],
    instead: Instead,
    why: &'static str,
) -> Silence {
    Silence {
        path,
        parameter,
        ways,
        instead,
        why,
    }
}

const SILENCES: &[Silence] = &[
    silence(
        "",
        "timeout",
        &["negative"],
        TimeIsUp,
        "as upstream: a deadline that has passed",
    ),
    silence(
        "",
        "lookback_delta",
        &["negative"],
        Taken,
        "as upstream: it counts as none",
    ),
    silence(
        "",
        "lookback_delta",
        &[],
        Unnamed,
        "upstream's words: `error parsing lookback delta duration`",
    ),
    silence(
        "/query_exemplars",
        "query",
        &["wrong", "missing"],
        Unnamed,
        "upstream's words: the parse error alone",
    ),
    silence(
        "/labels",
        "match[]",
        &["wrong"],
        Unnamed,
        "upstream's words: the parse error alone",
    ),
    silence(
        "/values",
        "match[]",
        &["wrong"],
        Unnamed,
        "upstream's words: the parse error alone",
    ),
    silence(
        "/rules",
        "match[]",
        &["wrong"],
        Unnamed,
        "upstream's words: the parse error alone",
    ),
    silence(
        "/relabel_steps",
        "scrapePool",
        &["unknown"],
        Unnamed,
        "upstream's words: `scrape pool \"x\" not found`",
    ),
    silence(
        "/backtest",
        "replicas_query",
        &["wrong"],
        Unnamed,
        "it is an expression, only nothing is recorded of it",
    ),
    silence("/backtest", "pods", &["wrong"], Taken, "any word is a regex"),
    silence("/hpa/explain", "pods", &["wrong"], Taken, "any word is a regex"),
    silence(
        "/hpa/explain",
        "replicas_query",
        &["wrong"],
        Unnamed,
        "it is an expression, only nothing is recorded of it",
    ),
    silence("/rules", "file[]", &[], Taken, "there are no rules to choose from"),
    silence(
        "/rules",
        "rule_group[]",
        &[],
        Taken,
        "there are no rules to choose from",
    ),
    silence("/rules", "rule_name[]", &[], Taken, "there are no rules to choose from"),
];

/// A value that is right, if any is.
fn good(parameter: &Parameter<'_>) -> Option<String> {
    let now = NOW_MS / 1000;
    let value = match (&parameter.kind, parameter.name) {
        // There are no groups of rules that it could lead to.
        (_, "group_next_token") => return None,
        (Kind::Time, "start" | "from") => (now - 60).to_string(),
        (Kind::Time, _) => now.to_string(),
        (Kind::Duration, "step") => "15".to_owned(),
        (Kind::Duration, _) => "1m".to_owned(),
        (Kind::Expression, _) => "sum(up)".to_owned(),
        (Kind::Selector | Kind::Selectors, _) => "up".to_owned(),
        (Kind::Whole(_), _) => "3".to_owned(),
        (Kind::Boolean, _) => "true".to_owned(),
        (Kind::Word(words) | Kind::Words(words), _) => words[0].clone(),
        (Kind::Json, _) => r#"{"__address__": "h:1"}"#.to_owned(),
        (Kind::Text, "scrapePool") => "rules".to_owned(),
        (Kind::Text | Kind::Texts, _) => "job".to_owned(),
    };
    Some(value)
}

/// Ways to give a parameter badly: what it is called, and the value as it stands in the URL.
fn bad(parameter: &Parameter<'_>) -> Vec<(&'static str, String)> {
    let escaped = |way: &'static str, text: &str| (way, escape(text));
    let mut bad = match &parameter.kind {
        Kind::Time => vec![
            escaped("wrong", "x"),
            escaped("wrong", "2026-01-02"),
            escaped("wrong", "NaN"),
            escaped("enormous", "1e30"),
        ],
        Kind::Duration => vec![
            escaped("wrong", "x"),
            escaped("wrong", "1m1h"),
            escaped("wrong", "NaN"),
            escaped("enormous", "1e30"),
            escaped("enormous", "99999999999999999999y"),
            escaped("negative", "-1"),
        ],
        Kind::Expression => vec![
            escaped("wrong", "sum("),
            escaped("wrong", "up{"),
            escaped("wrong", &"(".repeat(5000)),
        ],
        Kind::Selector => vec![escaped("wrong", "up{"), escaped("wrong", "1")],
        Kind::Selectors => vec![escaped("wrong", "up{"), escaped("wrong", "1"), escaped("empty", "{}")],
        Kind::Whole(least) => {
            let mut bad = vec![
                escaped("wrong", "x"),
                escaped("wrong", "1.5"),
                escaped("enormous", "99999999999999999999"),
            ];
            bad.extend(least.map(|least| escaped("negative", &(least - 1).to_string())));
            bad
        }
        Kind::Boolean | Kind::Word(_) | Kind::Words(_) => vec![escaped("wrong", "maybe")],
        Kind::Json => vec![
            escaped("wrong", "{"),
            escaped("wrong", "[1]"),
            escaped("wrong", r#"{"a": 1}"#),
        ],
        Kind::Text if parameter.name == "scrapePool" && parameter.required => vec![escaped("unknown", "nobody")],
        Kind::Text if parameter.name == "group_next_token" => vec![escaped("unknown", "x")],
        Kind::Text | Kind::Texts => vec![],
    };
    bad.push(("no UTF-8", "%ff".to_owned()));
    bad
}

type Pairs = Vec<(String, String)>;

/// A request for an operation, its parameters in the URL.
async fn ask(site: &Site, operation: &Operation<'_>, pairs: &Pairs) -> Answer {
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={value}", escape(name)))
        .collect();
    let uri = format!(
        "{}?{}",
        operation.path.replace("{namespace}", "shop").replace("{name}", "job"),
        query.join("&")
    );
    let mut request = Request::builder().method(&operation.method);
    let mut body = Body::empty();
    // Long ones do not fit into a URL.
    if uri.len() > 8000 && operation.form.is_some() && operation.method == Method::POST {
        request = request.header("content-type", "application/x-www-form-urlencoded");
        request = request.uri(operation.path);
        body = Body::from(query.join("&"));
    } else {
        request = request.uri(uri);
    }
    site.send(request.body(body).unwrap()).await
}

/// What came of a parameter that is given badly.
fn outcome(answer: &Answer, parameter: &str) -> Option<Instead> {
    let json: serde_json::Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let text = json["error"].as_str().unwrap_or_default();
    match (answer.status.as_u16(), json["errorType"].as_str()) {
        (400, Some("bad_data")) if text.contains(parameter) => None,
        (400, Some("bad_data")) => Some(Unnamed),
        (503, Some("timeout")) => Some(TimeIsUp),
        (200 | 204, None) => Some(Taken),
        _ => panic!("{answer:?}"),
    }
}

/// One request, and whether a parameter is given badly in it.
struct Case {
    way: &'static str,
    pairs: Pairs,
    is_bad: bool,
}

/// The ways to give a parameter among others that are right.
fn cases(parameter: &Parameter<'_>, right: &Pairs) -> Vec<Case> {
    let others: Pairs = right
        .iter()
        .filter(|(name, _)| name != parameter.name)
        .cloned()
        .collect();
    let with = |way, values: &[&str], is_bad| {
        let pairs = values
            .iter()
            .map(|value| (parameter.name.to_owned(), (*value).to_owned()));
        Case {
            way,
            pairs: others.iter().cloned().chain(pairs).collect(),
            is_bad,
        }
    };
    let mut cases = Vec::new();
    if parameter.required {
        cases.push(with("missing", &[], true));
    }
    let takes_many = matches!(parameter.kind, Kind::Selectors | Kind::Texts | Kind::Words(_));
    for (way, bad) in bad(parameter) {
        cases.push(with(way, &[&bad], true));
        // Where one is wanted the first counts; of several each.
        if let Some(good) = good(parameter) {
            let good = escape(&good);
            cases.push(with(way, &[&bad, &good], true));
            cases.push(with(way, &[&good, &bad], takes_many));
        }
    }
    cases
}

/// Asks one operation in every way, and notes which silences came up.
async fn try_all(
    site: &Site,
    document: &Document,
    operation: &Operation<'_>,
    used: &mut BTreeSet<usize>,
) -> Vec<String> {
    let of = format!("{} {}", operation.method, operation.path);
    let right: Pairs = operation
        .asked()
        .filter_map(|p| Some((p.name.to_owned(), escape(&good(p)?))))
        .collect();
    let answer = ask(site, operation, &right).await;
    assert!(answer.status.is_success(), "{of} {right:?}: {answer:?}");
    let mut wrong = Vec::new();
    for parameter in operation.asked() {
        for Case { way, pairs, is_bad } in cases(parameter, &right) {
            let answer = ask(site, operation, &pairs).await;
            let (status, kind) = (answer.status.as_u16(), answer.header("content-type"));
            let said = document.check(operation, status, kind, answer.text.as_bytes());
            assert_eq!(said, Ok(()), "{of} {pairs:?}");
            let outcome = outcome(&answer, parameter.name);
            let known = SILENCES.iter().position(|silence| {
                operation.path.ends_with(silence.path)
                    && silence.parameter == parameter.name
                    && (silence.ways.is_empty() || silence.ways.contains(&way))
                    && Some(silence.instead) == outcome
            });
            match (is_bad, outcome, known) {
                (true, None, _) | (false, Some(Taken), _) => {}
                (true, Some(_), Some(known)) => drop(used.insert(known)),
                _ => wrong.push(format!("{of}, {}, {way}: {}", parameter.name, answer.text)),
            }
        }
    }
    wrong
}

#[tokio::test]
async fn a_parameter_that_is_given_badly_is_named() {
    let (site, document) = (stored(), Document::read());
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for operation in document.operations() {
        let is_question = operation.path.starts_with("/api/v1/") && operation.method != Method::OPTIONS;
        if is_question && operation.path != "/api/v1/write" {
            wrong.extend(try_all(&site, &document, &operation, &mut used).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unused: Vec<&str> = (0..SILENCES.len())
        .filter(|at| !used.contains(at))
        .map(|at| SILENCES[at].parameter)
        .collect();
    assert!(unused.is_empty(), "silences that are none: {unused:?}");
    site.scraper.stop().await;
}
