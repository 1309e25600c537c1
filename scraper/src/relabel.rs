//! Placeholder until the parser engineer's branch lands.
use serde::{Deserialize, Serialize};
use tidegauge_model::Labels;
/// Placeholder.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct RelabelConfig {}
/// Placeholder.
pub fn apply(_rules: &[RelabelConfig], labels: Labels) -> Option<Labels> {
    Some(labels)
}
