//! The pods or nodes that the API server knows, and their labels.

use crate::kubeapi::{Failure, Selector};
use std::collections::HashMap;
use tidegauge_scraper::{Meta, Node, Pairs, Pod, Watching};

/// So many are looked for by their names; more, by looking at all.
const FEW: usize = 64;

/// What a pod and a node have in common here.
pub(super) trait Listed {
    /// Its name and labels.
    fn meta(&self) -> &Meta;

    /// Whether it still runs: what does not has no usage, whatever samples linger.
    fn runs(&self) -> bool {
        true
    }
}

impl Listed for Pod {
    fn meta(&self) -> &Meta {
        self.meta()
    }

    fn runs(&self) -> bool {
        !matches!(self.phase(), "Succeeded" | "Failed")
    }
}

impl Listed for Node {
    fn meta(&self) -> &Meta {
        self.meta()
    }
}

/// Objects by name that are asked for.
#[derive(Debug)]
pub(super) enum Objects {
    /// These alone.
    Known(HashMap<String, HashMap<String, Pairs>>),
    /// The API server has not said: whatever has samples.
    Unknown,
}

impl Objects {
    /// Those that run, in a namespace if one is named, with labels as the selector wants them.
    ///
    /// # Errors
    /// [`Failure`] if labels are wanted and nobody knows them.
    pub(super) fn of<T: Listed>(
        watching: &Watching<T>,
        resource: &str,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Self, Failure> {
        if let Some(problem) = problem(watching, resource) {
            if selector.is_everything() {
                return Ok(Self::Unknown);
            }
            return Err(Failure::unavailable(format!("cannot select by labels: {problem}")));
        }
        let chosen = |meta: &Meta| selector.matches(|name| meta.labels().get(name));
        Ok(Self::chosen(watching, namespace, chosen))
    }

    /// Those that run and are wanted by namespace and name, in a namespace if one is named.
    pub(super) fn wanted<T: Listed>(
        watching: &Watching<T>,
        namespace: Option<&str>,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Self {
        if !watching.is_complete() {
            return Self::Unknown;
        }
        Self::chosen(watching, namespace, |meta| wanted(meta.namespace(), meta.name()))
    }

    fn chosen<T: Listed>(watching: &Watching<T>, namespace: Option<&str>, chosen: impl Fn(&Meta) -> bool) -> Self {
        let mut known: HashMap<String, HashMap<String, Pairs>> = HashMap::new();
        watching.each(|object| {
            let meta = object.meta();
            let here = namespace.is_none_or(|namespace| namespace == meta.namespace());
            if !here || !object.runs() || !chosen(meta) {
                return;
            }
            let labels = meta.labels().clone();
            match known.get_mut(meta.namespace()) {
                Some(names) => names.insert(meta.name().to_owned(), labels),
                None => {
                    let first = HashMap::from([(meta.name().to_owned(), labels)]);
                    known.insert(meta.namespace().to_owned(), first);
                    None
                }
            };
        });
        Self::Known(known)
    }

    /// All names, if they are few.
    pub(super) fn few(&self) -> Option<Vec<&str>> {
        let Self::Known(known) = self else { return None };
        let count: usize = known.values().map(HashMap::len).sum();
        let names = || known.values().flat_map(HashMap::keys).map(String::as_str);
        (count <= FEW).then(|| names().collect())
    }

    /// The one of a name, if it is there and runs.
    pub(super) fn one<T: Listed>(watching: &Watching<T>, namespace: &str, name: &str) -> Self {
        if !watching.is_complete() {
            return Self::Unknown;
        }
        let labels = watching.look(namespace, name, |object| {
            object.runs().then(|| object.meta().labels().clone())
        });
        let found = labels.flatten().map(|labels| (name.to_owned(), labels));
        Self::Known(HashMap::from([(namespace.to_owned(), found.into_iter().collect())]))
    }

    /// Whether one of this name is asked for.
    pub(super) fn has(&self, namespace: &str, name: &str) -> bool {
        match self {
            Self::Known(known) => known.get(namespace).is_some_and(|names| names.contains_key(name)),
            Self::Unknown => true,
        }
    }

    /// The labels of an object; none if they are not known.
    pub(super) fn labels(&self, namespace: &str, name: &str) -> Vec<(&str, &str)> {
        match self {
            Self::Known(known) => {
                let labels = known.get(namespace).and_then(|names| names.get(name));
                labels.map(|labels| labels.iter().collect()).unwrap_or_default()
            }
            Self::Unknown => Vec::new(),
        }
    }
}

/// Why the objects are not known, if they are not.
pub(super) fn problem<T>(watching: &Watching<T>, resource: &str) -> Option<String> {
    if watching.is_complete() {
        return None;
    }
    Some(match watching.problem() {
        Some(problem) => format!("{resource} are not known: {problem}"),
        None => format!("{resource} are not known yet: the API server has not listed them"),
    })
}
