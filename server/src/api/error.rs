//! Typed errors -> status and `errorType`: the one place that knows.

use super::json;
use crate::http::Excess;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt;
use tidegauge_model::SelectError;
use tidegauge_query::QueryError;

/// What went wrong, in upstream's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The request cannot be understood.
    BadData,
    /// The request is understood and larger than allowed.
    TooLarge,
    /// What is asked for is not there.
    NotFound,
    /// The query failed while it was evaluated.
    Execution,
    /// The deadline passed.
    Timeout,
    /// The client went away.
    Canceled,
    /// Something is broken here.
    Internal,
    /// Switched off, or not ready yet.
    Unavailable,
    /// Not ready yet, or short of memory, and worth another try.
    Busy,
    /// The request did not come in time.
    Slow,
}

impl ErrorKind {
    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            // Nginx' number for a client that closed the request; not in the registry.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
            Self::Internal | Self::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BadData | Self::TooLarge => "bad_data",
            Self::NotFound => "not_found",
            Self::Execution => "execution",
            Self::Timeout | Self::Slow => "timeout",
            Self::Canceled => "canceled",
            Self::Internal => "internal",
            Self::Unavailable | Self::Busy => "unavailable",
        }
    }
}

/// An answer that is an error.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    kind: ErrorKind,
    text: String,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// 400 as it is.
    pub(crate) fn bad_data(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadData, text)
    }

    /// 400 that names the parameter.
    pub(crate) fn parameter(name: &str, why: impl fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {why}"))
    }

    /// 404.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, text)
    }

    /// 413.
    pub(crate) fn too_large(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, text)
    }

    /// Which bound the request passes, if it is for that.
    pub(super) fn excess(&self) -> Option<Excess> {
        match self.kind {
            ErrorKind::TooLarge => Some(Excess::Body),
            ErrorKind::Slow => Some(Excess::Slow),
            _ => None,
        }
    }

    /// 500.
    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, text)
    }

    /// 500, as upstream answers for what is switched off.
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, text)
    }
}

/// The answer of a server that cannot answer yet.
pub(crate) fn starting(text: &str) -> Response {
    ApiError::new(ErrorKind::Busy, text).into_response()
}

/// The answer to what should never happen.
pub(crate) fn internal_error(text: &str) -> Response {
    ApiError::internal(text).into_response()
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::Parse(_) => return Self::parameter("query", error),
            QueryError::Execution(_) | QueryError::TooManySamples | QueryError::Memory(_) => ErrorKind::Execution,
            QueryError::Timeout | QueryError::QueueTimeout => ErrorKind::Timeout,
            QueryError::Canceled => ErrorKind::Canceled,
            QueryError::Storage(_) => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SelectError> for ApiError {
    fn from(error: SelectError) -> Self {
        let kind = match &error {
            SelectError::Cancelled => ErrorKind::Canceled,
            SelectError::Memory(_) => ErrorKind::Execution,
            SelectError::Corrupt { .. } | SelectError::Io { .. } => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut out = Vec::with_capacity(self.text.len() + 64);
        out.extend_from_slice(b"{\"status\":\"error\",\"errorType\":\"");
        out.extend_from_slice(self.kind.name().as_bytes());
        out.extend_from_slice(b"\",\"error\":");
        json::push_text(&mut out, &self.text);
        out.push(b'}');
        let mut response = Response::new(Body::from(out));
        *response.status_mut() = self.kind.status();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
