//! What handlers share, and the way into blocking work.

use super::error::{ApiError, ErrorKind};
use super::pace::Pace;
use super::params::Params;
use super::state::ApiState;
use crate::http::{Metrics, Peer};
use crate::profile::Cpu;
use crate::remote::Receiver;
use axum::body::Body;
use axum::http::Request;
use parking_lot::Mutex;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    /// Takes profiles.
    pub(crate) cpu: Cpu,
    /// Reads at a time. More would only fill the pool of blocking threads, which scrapes need too.
    places: Arc<Semaphore>,
    watched: Arc<Mutex<Watched>>,
    /// How long reads took.
    pace: Arc<Pace>,
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
            cpu: Cpu::default(),
            receiver: Arc::new(Receiver::new(&api.limits, api.remote_write_messages.clone())),
            places: Arc::new(Semaphore::new(api.engine.options().max_concurrency.max(1))),
            watched: Arc::default(),
            pace: Arc::default(),
            meter: api.engine.options().memory.clone(),
            api,
        }
    }

    /// The parameters of a request, once the server is ready.
    pub(crate) async fn params(&self, request: Request<Body>) -> Result<Params, ApiError> {
        self.ready()?;
        let read = Params::read(request, self.api.limits.form_bytes, &self.meter).await;
        if let Some(why) = read.as_ref().err().and_then(ApiError::excess) {
            self.http.refused(why);
        }
        read
    }

    /// Fails while the server is not ready.
    pub(crate) fn ready(&self) -> Result<(), ApiError> {
        match self.api.ready.why_not() {
            Some(why) => Err(ApiError::new(ErrorKind::Busy, format!("Service Unavailable: {why}"))),
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
        let cancel = Cancel::new();
        let _cancel_on_drop = CancelOnDrop(cancel.clone());
        let place = self.place(timeout).await?;
        self.spawn(place, cancel, job).await
    }

    /// As [`Shared::read`], on the thread that read the request if it can be: to hand a short read to a thread and wait
    /// for it takes longer than the read itself. Another thread takes over what that thread has beside it, unless the
    /// read was short when it was asked for last.
    ///
    /// # Errors
    /// As [`Shared::read`].
    pub(crate) async fn read_for<T: Send + 'static>(
        &self,
        params: &Params,
        timeout: Option<Duration>,
        job: impl FnOnce(&ApiState, Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = self.place(timeout).await?;
        let cancel = Cancel::new();
        let _cancel_on_drop = CancelOnDrop(cancel.clone());
        let pace = Arc::clone(&self.pace);
        let like = pace.likeness(params);
        let is_short = pace.is_short(like);
        let query = params.text("query").unwrap_or_default();
        let active = match is_short || query.is_empty() {
            true => None,
            false => self.api.active.begin(query, self.api.clock.now().millis() / 1000),
        };
        let job = move |api: &ApiState, cancel| {
            let _active = active;
            let begun = Instant::now();
            let result = job(api, cancel);
            pace.took(like, begun.elapsed());
            result
        };
        if is_short {
            return job(&self.api, cancel);
        }
        if let Some(peer) = params.peer()
            && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
        {
            self.look_after(peer, cancel.clone());
            let result = tokio::task::block_in_place(|| job(&self.api, cancel));
            drop(place);
            return result;
        }
        self.spawn(place, cancel, job).await
    }

    async fn spawn<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        cancel: Cancel,
        job: impl FnOnce(&ApiState, Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
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

    /// Has a read cancelled when its client goes away.
    fn look_after(&self, peer: Peer, cancel: Cancel) {
        let mut watched = self.watched.lock();
        watched.reads.push((peer, cancel));
        if !std::mem::replace(&mut watched.by_somebody, true) {
            tokio::spawn(watch(Arc::clone(&self.watched)));
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

/// Reads on the threads of their requests, whose clients have to be looked after. One task does it for all: one for
/// each would cost a short read more than the read itself.
#[derive(Debug, Default)]
struct Watched {
    reads: Vec<(Peer, Cancel)>,
    /// There is a task that does.
    by_somebody: bool,
}

/// Cancels reads whose clients have gone. Ends when there are none any more.
async fn watch(watched: Arc<Mutex<Watched>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut watched = watched.lock();
        watched.reads.retain(|(peer, cancel)| {
            if !cancel.is_cancelled() && peer.has_gone() {
                cancel.cancel();
            }
            // One that has ended is cancelled too.
            !cancel.is_cancelled()
        });
        if watched.reads.is_empty() {
            watched.by_somebody = false;
            return;
        }
    }
}
