//! Counts the bytes of an answer's body as they are sent.

use super::Metrics;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Has the length of an answer counted: at once if it is known, else when all is sent or given up.
pub(super) fn count(metrics: &Arc<Metrics>, route: &str, response: Response) -> Response {
    if let Some(bytes) = response.body().size_hint().exact() {
        metrics.sent(route, bytes);
        return response;
    }
    response.map(|body| {
        Body::new(Measured {
            body,
            bytes: 0,
            route: route.to_owned(),
            metrics: Arc::clone(metrics),
        })
    })
}

/// A body whose length nobody knows before it is sent.
struct Measured {
    body: Body,
    bytes: u64,
    route: String,
    metrics: Arc<Metrics>,
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.sent(&self.route, self.bytes);
    }
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
