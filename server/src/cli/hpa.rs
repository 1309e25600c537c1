//! `tidegauge hpa`: autoscalers of Kubernetes, explained, and rehearsed on what is recorded here or at a server.

mod live;

use super::{print, server, store};
use crate::api::parse_time;
use crate::config::PromDuration;
use crate::hpa::backtest::{self, EngineSource, Feedback, Options, Source, SourceError, Steps};
use crate::hpa::manifest::{self, MAX_BYTES};
use crate::hpa::{Hpa as Autoscaler, Settings};
use anyhow::{Context as _, anyhow, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use tidegauge_model::{Cancel, Timestamp};
use tidegauge_query::{Engine, EngineOptions};
use tidegauge_scraper::config::HttpConfig;

/// The most points that a range query of the HTTP API has.
const MAX_POINTS: usize = 11_000;

/// What can be done with autoscalers.
#[derive(Debug, Subcommand)]
pub(crate) enum Hpa {
    /// Play one autoscaler, or two side by side, over recorded history: what it would have done
    #[command(after_help = "Examples:\n  \
        tidegauge hpa backtest -f hpa.yaml --from 2026-01-01T00:00:00Z --to 2026-01-08T00:00:00Z\n  \
        tidegauge hpa backtest -f now.yaml -f gentler.yaml --from 1767225600 --to 1767312000 --url http://127.0.0.1:9090\n  \
        tidegauge hpa backtest -f hpa.yaml --from … --to … --request cpu=200m --format=svg > replicas.svg\n\n\
        A running server's data is asked for over --url; a data directory that no server holds, or a snapshot, is read.")]
    Backtest(Box<Backtest>),
    /// List the autoscalers of a server's cluster: how many replicas there are, are wanted, and what fails
    List(live::List),
    /// Explain the number of replicas: every metric, what was missing, what each rule allowed
    #[command(after_help = "Examples:\n  \
        tidegauge hpa explain shop/web\n  \
        tidegauge hpa explain -f hpa.yaml --url http://127.0.0.1:9090\n  \
        tidegauge hpa explain -f hpa.yaml --dir data/ --time 2026-01-03T12:00:00Z\n\n\
        A manifest is explained by the pods and metrics of the server's cluster; with --time, with --dir, or where the server \
        has no cluster, by what is recorded.")]
    Explain(Box<live::Explain>),
}

/// Arguments of `backtest`.
#[derive(Debug, Args)]
pub(crate) struct Backtest {
    /// Data directory or snapshot
    #[arg(value_name = "DIR", default_value = "data/", conflicts_with = "url")]
    dir: PathBuf,
    /// Ask a tidegauge or a Prometheus instead of reading a directory
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File that says how the server is called, as promtool has it
    #[arg(long = "http.config.file", value_name = "FILE", requires = "url")]
    http_config: Option<PathBuf>,
    /// Manifest of a HorizontalPodAutoscaler; twice to compare two
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// First sync: Unix seconds or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Timestamp,
    /// Last sync
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Timestamp,
    /// Time between two syncs
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    step: PromDuration,
    /// What replicas do to the load: they share it, or nothing (each sync begins with what was recorded)
    #[arg(long, value_name = "WHICH", default_value = "shared", value_parser = ["shared", "none"])]
    feedback: String,
    /// How many replicas there were [default: what kube-state-metrics says, else the pods that used memory]
    #[arg(long, value_name = "PROMQL")]
    replicas_query: Option<String>,
    /// A metric's total over all pods, or its value, by the metric's name; may be repeated
    #[arg(long = "metric-query", value_name = "METRIC=PROMQL", value_parser = pair)]
    metric_queries: Vec<(String, String)>,
    /// What a pod requests of a resource [default: what kube-state-metrics says]; may be repeated
    #[arg(long = "request", value_name = "RESOURCE=AMOUNT", value_parser = pair)]
    requests: Vec<(String, String)>,
    /// Regular expression for the names of the pods [default: by the name of what is scaled]
    #[arg(long, value_name = "REGEX")]
    pods: Option<String>,
    /// Over how long the use of cpu is taken
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    rate_window: PromDuration,
    /// How long a new pod takes until it is ready
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    ready_after: PromDuration,
    /// A change so soon after one in the other direction is thrash
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    thrash: PromDuration,
    /// --horizontal-pod-autoscaler-tolerance of the controller
    #[arg(long, default_value_t = Settings::default().tolerance)]
    tolerance: f64,
    /// --horizontal-pod-autoscaler-downscale-stabilization of the controller
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    downscale_stabilization: PromDuration,
    /// Tell every step of the first sync at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    explain_at: Option<Timestamp>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A table and the changes
    Text,
    /// One JSON document
    Json,
    /// A picture of the replicas over time
    Svg,
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("there is no =")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Hpa {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Backtest(backtest) => backtest.run(),
            Self::List(list) => list.run(),
            Self::Explain(explain) => explain.run(),
        }
    }
}

