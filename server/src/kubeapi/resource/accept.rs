//! The form of an answer, as a client's `Accept` asks for it.

/// What is made of the objects of an answer. Always as JSON: clients take that whatever else they would rather have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The objects themselves.
    Objects,
    /// What a program prints, line by line.
    Table(Version),
    /// Of each object who it is.
    Metadata(Version),
}

/// The version of `meta.k8s.io` that tables and metadata are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// Whether one object is asked for, or a list: the metadata of both have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Many {
    One,
    List,
}

/// The first form of those wanted most that there is. What is not known is passed over, as protobuf is.
pub(super) fn form(accept: &str, many: Many) -> Form {
    let mut ranges: Vec<(u16, &str)> = accept.split(',').map(|range| (weight(range), range)).collect();
    ranges.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let forms = ranges.iter().filter(|(weight, _)| *weight > 0);
    forms
        .filter_map(|(_, range)| form_of(range, many))
        .next()
        .unwrap_or(Form::Objects)
}

/// Thousandths of its `q`.
fn weight(range: &str) -> u16 {
    let q = parameters(range).find(|(name, _)| name.eq_ignore_ascii_case("q"));
    let q = q.and_then(|(_, value)| value.parse::<f32>().ok());
    (q.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16
}

/// The form that a media range asks for; `None` if it is none of ours.
fn form_of(range: &str, many: Many) -> Option<Form> {
    let media = range.split(';').next().unwrap_or_default().trim();
    if !["application/json", "application/*", "*/*"]
        .iter()
        .any(|known| media.eq_ignore_ascii_case(known))
    {
        return None;
    }
    let value = |wanted: &str| {
        parameters(range)
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    let Some(kind) = value("as") else {
        return Some(Form::Objects);
    };
    let version = match (value("g"), value("v")) {
        (Some("meta.k8s.io"), Some("v1")) => Version::V1,
        (Some("meta.k8s.io"), Some("v1beta1")) => Version::V1beta1,
        _ => return None,
    };
    match (kind, many) {
        ("Table", _) => Some(Form::Table(version)),
        ("PartialObjectMetadata", Many::One) | ("PartialObjectMetadataList", Many::List) => {
            Some(Form::Metadata(version))
        }
        _ => None,
    }
}

fn parameters(range: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = range.split(';').skip(1).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_of_the_most_wanted_forms_is_taken() {
        use Form::{Metadata, Objects, Table};
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        for (accept, many, expected) in [
            ("", Many::List, Objects),
            ("application/json", Many::List, Objects),
            ("application/vnd.kubernetes.protobuf, */*", Many::List, Objects),
            ("application/vnd.kubernetes.protobuf", Many::List, Objects),
            (table, Many::One, Table(Version::V1)),
            (
                &format!("{table},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"),
                Many::List,
                Table(Version::V1),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Many::List,
                Table(Version::V1beta1),
            ),
            (
                "application/json; as=\"Table\"; g=meta.k8s.io; v=v1",
                Many::List,
                Table(Version::V1),
            ),
            (
                &format!("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,{table}"),
                Many::List,
                Table(Version::V1),
            ),
            (&format!("{table};q=0.5,application/json"), Many::List, Objects),
            (&format!("{table};q=0"), Many::List, Objects),
            (
                "application/json;as=Table;v=v2;g=meta.k8s.io,application/json",
                Many::List,
                Objects,
            ),
            ("application/json;as=Table", Many::List, Objects),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Many::List,
                Metadata(Version::V1),
            ),
            (
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Many::One,
                Metadata(Version::V1),
            ),
            (
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Many::List,
                Objects,
            ),
            (";;==,,;q=x", Many::List, Objects),
        ] {
            assert_eq!(form(accept, many), expected, "{accept}");
        }
    }
}
