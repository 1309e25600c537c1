//! Targets written down in `static_configs`.

use super::TargetGroup;
use crate::config::StaticConfig;
use tidegauge_model::Labels;

/// The groups of a job's `static_configs`: one each, by its place in the list, as upstream names them.
pub(crate) fn fixed_groups(configs: &[StaticConfig]) -> Vec<TargetGroup> {
    configs
        .iter()
        .enumerate()
        .map(|(at, config)| group(config, at.to_string()))
        .collect()
}

/// A group with the given source.
pub(crate) fn group(config: &StaticConfig, source: String) -> TargetGroup {
    TargetGroup {
        source,
        targets: config
            .targets
            .iter()
            .map(|address| Labels::from_sorted([("__address__", address.as_str())]))
            .collect(),
        labels: Labels::from_sorted(
            config
                .labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_config_is_a_group() {
        let configs: Vec<StaticConfig> =
            serde_yaml_ng::from_str("- targets: [a:1, b:2]\n  labels: {env: test, port: 80}\n- targets: [c:3]\n")
                .unwrap();
        let groups = fixed_groups(&configs);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].labels.to_string(), r#"{env="test", port="80"}"#);
        assert_eq!(groups[0].targets[1].get("__address__"), Some("b:2"));
        assert_eq!(groups[1].source, "1");
    }
}
