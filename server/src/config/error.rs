//! What is wrong with a configuration file, and where.

use super::yaml::{Fault, Place};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Read {
        /// The file.
        file: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Its content is wrong.
    Invalid {
        /// The file.
        file: PathBuf,
        /// Where, as far as it is known.
        at: Option<Place>,
        /// The key, as in `scrape_configs[0].job_name`; empty for the file as a whole.
        key: String,
        /// What is wrong.
        message: String,
    },
}

impl ConfigError {
    pub(crate) fn at(file: &Path, fault: &Fault) -> Self {
        Self::Invalid {
            file: file.to_owned(),
            at: fault.at,
            key: fault.path.to_string(),
            message: fault.message.clone(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, source } => write!(f, "cannot read configuration file {}: {source}", file.display()),
            Self::Invalid { file, at, key, message } => {
                write!(f, "{}", file.display())?;
                if let Some(at) = at {
                    write!(f, ":{}:{}", at.line, at.column)?;
                }
                if !key.is_empty() {
                    write!(f, ": {key}")?;
                }
                write!(f, ": {message}")
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Invalid { .. } => None,
        }
    }
}
