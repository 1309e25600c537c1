//! One question to a server, called as a section of the configuration says: what a command asks.

use crate::config::HttpConfig;
use crate::fetch::{ClientOptions, HttpClient, HttpError, HttpRequest, status_text};
use std::time::Duration;

/// Bounds on the answer, and who asks.
#[derive(Debug, Clone)]
pub struct AskOptions {
    /// The header `User-Agent`.
    pub user_agent: String,
    /// Time for the whole answer.
    pub timeout: Duration,
    /// Bytes that its body may have.
    pub max_bytes: usize,
}

impl Default for AskOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("tidegauge/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: Duration::from_secs(30),
            max_bytes: 64 << 20,
        }
    }
}

/// What a server answered, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The number of the status.
    pub status: u16,
    /// The status with its words, as upstream writes it: `401 Unauthorized`.
    pub status_text: String,
    /// The body as it came.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The configuration cannot be obeyed, or the call failed.
    #[error("{0}")]
    Call(String),
    /// It took too long.
    #[error("no complete answer within {0:?}")]
    Deadline(Duration),
    /// It is too long.
    #[error("the answer is longer than the {0} bytes allowed")]
    TooLong(usize),
}

impl From<HttpError> for AskError {
    fn from(error: HttpError) -> Self {
        Self::Call(error.to_string())
    }
}

/// Gets a URL.
///
/// # Errors
/// [`AskError`]. An answer with a status that tells of an error is none.
pub async fn ask(http: HttpConfig, url: &str, options: &AskOptions) -> Result<Answer, AskError> {
    let client = ClientOptions {
        user_agent: options.user_agent.clone(),
        call_interval: Duration::ZERO,
    };
    let client = HttpClient::new(http, &client).map_err(AskError::Call)?;
    let answer = tokio::time::timeout(options.timeout, get(&client, url, options.max_bytes));
    answer.await.map_err(|_| AskError::Deadline(options.timeout))?
}

async fn get(client: &HttpClient, url: &str, max_bytes: usize) -> Result<Answer, AskError> {
    let mut response = client.send(HttpRequest::get(url)?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max_bytes {
            return Err(AskError::TooLong(max_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status: response.status.as_u16(),
        status_text: status_text(response.status),
        body,
    })
}
