//! `POST /api/v1/write`: the receiver.
//!
//! A request of 1.0 is kept whole or not at all if a sample does not fit what is stored of its series; one that only comes
//! behind a newer one of the same request is left out, as upstream does, unless it may come late. A series whose labels are not valid is left
//! out, counted and logged, and the rest is kept, as upstream does. A series or sample that this store cannot take (a
//! limit, a histogram that is none) is left out too, but the sender is told. An exemplar that does not fit is left out
//! and counted, no more, as upstream does.
//!
//! Of a request of 2.0 all is kept that fits. The sender is told what is not, in lines, and how much is, in headers.

use super::content::{ProtoMessage, negotiate};
use super::declared::Declared;
use super::known::Known;
use super::ledger::{Taken, reject_text};
use super::metrics::Metrics;
use super::names::Names;
use super::offer::{LeaveOut, Offer, alone, is_duplicate};
use super::room::Room;
use super::symbols::Symbols;
use super::wire::{Fields, WireError};
use crate::api::{ApiLimits, Shared};
use crate::http::edge::text;
use crate::http::{Excess, is_too_slow};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::Ordering;
use tidegauge_model::{AppendError, Appendable, CommitError, Lease, Meter, OverBudget, RejectReason, Rejected};

/// Seconds after which a sender may try again what there was no memory or no disk for.
const RETRY_AFTER: &str = "5";
/// A buffer for decoded bodies up to this size is kept for the next request: memory that comes anew with each one costs
/// more than decoding into it.
const KEPT_BYTES: usize = 2 << 20;

