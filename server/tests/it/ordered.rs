//! JSON with the order of its keys, which clients that read it as a stream rely on.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A value.
#[derive(Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Number(n) => write!(f, "{n}"),
            Self::String(s) => write!(f, "{s:?}"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Object(members) => f.debug_map().entries(members.iter().map(|(k, v)| (k, v))).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Json, E> {
                Ok(Json::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Json, E> {
                Ok(Json::Number(n as f64))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Json, E> {
                Ok(Json::Number(n as f64))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Json, E> {
                Ok(Json::Number(n))
            }
            fn visit_str<E>(self, s: &str) -> Result<Json, E> {
                Ok(Json::String(s.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Json::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Json {
    /// Lists of objects in one order, since upstream's is not defined.
    pub(crate) fn sorted(self) -> Self {
        match self {
            Self::Array(items) => {
                let mut items: Vec<Self> = items.into_iter().map(Self::sorted).collect();
                if items.iter().all(|item| matches!(item, Self::Object(_))) {
                    items.sort_by_key(|item| format!("{item:?}"));
                }
                Self::Array(items)
            }
            Self::Object(members) => Self::Object(members.into_iter().map(|(k, v)| (k, v.sorted())).collect()),
            other => other,
        }
    }

    /// The kind of everything, and the keys in order; a list by its first item, an open map (labels, flags) by none.
    pub(crate) fn shape(&self, key: &str) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(_) => "bool".into(),
            Self::Number(_) => "number".into(),
            Self::String(_) => "string".into(),
            Self::Array(items) => format!("[{}]", items.first().map_or(String::new(), |item| item.shape(""))),
            Self::Object(_) if OPEN_MAPS.contains(&key) => "{...}".into(),
            Self::Object(members) => {
                let members: Vec<String> = members.iter().map(|(k, v)| format!("{k}: {}", v.shape(k))).collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }
}

const OPEN_MAPS: [&str; 5] = ["discoveredLabels", "labels", "target", "metric", "droppedTargetCounts"];
