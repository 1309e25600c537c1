//! One thing to scrape: where it comes from, how it is labelled and called, how its last scrape went.

use std::time::Duration;
use tidegauge_model::{Labels, Timestamp};

/// How a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape went well.
    Up,
    /// The last scrape failed.
    Down,
}

impl Health {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A target being scraped, as the API shows it.
#[derive(Debug, Clone)]
pub struct TargetStatus {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// Labels after it, those for our own use (`__...`) left out.
    pub labels: Labels,
    /// The job.
    pub scrape_pool: String,
    /// Where it is scraped.
    pub scrape_url: String,
    /// What went wrong last time; empty if nothing did.
    pub last_error: String,
    /// When it was last scraped; `None` if it was not yet.
    pub last_scrape: Option<Timestamp>,
    /// How long that took.
    pub last_duration: Duration,
    /// How it is.
    pub health: Health,
    /// How often it is scraped.
    pub interval: Duration,
    /// When a scrape of it is given up.
    pub timeout: Duration,
}

/// A target that relabelling dropped.
#[derive(Debug, Clone)]
pub struct DroppedTarget {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// The job.
    pub scrape_pool: String,
}
