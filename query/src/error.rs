//! Why a query has no answer.

use tidegauge_model::{OverBudget, SelectError};

use crate::parser::ParseError;

/// Why a query has no answer. The server maps each to a status and an error type.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The text is no query (400 `bad_data`).
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The query cannot be evaluated on this data (422 `execution`). The text is upstream's.
    #[error("{0}")]
    Execution(String),
    /// The deadline passed (503 `timeout`).
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// The deadline passed before a place among the running queries was free (503 `timeout`).
    #[error("query timed out in query queue")]
    QueueTimeout,
    /// Nobody waits for the answer any more (499 `canceled`).
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// The query would hold more samples than allowed (422 `execution`).
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The query's share of memory is used up (422 `execution`).
    #[error(
        "query needs more memory than it may have: {} bytes with the {} it asked for, {} allowed for {} \
         (narrow the query or raise --memory.limit)",
        .0.used.saturating_add(.0.wanted), .0.wanted, .0.limit, .0.share
    )]
    Memory(#[from] OverBudget),
    /// The store could not answer (500 `internal`).
    #[error("expanding series: {0}")]
    Storage(SelectError),
}

impl QueryError {
    pub(crate) fn execution(text: impl Into<String>) -> Self {
        Self::Execution(text.into())
    }

    /// A fault of the query with its place in the text.
    pub(crate) fn placed(self, text: &str) -> Self {
        match self {
            Self::Parse(error) => Self::Parse(error.placed(text)),
            other => other,
        }
    }
}

impl From<SelectError> for QueryError {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::Cancelled => Self::Canceled,
            SelectError::Memory(over) => Self::Memory(over),
            SelectError::Corrupt { .. } | SelectError::Io { .. } => Self::Storage(error),
        }
    }
}
