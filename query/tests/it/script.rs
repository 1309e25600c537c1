//! The language of upstream's PromQL test scripts: `clear`, `load`, `eval`.

use regex::Regex;
use tidegauge_model::{Labels, LabelsBuilder, Sample, Timestamp, stale_marker};

/// A command and the line (from 1) it starts at.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) line: usize,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Clear,
    Load(Vec<(Labels, Vec<Sample>)>),
    Eval(Box<Eval>),
}

/// An evaluation and what is expected of it.
#[derive(Debug)]
pub(crate) struct Eval {
    pub(crate) expr: String,
    pub(crate) at: At,
    pub(crate) expect: Expect,
    pub(crate) series: Vec<(Labels, Vec<Option<f64>>)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// The `expect` lines.
#[derive(Debug, Default)]
pub(crate) struct Expect {
    pub(crate) scalar: Option<f64>,
    pub(crate) string: Option<String>,
    pub(crate) range_vector: Option<(i64, i64, i64)>,
    pub(crate) ordered: bool,
    pub(crate) fail: Option<Match>,
    pub(crate) warn: Notes,
    pub(crate) info: Notes,
    /// A line that this reader does not know (a histogram).
    pub(crate) unknown: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) none: bool,
    pub(crate) some: Vec<Match>,
}

#[derive(Debug)]
pub(crate) enum Match {
    Any,
    Message(String),
    Regex(Regex),
}

impl Match {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Message(message) => message == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(message) = text.strip_prefix("msg:") {
            Self::Message(message.trim().to_owned())
        } else if let Some(regex) = text.strip_prefix("regex:") {
            Self::Regex(Regex::new(regex.trim()).expect("regex of a script"))
        } else {
            Self::Any
        }
    }
}

/// Reads a script.
pub(crate) fn parse(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .map(|l| if l.starts_with('#') { "" } else { l })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let head = lines[at];
        at += 1;
        if head.is_empty() {
            continue;
        }
        let body: Vec<&str> = lines[at..].iter().take_while(|l| !l.is_empty()).copied().collect();
        let word = head.split_whitespace().next().unwrap_or("").to_lowercase();
        let what = match word.as_str() {
            "clear" => What::Clear,
            "load" | "load_with_nhcb" => {
                at += body.len();
                let interval = head.split_whitespace().nth(1).expect("interval of load");
                What::Load(load(duration_ms(interval), &body))
            }
            _ if word.starts_with("eval") => {
                at += body.len();
                What::Eval(Box::new(eval(head, &body)))
            }
            _ => panic!("line {line}: unknown command {head:?}"),
        };
        commands.push(Command { line, what });
    }
    commands
}

fn load(interval: i64, body: &[&str]) -> Vec<(Labels, Vec<Sample>)> {
    body.iter()
        .filter(|l| !l.contains("{{") && !l.split_whitespace().next().unwrap_or("").ends_with("@st"))
        .map(|line| {
            let (labels, points) = series(line);
            let samples = points
                .iter()
                .enumerate()
                .filter_map(|(i, point)| {
                    let at = Timestamp::from_millis(interval * i as i64);
                    point.map(|value| Sample { at, value })
                })
                .collect();
            (labels, samples)
        })
        .collect()
}

