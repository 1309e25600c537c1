//! Which labels name which objects.

use super::naming::regex;
use super::resource::{Resource, Resources, sanitized};
use super::template::{Template, Value};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The label of the namespace where a rule for external metrics tells none.
const NAMESPACE: &str = "namespace";

/// The fields of a template for labels.
const FIELDS: [&str; 2] = ["Group", "Resource"];

/// The key `resources` of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    /// In the order of the file.
    overrides: Vec<Override>,
    template: Option<LabelTemplate>,
    /// Whether external metrics are narrowed to the namespace they are asked for in.
    pub(crate) namespaced: bool,
}

/// A label and the kind whose objects it names.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    /// The label.
    pub(crate) label: String,
    /// Its group; empty for any.
    pub(crate) group: String,
    /// Its name, singular or plural.
    pub(crate) resource: String,
}

/// A label for each kind, written as a template that is also read backwards.
#[derive(Debug, Clone)]
struct LabelTemplate {
    template: Template,
    backwards: Regex,
}

impl Mapping {
    /// By the keys of `resources`; the template is empty if there is none.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub(super) fn new(overrides: Vec<Override>, template: &str, namespaced: bool) -> Result<Self, String> {
        let template = match template {
            "" => None,
            text => Some(LabelTemplate::new(text)?),
        };
        Ok(Self {
            overrides,
            template,
            namespaced,
        })
    }

    /// Whether no label names anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.overrides.is_empty() && self.template.is_none()
    }

    /// Whether it takes what an API server knows to understand it.
    pub(crate) fn needs_discovery(&self, usual: &Resources) -> bool {
        self.template.is_some()
            || self
                .overrides
                .iter()
                .any(|one| usual.find(&one.group, &one.resource).is_none())
    }

    /// The overrides whose kinds are not known.
    pub(crate) fn unknown<'m>(&'m self, resources: &'m Resources) -> impl Iterator<Item = &'m Override> {
        self.overrides
            .iter()
            .filter(|one| resources.find(&one.group, &one.resource).is_none())
    }

    /// The kind whose objects a label names.
    pub(crate) fn resource_of(&self, label: &str, resources: &Resources) -> Option<Arc<Resource>> {
        if let Some(told) = self.overrides.iter().find(|one| one.label == label) {
            return resources.find(&told.group, &told.resource).cloned();
        }
        let template = self.template.as_ref()?;
        let (group, name) = template.read(label)?;
        if let Some(found) = resources.find_sanitized(group, name) {
            return Some(Arc::clone(found));
        }
        // Where group and kind end is not to be seen: it is the kind whose label this would be.
        let mut all = resources.all().iter().filter(|_| !group.is_empty());
        all.find(|one| template.label(one).is_ok_and(|of| of == label)).cloned()
    }

    /// The label that names a kind's objects, among those that the series have: of several that could, the first of the
    /// file that is there.
    pub(crate) fn label_for(
        &self,
        resource: &Resource,
        carried: &BTreeSet<String>,
        resources: &Resources,
    ) -> Result<String, String> {
        let mut told = self.overrides.iter().filter(|one| {
            resources
                .find(&one.group, &one.resource)
                .is_some_and(|found| **found == *resource)
        });
        let first = told.clone().next();
        if let Some(one) = told.find(|one| carried.contains(&one.label)).or(first) {
            return Ok(one.label.clone());
        }
        match &self.template {
            Some(template) => template.label(resource),
            None => Err(format!("no label of the rule stands for {resource}")),
        }
    }

    /// The label by which external metrics are narrowed to a namespace.
    pub(crate) fn namespace_label(&self, carried: &BTreeSet<String>, resources: &Resources) -> String {
        let found = resources
            .find("", NAMESPACE)
            .and_then(|namespace| self.label_for(namespace, carried, resources).ok());
        found.unwrap_or_else(|| NAMESPACE.to_owned())
    }
}

