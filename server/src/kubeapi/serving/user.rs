//! Who asks.

use serde::Deserialize;
use std::collections::BTreeMap;

/// May do everything.
const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// A user as Kubernetes knows them, in the form of its `UserInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct User {
    #[serde(rename = "username", default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
    #[serde(default)]
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// With the group of all who have shown who they are, as every API server adds it.
    pub(super) fn authenticated(mut self) -> Self {
        let known = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
        if self.name != "system:anonymous" && !self.groups.iter().any(known) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether they may do everything, whatever the cluster's rules say.
    pub(super) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(name: &str, groups: &[&str]) -> Vec<String> {
        let user = User {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..User::default()
        };
        user.authenticated().groups
    }

    #[test]
    fn who_has_shown_who_they_are_is_in_the_group_of_those() {
        assert_eq!(groups("a", &["x"]), ["x", AUTHENTICATED]);
        assert_eq!(groups("a", &[AUTHENTICATED]), [AUTHENTICATED]);
        assert_eq!(groups("system:anonymous", &[UNAUTHENTICATED]), [UNAUTHENTICATED]);
        assert_eq!(groups("system:anonymous", &[]), Vec::<String>::new());
    }
}
