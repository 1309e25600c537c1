//! Compression of answers, for clients that accept it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, StatusCode, Version, header};
use axum::response::Response;
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::compression::predicate::Predicate;
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// Every answer with a body is compressed, however short, as upstream does; but not what its router says of a method
/// that a path does not take. Fastest level: most answers go to a
/// neighbour, and what the others save in bytes is not worth their time here.
pub(crate) fn layer() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(|status: StatusCode, _: Version, _: &HeaderMap, _: &Extensions| {
            !matches!(status, StatusCode::NO_CONTENT | StatusCode::METHOD_NOT_ALLOWED)
        })
}

/// The same around one answer. Who accepts nothing compressed gets it past the layer, which would only wrap it.
pub(crate) async fn around<F: Future<Output = Response>>(request: Request, run: impl FnOnce(Request) -> F) -> Response {
    if !request.headers().contains_key(header::ACCEPT_ENCODING) {
        return run(request).await;
    }
    let mut run = Some(run);
    let once = service_fn(|request| {
        let answer = run.take().map(|run| run(request));
        async {
            match answer {
                Some(answer) => Ok::<_, Infallible>(answer.await),
                None => Ok(Response::default()),
            }
        }
    });
    match layer().layer(once).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}
