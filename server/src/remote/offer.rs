//! One walk over a message: each series found by its label bytes or resolved, its samples handed to the store.

use super::histogram::histogram;
use super::known::{Finger, Known, key};
use super::wire::{self, TimeSeries, WireError, exemplar, label_pairs, sample};
use super::write_in::WriteError;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tidegauge_model::{
    AppendError, Appendable, Appender, CommitError, Exemplar, Histogram, Labels, OnReject, SeriesRef, Timestamp,
    reserved,
};

/// Samples handed to the store at a time.
const BATCH: usize = 256;

/// What became of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) samples: u64,
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
    /// The first thing that was left out, in words.
    pub(super) example: Option<String>,
}

/// What of a request is left out because of another sample of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaveOut {
    Nothing,
    /// A sample of the time of the newest one before it.
    Repeats,
    /// A sample no newer than one before it.
    Older,
}

/// The newest sample that a request has brought of each series.
#[derive(Debug)]
struct Newest {
    leave_out: LeaveOut,
    of: HashMap<SeriesRef, i64>,
}

impl Newest {
    fn new(leave_out: LeaveOut) -> Self {
        Self {
            leave_out,
            of: HashMap::new(),
        }
    }

    /// Whether a sample is to be kept, and takes note of it.
    fn keeps(&mut self, series: SeriesRef, at_ms: i64) -> bool {
        if self.leave_out == LeaveOut::Nothing {
            return true;
        }
        let Some(newest) = self.of.get_mut(&series) else {
            self.of.insert(series, at_ms);
            return true;
        };
        let keeps = at_ms > *newest || (at_ms < *newest && self.leave_out == LeaveOut::Repeats);
        *newest = at_ms.max(*newest);
        keeps
    }
}

/// A sample's value.
enum Held {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Held {
    fn append(&self, appender: &mut dyn Appender, series: SeriesRef, at: Timestamp) -> Result<(), AppendError> {
        match self {
            Self::Float(value) => appender.append_at(series, at, *value),
            Self::Histogram(histogram) => appender.append_histogram(series, at, Arc::clone(histogram)),
        }
    }
}

/// The walk over one message.
pub(super) struct Offer<'b, 's> {
    appender: Box<dyn Appender + 's>,
    finger: Finger<'s>,
    /// On their way to the store.
    samples: Vec<(SeriesRef, Timestamp, f64)>,
    /// The label bytes of each, for when the store has let go of the series.
    labels: Vec<&'b [u8]>,
    newest: Newest,
    taken: Taken,
}

impl<'b, 's> Offer<'b, 's> {
    pub(super) fn new(store: &'s dyn Appendable, known: &'s RwLock<Known>, leave_out: LeaveOut) -> Self {
        Self {
            appender: store.appender(),
            finger: Finger::new(known),
            samples: Vec::with_capacity(BATCH + 16),
            labels: Vec::with_capacity(BATCH + 16),
            newest: Newest::new(leave_out),
            taken: Taken::default(),
        }
    }

