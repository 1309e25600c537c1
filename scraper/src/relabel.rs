//! Relabelling (placeholder until the next commit).

use serde::{Deserialize, Serialize};
use tidegauge_model::{Labels, LabelsBuilder};
/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct RelabelConfig {}
/// Whether relabelling keeps a label set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It goes.
    Drop,
}
/// Applies rules in order to a label set; `None` if one drops it.
pub fn apply(_: &[RelabelConfig], labels: &Labels) -> Option<Labels> {
    Some(labels.clone())
}
/// Applies rules in order to a label set in place.
pub fn apply_to(_: &[RelabelConfig], _: &mut LabelsBuilder) -> Verdict {
    Verdict::Keep
}
