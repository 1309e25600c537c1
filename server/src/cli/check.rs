//! `tidegauge check`: the code that a start and a reload use, without starting anything.

use super::{complain, print};
use crate::config;
use anyhow::bail;
use clap::Subcommand;
use std::path::PathBuf;

/// What can be checked.
#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// Read configuration files as a start would, and say what is wrong with them
    Config {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::Config { files } = self;
        let mut bad = 0usize;
        for file in &files {
            match config::load(file) {
                Ok(config) => print(format_args!(
                    "{}: ok, {}\n{}",
                    file.display(),
                    config.summary(),
                    notes(&config)
                )),
                Err(error) => {
                    bad += 1;
                    complain(error);
                }
            }
        }
        if bad > 0 {
            bail!("{bad} of {} configuration files cannot be used", files.len());
        }
        Ok(())
    }
}

fn notes(config: &config::Config) -> String {
    config
        .unsupported()
        .iter()
        .map(|u| {
            format!(
                "  line {}: {} is valid but has no effect in this version\n",
                u.line, u.section
            )
        })
        .collect()
}
