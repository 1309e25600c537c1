//! YAML as a tree that remembers where everything stands, so that an error found at any later stage can point at it.
//!
//! Scalars stay text: what they mean depends on who reads them (`regex: 1` is a text, `port: 1` a number), as with
//! the YAML library of Prometheus. Anchors, aliases and merge keys (`<<`) are resolved here.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;
use std::fmt;

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 100;
/// More nodes are refused: aliases can multiply a small file.
const MAX_NODES: usize = 1_000_000;

/// A position in a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where; `None` while nobody knew.
    pub(crate) at: Option<Place>,
    /// The keys that lead there, as in `scrape_configs[0].job_name`.
    pub(crate) path: Path,
    /// In words.
    pub(crate) message: String,
}

/// The way from the root to a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

impl Fault {
    pub(crate) fn new(at: Place, message: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            path: Path::default(),
            message: message.into(),
        }
    }

    /// The same fault seen from the mapping above.
    pub(crate) fn below_key(mut self, key: &str, at: Place) -> Self {
        self.path.0.insert(0, Step::Key(key.to_owned()));
        self.at.get_or_insert(at);
        self
    }

    /// The same fault seen from the list above.
    pub(crate) fn below_item(mut self, item: usize, at: Place) -> Self {
        self.path.0.insert(0, Step::Item(item));
        self.at.get_or_insert(at);
        self
    }
}

/// One value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    /// The text, and whether it stood without quotes (and may mean a number or a truth value).
    Scalar(String, Quoting),
    List(Vec<Node>),
    /// In the order of the file; keys are unique.
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoting {
    Plain,
    Quoted,
}

/// A mapping's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) at: Place,
    pub(crate) text: String,
}

impl Node {
    /// Reads one document; an empty text is null.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let mut builder = Builder {
            parser: Parser::new_from_str(text),
            anchors: HashMap::new(),
            nodes: 0,
        };
        builder.document()
    }

    pub(crate) fn text(at: Place, text: impl Into<String>) -> Self {
        Self {
            at,
            value: Value::Scalar(text.into(), Quoting::Quoted),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, v)| v)
    }

    /// A mapping's entries; nothing for other nodes.
    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// A list's items; nothing for other nodes.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A scalar's text.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(..) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, v)| v.size()).sum(),
            Value::Null | Value::Scalar(..) => 0,
        }
    }
}

struct Builder<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

