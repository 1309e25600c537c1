//! `tidegauge query`: asks a running server over its HTTP API and prints the answer, or how it came about, as text.

use super::{print, server};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use tidegauge_query::{Features, ParseOptions};

/// What can be asked. Without a subcommand: an instant query, or with `--start` a range query.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Query {
    #[command(subcommand)]
    kind: Option<Kind>,
    #[command(flatten)]
    server: Server,
    /// The expression
    #[arg(required = true)]
    expr: Option<String>,
    /// When: Unix seconds or RFC 3339 [default: now]
    #[arg(long, conflicts_with = "start")]
    time: Option<String>,
    /// First time of a range query: Unix seconds or RFC 3339
    #[arg(long, requires = "end")]
    start: Option<String>,
    /// Last time of a range query
    #[arg(long, requires = "start")]
    end: Option<String>,
    /// Time between two points: seconds or a duration
    #[arg(long, default_value = "1m")]
    step: String,
}

#[derive(Debug, Subcommand)]
enum Kind {
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

/// Who is asked, and for what.
#[derive(Debug, Args)]
struct Server {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// File that says how the server is called, as promtool has it: basic_auth, authorization, oauth2, tls_config and what
    /// else a client has
    #[arg(long = "http.config.file", value_name = "FILE")]
    http_config: Option<PathBuf>,
    /// Print how the query is evaluated, part by part, instead of its answer (asks a tidegauge, not a Prometheus)
    #[arg(long)]
    explain: bool,
}

impl Query {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let kind = match (self.kind, self.start, self.end) {
            (Some(kind), _, _) => kind,
            (None, Some(start), Some(end)) => Kind::Range {
                server: self.server,
                expr: self.expr.unwrap_or_default(),
                start,
                end,
                step: self.step,
            },
            (None, _, _) => Kind::Instant {
                server: self.server,
                expr: self.expr.unwrap_or_default(),
                time: self.time,
            },
        };
        kind.run()
    }
}

impl Kind {
    fn run(self) -> anyhow::Result<()> {
        let (server, path, expr, params) = match self {
            Self::Instant { server, expr, time } => {
                let params = time.map(|t| ("time", t)).into_iter().collect();
                (server, "query", expr, params)
            }
            Self::Range {
                server,
                expr,
                start,
                end,
                step,
            } => {
                let params = vec![("start", start), ("end", end), ("step", step)];
                (server, "query_range", expr, params)
            }
        };
        let path = if server.explain { "explain" } else { path };
        let http = server::called_as(server.http_config.as_deref())?;
        let base = server.url.trim_end_matches('/');
        let params: Vec<(&str, String)> = std::iter::once(("query", expr.clone())).chain(params).collect();
        let url = url::Url::parse_with_params(&format!("{base}/api/v1/{path}"), params)
            .with_context(|| format!("{:?} is not a URL", server.url))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(server::answer(http, &url)).with_context(|| {
            let what = if server.explain {
                "only a tidegauge explains queries"
            } else {
                "no answer to the query"
            };
            format!("{}: {what}", server.url)
        })?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            match caret(&expr, error) {
                Some(shown) => bail!("{error}\n{shown}"),
                None => bail!("{error}"),
            }
        }
        print(if server.explain {
            explained(&answer)
        } else {
            render(&answer)
        });
        Ok(())
    }
}

/// The line of the expression that the server could not read, with the place marked. The server's answer has only where
/// the fault begins; how far it goes is known by reading the expression here, if that gives the same error.
fn caret(expr: &str, error: &str) -> Option<String> {
    let (place, message) = error.split_once(": parse error: ")?;
    for features in [Features::default(), Features::ALL] {
        if let Err(ours) = tidegauge_query::parse(expr, &ParseOptions::with_features(features))
            && error.ends_with(&ours.to_string())
        {
            return Some(ours.with_caret(expr));
        }
    }
    let place = place.rsplit(' ').next()?;
    let (line, column) = place.split_once(':')?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let text = expr.lines().nth(line.checked_sub(1)?)?;
    let indent = " ".repeat(column.checked_sub(1)?.min(text.chars().count()));
    Some(format!("{text}\n{indent}^ {message}"))
}

/// The plan as the server drew it, and what it notes of the query.
fn explained(answer: &Value) -> String {
    let mut out = answer
        .pointer("/data/text")
        .and_then(Value::as_str)
        .unwrap_or("nothing to explain\n")
        .to_owned();
    notes(&mut out, answer);
    out
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
    notes(&mut out, answer);
    out
}

fn notes(out: &mut String, answer: &Value) {
    for note in ["warnings", "infos"] {
        for text in answer.get(note).and_then(Value::as_array).into_iter().flatten() {
            let _ = writeln!(out, "# {}", text.as_str().unwrap_or_default());
        }
    }
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

    #[test]
    fn the_place_of_a_parse_error_is_marked() {
        let error = r#"invalid parameter "query": 1:10: parse error: expected type range vector in call to function "rate", got instant vector"#;
        let shown = caret("sum(rate(up))", error).unwrap();
        assert!(
            shown.starts_with("sum(rate(up))\n         ^^ expected type range vector"),
            "{shown}"
        );
        // A server that knows more or less than we do.
        let shown = caret("a +\n  new(b)", "2:3: parse error: no such thing").unwrap();
        assert_eq!(shown, "  new(b)\n  ^ no such thing");
        for error in [
            "query timed out",
            "x:y: parse error: z",
            "9:1: parse error: z",
            "0:0: parse error: z",
        ] {
            assert_eq!(caret("up", error), None, "{error}");
        }
    }
}
