//! `tidegauge config`: the configuration with all defaults filled in.

use super::print;
use crate::config;
use clap::Subcommand;
use std::path::PathBuf;

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print a configuration with defaults filled in and secrets masked
    Show {
        /// The file; without it, the built-in configuration
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

impl Config {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::Show { file } = self;
        let config = match file {
            Some(file) => config::load(&file)?,
            None => config::built_in("127.0.0.1:9090")?,
        };
        print(config.effective_yaml());
        Ok(())
    }
}