fn place(span: Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                _ if root.is_some() => {
                    return Err(Fault::new(place(span), "a second document; the file must hold one"));
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root.unwrap_or(Node {
            at: Place { line: 1, column: 1 },
            value: Value::Null,
        }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => {
                let mark = error.marker();
                let at = Place {
                    line: mark.line().max(1),
                    column: mark.col() + 1,
                };
                Err(Fault::new(at, format!("not valid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Fault> {
        let at = place(span);
        if depth > MAX_DEPTH {
            return Err(Fault::new(at, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.count(1, at)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.filter(|t| t.is_yaml_core_schema()).map(|t| t.suffix.clone());
                (scalar(&text, style, tag.as_deref(), at)?, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| Fault::new(at, "an alias of something that is not complete"))?;
                self.count(node.size(), at)?;
                return Ok(node);
            }
            other => return Err(Fault::new(at, format!("not valid YAML: unexpected {other:?}"))),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, at: Place) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(Fault::new(at, format!("more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.node(event, span, depth + 1).map_err(|mut fault| {
                fault.message = fault.message.replace("a valid label value", "a valid label name");
                fault
            })?;
            let at = key.at;
            let Value::Scalar(text, _) = key.value else {
                return Err(Fault::new(at, format!("a key must be a text, not {}", key.kind())));
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            if plain && text == "<<" {
                merged.push(node);
                continue;
            }
            if let Some(line) = lines.insert(text.clone(), at.line) {
                return Err(Fault::new(at, format!("field {text} already set in line {line}")));
            }
            entries.push((Key { at, text }, node));
        }
        for node in merged {
            merge(&mut entries, node)?;
        }
        Ok(Value::Map(entries))
    }
}

/// What stands under `<<` fills in what the mapping itself does not say; the first of several wins.
fn merge(entries: &mut Vec<(Key, Node)>, from: Node) -> Result<(), Fault> {
    match from.value {
        Value::Map(more) => {
            for (key, node) in more {
                if !entries.iter().any(|(k, _)| k.text == key.text) {
                    entries.push((key, node));
                }
            }
            Ok(())
        }
        Value::List(items) => items.into_iter().try_for_each(|item| merge(entries, item)),
        Value::Null | Value::Scalar(..) => Err(Fault::new(from.at, "<< needs a mapping or a list of mappings")),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>, at: Place) -> Result<Value, Fault> {
    match tag {
        Some("binary") => return Ok(Value::Scalar(binary(text, at)?, Quoting::Quoted)),
        Some("str") => return Ok(Value::Scalar(text.to_owned(), Quoting::Quoted)),
        _ => {}
    }
    Ok(match style {
        ScalarStyle::Plain if matches!(text, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        ScalarStyle::Plain => Value::Scalar(text.to_owned(), Quoting::Plain),
        _ => Value::Scalar(text.to_owned(), Quoting::Quoted),
    })
}

/// Texts are UTF-8 here, so bytes that are not cannot be told from a mistake.
fn binary(text: &str, at: Place) -> Result<String, Fault> {
    let bad = || Fault::new(at, "!!binary value contains invalid base64 data");
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u32, 0u32);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(bad()),
        };
        bits = (bits << 6) | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    if held == 6 || bytes.is_empty() {
        return Err(bad());
    }
    String::from_utf8(bytes).map_err(|e| {
        let shown: String = e.as_bytes().escape_ascii().to_string();
        Fault::new(at, format!("\"{shown}\" is not a valid label value: it is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (usize, usize, String) {
        let fault = Node::parse(text).unwrap_err();
        let at = fault.at.unwrap();
        (at.line, at.column, fault.message)
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let root = Node::parse("a:\n  b: [1, 'x']\n").unwrap();
        let b = root.get("a").and_then(|a| a.get("b")).unwrap();
        assert_eq!(b.at, Place { line: 2, column: 6 });
        assert_eq!(b.items()[1].at, Place { line: 2, column: 10 });
        assert_eq!(b.items()[1].as_text(), Some("x"));
        assert_eq!(root.entries()[0].0.at, Place { line: 1, column: 1 });
    }

    #[test]
    fn empty_files_are_null() {
        for text in ["", "# only this\n", "---\n", "~"] {
            assert!(Node::parse(text).unwrap().is_null(), "{text:?}");
        }
    }

    #[test]
    fn repeated_keys_and_second_documents_are_refused() {
        let (line, column, message) = fault("a: 1\nb: 2\na: 3\n");
        assert_eq!((line, column), (3, 1));
        assert!(message.contains("a already set in line 1"), "{message}");
        assert_eq!(fault("a: 1\n---\nb: 1\n").0, 3);
        assert_eq!(fault("a: [1\nb: 2\n").0, 2);
    }

    #[test]
    fn aliases_and_merges_are_resolved() {
        let root = Node::parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: *x\n").unwrap();
        let y = root.get("y").unwrap();
        assert_eq!(
            (y.get("a").unwrap().as_text(), y.get("b").unwrap().as_text()),
            (Some("1"), Some("3"))
        );
        assert_eq!(root.get("z").unwrap().entries().len(), 2);
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..8 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(fault(&text).2.contains("more than"));
        assert!(!fault(&"[".repeat(5000)).2.is_empty());
    }

    #[test]
    fn binary_that_is_no_text_is_refused() {
        assert!(fault("a: !!binary \"/w==\"").2.contains(r"\xff"));
        assert!(fault("a: !!binary \"$1\"").2.contains("invalid base64"));
        assert_eq!(
            Node::parse("a: !!binary \"aGk=\"").unwrap().get("a").unwrap().as_text(),
            Some("hi")
        );
    }
}
