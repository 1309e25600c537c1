//! The groups of the metrics APIs: which there are, in which versions, and which are served.

use std::fmt;
use std::str::FromStr;

/// A group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// `metrics.k8s.io`: cpu and memory of pods and nodes.
    Metrics,
    /// `custom.metrics.k8s.io`: metrics of objects.
    Custom,
    /// `external.metrics.k8s.io`: metrics of nothing in the cluster.
    External,
}

impl Group {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Custom, Self::External];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics.k8s.io",
            Self::Custom => "custom.metrics.k8s.io",
            Self::External => "external.metrics.k8s.io",
        }
    }

    /// Its versions, the preferred one first.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Metrics | Self::External => &["v1beta1"],
            Self::Custom => &["v1beta2", "v1beta1"],
        }
    }

    /// The word of `--kubernetes.api.groups`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Custom => "custom",
            Self::External => "external",
        }
    }

    /// The group of a path, for counting.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let name = path.strip_prefix("/apis/")?.split('/').next()?;
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|group| group.word() == text.trim());
        found.ok_or_else(|| format!("{text:?} is none of `metrics`, `custom` and `external`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_known_by_its_word_and_its_paths() {
        for group in Group::ALL {
            assert_eq!(group.to_string().parse(), Ok(group));
            assert_eq!(
                Group::of_path(&format!("/apis/{}/v1beta1/x", group.name())),
                Some(group)
            );
        }
        assert!("metrics.k8s.io".parse::<Group>().is_err());
        assert_eq!(Group::of_path("/apis/metrics.k8s.io.example"), None);
        assert_eq!(Group::of_path("/version"), None);
    }
}
