//! The table of requests, `testdata/api/contract.txt`, which says itself how it is written.

use crate::process::form;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Requests to servers that were started with the same flags.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) flags: Vec<String>,
    lines: Vec<String>,
}

/// What stands in the places of a line.
#[derive(Debug)]
pub(crate) struct Values {
    pub(crate) start_s: i64,
    pub(crate) now_s: i64,
    pub(crate) target: String,
}

/// One request as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// As the table has it.
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The whole table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) sections: Vec<Section>,
    bad: Vec<String>,
}

impl Table {
    pub(crate) fn read(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(values) = line.strip_prefix("bad |") {
                table.bad.extend(values.split('|').map(|value| value.trim().to_owned()));
            } else if let Some(flags) = line.strip_prefix("==") {
                table.sections.push(Section {
                    flags: flags.split_whitespace().map(str::to_owned).collect(),
                    lines: Vec::new(),
                });
            } else {
                let section = table.sections.last_mut().expect("a section before the first request");
                section.lines.push(line.to_owned());
            }
        }
        table
    }

    /// The requests of a section.
    pub(crate) fn requests(&self, section: &Section, values: &Values) -> Vec<Request> {
        let of_line = |line: &String| match line.strip_prefix("each ") {
            Some(line) => self.each(line, values),
            None => vec![one(line, values)],
        };
        section.lines.iter().flat_map(of_line).collect()
    }

    /// A request with each of its parameters spoilt in every way.
    fn each(&self, line: &str, values: &Values) -> Vec<Request> {
        let mut parts = line.split(" | ");
        let (methods, path) = parts.next().unwrap().split_once(' ').unwrap();
        let pairs: Vec<(String, String)> = parts
            .map(|part| part.split_once('=').expect("name=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // A bad value is as it is sent; others are not yet.
        let mut variants: Vec<Vec<(String, Result<String, String>)>> = Vec::new();
        let whole: Vec<_> = pairs.iter().cloned().map(|(name, value)| (name, Ok(value))).collect();
        variants.push(whole.clone());
        for at in 0..whole.len() {
            let mut without = whole.clone();
            let pair = without.remove(at);
            variants.push(without);
            let mut twice = whole.clone();
            twice.insert(at, pair);
            variants.push(twice);
            for bad in &self.bad {
                let mut spoilt = whole.clone();
                spoilt[at].1 = Err(bad.clone());
                variants.push(spoilt);
            }
        }
        let mut requests = Vec::new();
        for method in methods.split(',') {
            for variant in &variants {
                let shown: Vec<String> = variant
                    .iter()
                    .map(|(name, value)| format!(" | {name}={}", value.as_ref().unwrap_or_else(|bad| bad)))
                    .collect();
                let sent: Vec<String> = variant
                    .iter()
                    .map(|(name, value)| match value {
                        Ok(good) => form(&[(name, &values.fill(good))]),
                        Err(bad) => format!("{}={bad}", encoded(name)),
                    })
                    .collect();
                let name = format!("{method} {path}{}", shown.concat());
                requests.push(Request::new(name, method, path.to_owned(), &sent.join("&"), Vec::new()));
            }
        }
        requests
    }
}

fn one(line: &str, values: &Values) -> Request {
    let mut parts = line.split(" | ");
    let (method, path) = parts.next().unwrap().split_once(' ').unwrap();
    let (mut pairs, mut headers, mut body) = (Vec::new(), Vec::new(), None);
    for part in parts {
        let part = values.fill(part);
        let is_header = part.starts_with(|c: char| c.is_ascii_uppercase());
        if let Some(text) = part.strip_prefix("< ") {
            body = Some(text.as_bytes().to_vec());
        } else if let Some((name, value)) = part.split_once(':').filter(|_| is_header) {
            headers.push((name.to_owned(), value.trim().to_owned()));
        } else {
            let (name, value) = part.split_once('=').expect("name=value");
            pairs.push(form(&[(name, value)]));
        }
    }
    // What cannot stand in a head is escaped, and nothing else.
    let path = values.fill(path).replace(' ', "%20");
    let path = path.chars().map(|c| {
        if c.is_ascii() {
            c.to_string()
        } else {
            encoded(&c.to_string())
        }
    });
    let mut request = Request::new(line.to_owned(), method, path.collect(), &pairs.join("&"), headers);
    if let Some(body) = body {
        request.body = body;
    }
    request
}

impl Request {
    fn new(name: String, method: &str, path: String, pairs: &str, mut headers: Vec<(String, String)>) -> Self {
        let is_form = method == "POST" && !pairs.is_empty();
        if is_form {
            headers.push((
                "Content-Type".to_owned(),
                "application/x-www-form-urlencoded".to_owned(),
            ));
        }
        let target = match is_form || pairs.is_empty() {
            true => path,
            false => format!("{path}?{pairs}"),
        };
        Self {
            name,
            method: method.to_owned(),
            target,
            headers,
            body: if is_form { pairs.as_bytes().to_vec() } else { Vec::new() },
        }
    }
}

impl Values {
    /// Puts values into the places of a text.
    fn fill(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            match after
                .split_once('}')
                .and_then(|(place, tail)| Some((self.value(place)?, tail)))
            {
                Some((value, tail)) => {
                    out.push_str(&value);
                    rest = tail;
                }
                None => {
                    out.push('{');
                    rest = after;
                }
            }
        }
        out + rest
    }

    fn value(&self, place: &str) -> Option<String> {
        if let Some(seconds) = place.strip_prefix('+').and_then(|text| text.parse::<i64>().ok()) {
            return Some((self.start_s + seconds).to_string());
        }
        match place {
            "now" => Some(self.now_s.to_string()),
            "target" => Some(self.target.clone()),
            _ => {
                let (text, times) = place.split_once('*')?;
                Some(text.repeat(times.parse().ok()?))
            }
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[test]
fn a_table_is_read_as_it_says() {
    let table = Table::read(
        "# a remark\nbad | | %ff\n\n== --a --b\neach GET,POST /p | x={+5} | y=1\nPOST /q{a*3}?z | m[]={k=\"{now}\"} | Origin: o\n\
         GET /é | a=b | a=c\n== \nPUT / | < text",
    );
    let values = Values {
        start_s: 100,
        now_s: 7,
        target: "t".into(),
    };
    assert_eq!(table.sections[0].flags, ["--a", "--b"]);
    let requests = table.requests(&table.sections[0], &values);
    assert_eq!(requests.len(), 2 * (1 + 2 * 4) + 2);
    let sent = |at: usize| {
        let request: &Request = &requests[at];
        let body = String::from_utf8(request.body.clone()).unwrap();
        format!(
            "{} {} {}",
            request.method,
            request.target,
            percent_decode_str(&body).decode_utf8_lossy()
        )
    };
    assert_eq!(sent(0), "GET /p?x=105&y=1 ");
    assert_eq!(sent(1), "GET /p?y=1 ");
    assert_eq!(sent(2), "GET /p?x=105&x=105&y=1 ");
    assert_eq!(sent(4), "GET /p?x=%ff&y=1 ");
    assert_eq!(requests[4].name, "GET /p | x=%ff | y=1");
    assert_eq!(sent(17), "POST /p x=105&y=\u{fffd}");
    assert_eq!(sent(18), "POST /qaaa?z m[]={k=\"7\"}");
    assert_eq!(requests[18].headers[0], ("Origin".to_owned(), "o".to_owned()));
    assert_eq!(sent(19), "GET /%C3%A9?a=b&a=c ");
    assert_eq!(table.requests(&table.sections[1], &values)[0].body, b"text");
}
