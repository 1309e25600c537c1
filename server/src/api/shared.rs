//! What handlers share, and the way into blocking work.

use super::error::{ApiError, ErrorKind};
use super::params::Params;
use super::state::ApiState;
use crate::http::{Metrics, Peer};
use crate::remote::Receiver;
use axum::body::Body;
use axum::http::Request;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{Cancel, Meter, ReadContext};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Everything a handler is given.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// What start-up gave.
    pub(crate) api: Arc<ApiState>,
    /// The edge's counters.
    pub(crate) http: Arc<Metrics>,
    /// The receiver of remote write.
    pub(crate) receiver: Arc<Receiver>,
    /// Reads at a time. More would only fill the pool of blocking threads, which scrapes need too.
    places: Arc<Semaphore>,
    /// Pays for label and series lists.
    meter: Meter,
}

/// Raises the flag when the handler ends: nobody waits for the work any more, if it still goes on.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Shared {
    pub(crate) fn new(api: Arc<ApiState>) -> Self {
        Self {
            http: Arc::default(),
            receiver: Arc::new(Receiver::new(&api.limits)),
            places: Arc::new(Semaphore::new(api.engine.options().max_concurrency.max(1))),
            meter: api.engine.options().memory.clone(),
            api,
        }
    }

    /// The parameters of a request, once the server is ready.
    pub(crate) async fn params(&self, request: Request<Body>) -> Result<Params, ApiError> {
        self.ready()?;
        Params::read(request, self.api.limits.form_bytes).await
    }

    /// Fails while the server is not ready.
    pub(crate) fn ready(&self) -> Result<(), ApiError> {
        match self.api.ready.why_not() {
            Some(why) => Err(ApiError::new(
                ErrorKind::Starting,
                format!("Service Unavailable: {why}"),
            )),
            None => Ok(()),
        }
    }

    /// What a read of labels or series goes with.
    pub(crate) fn context(&self, cancel: Cancel) -> ReadContext {
        ReadContext {
            cancel,
            meter: self.meter.clone(),
        }
    }

    /// Runs work on a blocking thread, once there is a place; cancelled when the client goes away.
    ///
    /// # Errors
    /// The job's, or a timeout while waiting for a place.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        job: impl FnOnce(&ApiState, Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.read_for(None, timeout, job).await
    }

    /// As [`Shared::read`], for a read that is likely short: for a `peer` it runs on the thread that read the request,
    /// whose other work another thread takes over. To hand a short read to a thread and wait for it takes longer than
    /// the read itself.
    ///
    /// # Errors
    /// As [`Shared::read`].
    pub(crate) async fn read_for<T: Send + 'static>(
        &self,
        peer: Option<Peer>,
        timeout: Option<Duration>,
        job: impl FnOnce(&ApiState, Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = self.place(timeout).await?;
        let cancel = Cancel::new();
        let _cancel_on_drop = CancelOnDrop(cancel.clone());
        if let Some(peer) = peer
            && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
        {
            tokio::spawn(watch(peer, cancel.clone()));
            let result = tokio::task::block_in_place(|| job(&self.api, cancel));
            drop(place);
            return result;
        }
        let api = self.api.clone();
        let task = tokio::task::spawn_blocking(move || {
            let result = job(&api, cancel);
            drop(place);
            result
        });
        match task.await {
            Ok(result) => result,
            // The edge answers, counts and logs it.
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => Err(ApiError::new(ErrorKind::Unavailable, "the server is stopping")),
        }
    }

    /// Waits for a place among the reads.
    async fn place(&self, timeout: Option<Duration>) -> Result<OwnedSemaphorePermit, ApiError> {
        let longest = self.api.engine.options().timeout;
        let wait = timeout.map_or(longest, |timeout| timeout.min(longest));
        // A free place is taken even if no time is left: the engine then says in which phase it ran out.
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        match tokio::time::timeout(wait, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(ApiError::new(ErrorKind::Timeout, "query timed out in query queue")),
        }
    }
}

/// How often it is looked whether the client of a read is still there.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Cancels a read when its client has gone. Ends when the read has.
async fn watch(peer: Peer, cancel: Cancel) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if cancel.is_cancelled() {
            return;
        }
        if peer.has_gone() {
            cancel.cancel();
        }
    }
}
