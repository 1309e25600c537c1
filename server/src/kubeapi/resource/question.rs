//! What a request asks for, beside its path.

use super::accept::{Form, Many, form};
use super::wire::RowObject;
use crate::kubeapi::{Failure, Selector};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use std::borrow::Cow;
use std::convert::Infallible;
use url::form_urlencoded;

/// Parameters and headers. Limits and the like are ignored: answers are whole.
#[derive(Debug)]
pub(super) struct Question {
    labels: String,
    fields: String,
    include_object: String,
    accept: String,
    /// Whether changes are to be told as they come.
    pub(super) watch: bool,
}

/// A condition on an object's name or namespace (`fieldSelector`).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    field: Field,
    is: bool,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
}

/// Conditions on names, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Fields(Vec<Condition>);

impl<S: Sync> FromRequestParts<S> for Question {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::read(parts.uri.query().unwrap_or_default(), &parts.headers))
    }
}

impl Question {
    fn read(query: &str, headers: &HeaderMap) -> Self {
        // Of a parameter that is given twice the first counts.
        let value = |name: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(n, _)| n == name)
                .map(|(_, v)| v)
        };
        let text = |name: &str| value(name).map(Cow::into_owned).unwrap_or_default();
        let accept = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        Self {
            labels: text("labelSelector"),
            fields: text("fieldSelector"),
            include_object: text("includeObject"),
            accept: accept.collect::<Vec<_>>().join(","),
            watch: value("watch").is_some_and(|value| !matches!(value.to_lowercase().as_str(), "false" | "0")),
        }
    }

    /// Which labels objects are to have.
    ///
    /// # Errors
    /// [`Failure`] if it is no selector.
    pub(super) fn labels(&self) -> Result<Selector, Failure> {
        let wrong = |why| Failure::bad_request(format!("unable to parse requirement: {why}"));
        Selector::parse(&self.labels).map_err(wrong)
    }

    /// Which names objects are to have.
    ///
    /// # Errors
    /// [`Failure`] if it is no selector, or one of other fields.
    pub(super) fn fields(&self) -> Result<Fields, Failure> {
        Fields::parse(&self.fields).map_err(Failure::bad_request)
    }

    /// The form of the answer.
    pub(super) fn form(&self, many: Many) -> Form {
        form(&self.accept, many)
    }

    /// What rows of a table are to bring.
    ///
    /// # Errors
    /// [`Failure`] if it is none of the three.
    pub(super) fn row_object(&self) -> Result<RowObject, Failure> {
        match self.include_object.as_str() {
            "" | "Metadata" => Ok(RowObject::Metadata),
            "None" => Ok(RowObject::None),
            "Object" => Ok(RowObject::Object),
            other => Err(Failure::bad_request(format!(
                "unrecognized includeObject value: {other:?}"
            ))),
        }
    }
}

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty());
        let condition = |term: &str| {
            let (field, is, value) = match term.split_once("!=") {
                Some((field, value)) => (field, false, value),
                None => match term.split_once("==").or_else(|| term.split_once('=')) {
                    Some((field, value)) => (field, true, value),
                    None => return Err(format!("invalid selector: '{text}'; can't understand '{term}'")),
                },
            };
            let field = match field.trim() {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                other => {
                    let known = r#"only "metadata.name", "metadata.namespace""#;
                    return Err(format!("{other:?} is not a known field selector: {known}"));
                }
            };
            let value = value.trim().to_owned();
            Ok(Condition { field, is, value })
        };
        terms.map(condition).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an object of this name is meant.
    pub(super) fn match_names(&self, namespace: &str, name: &str) -> bool {
        self.0.iter().all(|condition| {
            let value = match condition.field {
                Field::Name => name,
                Field::Namespace => namespace,
            };
            (value == condition.value) == condition.is
        })
    }

    /// The one namespace that is meant, if there is one.
    pub(super) fn namespace(&self) -> Option<&str> {
        let mut named = self.0.iter().filter(|c| c.is && c.field == Field::Namespace);
        named.next().map(|condition| condition.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_choose_by_name_and_namespace() {
        for (text, chosen) in [
            ("", "a/x a/y b/x"),
            ("metadata.name=x", "a/x b/x"),
            ("metadata.name==x,metadata.namespace=b", "b/x"),
            ("metadata.name!=x", "a/y"),
            (" metadata.namespace != a , ", "b/x"),
            ("metadata.name=x,metadata.name=y", ""),
            ("metadata.name=", ""),
        ] {
            let fields = Fields::parse(text).unwrap();
            let names = [("a", "x"), ("a", "y"), ("b", "x")];
            let found = names
                .iter()
                .filter(|(namespace, name)| fields.match_names(namespace, name));
            let found: Vec<String> = found.map(|(namespace, name)| format!("{namespace}/{name}")).collect();
            assert_eq!(found.join(" "), chosen, "{text}");
        }
        for (text, expected) in [
            (
                "spec.nodeName=n",
                r#""spec.nodeName" is not a known field selector: only "metadata.name", "metadata.namespace""#,
            ),
            (
                "metadata.name",
                "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
            ),
        ] {
            assert_eq!(Fields::parse(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn parameters_are_read_as_the_api_server_reads_them() {
        let read = |query: &str| Question::read(query, &HeaderMap::new());
        let question = read("labelSelector=app%3Dweb%2Ctier+in+%28a%29&labelSelector=x&limit=500&includeObject=None");
        assert_eq!(question.labels().unwrap().to_string(), "app=web,tier=a");
        assert_eq!(question.row_object(), Ok(RowObject::None));
        for (query, watch) in [
            ("", false),
            ("watch", true),
            ("watch=true", true),
            ("watch=1", true),
            ("watch=0", false),
            ("watch=False", false),
        ] {
            assert_eq!(read(query).watch, watch, "{query}");
        }
        assert_eq!(
            read("labelSelector=a+b").labels().unwrap_err().message(),
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
        );
        assert!(read("includeObject=all").row_object().is_err());
        let mut headers = HeaderMap::new();
        headers.append("accept", "application/vnd.kubernetes.protobuf".parse().unwrap());
        headers.append(
            "accept",
            "application/json;as=Table;g=meta.k8s.io;v=v1".parse().unwrap(),
        );
        assert!(matches!(Question::read("", &headers).form(Many::List), Form::Table(_)));
    }
}
