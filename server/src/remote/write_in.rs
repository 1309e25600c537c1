//! `POST /api/v1/write`: the receiver.
//!
//! A request is kept whole or not at all if a sample does not fit what is stored of its series; one that only comes
//! behind a newer one of the same request is left out, as upstream does, unless it may come late. A series whose labels are not valid is left
//! out, counted and logged, and the rest is kept, as upstream does. A series or sample that this store cannot take (a
//! limit, a histogram that is none) is left out too, but the sender is told. An exemplar that does not fit is left out
//! and counted, no more, as upstream does.

use super::histogram::histogram;
use super::known::{Finger, Known, key};
use super::wire::{self, Fields, TimeSeries, WireError, exemplar, label_pairs, sample};
use crate::api::{ApiLimits, Listing, Shared};
use crate::http::edge::text;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::{
    AppendError, Appendable, Appender, CommitError, Exemplar, Histogram, Labels, Lease, Meter, OnReject, RejectReason,
    Rejected, SeriesRef, Timestamp, reserved,
};

/// Bytes of request bodies, compressed and not, that may be held at a time.
const HELD_BYTES: u64 = 192 << 20;
/// A buffer for decoded bodies up to this size is kept for the next request: memory that comes anew with each one costs
/// more than decoding into it.
const KEPT_BYTES: usize = 2 << 20;
/// Samples handed to the store at a time.
const BATCH: usize = 256;

/// Receives remote write: what it remembers between requests, and what it counts.
#[derive(Debug)]
pub(crate) struct Receiver {
    known: RwLock<Known>,
    /// What the last request was decoded into.
    spare: Mutex<Vec<u8>>,
    held: Meter,
    body_bytes: usize,
    decoded_bytes: usize,
    metrics: Metrics,
}

/// What became of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    samples: u64,
    /// Series without a name or with labels that are none.
    invalid_series: u64,
    /// Series that a limit of the store refused.
    refused_series: u64,
    /// Histograms that are none.
    histograms: u64,
    /// Exemplars that did not fit.
    exemplars: u64,
    /// Samples no newer than one before them in the request.
    unordered: u64,
    /// The first thing that was left out, in words.
    example: Option<String>,
}

/// What of a request is left out because of another sample of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaveOut {
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

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("snappy: corrupt input")]
    Snappy,
    #[error("snappy: decoded length of {length} bytes is over the limit of {limit}")]
    TooLong { length: usize, limit: usize },
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Memory(#[from] tidegauge_model::OverBudget),
    #[error("{}", reject_text(.0.reason))]
    Rejected(Rejected),
    #[error("{0}")]
    Log(CommitError),
    #[error("{0}")]
    Closed(CommitError),
    /// The store broke its promise that an accepted reference stays valid.
    #[error("cannot append: {0}")]
    Append(AppendError),
}

/// Upstream's words, which senders may look for.
fn reject_text(reason: RejectReason) -> String {
    match reason {
        RejectReason::TooNew => "out of bounds: timestamp is too far in the future".into(),
        other => other.to_string(),
    }
}

impl WriteError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Snappy | Self::Wire(_) | Self::Rejected(_) => StatusCode::BAD_REQUEST,
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            // Senders try these again.
            Self::Memory(_) | Self::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Log(_) | Self::Append(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// `POST /api/v1/write`
pub(crate) async fn write(State(shared): State<Shared>, request: Request<Body>) -> Response {
    let response = receive(&shared, request).await;
    shared
        .receiver
        .metrics
        .requests(response.status())
        .fetch_add(1, Ordering::Relaxed);
    response
}

async fn receive(shared: &Shared, request: Request<Body>) -> Response {
    let receiver = shared.receiver.clone();
    if let Some(why) = shared.api.ready.why_not() {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("Service Unavailable: {why}\n"));
    }
    if let Err(why) = acceptable(request.headers()) {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why + "\n");
    }
    let length = content_length(request.headers()).unwrap_or(receiver.body_bytes);
    if length > receiver.body_bytes {
        return too_large(receiver.body_bytes);
    }
    let lease = match receiver.held.lease(length as u64) {
        Ok(lease) => lease,
        Err(error) => return text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    };
    let Ok(body) = axum::body::to_bytes(request.into_body(), receiver.body_bytes).await else {
        return too_large(receiver.body_bytes);
    };
    let api = shared.api.clone();
    let task = tokio::task::spawn_blocking(move || receiver.take(&*api.db, &body, lease));
    match task.await {
        Ok(Ok(taken)) => answer(&taken),
        Ok(Err(error)) => {
            if error.status().is_server_error() {
                tracing::error!(%error, "remote write failed");
            } else {
                tracing::debug!(%error, "remote write refused");
            }
            text(error.status(), format!("{error}\n"))
        }
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n"),
    }
}

