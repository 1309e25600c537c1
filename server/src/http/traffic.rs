//! Counts connections: how many are open, and why those were ended that did not end by themselves.

use super::panics::{PANICS, Place};
use super::refused::REFUSED;
use crate::api::Listing;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::MetricKind;

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It was idle, and another needed its place.
    Room,
    /// It was idle for the read timeout, or did not send a head within it.
    Idle,
    /// It took nothing of its answer for the write timeout.
    Write,
}

const REASONS: [(Cut, &str); 3] = [(Cut::Room, "room"), (Cut::Idle, "idle"), (Cut::Write, "write")];

/// Counters of connections; relaxed throughout, as each stands for itself.
#[derive(Debug, Default)]
pub struct Traffic {
    open: AtomicU64,
    accepted: AtomicU64,
    cut: [AtomicU64; 3],
    /// Heads that were too large.
    heads: AtomicU64,
    /// Panics around handlers, and in bodies of answers.
    panics: [AtomicU64; 2],
}

/// A connection that is open.
pub(super) struct Open(Arc<Traffic>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Traffic {
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    pub(super) fn cut(&self, why: Cut) {
        let of = REASONS.iter().zip(&self.cut).find(|((reason, _), _)| *reason == why);
        if let Some((_, count)) = of {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn panicked(&self, place: Place) {
        let [around, body] = &self.panics;
        let count = if place == Place::Body { body } else { around };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what ended with an error, if it was for a timeout or for a head that was too large.
    pub(super) fn ended(&self, error: &(dyn Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(hyper) = error.downcast_ref::<hyper::Error>()
                && hyper.is_timeout()
            {
                return self.cut(Cut::Idle);
            }
            if let Some(hyper) = error.downcast_ref::<hyper::Error>()
                && hyper.is_parse_too_large()
            {
                self.heads.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if kind == Some(io::ErrorKind::TimedOut) {
                return self.cut(Cut::Write);
            }
            next = error.source();
        }
    }

    /// For `/metrics`.
    pub fn list(&self) -> Vec<Listing> {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let cut = REASONS.iter().zip(&self.cut);
        let places = [Place::Around, Place::Body].into_iter().zip(&self.panics);
        vec![
            (
                "tidegauge_http_connections",
                "Connections that are open.",
                MetricKind::Gauge,
                vec![(Vec::new(), of(&self.open))],
            ),
            (
                "tidegauge_http_connections_accepted_total",
                "Connections that were accepted.",
                MetricKind::Counter,
                vec![(Vec::new(), of(&self.accepted))],
            ),
            (
                "tidegauge_http_connections_cut_total",
                "Connections that were ended: to make room for another, for being idle or slow to send, or for taking \
                 nothing of an answer.",
                MetricKind::Counter,
                cut.map(|((_, reason), count)| (vec![("reason", (*reason).to_owned())], of(count)))
                    .collect(),
            ),
            (
                REFUSED.0,
                REFUSED.1,
                MetricKind::Counter,
                vec![(vec![("reason", "head".to_owned())], of(&self.heads))],
            ),
            (
                PANICS.0,
                PANICS.1,
                MetricKind::Counter,
                places.map(|(place, count)| (place.labels(), of(count))).collect(),
            ),
        ]
    }
}
