//! One walk over a message: each series found by its labels or resolved, its samples handed to the store.

use super::content::ProtoMessage;
use super::declared::Declared;
use super::histogram::histogram;
use super::known::{Finger, Known, key};
use super::labels;
use super::ledger::{Ledger, Taken, reject_text};
use super::names::Names;
use super::room::Room;
use super::wire::{self, Part, TimeSeries, exemplar, sample};
use super::write_in::WriteError;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tidegauge_model::{
    AppendError, Appendable, Appender, CommitError, Exemplar, Histogram, Labels, OnReject, RejectReason, Rejected,
    SeriesRef, Timestamp,
};

/// Samples handed to the store at a time.
const BATCH: usize = 256;
/// What a sample takes until it is stored, with what is remembered of it here.
const SAMPLE_BYTES: u64 = 96;
/// The longest message of a series that is taken in one go.
const PLAIN_BYTES: usize = 64 << 10;
/// The most samples of a request for which it is asked whether they would fit alone.
const MAX_PROBES: u32 = 10_000;
/// The most bytes of labels of a request that are looked at the slow way.
const MAX_LABEL_BYTES: u64 = 512 << 20;
/// Metrics whose metadata was looked at in this request, by the symbols of their names.
const SAID: usize = 256;

/// What of a request is left out because of another sample of it, and what of a sample that does not fit what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaveOut {
    Nothing,
    /// A sample of the time of the newest one before it.
    Repeats,
    /// A sample no newer than one before it.
    Older,
    /// Each sample that does not fit, as 2.0 has it; those that do not fit what is stored are told.
    Misfits,
}

/// The newest sample that a request has brought of each series.
#[derive(Debug, Default)]
struct Newest {
    of: HashMap<SeriesRef, i64>,
}

impl Newest {
    /// Takes note of a sample; the newest time before it.
    fn note(&mut self, series: SeriesRef, at_ms: i64) -> Option<i64> {
        let newest = self.of.get_mut(&series);
        let before = newest.as_deref().copied();
        match newest {
            Some(newest) => *newest = at_ms.max(*newest),
            None => drop(self.of.insert(series, at_ms)),
        }
        before
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

    fn bytes(&self) -> u64 {
        match self {
            Self::Float(_) => SAMPLE_BYTES,
            Self::Histogram(h) => {
                let spans = h.positive_spans.capacity() + h.negative_spans.capacity();
                let numbers =
                    h.positive_buckets.capacity() + h.negative_buckets.capacity() + h.custom_values.capacity();
                SAMPLE_BYTES + (size_of::<Histogram>() + 8 * (spans + numbers)) as u64
            }
        }
    }
}

/// The walk over one message.
pub(super) struct Offer<'b, 's> {
    store: &'s dyn Appendable,
    appender: Box<dyn Appender + 's>,
    finger: Finger<'s>,
    names: &'b Names<'b>,
    declared: &'s Declared,
    room: Room,
    /// On their way to the store.
    samples: Vec<(SeriesRef, Timestamp, f64)>,
    /// The label fields of each, for when the store has let go of the series.
    labels: Vec<&'b [u8]>,
    /// Bytes of labels that were looked at the slow way.
    label_bytes: u64,
    /// Samples handed on.
    ordinal: u64,
    leave_out: LeaveOut,
    newest: Newest,
    ledger: Ledger<'b>,
    /// Metric and metadata of series before.
    said: Vec<(u32, &'b [u8])>,
    taken: Taken,
}

impl<'b, 's> Offer<'b, 's> {
    pub(super) fn new(
        store: &'s dyn Appendable,
        known: &'s RwLock<Known>,
        declared: &'s Declared,
        names: &'b Names<'b>,
        room: Room,
        leave_out: LeaveOut,
    ) -> Self {
        Self {
            store,
            appender: store.appender(),
            finger: Finger::new(known),
            names,
            declared,
            room,
            samples: Vec::with_capacity(BATCH + 16),
            labels: Vec::with_capacity(BATCH + 16),
            label_bytes: 0,
            ordinal: 0,
            leave_out,
            newest: Newest::default(),
            ledger: Ledger::default(),
            said: Vec::new(),
            taken: Taken::default(),
        }
    }

