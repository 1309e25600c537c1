//! The server that a command asks: how it is called, and its answer.

use crate::config;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tidegauge_scraper::config::{ClientConfig, HttpConfig};
use tidegauge_scraper::{AskOptions, ask};

/// A server answers within its own bound on queries, or not at all.
const PATIENCE: Duration = Duration::from_secs(150);
/// A longer answer is refused: it is held whole.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// How a server is called as a file says it, promtool's `--http.config.file`; without one, by the proxies of the environment.
pub(super) fn called_as(file: Option<&Path>) -> anyhow::Result<HttpConfig> {
    Ok(match file {
        Some(file) => config::client(file)?,
        None => ClientConfig {
            proxy_from_environment: true,
            ..ClientConfig::default()
        }
        .http(),
    })
}

/// The JSON that a server answers.
pub(super) async fn answer(http: HttpConfig, url: &url::Url) -> anyhow::Result<Value> {
    // The provider is chosen once per process; a second choice is refused, which is fine.
    drop(rustls::crypto::ring::default_provider().install_default());
    let options = AskOptions {
        timeout: PATIENCE,
        max_bytes: MAX_ANSWER_BYTES,
        ..AskOptions::default()
    };
    let answer = ask(http, url.as_str(), &options).await?;
    match answer.status {
        401 => bail!("{}: --http.config.file says who asks", answer.status_text),
        403 => bail!("{}: who asks may not", answer.status_text),
        _ => {}
    }
    serde_json::from_slice(&answer.body).with_context(|| {
        format!(
            "its answer ({}) is not JSON; is it tidegauge or Prometheus?",
            answer.status_text
        )
    })
}
