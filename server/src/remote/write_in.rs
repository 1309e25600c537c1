//! `POST /api/v1/write`: the receiver.
//!
//! A request is kept whole or not at all if a sample does not fit what is stored of its series; one that only comes
//! behind a newer one of the same request is left out, as upstream does. A series whose labels are not valid is left
//! out, counted and logged, and the rest is kept, as upstream does. A series or sample that this store cannot take (a
//! limit, a histogram that is none) is left out too, but the sender is told. An exemplar that does not fit is left out
//! and counted, no more, as upstream does.

use super::histogram::histogram;
use super::known::{self, Known};
use super::wire::{Fields, TimeSeries, WireError, exemplar, label_pairs, sample};
use crate::api::{ApiLimits, Listing, Shared};
use crate::http::edge::text;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::{
    AppendError, Appendable, Appender, CommitError, Exemplar, Histogram, Labels, Lease, Meter, OnReject, RejectReason,
    SeriesRef, Timestamp, reserved,
};

/// Bytes of request bodies, compressed and not, that may be held at a time.
const HELD_BYTES: u64 = 192 << 20;

/// Receives remote write: what it remembers between requests, and what it counts.
#[derive(Debug)]
pub(crate) struct Receiver {
    known: Mutex<Known>,
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

/// The newest sample that a request has brought of each series.
#[derive(Debug, Default)]
struct Newest(HashMap<SeriesRef, i64>);

impl Newest {
    /// Whether the sample is newer than those before it, which makes it the newest.
    fn moves_to(&mut self, series: SeriesRef, at_ms: i64) -> bool {
        let known = self.0.get(&series).copied();
        let newer = known.is_none_or(|newest| at_ms > newest);
        if newer {
            self.0.insert(series, at_ms);
        }
        newer
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
    #[error("{}", reject_text(*.0))]
    Rejected(RejectReason),
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
            known: Mutex::new(Known::new(limits.write_cached_series)),
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
        let message = snap::raw::Decoder::new()
            .decompress_vec(body)
            .map_err(|_| WriteError::Snappy)?;
        let taken = match self.offer(store, &message, None) {
            // What does not fit may do so only because of another sample of this request: looked at only now, so that
            // requests in order do not pay for it.
            Err(WriteError::Rejected(
                RejectReason::OutOfOrder
                | RejectReason::Duplicate { .. }
                | RejectReason::HistogramExists { .. }
                | RejectReason::DuplicateHistogram { .. },
            )) => self.offer(store, &message, Some(Newest::default()))?,
            other => other?,
        };
        self.metrics.count(&taken, body.len());
        Ok(taken)
    }

    /// Hands a message's samples to the store; with `newest`, only those that are newer than the ones before them.
    fn offer(&self, store: &dyn Appendable, message: &[u8], mut newest: Option<Newest>) -> Result<Taken, WriteError> {
        let mut appender = store.appender();
        let mut taken = Taken::default();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            // What a sender says of its metrics (3) is not kept, as upstream's receiver of 1.0 does not.
            if number == 1 {
                let series = TimeSeries::read(value.bytes("Timeseries")?)?;
                self.take_series(&mut *appender, &series, newest.as_mut(), &mut taken)?;
            }
        }
        let committed = appender.commit(OnReject::Fail).map_err(|error| match error {
            CommitError::Rejected(rejected) => WriteError::Rejected(rejected.reason),
            CommitError::Log(_) => WriteError::Log(error),
            CommitError::Closed(_) => WriteError::Closed(error),
        })?;
        taken.samples = committed.samples;
        taken.exemplars += committed.exemplars.out_of_order + committed.exemplars.refused;
        Ok(taken)
    }

    /// Appends the samples of one series, which is resolved at its first one.
    fn take_series(
        &self,
        appender: &mut dyn Appender,
        series: &TimeSeries<'_>,
        mut newest: Option<&mut Newest>,
        taken: &mut Taken,
    ) -> Result<(), WriteError> {
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
                None => match self.find(appender, &series.labels, taken)? {
                    Some(reference) => *found.insert(reference),
                    None => return Ok(()),
                },
            };
            if newest.as_deref_mut().is_some_and(|n| !n.moves_to(reference, at_ms)) {
                taken.unordered += 1;
                continue;
            }
            let at = Timestamp::from_millis(at_ms);
            match held.append(appender, reference, at) {
                Ok(()) => {}
                Err(AppendError::StaleRef { .. }) => {
                    let Some(fresh) = self.resolve(appender, &series.labels, taken)? else {
                        return Ok(());
                    };
                    found = Some(fresh);
                    held.append(appender, fresh, at).map_err(WriteError::Append)?;
                }
                Err(AppendError::Histogram(error)) => {
                    taken.histograms += 1;
                    taken.example.get_or_insert_with(|| error.to_string());
                }
                Err(error) => return Err(WriteError::Append(error)),
            }
        }
        self.take_exemplars(appender, series, found, taken)
    }

    /// Appends the exemplars of a series that has samples, in this request or before.
    fn take_exemplars(
        &self,
        appender: &mut dyn Appender,
        series: &TimeSeries<'_>,
        mut found: Option<SeriesRef>,
        taken: &mut Taken,
    ) -> Result<(), WriteError> {
        let mut rest = series.rest.clone();
        while let Some((number, value)) = rest.next()? {
            if number != 3 {
                continue;
            }
            let message = value.bytes("Exemplars")?;
            let (value, at_ms) = exemplar(message)?;
            let at = Timestamp::from_millis(at_ms);
            let labels = label_pairs(message)?.and_then(|pairs| Labels::from_pairs(pairs).ok());
            found = found.or_else(|| self.known.lock().get(known::key(&series.labels)));
            let one = labels.map(|labels| Exemplar {
                labels,
                value,
                at: Some(at),
            });
            let appended = found
                .zip(one)
                .map(|(series, one)| appender.append_exemplar(series, at, &one));
            if !matches!(appended, Some(Ok(()))) {
                taken.exemplars += 1;
            }
        }
        Ok(())
    }

    fn find(
        &self,
        appender: &mut dyn Appender,
        labels: &[u8],
        taken: &mut Taken,
    ) -> Result<Option<SeriesRef>, WriteError> {
        let known = self.known.lock().get(known::key(labels));
        match known {
            Some(reference) => Ok(Some(reference)),
            None => self.resolve(appender, labels, taken),
        }
    }

    /// The slow way: labels, checks, the store's index. `None` if the series is left out.
    fn resolve(
        &self,
        appender: &mut dyn Appender,
        bytes: &[u8],
        taken: &mut Taken,
    ) -> Result<Option<SeriesRef>, WriteError> {
        let labels = match labels(bytes)? {
            Ok(labels) => labels,
            Err(why) => {
                taken.invalid_series += 1;
                taken.example.get_or_insert(why);
                return Ok(None);
            }
        };
        match appender.resolve(None, &labels) {
            Ok(reference) => {
                self.known.lock().insert(known::key(bytes), reference);
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