fn too_large(limit: usize) -> Response {
    text(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {limit} bytes or was cut off\n"),
    )
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the body is what this receiver reads; upstream's words if not.
fn acceptable(headers: &HeaderMap) -> Result<(), String> {
    let of = |name| headers.get(name).map_or(Ok(""), |value| value.to_str()).unwrap_or("?");
    let content_type = of(header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !matches!(media, "" | "application/x-protobuf") {
        return Err(format!(
            "expected application/x-protobuf as the first (media) part, got {content_type} content-type"
        ));
    }
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {parameter} in {content_type} content-type"
            ));
        };
        if name == "proto" && value != "prometheus.WriteRequest" {
            return Err(format!(
                "got {content_type} content type; unknown remote write protobuf message {value}, supported: prometheus.WriteRequest"
            ));
        }
    }
    match of(header::CONTENT_ENCODING) {
        "" | "snappy" => Ok(()),
        other => Err(format!(
            "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
        )),
    }
}

/// 204 if nothing was held back; what a limit or the store's abilities held back is told, after the rest was stored.
fn answer(taken: &Taken) -> Response {
    if let (1.., Some(example)) = (taken.invalid_series, &taken.example) {
        tracing::warn!(
            series = taken.invalid_series,
            example,
            "remote write: series with invalid labels left out"
        );
    }
    if taken.unordered > 0 {
        tracing::warn!(
            samples = taken.unordered,
            "remote write: samples no newer than one before them in the same request left out"
        );
    }
    if taken.refused_series == 0 && taken.histograms == 0 {
        return StatusCode::NO_CONTENT.into_response();
    }
    let example = taken.example.as_deref().unwrap_or_default();
    tracing::warn!(
        series = taken.refused_series,
        histograms = taken.histograms,
        example,
        "remote write: not all was stored"
    );
    let told = format!(
        "{} samples stored; left out: {} new series refused, {} invalid histograms ({example})\n",
        taken.samples, taken.refused_series, taken.histograms
    );
    text(StatusCode::BAD_REQUEST, told)
}

impl Receiver {
    pub(crate) fn new(limits: &ApiLimits) -> Self {
        Self {
            known: RwLock::new(Known::new(limits.write_cached_series)),
            spare: Mutex::default(),
            held: Meter::new("remote write bodies", HELD_BYTES.max(2 * limits.write_bytes as u64)),
            body_bytes: limits.write_bytes,
            decoded_bytes: limits.write_decoded_bytes,
            metrics: Metrics::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Stores a request.
    fn take(&self, store: &dyn Appendable, body: &Bytes, mut lease: Lease) -> Result<Taken, WriteError> {
        let length = snap::raw::decompress_len(body).map_err(|_| WriteError::Snappy)?;
        if body.is_empty() {
            return Err(WriteError::Snappy);
        }
        if length > self.decoded_bytes {
            return Err(WriteError::TooLong {
                length,
                limit: self.decoded_bytes,
            });
        }
        lease.grow(length as u64)?;
        let mut buffer = std::mem::take(&mut *self.spare.lock());
        let taken = self.decode(store, body, length, &mut buffer);
        if buffer.len() <= KEPT_BYTES {
            *self.spare.lock() = buffer;
        }
        let taken = taken?;
        self.metrics.count(&taken, body.len());
        Ok(taken)
    }

    fn decode(
        &self,
        store: &dyn Appendable,
        body: &[u8],
        length: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<Taken, WriteError> {
        if buffer.len() < length {
            buffer.clear();
            buffer.reserve_exact(length);
            buffer.resize(length, 0);
        }
        let room = buffer.get_mut(..length).unwrap_or_default();
        let length = snap::raw::Decoder::new()
            .decompress(body, room)
            .map_err(|_| WriteError::Snappy)?;
        let message = buffer.get(..length).unwrap_or_default();
        // What does not fit may do so only because of another sample of this request: looked at only then, so that
        // requests in order do not pay for it. What comes behind a newer one may come late, if the store has it so.
        let mut taken = self.offer(store, message, LeaveOut::Nothing);
        if matches!(
            reason(&taken),
            Some(
                RejectReason::OutOfOrder
                    | RejectReason::Duplicate { .. }
                    | RejectReason::HistogramExists { .. }
                    | RejectReason::DuplicateHistogram { .. }
            )
        ) {
            taken = self.offer(store, message, LeaveOut::Repeats);
        }
        if let Err(WriteError::Rejected(rejected)) = &taken
            && matches!(rejected.reason, RejectReason::OutOfOrder | RejectReason::TooOld)
            && fits_alone(store, rejected)
        {
            taken = self.offer(store, message, LeaveOut::Older);
        }
        taken
    }

    /// Hands a message's samples to the store.
    fn offer(&self, store: &dyn Appendable, message: &[u8], leave_out: LeaveOut) -> Result<Taken, WriteError> {
        let mut offer = Offer {
            appender: store.appender(),
            finger: Finger::new(&self.known),
            samples: Vec::with_capacity(BATCH + 16),
            labels: Vec::with_capacity(BATCH + 16),
            newest: Newest::new(leave_out),
            taken: Taken::default(),
        };
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            // What a sender says of its metrics (3) is not kept, as upstream's receiver of 1.0 does not.
            if number == 1 {
                let series = value.bytes("Timeseries")?;
                if !offer.take_plain(series) {
                    offer.take_any(series)?;
                }
                if offer.samples.len() >= BATCH {
                    offer.flush()?;
                }
            }
        }
        offer.flush()?;
        // The commit may wait for the disk: others need not wait for it to enter series.
        offer.finger.rest();
        let (appender, mut taken) = (offer.appender, offer.taken);
        let committed = appender.commit(OnReject::Fail).map_err(|error| match error {
            CommitError::Rejected(rejected) => WriteError::Rejected(rejected),
            CommitError::Log(_) => WriteError::Log(error),
            CommitError::Closed(_) => WriteError::Closed(error),
        })?;
        taken.samples = committed.samples;
        taken.exemplars += committed.exemplars.out_of_order + committed.exemplars.refused;
        Ok(taken)
    }
}

/// Why the store refused a sample.
fn reason(taken: &Result<Taken, WriteError>) -> Option<RejectReason> {
    match taken {
        Err(WriteError::Rejected(rejected)) => Some(rejected.reason),
        _ => None,
    }
}

/// Whether a refused sample would fit what is stored, so that it is another one of its request that it comes behind.
/// Nothing is stored to find out: asked with two values for one time, the store refuses the second if it takes the first.
fn fits_alone(store: &dyn Appendable, rejected: &Rejected) -> bool {
    let mut appender = store.appender();
    for value in [0.0, 1.0] {
        if appender.append_at(rejected.series, rejected.at, value).is_err() {
            return true;
        }
    }
    match appender.commit(OnReject::Fail) {
        Err(CommitError::Rejected(alone)) => matches!(alone.reason, RejectReason::Duplicate { .. }),
        _ => true,
    }
}

/// The walk over one message.
struct Offer<'b, 's> {
    appender: Box<dyn Appender + 's>,
    finger: Finger<'s>,
    /// On their way to the store.
    samples: Vec<(SeriesRef, Timestamp, f64)>,
    /// The label bytes of each, for when the store has let go of the series.
    labels: Vec<&'b [u8]>,
    newest: Newest,
    taken: Taken,
}

impl<'b> Offer<'b, '_> {
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

/// The receiver's counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    stored: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    samples: AtomicU64,
    body_bytes: AtomicU64,
    invalid_series: AtomicU64,
    refused_series: AtomicU64,
    histograms: AtomicU64,
    exemplars: AtomicU64,
    unordered: AtomicU64,
}

impl Metrics {
    fn requests(&self, status: StatusCode) -> &AtomicU64 {
        match status.as_u16() {
            200..300 => &self.stored,
            400..500 => &self.refused,
            _ => &self.failed,
        }
    }

