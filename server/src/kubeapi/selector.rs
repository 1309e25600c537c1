//! `labelSelector` and `fieldSelector` of a request.
//!
//! ```text
//!   labelSelector = requirement { "," requirement }
//!   requirement   = key | "!" key | key ("=" | "==" | "!=") value | key ("in" | "notin") "(" value { "," value } ")"
//!                 | key (">" | "<") integer
//! ```

use crate::hpa::spec::{LabelSelector, Operator};

/// The longest selector that is read.
const MAX_BYTES: usize = 16 << 10;

/// Conditions on the labels of objects; all of them must hold. Without any, every object is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<Requirement>);

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What is asked of its value.
    pub test: Test,
}

/// What is asked of a label's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It is one of these: `=`, `in`.
    In(Vec<String>),
    /// It is none of these, or not there: `!=`, `notin`.
    NotIn(Vec<String>),
    /// There is one.
    Exists,
    /// There is none.
    Missing,
    /// It is a larger integer.
    Greater(i64),
    /// It is a smaller integer.
    Less(i64),
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|v| v == value));
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(values) => among(values),
            Self::NotIn(values) => !among(values),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
            Self::Greater(than) => number().is_some_and(|n| n > *than),
            Self::Less(than) => number().is_some_and(|n| n < *than),
        }
    }
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// Where it is none, in the words of `kubectl`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the selector is longer than {MAX_BYTES} bytes"));
        }
        let mut rest = Words(text);
        let mut found = Vec::new();
        while rest.peek().is_some() {
            found.push(requirement(&mut rest)?);
            match rest.next() {
                None => break,
                Some(",") if rest.peek().is_some() => {}
                Some(",") => return Err("found '', expected: identifier after ','".to_owned()),
                Some(other) => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
            }
        }
        Ok(Self(found))
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether every object is meant.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is meant.
    pub fn matches<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|one| one.test.holds(value(&one.key)))
    }
}

impl From<&LabelSelector> for Selector {
    fn from(selector: &LabelSelector) -> Self {
        let equal = selector.labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            test: Test::In(vec![value.clone()]),
        });
        let further = selector.expressions.iter().map(|one| Requirement {
            key: one.key.clone(),
            test: match one.operator {
                Operator::In => Test::In(one.values.clone()),
                Operator::NotIn => Test::NotIn(one.values.clone()),
                Operator::Exists => Test::Exists,
                Operator::DoesNotExist => Test::Missing,
            },
        });
        Self(equal.chain(further).collect())
    }
}

impl std::fmt::Display for Selector {
    /// As it is written in a request.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (no, Requirement { key, test }) in self.0.iter().enumerate() {
            if no > 0 {
                f.write_str(",")?;
            }
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values.join(""))?,
                Test::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values.join(""))?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Test::Exists => f.write_str(key)?,
                Test::Missing => write!(f, "!{key}")?,
                Test::Greater(than) => write!(f, "{key}>{than}")?,
                Test::Less(than) => write!(f, "{key}<{than}")?,
            }
        }
        Ok(())
    }
}

fn requirement(rest: &mut Words<'_>) -> Result<Requirement, String> {
    let missing = rest.peek() == Some("!");
    if missing {
        rest.next();
    }
    let key = name(rest.next())?;
    if missing {
        return Ok(Requirement {
            key,
            test: Test::Missing,
        });
    }
    let operator = match rest.peek() {
        None | Some(",") => {
            return Ok(Requirement {
                key,
                test: Test::Exists,
            });
        }
        Some(operator) => operator,
    };
    rest.next();
    let test = match operator {
        "=" | "==" => Test::In(vec![value(rest)?]),
        "!=" => Test::NotIn(vec![value(rest)?]),
        "in" => Test::In(values(rest)?),
        "notin" => Test::NotIn(values(rest)?),
        ">" => Test::Greater(integer(rest)?),
        "<" => Test::Less(integer(rest)?),
        other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
    };
    Ok(Requirement { key, test })
}

fn name(word: Option<&str>) -> Result<String, String> {
    match word {
        Some(word) if is_name(word) => Ok(word.to_owned()),
        word => Err(format!("found '{}', expected: identifier", word.unwrap_or_default())),
    }
}

/// Letters, digits, and what label names and values have between them.
fn is_name(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b)) && !word.is_empty()
}

/// A value, which may be empty.
fn value(rest: &mut Words<'_>) -> Result<String, String> {
    match rest.peek() {
        None | Some("," | ")") => Ok(String::new()),
        word => {
            rest.next();
            name(word)
        }
    }
}

fn integer(rest: &mut Words<'_>) -> Result<i64, String> {
    let word = rest.next().unwrap_or_default();
    word.parse()
        .map_err(|_| format!("found '{word}', expected: an integer after 'gt' or 'lt'"))
}

fn values(rest: &mut Words<'_>) -> Result<Vec<String>, String> {
    match rest.next() {
        Some("(") => {}
        other => return Err(format!("found '{}', expected: '('", other.unwrap_or_default())),
    }
    let mut found = vec![value(rest)?];
    loop {
        match rest.next() {
            Some(")") => return Ok(found),
            Some(",") => found.push(value(rest)?),
            other => {
                return Err(format!("found '{}', expected: ',', or ')'", other.unwrap_or_default()));
            }
        }
    }
}

/// The words of a selector: names, values and signs.
#[derive(Clone, Copy)]
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn peek(self) -> Option<&'a str> {
        let mut words = self;
        words.next()
    }

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let length = match text.get(..2) {
            Some("==" | "!=") => 2,
            _ => match text.bytes().next()? {
                b'=' | b'!' | b',' | b'(' | b')' | b'<' | b'>' => 1,
                _ => text
                    .find(|c: char| c.is_whitespace() || "=!,()<>".contains(c))
                    .unwrap_or(text.len()),
            },
        };
        let (word, rest) = text.split_at(length);
        self.0 = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn selectors_select() {
        let labels = [("app", "web"), ("tier", ""), ("n", "7"), ("a.b/c-d", "x_1.2")];
        let value = |name: &str| labels.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app == web , n!=8", true),
            ("app!=web", false),
            ("gone!=x", true),
            ("app in (api, web)", true),
            ("app notin (api,web)", false),
            ("gone notin (a)", true),
            ("tier=", true),
            ("tier in ()", true),
            ("tier in (a,)", true),
            ("app", true),
            ("!app", false),
            ("! gone", true),
            ("n>6,n<8", true),
            ("app>1", false),
            ("a.b/c-d=x_1.2", true),
            ("in=x", false),
        ] {
            let selector = Selector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.matches(value), expected, "{text}");
            assert_eq!(Selector::parse(&selector.to_string()), Ok(selector), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, expected) in [
            ("=a", "found '=', expected: identifier"),
            ("a=b,", "expected: identifier after ','"),
            ("a b", "found 'b', expected: in, notin"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in b", "found 'b', expected: '('"),
            ("a in (b", "found '', expected: ',', or ')'"),
            ("a>b", "expected: an integer"),
            ("a=\u{e9}", "expected: identifier"),
            ("!", "found '', expected: identifier"),
        ] {
            let told = Selector::parse(text).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
        assert!(Selector::parse(&"a,".repeat(MAX_BYTES)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c=!<>(), \u{e9}in]{0,24}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