    /// Takes a series of the message.
    pub(super) fn take(&mut self, series: &'b [u8]) -> Result<(), WriteError> {
        if !self.take_plain(series)? {
            self.take_any(series)?;
        }
        if self.samples.len() >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// Stores what was taken: all of it or nothing, unless misfits are left out.
    pub(super) fn commit(mut self) -> Result<Taken, WriteError> {
        self.flush()?;
        // The commit may wait for the disk: others need not wait for it to enter series.
        self.finger.rest();
        let on_reject = match self.leave_out {
            LeaveOut::Misfits => OnReject::Skip,
            LeaveOut::Nothing | LeaveOut::Repeats | LeaveOut::Older => OnReject::Fail,
        };
        let committed = self.appender.commit(on_reject).map_err(|error| match error {
            CommitError::Rejected(rejected) => WriteError::Rejected(rejected),
            CommitError::Log(_) => WriteError::Log(error),
            CommitError::Closed(_) => WriteError::Closed(error),
        })?;
        Ok(self.ledger.settle(self.names, self.taken, &committed))
    }

    /// Takes a series that was sent before, in the form that senders use; `false`: nothing was done.
    #[inline]
    fn take_plain(&mut self, message: &'b [u8]) -> Result<bool, WriteError> {
        // What is kept is decided sample by sample then.
        if self.leave_out != LeaveOut::Nothing || message.len() > PLAIN_BYTES {
            return Ok(false);
        }
        let Some((series, labels, rest, name)) = self.seen_before(message)? else {
            return Ok(false);
        };
        let before = self.samples.len();
        let samples = &mut self.samples;
        let read = wire::plain_samples(rest, |value, at_ms| {
            samples.push((series, Timestamp::from_millis(at_ms), value));
        });
        let metadata = match (self.names, read) {
            (Names::InPlace, Some([])) => Some(&[][..]),
            (Names::Symbols(_), Some(rest)) => wire::plain_metadata(rest),
            _ => None,
        };
        let Some(metadata) = metadata else {
            self.samples.truncate(before);
            return Ok(false);
        };
        self.labels.resize(self.samples.len(), labels);
        if let Some(name) = name
            && !metadata.is_empty()
        {
            self.declare(name, metadata)?;
        }
        Ok(true)
    }

    /// The series whose labels a message begins with, its label fields, what follows them, and the symbol of its name.
    #[inline]
    fn seen_before(&mut self, message: &'b [u8]) -> Result<Option<Seen<'b>>, WriteError> {
        let (series, length, name) = match self.names {
            Names::InPlace => match self.finger.expected(message, wire::SAMPLE) {
                Some((series, length)) => (series, length, None),
                None => {
                    let Some(length) = wire::labels_in_front(message) else {
                        return Ok(None);
                    };
                    let found = message.get(..length).and_then(|labels| self.finger.find(key(labels)));
                    let Some(series) = found else { return Ok(None) };
                    (series, length, None)
                }
            },
            Names::Symbols(symbols) => {
                let Some(length) = wire::labels_in_front(message) else {
                    return Ok(None);
                };
                let Some(identity) = symbols.identity(message.get(..length).unwrap_or_default())? else {
                    return Ok(None);
                };
                let Some(series) = self.finger.find(identity.key) else {
                    return Ok(None);
                };
                (series, length, identity.name)
            }
        };
        Ok(message
            .split_at_checked(length)
            .map(|(labels, rest)| (series, labels, rest, name)))
    }

    /// Takes the samples of one series, which is resolved at its first one.
    fn take_any(&mut self, message: &'b [u8]) -> Result<(), WriteError> {
        // What came before in the message comes before in the store.
        self.flush()?;
        let version = self.names.version();
        let series = TimeSeries::read(message, version)?;
        if self.leave_out == LeaveOut::Misfits {
            self.room.take(SAMPLE_BYTES)?;
            self.ledger.series.push((self.ordinal, message));
        }
        let mut found = None;
        let mut metadata = None;
        let mut rest = series.rest.clone();
        while let Some((number, value)) = rest.next()? {
            let (at_ms, held) = match version.part(number) {
                Part::Sample => {
                    let (value, at_ms) = sample(value.bytes("Samples")?)?;
                    (at_ms, Held::Float(value))
                }
                Part::Histogram => {
                    let (histogram, at_ms) = histogram(value.bytes("Histograms")?)?;
                    (at_ms, Held::Histogram(Arc::new(histogram)))
                }
                Part::Metadata => {
                    metadata = Some(value.bytes("Metadata")?);
                    continue;
                }
                Part::Exemplar | Part::Other => continue,
            };
            let reference = match found {
                Some(reference) => reference,
                None => match self.find(&series.labels)? {
                    Some(reference) => *found.insert(reference),
                    None => return Ok(()),
                },
            };
            self.room.take(held.bytes())?;
            if !self.keeps(reference, at_ms, &held, &series.labels) {
                continue;
            }
            match self.append(reference, at_ms, &held, &series.labels)? {
                Some(reference) => found = Some(reference),
                None => return Ok(()),
            }
        }
        if found.is_none() && version == ProtoMessage::V2 {
            // Labels are looked at even if nothing is to be stored.
            self.check(&series.labels)?;
        }
        if let (Names::Symbols(symbols), Some(metadata), Some(_)) = (self.names, metadata, found)
            && let Some(name) = symbols.identity(&series.labels)?.and_then(|identity| identity.name)
        {
            self.declare(name, metadata)?;
        }
        self.take_exemplars(message, &series, found)
    }

    /// Hands on one sample; the series it went to, `None` if that is left out.
    fn append(
        &mut self,
        reference: SeriesRef,
        at_ms: i64,
        held: &Held,
        labels: &[u8],
    ) -> Result<Option<SeriesRef>, WriteError> {
        let at = Timestamp::from_millis(at_ms);
        let mut reference = reference;
        let mut appended = held.append(&mut *self.appender, reference, at);
        if matches!(appended, Err(AppendError::StaleRef { .. })) {
            let Some(fresh) = self.resolve(labels)? else {
                return Ok(None);
            };
            reference = fresh;
            appended = held.append(&mut *self.appender, fresh, at);
        }
        match appended {
            Ok(()) => {
                if matches!(held, Held::Histogram(_)) {
                    self.ledger.histograms.push(self.ordinal);
                }
                self.ordinal += 1;
            }
            Err(AppendError::Histogram(error)) => {
                self.taken.histograms += 1;
                self.taken.example.get_or_insert_with(|| error.to_string());
                self.tell(|names| format!("{error} for series {}", names.shown(labels)));
            }
            Err(error) => return Err(WriteError::Append(error)),
        }
        Ok(Some(reference))
    }

    /// Whether a sample is handed on, as far as others of its request decide it.
    fn keeps(&mut self, series: SeriesRef, at_ms: i64, held: &Held, labels: &[u8]) -> bool {
        if self.leave_out == LeaveOut::Nothing {
            return true;
        }
        let Some(newest) = self.newest.note(series, at_ms).filter(|newest| at_ms <= *newest) else {
            return true;
        };
        match self.leave_out {
            LeaveOut::Nothing => true,
            LeaveOut::Repeats if at_ms < newest => true,
            LeaveOut::Repeats | LeaveOut::Older => {
                self.taken.unordered += 1;
                false
            }
            LeaveOut::Misfits => {
                if let Some(reason) = self.misfit(series, at_ms, held) {
                    self.taken.rejected += 1;
                    self.tell(|names| format!("{} for series {}", reject_text(reason), names.shown(labels)));
                    return false;
                }
                self.ledger.behind.push(self.ordinal);
                true
            }
        }
    }

    /// Why a sample does not fit what is stored, if it is asked.
    fn misfit(&mut self, series: SeriesRef, at_ms: i64, held: &Held) -> Option<RejectReason> {
        if self.ledger.probes >= MAX_PROBES {
            return None;
        }
        self.ledger.probes += 1;
        let at = Timestamp::from_millis(at_ms);
        match held {
            Held::Float(value) => alone(self.store, series, at, *value),
            // What a float meets there says nothing of a histogram of the same time.
            Held::Histogram(_) => alone(self.store, series, at, 0.0).filter(|reason| !is_duplicate(*reason)),
        }
    }

    /// Appends the exemplars of a series that has samples, in this request or before.
    fn take_exemplars(
        &mut self,
        message: &'b [u8],
        series: &TimeSeries<'_>,
        mut found: Option<SeriesRef>,
    ) -> Result<(), WriteError> {
        let version = self.names.version();
        let mut rest = series.rest.clone();
        while let Some((number, value)) = rest.next()? {
            if version.part(number) != Part::Exemplar {
                continue;
            }
            let one = value.bytes("Exemplars")?;
            let (value, at_ms) = exemplar(one)?;
            let at = Timestamp::from_millis(at_ms);
            let pairs = self.names.pairs(one)?;
            if let Err(why) = &pairs {
                self.tell(|names| format!("parsing exemplar for series {}: {why}", names.shown(&series.labels)));
            }
            if found.is_none()
                && let Some(key) = self.names.key(&series.labels)?
            {
                found = self.finger.find(key);
            }
            self.room.take(4 * SAMPLE_BYTES + one.len() as u64)?;
            let labels = pairs.ok().and_then(|pairs| labels::of_exemplar(&pairs));
            let one = labels.map(|labels| Exemplar {
                labels,
                value,
                at: Some(at),
            });
            let appended = found
                .zip(one)
                .map(|(series, one)| self.appender.append_exemplar(series, at, &one));
            if matches!(appended, Some(Ok(()))) {
                self.taken.stored_exemplars += 1;
                self.ledger.exemplars.push((self.ordinal, message));
            } else {
                self.taken.exemplars += 1;
            }
        }
        Ok(())
    }

    /// Hands on what was collected. Series that the store has let go of are resolved again.
    fn flush(&mut self) -> Result<(), WriteError> {
        let samples = std::mem::take(&mut self.samples);
        let labels = std::mem::take(&mut self.labels);
        self.room.take(samples.len() as u64 * SAMPLE_BYTES)?;
        let mut done = 0;
        let mut lost = 0;
        while let Err(error) = self.appender.append_many(samples.get(done..).unwrap_or_default()) {
            let AppendError::StaleRef { place } = error else {
                return Err(WriteError::Append(error));
            };
            done += place;
            let (Some((_, at, value)), Some(labels)) = (samples.get(done), labels.get(done)) else {
                break;
            };
            match self.resolve(labels)? {
                Some(fresh) => self
                    .appender
                    .append_at(fresh, *at, *value)
                    .map_err(WriteError::Append)?,
                None => lost += 1,
            }
            done += 1;
        }
        self.ordinal += samples.len() as u64 - lost;
        (self.samples, self.labels) = (samples, labels);
        self.samples.clear();
        self.labels.clear();
        Ok(())
    }

    /// Takes what a series says of its metric, unless one before said the same.
    #[inline]
    fn declare(&mut self, name: u32, metadata: &'b [u8]) -> Result<(), WriteError> {
        let Names::Symbols(symbols) = self.names else {
            return Ok(());
        };
        if self.said.is_empty() {
            self.said.resize(SAID, (u32::MAX, &[]));
        }
        let Some(said) = self.said.get_mut(name as usize % SAID) else {
            return Ok(());
        };
        if *said != (name, metadata) {
            *said = (name, metadata);
            self.declared.take_v2(metadata, name, symbols)?;
        }
        Ok(())
    }

    fn find(&mut self, labels: &[u8]) -> Result<Option<SeriesRef>, WriteError> {
        let key = self.names.key(labels)?;
        match key.and_then(|key| self.finger.find(key)) {
            Some(reference) => Ok(Some(reference)),
            None => self.resolve(labels),
        }
    }

    /// The label set of a series; `None` if it is left out.
    fn check(&mut self, bytes: &[u8]) -> Result<Option<Labels>, WriteError> {
        let pairs = self.names.pairs(bytes)?;
        let fault = match &pairs {
            Ok(pairs) => {
                // A short message may name long symbols many times.
                self.label_bytes += pairs.iter().map(|(n, v)| (n.len() + v.len()) as u64).sum::<u64>();
                if self.label_bytes > MAX_LABEL_BYTES {
                    return Err(WriteError::Labels(MAX_LABEL_BYTES));
                }
                match labels::of_series(pairs) {
                    Ok(labels) => return Ok(Some(labels)),
                    Err(fault) => Ok((fault, pairs)),
                }
            }
            Err(why) => Err(why),
        };
        let text = || match &fault {
            Ok((fault, pairs)) => fault.text(pairs),
            Err(why) => format!("parsing labels of a series: {why}"),
        };
        self.taken.invalid_series += 1;
        self.tell(|_| text());
        self.taken.example.get_or_insert_with(text);
        Ok(None)
    }

    /// The slow way: labels, checks, the store's index. `None` if the series is left out.
    fn resolve(&mut self, bytes: &[u8]) -> Result<Option<SeriesRef>, WriteError> {
        self.finger.rest();
        let Some(labels) = self.check(bytes)? else {
            return Ok(None);
        };
        match self.appender.resolve(None, &labels) {
            Ok(reference) => {
                if let Some(key) = self.names.key(bytes)? {
                    self.finger.insert(key, reference);
                }
                Ok(Some(reference))
            }
            Err(error) => {
                match &error {
                    AppendError::Labels(_) => self.taken.invalid_series += 1,
                    AppendError::Limit { .. } | AppendError::Memory(_) => self.taken.refused_series += 1,
                    AppendError::StaleRef { .. }
                    | AppendError::StaleTimeline
                    | AppendError::Histogram(_)
                    | AppendError::ExemplarLabels { .. } => {
                        return Err(WriteError::Append(error));
                    }
                }
                self.tell(|names| format!("{error} for series {}", names.shown(bytes)));
                self.taken.example.get_or_insert_with(|| format!("{error}: {labels}"));
                Ok(None)
            }
        }
    }

    /// Tells the sender of what comes next, if it is one of 2.0.
    fn tell(&mut self, line: impl FnOnce(&Names<'_>) -> String) {
        if let Names::Symbols(_) = self.names {
            self.taken.told.tell((self.ordinal, false), || line(self.names));
        }
    }
}

/// See [`Offer::seen_before`].
type Seen<'b> = (SeriesRef, &'b [u8], &'b [u8], Option<u32>);

/// Why a sample does not fit what is stored, whatever else its request brings. Nothing is stored to find out that would
/// not be anyway: asked with two values for one time, the store refuses the second if it takes the first, unless that comes
/// late and is stored as such.
pub(super) fn alone(store: &dyn Appendable, series: SeriesRef, at: Timestamp, value: f64) -> Option<RejectReason> {
    let mut appender = store.appender();
    let other = if value.to_bits() == 0 { 1.0 } else { 0.0 };
    for value in [value, other] {
        appender.append_at(series, at, value).ok()?;
    }
    match appender.commit(OnReject::Fail) {
        Err(CommitError::Rejected(Rejected { ordinal: 0, reason, .. })) => Some(reason),
        _ => None,
    }
}

/// Whether it is another sample of the same time that is in the way.
pub(super) fn is_duplicate(reason: RejectReason) -> bool {
    matches!(
        reason,
        RejectReason::Duplicate { .. } | RejectReason::HistogramExists { .. } | RejectReason::DuplicateHistogram { .. }
    )
}
