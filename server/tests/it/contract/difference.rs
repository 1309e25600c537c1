//! What differs between two answers, and which of it may.

use crate::ordered::Json;
use crate::process::Answer;
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use std::fmt;
use std::io::Read;
use tidegauge_model::{MatchOp, Matcher};

/// Headers that are compared.
const HEADERS: [&str; 12] = [
    "content-type",
    "vary",
    "allow",
    "location",
    "content-encoding",
    "x-content-type-options",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "www-authenticate",
    "retry-after",
];

/// One place where two answers differ.
#[derive(Debug)]
pub(crate) struct Difference {
    /// `status`, the name of a header, `body`, or a pointer into JSON.
    place: String,
    what: What,
    theirs: String,
    ours: String,
}

/// In what way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Another text, number or truth.
    Value,
    /// A list where there is an object, and the like.
    Kind,
    /// More or fewer members of a list.
    Length,
    /// The same members of a list in another order.
    Order,
    /// Other keys, or in another order.
    Keys,
    /// The same JSON in other bytes.
    Bytes,
}

const WHATS: [(&str, What); 6] = [
    ("value", What::Value),
    ("kind", What::Kind),
    ("length", What::Length),
    ("order", What::Order),
    ("keys", What::Keys),
    ("bytes", What::Bytes),
];

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: &String| text.chars().take(300).collect::<String>();
        write!(
            f,
            "  {} ({:?})\n    theirs {}\n    ours   {}",
            self.place,
            self.what,
            cut(&self.theirs),
            cut(&self.ours)
        )
    }
}

/// All that differs; what is under a status that differs is not looked at. No answer is status 0.
pub(crate) fn differences(theirs: Option<&Answer>, ours: Option<&Answer>) -> Vec<Difference> {
    let none = Answer::default();
    let (theirs, ours) = (theirs.unwrap_or(&none), ours.unwrap_or(&none));
    let bodies = [theirs, ours].map(decoded);
    let shown = bodies.each_ref().map(|body| String::from_utf8_lossy(body).into_owned());
    let differ = |place: &str, what, theirs: &str, ours: &str| Difference {
        place: place.to_owned(),
        what,
        theirs: theirs.to_owned(),
        ours: ours.to_owned(),
    };
    if theirs.status != ours.status {
        let of = |answer: &Answer, body: &str| format!("{} {body}", answer.status);
        return vec![differ(
            "status",
            What::Value,
            &of(theirs, &shown[0]),
            &of(ours, &shown[1]),
        )];
    }
    let mut all: Vec<Difference> = HEADERS
        .iter()
        .map(|name| (name, theirs.header(name), ours.header(name)))
        .filter(|(_, theirs, ours)| theirs != ours)
        .map(|(name, theirs, ours)| differ(name, What::Value, theirs, ours))
        .collect();
    if bodies[0] == bodies[1] {
        return all;
    }
    let parsed = bodies.each_ref().map(|body| serde_json::from_slice::<Json>(body));
    match parsed {
        [Ok(theirs), Ok(ours)] => {
            let before = all.len();
            compare(&theirs, &ours, "", &mut all);
            if all.len() == before {
                all.push(differ("body", What::Bytes, &shown[0], &shown[1]));
            }
        }
        _ => all.push(differ("body", What::Value, &shown[0], &shown[1])),
    }
    all
}

fn decoded(answer: &Answer) -> Vec<u8> {
    let (mut out, bytes) = (Vec::new(), answer.bytes.as_slice());
    let read = match answer.header("content-encoding") {
        "gzip" => GzDecoder::new(bytes).read_to_end(&mut out),
        "deflate" => ZlibDecoder::new(bytes).read_to_end(&mut out).or_else(|_| {
            out.clear();
            DeflateDecoder::new(bytes).read_to_end(&mut out)
        }),
        _ => return bytes.to_vec(),
    };
    if read.is_err() { bytes.to_vec() } else { out }
}

fn compare(theirs: &Json, ours: &Json, place: &str, all: &mut Vec<Difference>) {
    let mut differ = |place: String, what| {
        all.push(Difference {
            place,
            what,
            theirs: format!("{theirs:?}"),
            ours: format!("{ours:?}"),
        });
    };
    match (theirs, ours) {
        (Json::Object(theirs), Json::Object(ours)) => {
            if !theirs.iter().map(|(key, _)| key).eq(ours.iter().map(|(key, _)| key)) {
                differ(place.to_owned(), What::Keys);
            }
            for (key, theirs) in theirs {
                if let Some((_, ours)) = ours.iter().find(|(other, _)| other == key) {
                    compare(theirs, ours, &format!("{place}/{key}"), all);
                }
            }
        }
        (Json::Array(a), Json::Array(b)) if a.len() != b.len() => differ(place.to_owned(), What::Length),
        (Json::Array(a), Json::Array(b)) => {
            let sorted = |list: &[Json]| {
                let mut texts: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
                texts.sort();
                texts
            };
            if a != b && sorted(a) == sorted(b) {
                return differ(place.to_owned(), What::Order);
            }
            for (at, (theirs, ours)) in a.iter().zip(b).enumerate() {
                compare(theirs, ours, &format!("{place}/{at}"), all);
            }
        }
        _ if std::mem::discriminant(theirs) != std::mem::discriminant(ours) => differ(place.to_owned(), What::Kind),
        _ if theirs != ours => differ(place.to_owned(), What::Value),
        _ => {}
    }
}

