//! `tidegauge hpa list` and `explain`: what a server says of the autoscalers of its cluster, or of a manifest.

use super::{over_store, read};
use crate::api::parse_time;
use crate::cli::{print, server};
use crate::clock::SystemClock;
use crate::hpa::backtest;
use crate::hpa::{Settings, manifest};
use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use tidegauge_model::{Clock, Timestamp};

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// One JSON document
    Json,
}

/// Who is asked.
#[derive(Debug, Args)]
struct Asked {
    /// Address of the tidegauge
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// File that says how the server is called, as promtool has it
    #[arg(long = "http.config.file", value_name = "FILE")]
    http_config: Option<PathBuf>,
}

impl Asked {
    /// What stands under `data` of the answer to a path with parameters.
    fn data(&self, path: &[&str], params: &[(&str, &str)]) -> anyhow::Result<Value> {
        let http = server::called_as(self.http_config.as_deref())?;
        let base = self.url.trim_end_matches('/');
        let mut url =
            url::Url::parse(&format!("{base}/api/v1/hpa")).with_context(|| format!("{:?} is not a URL", self.url))?;
        // Escapes what names may not hold, but somebody may have typed.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(server::answer(http, &url));
        let mut answer = answer.with_context(|| format!("{}: only a tidegauge knows of autoscalers", self.url))?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("{error}");
        }
        Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
    }
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    asked: Asked,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
}

impl List {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<()> {
        let data = self.asked.data(&[], &[])?;
        match self.format {
            Form::Json => print(format_args!("{data:#}\n")),
            Form::Text => print(table(&data)),
        }
        Ok(())
    }
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    /// Which of the cluster's
    #[arg(
        value_name = "NAMESPACE/NAME",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    id: Option<String>,
    /// Manifest of a HorizontalPodAutoscaler that need not be in the cluster
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Explain the manifest by what is recorded in this data directory or snapshot, instead of asking a server
    #[arg(long, value_name = "DIR", requires = "file", conflicts_with_all = ["url", "http_config"])]
    dir: Option<PathBuf>,
    /// Explain the manifest by what was recorded at this time: Unix seconds or RFC 3339 [default: what is now]
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "file")]
    time: Option<Timestamp>,
    #[command(flatten)]
    asked: Asked,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
}

impl Explain {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<()> {
        let data = match (&self.file, &self.id) {
            (Some(file), _) => {
                let text = read(file)?;
                // What is wrong with it is said in the file's name rather than a parameter's.
                let hpas = manifest::read(&text).with_context(|| file.display().to_string())?;
                ensure!(
                    hpas.len() == 1,
                    "{}: one autoscaler is explained at a time",
                    file.display()
                );
                match (&self.dir, hpas.first()) {
                    (Some(dir), Some(hpa)) => {
                        let at = self.time.unwrap_or_else(|| SystemClock.now());
                        let options = backtest::just_before(at, &Settings::default());
                        let explained = over_store(dir, |source| Ok(backtest::explain(hpa, &options, source)?))?;
                        serde_json::json!({"source": "recorded", "decision": explained.json, "text": explained.text})
                    }
                    _ => {
                        let time = self.time.map(|at| at.seconds().to_string());
                        let time = time.as_deref().map(|time| ("time", time));
                        let params: Vec<(&str, &str)> = [("manifest", text.as_str())].into_iter().chain(time).collect();
                        self.asked.data(&["explain"], &params)?
                    }
                }
            }
            (None, Some(id)) => {
                let parts = id.split_once('/').filter(|(_, name)| !name.contains('/'));
                let (namespace, name) = parts.with_context(|| format!("{id:?} is not NAMESPACE/NAME"))?;
                self.asked.data(&[namespace, name, "explain"], &[])?
            }
            (None, None) => bail!("NAMESPACE/NAME or --file says which autoscaler"),
        };
        match self.format {
            Form::Json => print(format_args!("{data:#}\n")),
            Form::Text => print(
                data.get("text")
                    .and_then(Value::as_str)
                    .unwrap_or("nothing to explain\n"),
            ),
        }
        Ok(())
    }
}

/// One line an autoscaler, and what keeps others from being seen.
fn table(data: &Value) -> String {
    let text = |one: &Value, pointer: &str| match one.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let titles = [
        "NAMESPACE",
        "NAME",
        "TARGET",
        "MIN",
        "MAX",
        "NOW",
        "WANTED",
        "CONTROLLER",
        "RATIOS",
    ];
    let mut rows = vec![titles.map(str::to_owned)];
    let mut notes = String::new();
    let list = |key: &str| data.get(key).and_then(Value::as_array).into_iter().flatten();
    for one in list("hpas") {
        let metrics = one.get("metrics").and_then(Value::as_array).into_iter().flatten();
        let ratios = metrics.map(|metric| match metric.get("ratio").and_then(Value::as_f64) {
            Some(ratio) => format!("{ratio:.2}"),
            None => "-".to_owned(),
        });
        let ratios: Vec<String> = ratios.collect();
        let target = format!("{}/{}", text(one, "/target/kind"), text(one, "/target/name"));
        rows.push([
            text(one, "/namespace"),
            text(one, "/name"),
            target,
            text(one, "/minReplicas"),
            text(one, "/maxReplicas"),
            text(one, "/currentReplicas"),
            text(one, "/desiredReplicas"),
            text(one, "/controller/desiredReplicas"),
            ratios.join(" "),
        ]);
        for key in ["error", "difference"] {
            if let Some(said) = one.get(key).and_then(Value::as_str) {
                // Writing to a string cannot fail.
                let _ = writeln!(notes, "{}/{}: {said}", text(one, "/namespace"), text(one, "/name"));
            }
        }
    }
    for problem in list("problems").filter_map(Value::as_str) {
        let _ = writeln!(notes, "{problem}");
    }
    if let Some(refused) = data.get("refused").and_then(Value::as_u64).filter(|n| *n > 0) {
        let _ = writeln!(notes, "{refused} more are not looked at (--kubernetes.max-hpas)");
    }
    let mut out = aligned(&rows);
    if !notes.is_empty() {
        let _ = write!(out, "\n{notes}");
    }
    out
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_with_what_fails_below_it() {
        let data = serde_json::json!({
            "hpas": [
                {"namespace": "shop", "name": "web", "target": {"kind": "Deployment", "name": "web"}, "minReplicas": 1,
                 "maxReplicas": 10, "currentReplicas": 2, "desiredReplicas": 3, "controller": {"desiredReplicas": 3},
                 "metrics": [{"ratio": 1.5}, {"ratio": null}], "error": null, "difference": null},
                {"namespace": "shop", "name": "queue-master", "target": {"kind": "Rollout", "name": "queue"},
                 "error": "cannot get rollouts/scale.argoproj.io", "metrics": []},
            ],
            "problems": ["cannot list pods"],
            "refused": 2,
        });
        assert_eq!(
            table(&data),
            "NAMESPACE  NAME          TARGET          MIN  MAX  NOW  WANTED  CONTROLLER  RATIOS\n\
             shop       web           Deployment/web  1    10   2    3       3           1.50 -\n\
             shop       queue-master  Rollout/queue   -    -    -    -       -\n\n\
             shop/queue-master: cannot get rollouts/scale.argoproj.io\ncannot list pods\n\
             2 more are not looked at (--kubernetes.max-hpas)\n"
        );
    }
}