fn eval(head: &str, body: &[&str]) -> Eval {
    let instant = Regex::new(r"(?i)^eval(_fail|_warn|_ordered|_info)?\s+instant\s+(?:at\s+(.+?)\s+)?(.+)$").unwrap();
    let range =
        Regex::new(r"(?i)^eval(_fail|_warn|_info)?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$").unwrap();
    let mut expect = Expect::default();
    let (mode, at, expr) = if let Some(c) = range.captures(head) {
        let at = At::Range {
            start: duration_ms(&c[2]),
            end: duration_ms(&c[3]),
            step: duration_ms(&c[4]),
        };
        (c.get(1).map_or("", |m| m.as_str()).to_owned(), at, c[5].to_owned())
    } else if let Some(c) = instant.captures(head) {
        let at = c.get(2).map_or(0, |t| duration_ms(t.as_str()));
        (
            c.get(1).map_or("", |m| m.as_str()).to_owned(),
            At::Instant(at),
            c[3].to_owned(),
        )
    } else {
        panic!("cannot read {head:?}");
    };
    match mode.as_str() {
        "_fail" => expect.fail = Some(Match::Any),
        "_warn" => expect.warn.some.push(Match::Any),
        "_info" => expect.info.some.push(Match::Any),
        "_ordered" => expect.ordered = true,
        _ => {}
    }
    let mut series_lines = Vec::new();
    for line in body {
        if let Some(rest) = line.strip_prefix("expected_fail_message") {
            expect.fail = Some(Match::Message(rest.trim().to_owned()));
        } else if let Some(rest) = line.strip_prefix("expected_fail_regexp") {
            expect.fail = Some(Match::Regex(Regex::new(rest.trim()).unwrap()));
        } else if let Some(rest) = line.strip_prefix("expect ") {
            read_expect(rest.trim(), &mut expect);
        } else if line.contains("{{") {
            expect.unknown = true;
        } else if let (1, Ok(value)) = (body.len(), number(line)) {
            expect.scalar = Some(value);
        } else if let (Ok(value), true) = (number(line), series_lines.is_empty()) {
            expect.scalar = Some(value);
        } else {
            series_lines.push(series(line));
        }
    }
    Eval {
        expr,
        at,
        expect,
        series: series_lines,
    }
}

fn read_expect(text: &str, expect: &mut Expect) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match word {
        "ordered" => expect.ordered = true,
        "fail" => expect.fail = Some(Match::parse(rest)),
        "warn" => expect.warn.some.push(Match::parse(rest)),
        "info" => expect.info.some.push(Match::parse(rest)),
        "no_warn" => expect.warn.none = true,
        "no_info" => expect.info.none = true,
        "string" => {
            let options = tidegauge_query::ParseOptions::default();
            let expr = tidegauge_query::parse(rest.trim(), &options).expect("string of a script");
            match expr.kind {
                tidegauge_query::parser::ExprKind::String(s) => expect.string = Some(s.value),
                other => panic!("no string: {other:?}"),
            }
        }
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            match words.as_slice() {
                ["vector", "from", a, "to", b, "step", s] => {
                    expect.range_vector = Some((duration_ms(a), duration_ms(b), duration_ms(s)));
                }
                other => panic!("cannot read {other:?}"),
            }
        }
        other => panic!("unknown expectation {other:?}"),
    }
}

/// `5m`, `1h30m`, `-1m`, plain seconds.
pub(crate) fn duration_ms(text: &str) -> i64 {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if let Ok(seconds) = text.parse::<f64>() {
        return (sign * seconds * 1000.0).round() as i64;
    }
    let unit = Regex::new(r"([0-9.]+)(ms|y|w|d|h|m|s)").unwrap();
    let mut ms = 0.0;
    let mut read = 0;
    for c in unit.captures_iter(text) {
        let factor = match &c[2] {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            "d" => 86_400e3,
            "w" => 7.0 * 86_400e3,
            _ => 365.0 * 86_400e3,
        };
        ms += c[1].parse::<f64>().expect("number of a duration") * factor;
        read += c[0].len();
    }
    assert_eq!(read, text.len(), "cannot read duration {text:?}");
    (sign * ms).round() as i64
}

fn number(text: &str) -> Result<f64, String> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = body.to_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16)
            .map(|v| sign * v as f64)
            .map_err(|e| e.to_string());
    }
    match lower.as_str() {
        "inf" => return Ok(sign * f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(format!("no number: {text:?}"));
    }
    body.parse::<f64>().map(|v| sign * v).map_err(|e| e.to_string())
}

/// `name{a="b"} 1 2+3x4 _ stale`
pub(crate) fn series(line: &str) -> (Labels, Vec<Option<f64>>) {
    let (labels, rest) = metric(line);
    (labels, rest.split_whitespace().flat_map(points).collect())
}

