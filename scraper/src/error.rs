//! What can go wrong with a scrape and with setting scraping up.

use crate::config::ConfigError;

/// Why a configuration could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A job's HTTP client cannot be made.
    #[error("job {job:?}: {problem}")]
    Client {
        /// The job.
        job: String,
        /// Why.
        problem: String,
    },
    /// The manager has been stopped.
    #[error("scraping has been stopped")]
    Stopped,
}
