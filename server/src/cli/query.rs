//! `tidegauge query`: asks a running server over its HTTP API and prints the answer as text.

use super::print;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Query {
    /// Evaluate an expression at one time
    Instant {
        #[command(flatten)]
        server: Server,
        /// The expression
        expr: String,
        /// When: Unix seconds or RFC 3339 [default: now]
        #[arg(long)]
        time: Option<String>,
    },
    /// Evaluate an expression over a span of time
    Range {
        #[command(flatten)]
        server: Server,
        /// The expression
        expr: String,
        /// First time: Unix seconds or RFC 3339
        #[arg(long)]
        start: String,
        /// Last time: Unix seconds or RFC 3339
        #[arg(long)]
        end: String,
        /// Time between two points: seconds or a duration
        #[arg(long, default_value = "1m")]
        step: String,
    },
}

/// Who is asked.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    url: String,
}

impl Query {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (server, path, params) = match self {
            Self::Instant { server, expr, time } => {
                let mut params = vec![("query", expr)];
                params.extend(time.map(|t| ("time", t)));
                (server, "query", params)
            }
            Self::Range {
                server,
                expr,
                start,
                end,
                step,
            } => {
                let params = vec![("query", expr), ("start", start), ("end", end), ("step", step)];
                (server, "query_range", params)
            }
        };
        let url = url::Url::parse_with_params(&format!("{}/api/v1/{path}", server.url.trim_end_matches('/')), params)
            .with_context(|| format!("{:?} is not a URL", server.url))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(ask(url))?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("{error}");
        }
        print(render(&answer));
        Ok(())
    }
}

async fn ask(url: url::Url) -> anyhow::Result<Value> {
    // The provider is chosen once per process; a second choice is refused, which is fine.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(150)).build()?;
    let body = client.get(url).send().await?.bytes().await?;
    serde_json::from_slice(&body).context("the server's answer is not JSON; is it tidegauge or Prometheus?")
}

/// One line a sample: `series value @time`.
fn render(answer: &Value) -> String {
    let mut out = String::new();
    let result = answer.pointer("/data/result").unwrap_or(&Value::Null);
    match result.as_array() {
        // A scalar or a string: the sample itself.
        Some(pair) if pair.first().is_some_and(Value::is_number) => sample(&mut out, "", result),
        Some(series) => {
            for one in series {
                let name = series_name(one.get("metric").unwrap_or(&Value::Null));
                if let Some(value) = one.get("value") {
                    sample(&mut out, &name, value);
                }
                for value in one.get("values").and_then(Value::as_array).into_iter().flatten() {
                    sample(&mut out, &name, value);
                }
            }
        }
        None => out.push_str("no result\n"),
    }
    for note in ["warnings", "infos"] {
        for text in answer.get(note).and_then(Value::as_array).into_iter().flatten() {
            let _ = writeln!(out, "# {}", text.as_str().unwrap_or_default());
        }
    }
    out
}

fn sample(out: &mut String, name: &str, pair: &Value) {
    let at = pair.get(0).map(Value::to_string).unwrap_or_default();
    let value = pair.get(1).and_then(Value::as_str).unwrap_or_default();
    let _ = writeln!(out, "{name}{}{value} @{at}", if name.is_empty() { "" } else { " " });
}

fn series_name(metric: &Value) -> String {
    let Some(labels) = metric.as_object() else {
        return "{}".to_owned();
    };
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or_default();
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(k, _)| *k != "__name__")
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    match (name, pairs.is_empty()) {
        (name, true) if !name.is_empty() => name.to_owned(),
        (name, _) => format!("{name}{{{}}}", pairs.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_lines() {
        let answer = serde_json::json!({"data": {"result": [
            {"metric": {"__name__": "up", "job": "node"}, "value": [1.5, "1"]},
            {"metric": {}, "values": [[1, "2"], [2, "3"]]},
        ]}, "infos": ["look"]});
        assert_eq!(render(&answer), "up{job=\"node\"} 1 @1.5\n{} 2 @1\n{} 3 @2\n# look\n");
        let scalar = serde_json::json!({"data": {"resultType": "scalar", "result": [4, "2"]}});
        assert_eq!(render(&scalar), "2 @4\n");
    }
}