fn points(item: &str) -> Vec<Option<f64>> {
    if item == "stale" {
        return vec![Some(stale_marker())];
    }
    if let Some(rest) = item.strip_prefix('_') {
        let count = rest.strip_prefix('x').map_or(1, |n| n.parse().expect("count"));
        return vec![None; count];
    }
    // `0x10` is ten more zeros: there are no hexadecimal numbers here.
    let Some(x) = item.find('x') else {
        return vec![Some(number(item).unwrap_or_else(|e| panic!("{e}")))];
    };
    let times: usize = item[x + 1..].parse().unwrap_or_else(|_| panic!("count of {item:?}"));
    let body = &item[..x];
    // The operator is the last sign that is not the first character and does not follow an exponent.
    let sign = body
        .char_indices()
        .rev()
        .find(|(i, c)| *i > 0 && (*c == '+' || *c == '-') && !matches!(body.as_bytes()[i - 1], b'e' | b'E'))
        .map(|(i, _)| i);
    let (start, by) = match sign {
        // `a--b` and `a+-b`: the operator is the sign before the last.
        Some(i) if i > 1 && matches!(body.as_bytes()[i - 1], b'+' | b'-') => {
            let by = number(&body[i..]).unwrap();
            (
                number(&body[..i - 1]).unwrap(),
                if body.as_bytes()[i - 1] == b'-' { -by } else { by },
            )
        }
        Some(i) => (number(&body[..i]).unwrap(), number(&body[i..]).unwrap()),
        None => (number(body).unwrap(), 0.0),
    };
    let mut value = start;
    let mut out = Vec::with_capacity(times + 1);
    for _ in 0..=times {
        out.push(Some(value));
        value += by;
    }
    out
}

/// The series at the start of a line, and what follows.
pub(crate) fn metric(line: &str) -> (Labels, &str) {
    let mut builder = LabelsBuilder::new();
    let end = line.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    builder.set("__name__", name);
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') {
            let (key, after) = if rest.starts_with(['"', '\'', '`']) {
                quoted(rest)
            } else {
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '.'))
                    .unwrap_or_else(|| panic!("label name in {line:?}"));
                (rest[..end].to_owned(), &rest[end..])
            };
            rest = after.trim_start();
            if let Some(after) = rest.strip_prefix('=') {
                let (value, after) = quoted(after.trim_start());
                builder.set(&key, &value);
                rest = after.trim_start();
            } else {
                builder.set("__name__", &key);
            }
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        rest = &rest[1..];
    }
    (builder.build(), rest)
}

/// The quoted text at the start, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let quote = text.chars().next().expect("a quote");
    let mut end = 1;
    let bytes = text.as_bytes();
    while bytes[end] != quote as u8 {
        end += if bytes[end] == b'\\' && quote != '`' { 2 } else { 1 };
    }
    let literal = &text[..=end];
    let options = tidegauge_query::ParseOptions::default();
    let expr = tidegauge_query::parse(literal, &options).unwrap_or_else(|e| panic!("{literal}: {e}"));
    match expr.kind {
        tidegauge_query::parser::ExprKind::String(s) => (s.value, &text[end + 1..]),
        other => panic!("no string: {other:?}"),
    }
}

#[test]
fn points_are_read_as_upstream_reads_them() {
    let read = |text: &str| points(text).into_iter().map(|p| p.unwrap_or(-99.0)).collect::<Vec<_>>();
    assert_eq!(read("1x4"), [1.0; 5]);
    assert_eq!(read("1+2x2"), [1.0, 3.0, 5.0]);
    assert_eq!(read("1-2x2"), [1.0, -1.0, -3.0]);
    assert_eq!(read("-1e2+1e-1x1"), [-100.0, -99.9]);
    assert_eq!(read("_x2"), [-99.0; 2]);
    assert_eq!(read("0x2"), [0.0; 3]);
    assert_eq!(
        (duration_ms("1h30m"), duration_ms("-1m"), duration_ms("1.5")),
        (5_400_000, -60_000, 1500)
    );
}
