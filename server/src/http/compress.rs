//! Compression of answers, for clients that accept it.

use axum::http::{Extensions, HeaderMap, StatusCode, Version};
use tower_http::compression::predicate::Predicate;
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// Every answer with a body is compressed, however short, as upstream does. Fastest level: most answers go to a
/// neighbour, and what the others save in bytes is not worth their time here.
pub(crate) fn layer() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(|status: StatusCode, _: Version, _: &HeaderMap, _: &Extensions| status != StatusCode::NO_CONTENT)
}