impl Backtest {
    fn run(self) -> anyhow::Result<()> {
        let mut hpas: Vec<Autoscaler> = Vec::new();
        for file in &self.files {
            let text = read(file)?;
            hpas.extend(manifest::read(&text).with_context(|| file.display().to_string())?);
        }
        let options = self.options()?;
        let report = match &self.url {
            Some(url) => {
                let server = Server::new(url, server::called_as(self.http_config.as_deref())?)?;
                backtest::run(&hpas, &options, &server)?
            }
            None => over_store(&self.dir, |source| Ok(backtest::run(&hpas, &options, source)?))?,
        };
        match self.format {
            Form::Text => print(report.text()),
            Form::Json => print(format_args!("{:#}\n", report.json())),
            Form::Svg => print(report.svg()),
        }
        Ok(())
    }

    fn options(&self) -> anyhow::Result<Options> {
        let ms = |duration: PromDuration| i64::try_from(duration.millis()).unwrap_or(i64::MAX);
        ensure!(
            self.tolerance.is_finite() && self.tolerance >= 0.0,
            "--tolerance is a number from 0 on"
        );
        let mut options = Options {
            settings: Settings {
                sync_ms: ms(self.step),
                tolerance: self.tolerance,
                downscale_stabilization_ms: ms(self.downscale_stabilization),
                ..Settings::default()
            },
            feedback: self.feedback.parse::<Feedback>().map_err(|why| anyhow!(why))?,
            replicas_query: self.replicas_query.clone(),
            metric_queries: self.metric_queries.iter().cloned().collect(),
            pods: self.pods.clone(),
            rate_window_ms: ms(self.rate_window),
            ready_after_ms: ms(self.ready_after),
            thrash_ms: ms(self.thrash),
            explain_at: self.explain_at,
            ..Options::new(self.from, self.to)
        };
        for (resource, amount) in &self.requests {
            let amount = amount
                .parse()
                .with_context(|| format!("--request={resource}={amount}"))?;
            options.requests.insert(resource.clone(), amount);
        }
        Ok(options)
    }
}

/// Reads a manifest; no more of it than one can have.
fn read(file: &Path) -> anyhow::Result<String> {
    let name = || file.display().to_string();
    let opened = std::fs::File::open(file).with_context(name)?;
    let mut text = String::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    opened.take(most).read_to_string(&mut text).with_context(name)?;
    Ok(text)
}

/// Opens the store of a directory and does something over it.
fn over_store<T>(dir: &Path, job: impl FnOnce(&dyn Source) -> anyhow::Result<T>) -> anyhow::Result<T> {
    ensure!(dir.is_dir(), "{} is not a folder", dir.display());
    let db = store::open(&std::path::absolute(dir)?)?;
    let engine = Engine::new(EngineOptions::default());
    job(&EngineSource {
        engine: &engine,
        store: &*db,
        cancel: Cancel::new(),
        deadline: None,
    })
}

/// A server that answers PromQL.
#[derive(Debug)]
struct Server {
    base: url::Url,
    http: HttpConfig,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn new(url: &str, http: HttpConfig) -> anyhow::Result<Self> {
        let base = format!("{}/api/v1/query_range", url.trim_end_matches('/'));
        Ok(Self {
            base: base.parse().with_context(|| format!("{url:?} is not a URL"))?,
            http,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// Adds the samples of a part of the time to a column.
    fn part(&self, query: &str, part: Steps, whole: Steps, into: &mut Vec<f64>) -> anyhow::Result<()> {
        let seconds = |at: Timestamp| format!("{}", at.seconds());
        let mut url = self.base.clone();
        url.query_pairs_mut()
            .append_pair("query", query)
            .append_pair("start", &seconds(part.start))
            .append_pair("end", &seconds(part.end()))
            .append_pair("step", &format!("{}", part.step_ms as f64 / 1000.0));
        let answer = self.runtime.block_on(server::answer(self.http.clone(), &url))?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("{error}");
        }
        let series = answer.pointer("/data/result").and_then(Value::as_array);
        let series = series.context("the server's answer has no result")?;
        if series.len() > 1 {
            return Err(SourceError::Several(series.len()).into());
        }
        let values = series
            .first()
            .and_then(|one| one.get("values"))
            .and_then(Value::as_array);
        let samples = values.into_iter().flatten().filter_map(sample);
        whole.place(samples, into);
        Ok(())
    }
}

/// `[seconds, "value"]`.
fn sample(pair: &Value) -> Option<(Timestamp, f64)> {
    let at = pair.get(0)?.as_f64()?;
    let value = pair.get(1)?.as_str()?.parse().ok()?;
    Some((Timestamp::from_millis((at * 1000.0).round() as i64), value))
}

impl Source for Server {
    fn column(&self, query: &str, steps: Steps) -> Result<Vec<f64>, SourceError> {
        let mut column = vec![f64::NAN; steps.count];
        let mut done = 0;
        while done < steps.count {
            let part = Steps {
                start: steps.at(done),
                count: (steps.count - done).min(MAX_POINTS),
                ..steps
            };
            self.part(query, part, steps, &mut column)
                .map_err(|error| match error.downcast::<SourceError>() {
                    Ok(several) => several,
                    Err(error) => SourceError::Server(format!("{error:#}")),
                })?;
            done += part.count;
        }
        Ok(column)
    }
}
