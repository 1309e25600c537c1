//! Bodies that know of their connection: a request's, which has to come in time, and an answer's, until whose end the
//! connection is busy, and which may panic without anyone else's harm.

use super::panics::{self, Asked};
use super::places::Busy;
use super::traffic::Traffic;
use axum::body::Body;
use axum::body::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// What a handler reads when a body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request did not come in time")]
pub(super) struct TooSlow;

/// Whether a body could not be read because it did not come in time.
pub(crate) fn is_too_slow(error: &axum::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<TooSlow>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// A request's body with a time by which it must be there.
pub(super) struct Timely {
    body: Incoming,
    until: Instant,
    /// Made when the body first has to be waited for, which most never have.
    wait: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    /// The body of a request whose head has just come.
    pub(super) fn body(body: Incoming, within: Duration) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Self {
            body,
            until: Instant::now() + within,
            wait: None,
        })
    }
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        let until = self.until;
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(wait.as_mut().poll(cx));
        Poll::Ready(Some(Err(axum::Error::new(TooSlow))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, during which the connection is busy.
pub(super) struct Answering {
    pub(super) body: Body,
    /// What it answers.
    pub(super) asked: Asked,
    pub(super) traffic: Arc<Traffic>,
    pub(super) _busy: Busy,
}

/// What ends an answer that cannot be written to its end: the head has gone out, so that the client sees a cut.
#[derive(Debug, thiserror::Error)]
#[error("the answer could not be written")]
struct Broken;

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // A large answer is written as it is sent, behind all that catches panics of handlers.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.body).poll_frame(cx)));
        polled.unwrap_or_else(|panic| {
            self.traffic.panicked(panics::Place::Body);
            self.asked.log(&*panic);
            self.body = Body::empty();
            Poll::Ready(Some(Err(axum::Error::new(Broken))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
