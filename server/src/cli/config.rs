//! `tidegauge config`: the configuration with all defaults filled in, and presets.

use super::print;
use crate::config;
use crate::preset::{Annotations, Flags, Kubernetes, Name};
use clap::Subcommand;
use std::path::PathBuf;

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print a configuration with defaults filled in and secrets masked, or a preset as it is written
    Show {
        /// The file; without it, the built-in configuration
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Print the prometheus.yml that this preset stands for; with a file, the file and the preset together
        #[arg(long, value_name = "NAME", value_enum)]
        preset: Option<Name>,
        /// Which pods the preset scrapes for their annotations [default: opt-in, or as the file says]
        #[arg(
            long = "kubernetes.annotations",
            value_name = "WHICH",
            value_enum,
            requires = "preset"
        )]
        annotations: Option<Annotations>,
    },
}

impl Config {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::Show {
            file,
            preset,
            annotations,
        } = self;
        match (file, preset) {
            (Some(file), preset) => {
                let kubernetes = preset == Some(Name::Kubernetes);
                let flags = Flags {
                    kubernetes,
                    annotations,
                    service_account: None,
                };
                print(config::load_with(&file, &flags)?.effective_yaml());
            }
            (None, Some(Name::Kubernetes)) => {
                print(Kubernetes::in_a_pod(annotations.unwrap_or_default()).yaml());
            }
            (None, None) => print(config::built_in("127.0.0.1:9090")?.effective_yaml()),
        }
        Ok(())
    }
}
