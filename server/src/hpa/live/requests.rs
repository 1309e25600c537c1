//! What a pod requests of a resource, by the controller's rules.
//!
//! # Reference
//! `calculateRequests` of `pkg/controller/podautoscaler/replica_calculator.go`, Kubernetes 1.35.

use crate::hpa::formula::Request;
use crate::hpa::quantity::Quantity;
use std::sync::Arc;

/// What a container of a pod says of one resource. Init containers are left out unless they go on running.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The container.
    pub container: &'a str,
    /// What it requests.
    pub amount: Option<&'a str>,
}

/// What a pod says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodLevel<'a> {
    /// Nothing: its containers say it.
    None,
    /// It has requests of its own, of this resource this one.
    Some(Option<&'a str>),
}

/// What a pod requests: the named container's, else its own, else that of all its containers together.
pub fn request<'a>(
    containers: impl IntoIterator<Item = Said<'a>>,
    pod: PodLevel<'_>,
    container: Option<&str>,
) -> Request {
    if let (PodLevel::Some(amount), None) = (pod, container) {
        return amount.and_then(milli).map_or(Request::NoPodRequest, Request::Milli);
    }
    let mut sum: i64 = 0;
    for said in containers {
        if container.is_some_and(|wanted| wanted != said.container) {
            continue;
        }
        let Some(amount) = said.amount.and_then(milli) else {
            return Request::NoContainerRequest(said.container.into());
        };
        if container.is_some() {
            return Request::Milli(amount);
        }
        sum = sum.saturating_add(amount);
    }
    match container {
        Some(wanted) => Request::NoContainer(Arc::from(wanted)),
        None => Request::Milli(sum),
    }
}

/// Thousandths; what is no quantity is as if it were not said.
fn milli(amount: &str) -> Option<i64> {
    amount.parse::<Quantity>().ok().map(Quantity::milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_requests_what_its_containers_do_unless_it_says_so_itself() {
        type Containers = &'static [(&'static str, Option<&'static str>)];
        let both: Containers = &[("web", Some("100m")), ("sidecar", Some("0.05"))];
        let half: Containers = &[("web", Some("100m")), ("sidecar", None)];
        let odd: Containers = &[("web", Some("much"))];
        let no_container = |name: &str| Request::NoContainerRequest(name.into());
        let cases: [(Containers, PodLevel<'_>, Option<&str>, Request); 9] = [
            (both, PodLevel::None, None, Request::Milli(150)),
            (half, PodLevel::None, None, no_container("sidecar")),
            (half, PodLevel::None, Some("web"), Request::Milli(100)),
            (half, PodLevel::None, Some("sidecar"), no_container("sidecar")),
            (both, PodLevel::None, Some("db"), Request::NoContainer("db".into())),
            (half, PodLevel::Some(Some("1")), None, Request::Milli(1000)),
            (both, PodLevel::Some(None), None, Request::NoPodRequest),
            (both, PodLevel::Some(Some("1")), Some("web"), Request::Milli(100)),
            (odd, PodLevel::None, None, no_container("web")),
        ];
        for (containers, pod, container, expected) in cases {
            let said = containers.iter().map(|(container, amount)| Said {
                container,
                amount: *amount,
            });
            assert_eq!(
                request(said, pod, container),
                expected,
                "{containers:?} {pod:?} {container:?}"
            );
        }
    }
}