/// How a reason ends whose difference shows in some runs alone.
const BY_CHANCE: &str = " (by chance)";

/// A difference that must be.
#[derive(Debug)]
struct Gap {
    line: String,
    request: Matcher,
    place: Matcher,
    whats: Vec<What>,
    used: bool,
}

/// All of `contract_gaps.txt`, which says itself how it is written.
#[derive(Debug)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(crate) fn read(text: &str) -> Self {
        let regex =
            |pattern: &str| Matcher::new(MatchOp::Regex, "x", pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        let gap = |line: &str| {
            let parts: Vec<&str> = line.split(" :: ").collect();
            let [request, place, whats, why] = parts.as_slice() else {
                panic!("four parts: {line}")
            };
            assert!(why.len() > 10, "no reason: {line}");
            let what = |name: &str| {
                WHATS
                    .iter()
                    .find(|(known, _)| *known == name)
                    .expect("a way to differ")
                    .1
            };
            Gap {
                line: line.to_owned(),
                request: regex(request),
                place: regex(place),
                whats: match *whats {
                    "any" => WHATS.iter().map(|(_, what)| *what).collect(),
                    whats => whats.split(' ').map(what).collect(),
                },
                // Such a line is needed in some runs alone.
                used: why.ends_with(BY_CHANCE),
            }
        };
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(gap).collect())
    }

    /// Whether a request's answers may differ there. Every line that says so is used.
    pub(crate) fn allow(&mut self, request: &str, difference: &Difference) -> bool {
        let mut allowed = false;
        for gap in &mut self.0 {
            if gap.whats.contains(&difference.what)
                && gap.place.matches(&difference.place)
                && gap.request.matches(request)
            {
                gap.used = true;
                allowed = true;
            }
        }
        allowed
    }

    /// The lines that no answer needed.
    pub(crate) fn unused(&self) -> Vec<&str> {
        let unused = self.0.iter().filter(|gap| !gap.used);
        unused.map(|gap| gap.line.as_str()).collect()
    }
}

#[test]
fn what_differs_is_told_and_may_be_allowed() {
    let json = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    let of = |theirs: &str, ours: &str| {
        let mut all = Vec::new();
        compare(&json(theirs), &json(ours), "", &mut all);
        all.into_iter()
            .map(|found| (found.place, found.what))
            .collect::<Vec<_>>()
    };
    for (theirs, ours, expected) in [
        ("[1, 2]", "[1, 2.0]", vec![]),
        (
            "{\"a\": 1, \"b\": 2}",
            "{\"b\": 2, \"a\": 3}",
            vec![("", What::Keys), ("/a", What::Value)],
        ),
        (
            "{\"a\": [{\"b\": 1}]}",
            "{\"a\": [{\"b\": \"1\"}]}",
            vec![("/a/0/b", What::Kind)],
        ),
        ("[1, 2]", "[2, 1]", vec![("", What::Order)]),
        ("[1, 2]", "[2]", vec![("", What::Length)]),
        ("[[1, 2], 3]", "[[1, 4], 3]", vec![("/0/1", What::Value)]),
    ] {
        let expected: Vec<(String, What)> = expected
            .into_iter()
            .map(|(place, what)| (place.to_owned(), what))
            .collect();
        assert_eq!(of(theirs, ours), expected, "{theirs} {ours}");
    }
    let mut gaps = Gaps::read(
        "# a remark\nGET /a.* :: /x/\\d :: value order :: for a good reason\nGET /b :: .* :: any :: for another reason\n\
         GET /d :: .* :: any :: for a third reason (by chance)",
    );
    let difference = |place: &str, what| Difference {
        place: place.to_owned(),
        what,
        theirs: String::new(),
        ours: String::new(),
    };
    assert!(!gaps.allow("GET /a", &difference("/x/1/y", What::Value)));
    assert!(!gaps.allow("GET /a", &difference("/x/1", What::Kind)));
    assert!(!gaps.allow("GET /c", &difference("/x/1", What::Value)));
    assert_eq!(gaps.unused().len(), 2);
    assert!(gaps.allow("GET /a | b=c", &difference("/x/1", What::Value)));
    assert_eq!(gaps.unused(), ["GET /b :: .* :: any :: for another reason"]);
}
