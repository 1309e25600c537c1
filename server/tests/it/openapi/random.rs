//! Requests by chance: no server error but those that the document names, and always an answer as it says.
//!
//! A run is the same each time; `TIDEGAUGE_PROPERTY_TIMES` asks for so many times as many requests, other ones each time.

use super::document::{Document, Kind, Operation};
use super::stored;
use crate::site::{Answer, NOW_MS, Site, escape};
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request};
use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

/// Stores that are asked one after another, as some requests delete what others ask for.
const WORLDS: u8 = 6;
/// Requests to each.
const REQUESTS: u32 = 6000;
/// The longest query is cut after a fraction of a second; machines that do much else need longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request, as far as it matters.
#[derive(Debug, Clone)]
struct Asked {
    /// The operation, by its place in the document.
    operation: usize,
    /// Another than that of the operation.
    method: Option<&'static str>,
    /// What stands for the label in a path that has one.
    name: String,
    /// Escaped, as they stand in the URL or in the form.
    pairs: Vec<(String, String)>,
    /// How many of them stand in the form.
    in_form: usize,
    content_type: Option<&'static str>,
    /// Instead of a form.
    body: Option<Vec<u8>>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

/// Values that are wrong almost everywhere, as they stand in a URL.
const JUNK: &str = "x -1 0 -0 1 1e3 1e308 -1e308 5e-324 NaN Inf -Inf +Inf 0x10 1_000 9223372036854775807 -9223372036854775808 \
    9223372036854775.807 -9223372036854775.808 9223372036.854775807 18446744073709551616 99999999999999999999 %ff %ff%fe \
    %c3%28 %zz % %4 %00 %0d%0aX-A:%20b %c3%a9 %f0%9f%98%80 1h 1y1w1d1h1m1s1ms 292y 293y 1ms 0s 1m1h true False all \
    2026-11-21T01:39:23Z 9999-12-31T23:59:59Z -9999-01-01T00:00:00Z 0001-01-01T00:00:00Z 2026-11-21T01:39:60%2b99:99 {} [] \
    null %22 %7b%22a%22:%22b%22%7d %7b%22a%22:1%7d & = a=b + ../../etc/passwd %2e%2e%2f match[]=up";

/// Words of PromQL, and some that are none.
const TOKENS: &str = r#"up requests_total dots ( ) { } [ ] , + - * / % ^ == != < >= and or unless atan2 bool on ignoring group_left
    group_right by without sum count_values topk quantile stddev rate increase delta histogram_quantile label_replace
    label_join absent sort_desc time vector scalar days_in_month predict_linear holt_winters quantile_over_time
    absent_over_time offset @ start() end() 5m 1h 1ms 300y 1 0 -1 1e400 NaN Inf 0x1f "a" 'b' `c` "\xff" job code =~ !~ =
    ".*" "(" "a{1000}" $ # é : {__name__=~".+"} {job="a"} [5m:1s] [1h:] [5m] limitk info 1s500ms"#;

/// Expressions, and what may stand around another one, which is written `#`.
const LEAVES: &str = r#"up requests_total dots requests_total{job=~"a|b"} {job!=""} 1 -0.5 NaN time() requests_total[5m] up[1h:1m]
    requests_total[30s] "text""#;
const AROUND: &str = r#"sum(#) rate(#) sum_by(job)(#) topk(2,#) count_values("v",#) max_over_time(#[10m:15s]) absent(#) -(#) (#) #@end()
    sort(#) histogram_quantile(0.9,#) label_replace(#,"a","$1","job","(.*)") vector(scalar(#)) quantile(0.5,#)
    predict_linear(#[5m:],60) clamp(#,0,1) round(#) timestamp(#) #[1d:1ms] label_join(#,"a","-","job","code")"#;
const BETWEEN: [&str; 7] = ["+", "/", "==", "> bool", "and", "or on (job)", "* on (job) group_left"];

const SELECTORS: &str =
    r#"up requests_total{code="200"} {job=~".+"} {"my.label"="x"} dots {__name__=~"u.*"} {} {job=""}"#;

const METHODS: [&str; 9] = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "QUERY",
];

const CONTENT_TYPES: [&str; 9] = [
    "application/x-www-form-urlencoded; charset=utf-8",
    "APPLICATION/X-WWW-FORM-URLENCODED",
    "application/json",
    "multipart/form-data",
    "application/x-protobuf",
    "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "application/x-protobuf;a=b=c",
    ";",
    "text/plain",
];

/// One of some words.
fn word(of: &'static str) -> impl Strategy<Value = String> + Clone {
    let words: Vec<&str> = of.split_whitespace().collect();
    select(words).prop_map(str::to_owned)
}

fn junk() -> impl Strategy<Value = String> {
    let escaped = |bytes: Vec<u8>| {
        let escaped = percent_encoding::percent_encode(&bytes, percent_encoding::NON_ALPHANUMERIC);
        escaped.to_string()
    };
    let pieces = word("1 a %41 ( up%2b %22 [ -");
    prop_oneof![
        8 => word(JUNK),
        1 => Just(String::new()),
        1 => vec(any::<u8>(), 0..20).prop_map(escaped),
        1 => (pieces, 1..2000usize).prop_map(|(piece, times)| piece.repeat(times)),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
    ]
}

/// An expression that is likely one.
fn expression() -> BoxedStrategy<String> {
    let inner = word(LEAVES).prop_recursive(3, 12, 2, |inner| {
        let around = (word(AROUND), inner.clone()).prop_map(|(around, inner)| {
            let around = around.replace("sum_by(", "sum by (");
            around.replace('#', &inner)
        });
        let offset = inner.clone().prop_map(|inner| format!("{inner} offset -5m"));
        let pair = (inner.clone(), select(&BETWEEN[..]), inner).prop_map(|(a, op, b)| format!("{a} {op} {b}"));
        prop_oneof![6 => around, 1 => offset, 3 => pair]
    });
    inner.boxed()
}

fn soup() -> impl Strategy<Value = String> {
    vec(word(TOKENS), 0..12).prop_map(|tokens| tokens.join(" "))
}

/// What a parameter may be given, often rightly.
fn value(kind: &Kind) -> BoxedStrategy<String> {
    prop_oneof![3 => right(kind), 1 => junk()].boxed()
}

/// What a parameter may be given, nearly always rightly.
fn right(kind: &Kind) -> BoxedStrategy<String> {
    const FAR: i64 = 2_000_000_000_000_000;
    let now = NOW_MS / 1000;
    match kind {
        Kind::Time => prop_oneof![
            8 => (now - 7200..now + 60).prop_map(|at| at.to_string()),
            1 => (-FAR..FAR).prop_map(|at| at.to_string()),
            1 => Just("2026-11-21T01:39:23.5Z".to_owned()),
        ]
        .boxed(),
        Kind::Duration => word("1 15 0.001 1m 1h30m 7d 300y").boxed(),
        Kind::Expression => prop_oneof![2 => expression(), 1 => soup()]
            .prop_map(|text| escape(&text))
            .boxed(),
        Kind::Selector | Kind::Selectors => prop_oneof![2 => word(SELECTORS), 1 => soup()]
            .prop_map(|text| escape(&text))
            .boxed(),
        Kind::Whole(_) => (-2i64..20).prop_map(|number| number.to_string()).boxed(),
        Kind::Boolean => word("true 0 F").boxed(),
        Kind::Word(words) | Kind::Words(words) => select(words.clone()).prop_map(|word| escape(&word)).boxed(),
        Kind::Json => Just(escape(r#"{"__address__": "h:1", "zone": "a"}"#)).boxed(),
        Kind::Text | Kind::Texts => word("rules all up active job %ff").boxed(),
    }
}

fn pairs(operation: &Operation<'_>) -> BoxedStrategy<Vec<(String, String)>> {
    let own: Vec<(String, Kind)> = operation.asked().map(|p| (p.name.to_owned(), p.kind.clone())).collect();
    // With many parameters chance alone hardly ever makes all of them right.
    let good: Vec<_> = own
        .iter()
        .map(|(name, kind)| {
            let name = escape(name);
            right(kind).prop_map(move |value| (name.clone(), value))
        })
        .collect();
    // Each of its own mostly once; then some more, its own and others.
    let each: Vec<_> = own
        .iter()
        .map(|(name, kind)| {
            let name = escape(name);
            let times = prop_oneof![1 => Just(0usize), 8 => Just(1), 1 => Just(2)];
            times
                .prop_flat_map({
                    let value = value(kind);
                    move |times| vec(value.clone(), times)
                })
                .prop_map(move |values| {
                    values
                        .into_iter()
                        .map(|value| (name.clone(), value))
                        .collect::<Vec<_>>()
                })
        })
        .collect();
    let odd = vec![
        "", "query", "start", "limit", "match[]", "%zz", "%ff", "a%00b", "timeout", "x",
    ];
    let more = vec(
        (select(odd), junk()).prop_map(|(name, value)| (name.to_owned(), value)),
        0..3,
    );
    let any = (each, prop_oneof![3 => Just(vec![]), 1 => more]);
    prop_oneof![
        1 => good,
        1 => any.prop_map(|(each, more)| [each.concat(), more].concat()),
    ]
    .boxed()
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let values: Vec<(&str, &[u8])> = vec![
        ("accept-encoding", b"gzip"),
        ("accept-encoding", b"gzip;q=0, identity;q=0"),
        ("accept-encoding", b"br, deflate, gzip;q=0.1"),
        ("accept-encoding", b"\xff\xfe;;q=x"),
        ("origin", b"http://grafana.example"),
        ("origin", b"\xe9vil, null"),
        ("accept", b"text/html;q=0"),
        ("authorization", b"Basic ???"),
        ("content-encoding", b"gzip"),
        ("content-encoding", b"snappy"),
        ("content-length", b"9"),
        ("if-none-match", b"*"),
        ("range", b"bytes=0-1"),
        ("x-http-method-override", b"DELETE"),
    ];
    let values: Vec<(&'static str, Vec<u8>)> = values.into_iter().map(|(name, value)| (name, value.to_vec())).collect();
    vec(select(values), 0..3)
}

fn request(operations: &[Operation<'_>], at: usize) -> BoxedStrategy<Asked> {
    let operation = &operations[at];
    let method = prop_oneof![6 => Just(None), 1 => select(&METHODS[..]).prop_map(Some)];
    let name = prop_oneof![3 => word("job code U__my_2e_label U__ no"), 1 => junk()];
    let content_type = prop_oneof![
        6 => Just(Some("application/x-www-form-urlencoded")),
        3 => select(&CONTENT_TYPES[..]).prop_map(Some),
        1 => Just(None),
    ];
    let bytes = vec(any::<u8>(), 0..300);
    let body = prop_oneof![
        6 => Just(None),
        1 => bytes.clone().prop_map(Some),
        1 => bytes.prop_map(|bytes| Some(snap::raw::Encoder::new().compress_vec(&bytes).unwrap())),
    ];
    (
        method,
        name,
        pairs(operation),
        any::<usize>(),
        content_type,
        body,
        headers(),
    )
        .prop_map(
            move |(method, name, pairs, in_form, content_type, body, headers)| Asked {
                operation: at,
                method,
                name,
                in_form: in_form % (pairs.len() + 1),
                pairs,
                content_type,
                body,
                headers,
            },
        )
        .boxed()
}

impl Asked {
    /// As it is sent; nothing if a URL cannot be so.
    fn build(&self, operation: &Operation<'_>) -> Option<Request<Body>> {
        let method = match self.method {
            Some(method) => method.parse().unwrap(),
            None => operation.method.clone(),
        };
        let in_form = if method == Method::GET { 0 } else { self.in_form };
        let text = |pairs: &[(String, String)]| {
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            pairs.join("&")
        };
        let (form, url) = self.pairs.split_at(in_form);
        let uri = format!(
            "{}?{}",
            operation
                .path
                .replace("{namespace}", "shop")
                .replace("{name}", &self.name),
            text(url)
        );
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(content_type) = self.content_type {
            request = request.header("content-type", content_type);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let body = self.body.clone().unwrap_or_else(|| text(form).into_bytes());
        request.body(Body::from(body)).ok()
    }
}

/// What is to be said of an answer to a path that leads to no operation, by the name in it; nothing for other paths.
fn elsewhere(operation: &Operation<'_>, asked: &Asked, answer: &Answer) -> Option<Result<(), String>> {
    if !operation.path.contains("{name}") {
        return None;
    }
    let status = answer.status.as_u16();
    let escapes = asked.name.split('%').skip(1);
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    if !escapes.into_iter().all(is_escape) {
        let told = status == 400 && answer.header("content-type").starts_with("text/plain");
        return Some(
            told.then_some(())
                .ok_or_else(|| "a wrong escape in the path".to_owned()),
        );
    }
    if asked.name.is_empty() || asked.name.contains('/') {
        let told = status == 301 && answer.header("location").starts_with('/');
        return Some(told.then_some(()).ok_or_else(|| "a path to be sent on".to_owned()));
    }
    None
}

/// What is wrong with an answer.
fn check(document: &Document, operations: &[Operation<'_>], asked: &Asked, answer: &Answer) -> Result<(), String> {
    let operation = &operations[asked.operation];
    let status = answer.status.as_u16();
    let kind = answer.header("content-type");
    let plain = kind.starts_with("text/plain");
    let method: Method = asked
        .method
        .map_or(operation.method.clone(), |method| method.parse().unwrap());
    if let Some(told) = elsewhere(operation, asked, answer) {
        return told;
    }
    let served = operations
        .iter()
        .find(|o| o.path == operation.path && o.method == method);
    let Some(of) = served else {
        let told = status == 405 && plain && !answer.header("allow").is_empty();
        return told
            .then_some(())
            .ok_or_else(|| "405 with the methods allowed".to_owned());
    };
    if status >= 500 && !of.names(status) || status == 500 {
        return Err("a server error that is not named".to_owned());
    }
    let body = match answer.header("content-encoding") {
        "gzip" => {
            let mut text = Vec::new();
            let read = flate2::read::GzDecoder::new(&*answer.bytes).read_to_end(&mut text);
            read.map_err(|error| format!("no gzip: {error}"))?;
            text
        }
        "" => answer.bytes.clone(),
        other => return Err(format!("packed by {other}")),
    };
    document.check(of, status, kind, &body)
}

/// How often each operation was answered by each status; 0 for what no URL can hold.
type Tally = BTreeMap<(String, u16), usize>;

fn run(site: &Site, runner: &mut TestRunner, runtime: &tokio::runtime::Runtime) -> Tally {
    let document = Document::read();
    let operations = document.operations();
    let api: Vec<usize> = (0..operations.len())
        .filter(|at| operations[*at].path.starts_with("/api/v1/"))
        .collect();
    let strategy = select(api).prop_flat_map(|at| request(&operations, at));
    let tally = RefCell::new(Tally::new());
    let done = runner.run(&strategy, |asked| {
        let operation = &operations[asked.operation];
        let method = asked.method.unwrap_or(operation.method.as_str());
        let count = |status: u16| {
            let key = (format!("{method} {}", operation.path), status);
            *tally.borrow_mut().entry(key).or_default() += 1;
        };
        let Some(request) = asked.build(operation) else {
            count(0);
            return Ok(());
        };
        let begun = Instant::now();
        let answer = runtime.block_on(site.send(request));
        count(answer.status.as_u16());
        let wrong = check(&document, &operations, &asked, &answer);
        wrong.map_err(|wrong| TestCaseError::fail(format!("{method} {}: {wrong}: {answer:?}", operation.path)))?;
        match begun.elapsed() > PATIENCE {
            true => Err(TestCaseError::fail(format!("it took {:?}", begun.elapsed()))),
            false => Ok(()),
        }
    });
    if let Err(why) = done {
        panic!("{why}");
    }
    tally.into_inner()
}

#[test]
fn whatever_is_asked_is_answered_as_the_document_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let times: Option<u32> = std::env::var("TIDEGAUGE_PROPERTY_TIMES")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut tally = Tally::new();
    for world in 1..=WORLDS {
        let config = Config {
            cases: REQUESTS * times.unwrap_or(1),
            failure_persistence: None,
            max_shrink_iters: 300,
            ..Config::default()
        };
        let mut runner = match times {
            // A failure prints the request.
            Some(_) => TestRunner::new(config),
            None => TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[world; 32])),
        };
        let site = runtime.block_on(async { stored() });
        for (key, count) in run(&site, &mut runner, &runtime) {
            *tally.entry(key).or_default() += count;
        }
        runtime.block_on(site.scraper.stop());
    }
    // What is asked by chance must not be refused at the door alone.
    for operation in Document::read().operations() {
        let name = format!("{} {}", operation.method, operation.path);
        let of = |status: u16| tally.get(&(name.clone(), status)).copied().unwrap_or(0);
        if operation.path.starts_with("/api/v1/") && operation.path != "/api/v1/write" {
            assert!(of(200) + of(204) > 0, "{name}: nothing but refusals: {tally:?}");
            assert!(of(400) > 0 || !operation.names(400), "{name}: nothing bad: {tally:?}");
        }
    }
    let sum = |status: u16| {
        tally
            .iter()
            .filter(|(key, _)| key.1 == status)
            .map(|(_, n)| n)
            .sum::<usize>()
    };
    let all: usize = tally.values().sum();
    println!(
        "{all} requests; {} could not be sent, {} answered by 200",
        sum(0),
        sum(200)
    );
    assert!(sum(0) * 20 < all && sum(200) * 5 > all, "{tally:?}");
}