    /// Takes a series of the message.
    pub(super) fn take(&mut self, series: &'b [u8]) -> Result<(), WriteError> {
        if !self.take_plain(series) {
            self.take_any(series)?;
        }
        if self.samples.len() >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// Stores what was taken, all of it or nothing.
    pub(super) fn commit(mut self) -> Result<Taken, WriteError> {
        self.flush()?;
        // The commit may wait for the disk: others need not wait for it to enter series.
        self.finger.rest();
        let (appender, mut taken) = (self.appender, self.taken);
        let committed = appender.commit(OnReject::Fail).map_err(|error| match error {
            CommitError::Rejected(rejected) => WriteError::Rejected(rejected),
            CommitError::Log(_) => WriteError::Log(error),
            CommitError::Closed(_) => WriteError::Closed(error),
        })?;
        taken.samples = committed.samples;
        taken.exemplars += committed.exemplars.out_of_order + committed.exemplars.refused;
        Ok(taken)
    }

    /// Takes a series that was sent before, in the form that senders use; `false`: nothing was done.
    #[inline]
    fn take_plain(&mut self, message: &'b [u8]) -> bool {
        // What is kept is decided sample by sample then.
        if self.newest.leave_out != LeaveOut::Nothing {
            return false;
        }
        let (series, length) = match self.finger.expected(message, wire::SAMPLE) {
            Some(expected) => expected,
            None => {
                let Some(length) = wire::labels_in_front(message) else {
                    return false;
                };
                let Some(series) = message.get(..length).and_then(|labels| self.finger.find(key(labels))) else {
                    return false;
                };
                (series, length)
            }
        };
        let Some((labels, rest)) = message.split_at_checked(length) else {
            return false;
        };
        let before = self.samples.len();
        let samples = &mut self.samples;
        let read = wire::plain_samples(rest, |value, at_ms| {
            samples.push((series, Timestamp::from_millis(at_ms), value));
        });
        if read.is_none() {
            self.samples.truncate(before);
            return false;
        }
        self.labels.resize(self.samples.len(), labels);
        true
    }

    /// Takes the samples of one series, which is resolved at its first one.
    fn take_any(&mut self, message: &[u8]) -> Result<(), WriteError> {
        // What came before in the message comes before in the store.
        self.flush()?;
        let series = TimeSeries::read(message)?;
        let mut found = None;
        let mut rest = series.rest.clone();
        while let Some((number, value)) = rest.next()? {
            let (at_ms, held) = match number {
                2 => {
                    let (value, at_ms) = sample(value.bytes("Samples")?)?;
                    (at_ms, Held::Float(value))
                }
                4 => {
                    let (histogram, at_ms) = histogram(value.bytes("Histograms")?)?;
                    (at_ms, Held::Histogram(Arc::new(histogram)))
                }
                _ => continue,
            };
            let reference = match found {
                Some(reference) => reference,
                None => match self.find(&series.labels)? {
                    Some(reference) => *found.insert(reference),
                    None => return Ok(()),
                },
            };
            if !self.newest.keeps(reference, at_ms) {
                self.taken.unordered += 1;
                continue;
            }
            let at = Timestamp::from_millis(at_ms);
            match held.append(&mut *self.appender, reference, at) {
                Ok(()) => {}
                Err(AppendError::StaleRef { .. }) => {
                    let Some(fresh) = self.resolve(&series.labels)? else {
                        return Ok(());
                    };
                    found = Some(fresh);
                    held.append(&mut *self.appender, fresh, at)
                        .map_err(WriteError::Append)?;
                }
                Err(AppendError::Histogram(error)) => {
                    self.taken.histograms += 1;
                    self.taken.example.get_or_insert_with(|| error.to_string());
                }
                Err(error) => return Err(WriteError::Append(error)),
            }
        }
        self.take_exemplars(&series, found)
    }

    /// Appends the exemplars of a series that has samples, in this request or before.
    fn take_exemplars(&mut self, series: &TimeSeries<'_>, mut found: Option<SeriesRef>) -> Result<(), WriteError> {
        let mut rest = series.rest.clone();
        while let Some((number, value)) = rest.next()? {
            if number != 3 {
                continue;
            }
            let message = value.bytes("Exemplars")?;
            let (value, at_ms) = exemplar(message)?;
            let at = Timestamp::from_millis(at_ms);
            let labels = label_pairs(message)?.and_then(|pairs| Labels::from_pairs(pairs).ok());
            found = found.or_else(|| self.finger.find(key(&series.labels)));
            let one = labels.map(|labels| Exemplar {
                labels,
                value,
                at: Some(at),
            });
            let appended = found
                .zip(one)
                .map(|(series, one)| self.appender.append_exemplar(series, at, &one));
            if !matches!(appended, Some(Ok(()))) {
                self.taken.exemplars += 1;
            }
        }
        Ok(())
    }

    /// Hands on what was collected. Series that the store has let go of are resolved again.
    fn flush(&mut self) -> Result<(), WriteError> {
        let samples = std::mem::take(&mut self.samples);
        let labels = std::mem::take(&mut self.labels);
        let mut done = 0;
        while let Err(error) = self.appender.append_many(samples.get(done..).unwrap_or_default()) {
            let AppendError::StaleRef { place } = error else {
                return Err(WriteError::Append(error));
            };
            done += place;
            let (Some((_, at, value)), Some(labels)) = (samples.get(done), labels.get(done)) else {
                break;
            };
            if let Some(fresh) = self.resolve(labels)? {
                self.appender
                    .append_at(fresh, *at, *value)
                    .map_err(WriteError::Append)?;
            }
            done += 1;
        }
        (self.samples, self.labels) = (samples, labels);
        self.samples.clear();
        self.labels.clear();
        Ok(())
    }

    fn find(&mut self, labels: &[u8]) -> Result<Option<SeriesRef>, WriteError> {
        match self.finger.find(key(labels)) {
            Some(reference) => Ok(Some(reference)),
            None => self.resolve(labels),
        }
    }

    /// The slow way: labels, checks, the store's index. `None` if the series is left out.
    fn resolve(&mut self, bytes: &[u8]) -> Result<Option<SeriesRef>, WriteError> {
        self.finger.rest();
        let taken = &mut self.taken;
        let labels = match labels(bytes)? {
            Ok(labels) => labels,
            Err(why) => {
                taken.invalid_series += 1;
                taken.example.get_or_insert(why);
                return Ok(None);
            }
        };
        match self.appender.resolve(None, &labels) {
            Ok(reference) => {
                self.finger.insert(key(bytes), reference);
                Ok(Some(reference))
            }
            Err(error) => {
                match &error {
                    AppendError::Labels(_) => taken.invalid_series += 1,
                    AppendError::Limit { .. } | AppendError::Memory(_) => taken.refused_series += 1,
                    AppendError::StaleRef { .. }
                    | AppendError::StaleTimeline
                    | AppendError::Histogram(_)
                    | AppendError::ExemplarLabels { .. } => {
                        return Err(WriteError::Append(error));
                    }
                }
                taken.example.get_or_insert_with(|| format!("{error}: {labels}"));
                Ok(None)
            }
        }
    }
}

/// A label set, or why the bytes are none; the outer error is of the message itself.
fn labels(bytes: &[u8]) -> Result<Result<Labels, String>, WireError> {
    let Some(pairs) = label_pairs(bytes)? else {
        return Ok(Err("labels are not UTF-8".into()));
    };
    let labels = match Labels::from_pairs(pairs) {
        Ok(labels) => labels,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if labels.metric_name().is_none() {
        return Ok(Err(format!("no {}: {labels}", reserved::METRIC_NAME)));
    }
    Ok(Ok(labels))
}