impl LabelTemplate {
    fn new(text: &str) -> Result<Self, String> {
        let template = Template::parse(text, &FIELDS).map_err(|error| error.to_string())?;
        let pattern = fill(&template, "(?P<group>.+?)", "(?P<resource>.+?)")?;
        let backwards = regex(&format!("^{pattern}$"))?;
        if !backwards.capture_names().flatten().any(|name| name == "resource") {
            return Err("it must include at least <<.Resource>>".to_owned());
        }
        Ok(Self { template, backwards })
    }

    /// Group and name of the kind that a label of this form would stand for; the group may be empty.
    fn read<'l>(&self, label: &'l str) -> Option<(&'l str, &'l str)> {
        let captures = self.backwards.captures(label)?;
        let group = captures.name("group").map_or("", |group| group.as_str());
        Some((group, captures.name("resource")?.as_str()))
    }

    fn label(&self, resource: &Resource) -> Result<String, String> {
        let label = fill(&self.template, &sanitized(&resource.group), &resource.singular)?;
        match label.is_empty() {
            true => Err(format!("the template makes an empty label for {resource}")),
            false => Ok(label),
        }
    }
}

fn fill(template: &Template, group: &str, resource: &str) -> Result<String, String> {
    let fields = [("Group", group), ("Resource", resource)];
    let fields = fields.map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned())));
    template
        .fill(&Value::Map(fields.into()))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(label: &str, group: &str, resource: &str) -> Override {
        let [label, group, resource] = [label, group, resource].map(str::to_owned);
        Override { label, group, resource }
    }

    #[test]
    fn labels_and_kinds_are_found_both_ways() {
        let resources = Resources::default();
        let none = BTreeSet::new();
        let mapping = Mapping::new(
            vec![
                told("ns", "", "namespace"),
                told("pod_name", "", "pods"),
                told("pod", "", "pod"),
                told("brand", "cheese.io", "brand"),
            ],
            "kube_<<.Group>>_<<.Resource>>",
            true,
        )
        .unwrap();
        for (label, kind) in [
            ("ns", Some("namespaces")),
            ("pod_name", Some("pods")),
            ("pod", Some("pods")),
            ("namespace", None),
            ("brand", None),
            ("kube_apps_deployment", Some("deployments.apps")),
            ("kube_networking_k8s_io_ingress", Some("ingresses.networking.k8s.io")),
            ("kube_apps_pod", None),
            ("kube_x", None),
        ] {
            let found = mapping.resource_of(label, &resources).map(|r| r.to_string());
            assert_eq!(found.as_deref(), kind, "{label}");
        }
        let label = |name: &str, carried: &BTreeSet<String>| {
            let kind = resources.find_qualified(name).unwrap();
            mapping.label_for(kind, carried, &resources).unwrap()
        };
        assert_eq!(label("ingress", &none), "kube_networking_k8s_io_ingress");
        assert_eq!(label("pods", &none), "pod_name");
        assert_eq!(label("pods", &["pod".to_owned()].into()), "pod");
        assert_eq!(mapping.namespace_label(&none, &resources), "ns");
        assert_eq!(mapping.unknown(&resources).count(), 1);
        assert!(mapping.needs_discovery(&resources));

        let bare = Mapping::new(Vec::new(), "", true).unwrap();
        let pods = resources.find("", "pods").unwrap();
        assert!(bare.is_empty() && bare.label_for(pods, &none, &resources).is_err());
        assert_eq!(bare.namespace_label(&none, &resources), "namespace");
    }

    #[test]
    fn templates_name_the_kind() {
        let simple = Mapping::new(Vec::new(), "<<.Resource>>", true).unwrap();
        let found = simple.resource_of("deployment", &Resources::default());
        assert_eq!(found.unwrap().to_string(), "deployments.apps");
        for (template, words) in [
            ("x", "must include"),
            ("<<.Group>>", "must include"),
            ("<<.Kind>>", "no field .Kind"),
            ("(<<.Resource>>", "error parsing regexp"),
        ] {
            let error = Mapping::new(Vec::new(), template, true).unwrap_err();
            assert!(error.contains(words), "{template}: {error}");
        }
    }
}
