//! `POST /api/v1/write`: the receiver.
//!
//! A request is kept whole or not at all if a sample does not fit what is stored of its series; one that only comes
//! behind a newer one of the same request is left out, as upstream does, unless it may come late. A series whose labels are not valid is left
//! out, counted and logged, and the rest is kept, as upstream does. A series or sample that this store cannot take (a
//! limit, a histogram that is none) is left out too, but the sender is told. An exemplar that does not fit is left out
//! and counted, no more, as upstream does.

use super::known::Known;
use super::metrics::Metrics;
use super::offer::{LeaveOut, Offer, Taken};
use super::wire::{Fields, WireError};
use crate::api::{ApiLimits, Shared};
use crate::http::edge::text;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::Ordering;
use tidegauge_model::{AppendError, Appendable, CommitError, Lease, Meter, OnReject, RejectReason, Rejected};

/// Bytes of request bodies, compressed and not, that may be held at a time.
const HELD_BYTES: u64 = 192 << 20;
/// A buffer for decoded bodies up to this size is kept for the next request: memory that comes anew with each one costs
/// more than decoding into it.
const KEPT_BYTES: usize = 2 << 20;

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

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
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
        let mut offer = Offer::new(store, &self.known, leave_out);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            // What a sender says of its metrics (3) is not kept, as upstream's receiver of 1.0 does not.
            if number == 1 {
                offer.take(value.bytes("Timeseries")?)?;
            }
        }
        offer.commit()
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
