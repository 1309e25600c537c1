//! The document, as far as tests read it: operations, what may be asked of them, and whether an answer is as it says.

use axum::http::Method;
use serde_json::{Map, Value};

const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.yaml"));

pub(super) struct Document {
    root: Value,
}

/// One method of one path.
pub(super) struct Operation<'d> {
    pub(super) path: &'d str,
    pub(super) method: Method,
    parameters: Vec<Parameter<'d>>,
    /// What a form may hold.
    pub(super) form: Option<Vec<Parameter<'d>>>,
    responses: &'d Map<String, Value>,
}

#[derive(Debug)]
pub(super) struct Parameter<'d> {
    pub(super) name: &'d str,
    place: &'d str,
    pub(super) required: bool,
    pub(super) kind: Kind,
}

/// What a parameter takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Time,
    Duration,
    Expression,
    Selector,
    Selectors,
    /// A whole number, and the least one.
    Whole(Option<i64>),
    Boolean,
    Word(Vec<String>),
    /// Several of these.
    Words(Vec<String>),
    Json,
    Text,
    Texts,
}

impl Operation<'_> {
    /// The parameters of the URL behind its `?`.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Parameter<'_>> {
        self.parameters.iter().filter(|parameter| parameter.place == "query")
    }

    /// Whether the document gives this status a line of its own.
    pub(super) fn names(&self, status: u16) -> bool {
        self.responses.contains_key(&status.to_string())
    }
}

impl Document {
    pub(super) fn read() -> Self {
        Self {
            root: serde_yaml_ng::from_str(TEXT).expect("the document is YAML"),
        }
    }

