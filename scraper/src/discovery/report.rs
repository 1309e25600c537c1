//! How a provider fares: counted by mechanism and job, logged when it changes, shown by the API.

use super::{Context, SourceConfig};
use crate::discovery::counts::Refreshes;
use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{Clock, Timestamp};

/// A provider of a job, as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderStatus {
    /// The job.
    pub scrape_pool: String,
    /// The kind of discovery.
    pub mechanism: &'static str,
    /// What it reads, for people.
    pub place: String,
    /// Why its source could not be read the last time; empty if it could.
    pub last_error: String,
    /// When its source was last read well; `None` if it was not yet.
    pub last_success: Option<Timestamp>,
    /// How many groups it has found.
    pub groups: usize,
    /// How many targets are in them.
    pub targets: usize,
}

/// Told by one provider how it fares. Clones are the same report.
#[derive(Debug, Clone)]
pub(crate) struct Report(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    job: String,
    mechanism: &'static str,
    place: String,
    clock: Arc<dyn Clock>,
    refreshes: Arc<Refreshes>,
    metrics: Arc<Metrics>,
    /// Written by the provider, read by the API.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_success: Option<Timestamp>,
    last_error: Option<String>,
    /// Why not all that was found is taken.
    left_out: Option<String>,
    /// Whether its provider could not be made at all.
    never_ran: bool,
}

impl State {
    fn is_healthy(&self) -> bool {
        self.last_error.is_none() && self.left_out.is_none()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.state.get_mut().is_healthy() {
            self.metrics.sd_unhealthy.dec();
        }
        if self.state.get_mut().never_ran {
            self.metrics.sd.failed_configs.dec();
        }
    }
}

impl Report {
    pub(crate) fn new(job: &str, source: &SourceConfig, context: &Context) -> Self {
        let mechanism = source.mechanism();
        Self(Arc::new(Inner {
            job: job.to_owned(),
            mechanism,
            place: source.place(),
            clock: Arc::clone(&context.clock),
            metrics: Arc::clone(&context.metrics),
            refreshes: context.metrics.sd.refreshes(mechanism, job),
            state: Mutex::default(),
        }))
    }

    /// The source was read well.
    pub(crate) fn succeeded(&self, took: Duration) {
        self.0.refreshes.note(took);
        let recovered = {
            let mut state = self.0.state.lock();
            state.last_success = Some(self.0.clock.now());
            state.last_error.take().is_some() && state.is_healthy()
        };
        if recovered {
            self.0.metrics.sd_unhealthy.dec();
            tracing::info!(job = %self.0.job, mechanism = self.0.mechanism, place = %self.0.place, "discovery works again");
        }
    }

    /// The source could not be read; what was found before stays.
    pub(crate) fn failed(&self, took: Duration, problem: &dyn Display) {
        self.0.refreshes.failures.inc();
        self.partly(took, problem);
    }

    /// A part of the source could not be read. The same problem over and over is logged once.
    pub(crate) fn partly(&self, took: Duration, problem: &dyn Display) {
        self.0.refreshes.note(took);
        self.0.metrics.sd_failures.inc();
        let problem = problem.to_string();
        let known = {
            let mut state = self.0.state.lock();
            if state.is_healthy() {
                self.0.metrics.sd_unhealthy.inc();
            }
            let known = state.last_error.as_ref() == Some(&problem);
            state.last_error = Some(problem.clone());
            known
        };
        if !known {
            tracing::error!(job = %self.0.job, mechanism = self.0.mechanism, place = %self.0.place, problem, "discovery failed; what was found before stays");
        }
    }

    /// All that was found is taken.
    pub(crate) fn all_taken(&self) {
        let recovered = {
            let mut state = self.0.state.lock();
            state.left_out.take().is_some() && state.is_healthy()
        };
        if recovered {
            self.0.metrics.sd_unhealthy.dec();
            tracing::info!(job = %self.0.job, mechanism = self.0.mechanism, place = %self.0.place, "all that discovery finds is taken again");
        }
    }

    /// Not all that was found is taken; told once until all is.
    pub(crate) fn left_out(&self, problem: &dyn Display) {
        let problem = problem.to_string();
        {
            let mut state = self.0.state.lock();
            if state.left_out.is_some() {
                return;
            }
            if state.is_healthy() {
                self.0.metrics.sd_unhealthy.inc();
            }
            state.left_out = Some(problem.clone());
        }
        tracing::error!(job = %self.0.job, mechanism = self.0.mechanism, place = %self.0.place, problem, "discovery found too much");
    }

    /// The provider could not be made: nothing is found until the configuration changes.
    pub(crate) fn cannot_start(&self, problem: &str) {
        self.0.metrics.sd.failed_configs.inc();
        self.0.metrics.sd_unhealthy.inc();
        {
            let mut state = self.0.state.lock();
            state.never_ran = true;
            state.last_error = Some(problem.to_owned());
        }
        tracing::error!(job = %self.0.job, mechanism = self.0.mechanism, place = %self.0.place, problem, "cannot start discovery");
    }

    /// What went wrong last, if something did.
    pub(crate) fn problem(&self) -> Option<String> {
        let state = self.0.state.lock();
        state.last_error.clone().or_else(|| state.left_out.clone())
    }

    /// In words, which provider this is.
    pub(crate) fn name(&self) -> String {
        format!("{} ({})", self.0.mechanism, self.0.place)
    }

    /// As the API shows it, with what its groups hold.
    pub(crate) fn status(&self, groups: usize, targets: usize) -> ProviderStatus {
        let last_error = self.problem().unwrap_or_default();
        let state = self.0.state.lock();
        ProviderStatus {
            scrape_pool: self.0.job.clone(),
            mechanism: self.0.mechanism,
            place: self.0.place.clone(),
            last_error,
            last_success: state.last_success,
            groups,
            targets,
        }
    }
}
