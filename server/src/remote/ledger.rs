//! What became of the parts of a request, and what its sender is told of them.

use super::names::Names;
use super::told::Told;
use super::wire::TimeSeries;
use tidegauge_model::{Committed, RejectReason};

/// What became of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Samples stored, of both kinds.
    pub(super) samples: u64,
    /// Histograms among them.
    pub(super) stored_histograms: u64,
    /// Exemplars taken: stored, or there already, or none are kept.
    pub(super) stored_exemplars: u64,
    /// Series without a name or with labels that are none.
    pub(super) invalid_series: u64,
    /// Series that a limit of the store refused.
    pub(super) refused_series: u64,
    /// Histograms that are none.
    pub(super) histograms: u64,
    /// Exemplars that did not fit.
    pub(super) exemplars: u64,
    /// Samples no newer than one before them in the request.
    pub(super) unordered: u64,
    /// Samples that do not fit what is stored, of a request of 2.0.
    pub(super) rejected: u64,
    /// The first thing that was left out, in words.
    pub(super) example: Option<String>,
    /// What the sender of a request of 2.0 is told.
    pub(super) told: Told,
}

/// What it takes to tell of a sample by its ordinal. Of 2.0 alone.
#[derive(Debug, Default)]
pub(super) struct Ledger<'b> {
    /// The first sample of each series with those that follow it, if misfits are told.
    pub(super) series: Vec<(u64, &'b [u8])>,
    /// Which are histograms.
    pub(super) histograms: Vec<u64>,
    /// Which come behind another one of their series in the request.
    pub(super) behind: Vec<u64>,
    /// The samples before each exemplar, and its series.
    pub(super) exemplars: Vec<(u64, &'b [u8])>,
    pub(super) probes: u32,
}

impl<'b> Ledger<'b> {
    /// What became of a request, now that the store has decided.
    pub(super) fn settle(self, names: &Names<'b>, mut taken: Taken, committed: &Committed) -> Taken {
        let is_one = |of: &[u64], ordinal: u64| of.binary_search(&ordinal).is_ok();
        taken.samples = committed.samples;
        taken.stored_histograms = self.histograms.len() as u64;
        for rejected in &committed.rejected {
            taken.stored_histograms -= u64::from(is_one(&self.histograms, rejected.ordinal));
            if is_one(&self.behind, rejected.ordinal) {
                taken.unordered += 1;
                continue;
            }
            taken.rejected += 1;
            taken.told.tell((rejected.ordinal, true), || {
                let after = self.series.partition_point(|(first, _)| *first <= rejected.ordinal);
                let series = after.checked_sub(1).and_then(|place| self.series.get(place));
                told_of(names, rejected.reason.into(), series.map(|(_, message)| *message))
            });
        }
        let left_out = committed.exemplars.out_of_order + committed.exemplars.refused;
        taken.exemplars += left_out;
        taken.stored_exemplars -= left_out.min(taken.stored_exemplars);
        if let Names::Symbols(_) = names {
            for place in &committed.late_exemplars {
                let exemplar = usize::try_from(*place).ok().and_then(|place| self.exemplars.get(place));
                let before = exemplar.map_or(u64::MAX, |(before, _)| *before);
                taken.told.tell((before, false), || {
                    told_of(names, Misfit::Exemplar, exemplar.map(|(_, message)| *message))
                });
            }
        }
        taken
    }
}

#[derive(Debug, Clone, Copy)]
enum Misfit {
    Sample(RejectReason),
    Exemplar,
}

impl From<RejectReason> for Misfit {
    fn from(reason: RejectReason) -> Self {
        Self::Sample(reason)
    }
}

/// What is told of a misfit of a series, whose message is given.
fn told_of(names: &Names<'_>, misfit: Misfit, message: Option<&[u8]>) -> String {
    let series = message.and_then(|message| TimeSeries::read(message, names.version()).ok());
    let labels = series.map_or_else(String::new, |series| names.shown(&series.labels));
    match misfit {
        Misfit::Sample(reason) => format!("{} for series {labels}", reject_text(reason)),
        Misfit::Exemplar => format!("out of order exemplar for series {labels}"),
    }
}

/// Upstream's words, which senders may look for.
pub(super) fn reject_text(reason: RejectReason) -> String {
    match reason {
        RejectReason::TooNew => "out of bounds: timestamp is too far in the future".into(),
        RejectReason::DuplicateHistogram { .. } => "duplicate sample for timestamp".into(),
        other => other.to_string(),
    }
}