    /// A node, or what it refers to.
    fn at<'d>(&'d self, node: &'d Value) -> &'d Value {
        match node.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("references stay in the document");
                let found = self.root.pointer(pointer);
                self.at(found.unwrap_or_else(|| panic!("{reference} is not there")))
            }
            None => node,
        }
    }

    pub(super) fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in self.root["paths"].as_object().expect("paths") {
            let shared = item.get("parameters");
            for (method, node) in item
                .as_object()
                .expect("a path")
                .iter()
                .filter(|(key, _)| *key != "parameters")
            {
                let lists = [shared, node.get("parameters")];
                let parameters = lists
                    .into_iter()
                    .flatten()
                    .flat_map(|list| list.as_array().expect("a list"));
                operations.push(Operation {
                    path,
                    method: method.to_ascii_uppercase().parse().expect("a method"),
                    parameters: parameters.map(|node| self.parameter(node)).collect(),
                    form: node
                        .pointer("/requestBody/content/application~1x-www-form-urlencoded/schema/properties")
                        .map(|properties| self.form(properties)),
                    responses: node["responses"].as_object().expect("responses"),
                });
            }
        }
        operations
    }

    fn parameter<'d>(&'d self, node: &'d Value) -> Parameter<'d> {
        let node = self.at(node);
        Parameter {
            name: node["name"].as_str().expect("a name"),
            place: node["in"].as_str().expect("a place"),
            required: node["required"] == true,
            kind: self.kind(&node["schema"]),
        }
    }

    fn form<'d>(&'d self, properties: &'d Value) -> Vec<Parameter<'d>> {
        let properties = properties.as_object().expect("properties");
        let parameters = properties.iter().map(|(name, schema)| Parameter {
            name,
            place: "form",
            required: false,
            kind: self.kind(schema),
        });
        parameters.collect()
    }

    fn kind(&self, schema: &Value) -> Kind {
        let schema = self.at(schema);
        let text = |key: &str| schema[key].as_str().unwrap_or_default();
        match (text("type"), text("format")) {
            ("string", "time") => Kind::Time,
            ("string", "duration") => Kind::Duration,
            ("string", "promql") => Kind::Expression,
            ("string", "selector") => Kind::Selector,
            ("string", "json") => Kind::Json,
            ("string", "example") => Kind::Word(words(&schema["examples"])),
            ("string", "") => match schema.get("enum").and_then(Value::as_array) {
                Some(_) => Kind::Word(words(&schema["enum"])),
                None => Kind::Text,
            },
            ("integer", _) => Kind::Whole(schema.get("minimum").and_then(Value::as_i64)),
            ("boolean", _) => Kind::Boolean,
            ("array", _) => match self.kind(&schema["items"]) {
                Kind::Selector => Kind::Selectors,
                Kind::Text => Kind::Texts,
                Kind::Word(words) => Kind::Words(words),
                other => panic!("no list of {other:?} is known"),
            },
            other => panic!("no parameter of {other:?} is known"),
        }
    }

    /// Whether an answer is one that the document names for an operation; else what is wrong with it.
    pub(super) fn check(&self, of: &Operation<'_>, status: u16, kind: &str, body: &[u8]) -> Result<(), String> {
        let response = match (of.responses.get(&status.to_string()), of.responses.get("default")) {
            (Some(named), _) => self.at(named),
            (None, Some(default)) => {
                let default = self.at(default);
                let statuses = default["x-statuses"]
                    .as_array()
                    .expect("the statuses of all operations");
                if !statuses.iter().any(|any| *any == status) {
                    return Err(format!("status {status} is not named"));
                }
                default
            }
            (None, None) => return Err(format!("status {status} is not named")),
        };
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            return match body {
                [] => Ok(()),
                _ => Err("no body is named".to_owned()),
            };
        };
        // Where a path leads to is told in words to GET alone.
        if status == 301 && body.is_empty() {
            return Ok(());
        }
        let media = kind.split(';').next().unwrap_or_default();
        let Some(named) = content.get(media) else {
            return Err(format!("the content type {kind:?} is not named for {status}"));
        };
        if media != "application/json" {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        self.fits(&value, &named["schema"], "")
    }

    /// Whether a value is as a schema has it. Stricter than the standard: what an object holds must be named.
    fn fits(&self, value: &Value, schema: &Value, place: &str) -> Result<(), String> {
        let schemas = self.parts(schema);
        for schema in &schemas {
            self.fits_alone(value, schema, place)?;
        }
        let Value::Object(pairs) = value else { return Ok(()) };
        for (key, value) in pairs {
            let below = format!("{place}.{key}");
            let mut named = schemas.iter().filter_map(|schema| schema.get("properties")?.get(key));
            let all: Vec<&Value> = named.by_ref().collect();
            let other = schemas.iter().find_map(|schema| schema.get("additionalProperties"));
            match (all.as_slice(), other) {
                ([], None)
                    if schemas
                        .iter()
                        .all(|schema| schema.get("oneOf").is_none() && *schema != &Value::Object(Map::new())) =>
                {
                    return Err(format!("{below} is not named"));
                }
                ([], Some(other)) if other.is_object() => self.fits(value, other, &below)?,
                ([], _) => {}
                (all, _) => {
                    for schema in all {
                        self.fits(value, schema, &below)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A schema and all that it is made of.
    fn parts<'d>(&'d self, schema: &'d Value) -> Vec<&'d Value> {
        let schema = self.at(schema);
        let mut parts = vec![schema];
        if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
            parts = all.iter().flat_map(|part| self.parts(part)).collect();
        }
        parts
    }

    /// Everything but the keys of an object.
    fn fits_alone(&self, value: &Value, schema: &Value, place: &str) -> Result<(), String> {
        let fail = |what: &str| Err(format!("{place} is {value}: {what}"));
        let list = |key: &str| schema.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        if !types.is_empty() && !types.iter().any(|name| is_of(value, name)) {
            return fail("of another type");
        }
        if schema.get("const").is_some_and(|constant| constant != value) {
            return fail("another value is named");
        }
        if schema.get("enum").is_some() && !list("enum").contains(value) {
            return fail("none of those named");
        }
        if !list("oneOf").is_empty() {
            let tried: Vec<Result<(), String>> = list("oneOf").iter().map(|one| self.fits(value, one, place)).collect();
            if tried.iter().filter(|fits| fits.is_ok()).count() != 1 {
                return fail(&format!("it is to fit one: {tried:?}"));
            }
        }
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        if let Some(text) = value.as_str()
            && bound("minLength").is_some_and(|least| (text.len() as u64) < least)
        {
            return fail("too short");
        }
        if let Some(pairs) = value.as_object() {
            let needed = list("required").iter().filter_map(Value::as_str);
            if let Some(missing) = needed.into_iter().find(|name| !pairs.contains_key(*name)) {
                return fail(&format!("{missing} is missing"));
            }
        }
        let Some(items) = value.as_array() else { return Ok(()) };
        let count = items.len() as u64;
        if bound("minItems").is_some_and(|least| count < least) || bound("maxItems").is_some_and(|most| count > most) {
            return fail("not as many as are named");
        }
        let prefix = list("prefixItems");
        for (i, item) in items.iter().enumerate() {
            if let Some(schema) = prefix.get(i).or(schema.get("items")) {
                self.fits(item, schema, &format!("{place}[{i}]"))?;
            }
        }
        Ok(())
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no type {other} is known"),
    }
}

fn words(list: &Value) -> Vec<String> {
    let words = list.as_array().expect("a list");
    let word = |word: &Value| word.as_str().expect("a word").to_owned();
    words.iter().map(word).collect()
}