/// Receives remote write: what it remembers between requests, and what it counts.
#[derive(Debug)]
pub(crate) struct Receiver {
    known: RwLock<Known>,
    /// What the last request was decoded into.
    spare: Mutex<Vec<u8>>,
    declared: Declared,
    held: Meter,
    body_bytes: usize,
    decoded_bytes: usize,
    pending_bytes: u64,
    accepted: Vec<ProtoMessage>,
    metrics: Metrics,
}

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("snappy: corrupt input")]
    Snappy,
    #[error("snappy: decoded length {length} exceeds limit {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("more than {0} symbols in one request")]
    Symbols(usize),
    #[error("the labels of one request are longer than {0} bytes")]
    Labels(u64),
    #[error("one request holds more than {0} bytes of samples, symbols and histograms")]
    Room(u64),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Memory(#[from] OverBudget),
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

impl WriteError {
    fn status(&self) -> StatusCode {
        match self {
            // Upstream says the same of a body that unpacks to too much.
            Self::Snappy | Self::TooLong { .. } | Self::Wire(_) | Self::Rejected(_) => StatusCode::BAD_REQUEST,
            Self::Symbols(_) | Self::Labels(_) | Self::Room(_) => StatusCode::PAYLOAD_TOO_LARGE,
            // Senders try these again: there may be memory then, or room on the disk.
            Self::Memory(_) | Self::Log(_) | Self::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Append(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// `POST /api/v1/write`
pub(crate) async fn write(State(shared): State<Shared>, request: Request<Body>) -> Response {
    let response = receive(&shared, request).await;
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        shared.http.refused(Excess::Body);
    }
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
        return unavailable(format!("Service Unavailable: {why}\n"));
    }
    let version = match negotiate(request.headers(), &receiver.accepted) {
        Ok(version) => version,
        Err(why) => return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why + "\n"),
    };
    let (body, lease) = match receiver.body(request, || shared.http.refused(Excess::Slow)).await {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    let api = shared.api.clone();
    let task = tokio::task::spawn_blocking(move || receiver.take(&*api.db, version, &body, lease));
    match task.await {
        Ok(Ok(taken)) => answer(taken, version),
        Ok(Err(error)) => refusal(&error, version),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => unavailable("the server is stopping\n"),
    }
}

fn unavailable(why: impl Into<Body>) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    response
}

fn too_large(limit: usize) -> Response {
    text(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {limit} bytes (--web.remote-write-receiver.max-body-size)\n"),
    )
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Why a request is not taken, and whether the sender may try again.
fn refusal(error: &WriteError, version: ProtoMessage) -> Response {
    let status = error.status();
    if !status.is_server_error() {
        tracing::debug!(%error, "remote write refused");
        return text(status, format!("{error}\n"));
    }
    tracing::error!(%error, "remote write failed");
    let told = format!("{error}\n");
    let mut response = match status {
        StatusCode::SERVICE_UNAVAILABLE => unavailable(told),
        other => text(other, told),
    };
    if version == ProtoMessage::V2 {
        tell_stored(&mut response, [0; 3]);
    }
    response
}

/// Samples, histograms and exemplars that were stored, as 2.0 tells them.
fn tell_stored(response: &mut Response, stored: [u64; 3]) {
    const NAMES: [HeaderName; 3] = [
        HeaderName::from_static("x-prometheus-remote-write-samples-written"),
        HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
        HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
    ];
    for (name, count) in NAMES.into_iter().zip(stored) {
        response.headers_mut().insert(name, HeaderValue::from(count));
    }
}

/// What the sender of a request that was stored is answered.
fn answer(taken: Taken, version: ProtoMessage) -> Response {
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
    match version {
        ProtoMessage::V1 => answer_v1(&taken),
        ProtoMessage::V2 => answer_v2(taken),
    }
}

/// 204 with the counts if nothing was held back, else 400 with the counts and a line for each thing that was.
fn answer_v2(taken: Taken) -> Response {
    let floats = taken.samples.saturating_sub(taken.stored_histograms);
    let stored = [floats, taken.stored_histograms, taken.stored_exemplars];
    let mut response = if taken.told.is_empty() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        tracing::debug!(
            series = taken.invalid_series + taken.refused_series,
            samples = taken.rejected + taken.histograms,
            exemplars = taken.exemplars,
            "remote write: not all was stored"
        );
        text(StatusCode::BAD_REQUEST, taken.told.text())
    };
    tell_stored(&mut response, stored);
    response
}

/// 204 if nothing was held back; what a limit or the store's abilities held back is told, after the rest was stored.
fn answer_v1(taken: &Taken) -> Response {
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
    pub(crate) fn new(limits: &ApiLimits, accepted: Vec<ProtoMessage>) -> Self {
        Self {
            known: RwLock::new(Known::new(limits.write_cached_series)),
            spare: Mutex::default(),
            declared: Declared::new(&limits.write_memory),
            held: limits.write_memory.clone(),
            body_bytes: limits.write_bytes,
            decoded_bytes: limits.write_decoded_bytes,
            pending_bytes: limits.write_pending_bytes,
            accepted,
            metrics: Metrics::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What senders said of their metrics.
    pub(crate) fn declared(&self) -> &Declared {
        &self.declared
    }

    /// A request's body, and the memory that it and what is made of it take; else the answer.
    /// A body that comes too slowly is told to `slow`; its sender may try again.
    async fn body(&self, request: Request<Body>, slow: impl Fn()) -> Result<(Bytes, Lease), Response> {
        let over = |error: OverBudget| unavailable(format!("{error}\n"));
        let length = content_length(request.headers()).unwrap_or(0);
        if length > self.body_bytes {
            return Err(too_large(self.body_bytes));
        }
        let mut lease = self.held.lease(length as u64).map_err(over)?;
        // Most bodies come in one piece, which is not copied.
        let (mut whole, mut parts) = (Bytes::new(), Vec::new());
        let mut chunks = request.into_body().into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                if is_too_slow(&error) {
                    slow();
                    return unavailable("the body did not come in time (--web.read-timeout)\n");
                }
                text(StatusCode::BAD_REQUEST, format!("{error}\n"))
            })?;
            // What a sender does not announce is paid for as it comes.
            let bytes = whole.len() + parts.len() + chunk.len();
            if bytes > self.body_bytes {
                return Err(too_large(self.body_bytes));
            }
            lease.grow((bytes as u64).saturating_sub(lease.bytes())).map_err(over)?;
            if whole.is_empty() && parts.is_empty() {
                whole = chunk;
                continue;
            }
            if parts.is_empty() {
                parts.reserve_exact(length.max(bytes));
                parts.extend_from_slice(&std::mem::take(&mut whole));
            }
            parts.extend_from_slice(&chunk);
        }
        Ok((if parts.is_empty() { whole } else { parts.into() }, lease))
    }

    /// Stores a request.
    pub(super) fn take(
        &self,
        store: &dyn Appendable,
        version: ProtoMessage,
        body: &[u8],
        mut lease: Lease,
    ) -> Result<Taken, WriteError> {
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
        let taken = self.decode(store, version, body, length, &mut buffer);
        if buffer.len() <= KEPT_BYTES {
            *self.spare.lock() = buffer;
        }
        let taken = taken?;
        self.metrics.count(&taken, version, body.len());
        Ok(taken)
    }

    fn decode(
        &self,
        store: &dyn Appendable,
        version: ProtoMessage,
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
        self.store(store, version, buffer.get(..length).unwrap_or_default())
    }

    /// Stores a message. What does not fit is looked at only if something does not, so that requests in order do not pay
    /// for it.
    pub(super) fn store(
        &self,
        store: &dyn Appendable,
        version: ProtoMessage,
        message: &[u8],
    ) -> Result<Taken, WriteError> {
        let mut room = self.room()?;
        let names = match version {
            ProtoMessage::V1 => Names::InPlace,
            ProtoMessage::V2 => Names::Symbols(Symbols::read(message, &mut room)?),
        };
        let taken = self.offer(store, message, &names, LeaveOut::Nothing);
        let Err(WriteError::Rejected(rejected)) = &taken else {
            return taken;
        };
        match version {
            ProtoMessage::V1 => self.store_in_disorder(store, message, *rejected),
            ProtoMessage::V2 => self.offer(store, message, &names, LeaveOut::Misfits),
        }
    }

    /// Stores a message of 1.0 some sample of which does not fit, if that is only because of another sample of it. What
    /// comes behind a newer one may come late, if the store has it so.
    fn store_in_disorder(
        &self,
        store: &dyn Appendable,
        message: &[u8],
        rejected: Rejected,
    ) -> Result<Taken, WriteError> {
        let names = Names::InPlace;
        let mut taken = Err(WriteError::Rejected(rejected));
        if is_duplicate(rejected.reason) || rejected.reason == RejectReason::OutOfOrder {
            taken = self.offer(store, message, &names, LeaveOut::Repeats);
        }
        if let Err(WriteError::Rejected(rejected)) = &taken
            && matches!(rejected.reason, RejectReason::OutOfOrder | RejectReason::TooOld)
            && alone(store, rejected.series, rejected.at, 0.0).is_none_or(is_duplicate)
        {
            taken = self.offer(store, message, &names, LeaveOut::Older);
        }
        taken
    }

    fn room(&self) -> Result<Room, OverBudget> {
        Room::of(&self.held, self.pending_bytes)
    }

    /// Hands a message's samples to the store.
    fn offer(
        &self,
        store: &dyn Appendable,
        message: &[u8],
        names: &Names<'_>,
        leave_out: LeaveOut,
    ) -> Result<Taken, WriteError> {
        let version = names.version();
        let mut offer = Offer::new(store, &self.known, &self.declared, names, self.room()?, leave_out);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number == version.series_field() {
                offer.take(value.bytes("Timeseries")?)?;
            } else if (version, number) == (ProtoMessage::V1, 3) {
                self.declared.take_v1(value.bytes("Metadata")?)?;
            }
        }
        offer.commit()
    }
}
