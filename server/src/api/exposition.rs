//! `/metrics`: what every part counts, in the text format 0.0.4.
//!
//! Each part lists its numbers as [`Listing`] rows; the registry holds a function per part and calls them at scrape
//! time, so nothing is counted twice and nothing is copied until someone asks.

use std::fmt;
use std::sync::Arc;
use tidegauge_model::MetricKind;

/// One metric as a crate lists it: name, help, kind, and its samples by labels.
pub type Listing = (
    &'static str,
    &'static str,
    MetricKind,
    Vec<(Vec<(&'static str, String)>, f64)>,
);

type Source = Arc<dyn Fn() -> Vec<Listing> + Send + Sync>;

/// The parts whose numbers `/metrics` shows.
#[derive(Clone, Default)]
pub struct Registry {
    sources: Vec<Source>,
}

impl Registry {
    /// A registry without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    pub fn add(&mut self, source: impl Fn() -> Vec<Listing> + Send + Sync + 'static) {
        self.sources.push(Arc::new(source));
    }

    /// All listings, by name.
    pub fn gather(&self) -> Vec<Listing> {
        let mut all: Vec<Listing> = self.sources.iter().flat_map(|source| source()).collect();
        all.sort_by_key(|listing| listing.0);
        all
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} sources)", self.sources.len())
    }
}