    fn count(&self, taken: &Taken, body_bytes: usize) {
        for (counter, count) in [
            (&self.samples, taken.samples),
            (&self.body_bytes, body_bytes as u64),
            (&self.invalid_series, taken.invalid_series),
            (&self.refused_series, taken.refused_series),
            (&self.histograms, taken.histograms),
            (&self.exemplars, taken.exemplars),
            (&self.unordered, taken.unordered),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn list(&self) -> Vec<Listing> {
        use tidegauge_model::MetricKind::Counter;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let by = |label: &'static str, values: &[(&str, &AtomicU64)]| {
            values
                .iter()
                .map(|(value, counter)| (vec![(label, (*value).to_owned())], get(counter)))
                .collect::<Vec<_>>()
        };
        let one = |counter: &AtomicU64| vec![(vec![], get(counter))];
        vec![
            (
                "tidegauge_remote_write_requests_total",
                "Requests of remote-write senders, by outcome.",
                Counter,
                by(
                    "outcome",
                    &[
                        ("stored", &self.stored),
                        ("refused", &self.refused),
                        ("failed", &self.failed),
                    ],
                ),
            ),
            (
                "tidegauge_remote_write_samples_total",
                "Samples stored from remote write, exact repeats among them.",
                Counter,
                one(&self.samples),
            ),
            (
                "tidegauge_remote_write_body_bytes_total",
                "Bytes of stored requests as they arrived.",
                Counter,
                one(&self.body_bytes),
            ),
            (
                "tidegauge_remote_write_series_left_out_total",
                "Series of requests left out, by reason.",
                Counter,
                by(
                    "reason",
                    &[
                        ("invalid_labels", &self.invalid_series),
                        ("limit", &self.refused_series),
                    ],
                ),
            ),
            (
                "tidegauge_remote_write_left_out_total",
                "Parts of requests left out: histograms that are not valid, exemplars that do not fit, and samples behind a newer one of the same request.",
                Counter,
                by(
                    "kind",
                    &[
                        ("invalid_histogram", &self.histograms),
                        ("exemplar", &self.exemplars),
                        ("unordered_sample", &self.unordered),
                    ],
                ),
            ),
        ]
    }
}
