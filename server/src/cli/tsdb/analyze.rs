//! `tidegauge tsdb analyze`: what takes the room.

use super::table::Table;
use super::{Dir, Format, list, ratio, size, time};
use crate::cli::{complain, print};
use crate::config::PromDuration;
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use tidegauge_tsdb::block::{self, BlockId};
use tidegauge_tsdb::fs::{Fs, RealFs};
use tidegauge_tsdb::{Analysis, AnalyzeOptions, LabelUse, MetricUse, PairUse};

/// Arguments of `analyze`.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    #[command(flatten)]
    dir: Dir,
    /// Look at this block only; may be repeated [default: all]
    #[arg(long = "block", value_name = "ID")]
    blocks: Vec<String>,
    /// One report for each block, and not one for all together
    #[arg(long)]
    each: bool,
    /// Most entries in each list
    #[arg(long, value_name = "N", default_value = "20")]
    limit: usize,
    /// Width of the windows in which starts and stops of series are counted
    #[arg(long, value_name = "DURATION", default_value = "2h")]
    window: PromDuration,
    /// Most label pairs, metrics and label names that are counted each; bounds the memory
    #[arg(long, value_name = "N", default_value_t = AnalyzeOptions::default().max_tracked)]
    max_tracked: usize,
    /// Form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Analyze {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let dir = self.dir.get()?;
        let fs: Arc<dyn Fs> = Arc::new(RealFs::new());
        let mut ids = Vec::new();
        for text in &self.blocks {
            match text.parse::<BlockId>() {
                Ok(id) => ids.push(id),
                Err(_) => bail!("--block: {text:?} is no block id; `tidegauge tsdb list` shows them"),
            }
        }
        let parts: Vec<Vec<BlockId>> = if self.each {
            let all = block::list_blocks(&*fs, &dir)?;
            let wanted = all.into_iter().filter(|id| ids.is_empty() || ids.contains(id));
            wanted.map(|id| vec![id]).collect()
        } else {
            vec![ids]
        };
        let (mut reports, mut unreadable) = (Vec::new(), 0);
        for blocks in parts {
            let options = AnalyzeOptions {
                blocks,
                limit: self.limit,
                window_ms: i64::try_from(self.window.millis()).unwrap_or(i64::MAX),
                max_tracked: self.max_tracked,
            };
            let found = tidegauge_tsdb::analyze(&fs, &dir, &options)?;
            unreadable += found.unreadable.len();
            found.unreadable.iter().for_each(complain);
            match self.format {
                Format::Text => print(text(&found)),
                Format::Json => reports.push(json(&found)),
            }
        }
        match (self.format, reports.len()) {
            (Format::Json, 1) if !self.each => print(format_args!("{:#}\n", reports.remove(0))),
            (Format::Json, _) => print(format_args!("{:#}\n", Value::Array(reports))),
            (Format::Text, _) => {}
        }
        if unreadable > 0 {
            bail!("{unreadable} blocks cannot be read and are not in the report");
        }
        Ok(())
    }
}

fn text(found: &Analysis) -> String {
    let mut out = head(found);
    let mut bytes = Table::new(1, &["bytes", "size", "B/sample"]);
    let b = &found.bytes;
    let rest = b.total.saturating_sub(b.values + b.timestamps + b.index);
    for (what, n) in [
        ("values", b.values),
        ("timestamps", b.timestamps),
        ("index", b.index),
        ("rest", rest),
    ] {
        bytes.row([
            what.into(),
            size(n as f64),
            format!("{:.3}", ratio(n as f64, found.samples)),
        ]);
    }
    part(&mut out, "Bytes by section", &bytes);
    let mut codecs = Table::new(1, &["codec", "chunks", "samples", "encoded", "stored", "B/sample"]);
    for codec in &found.codecs {
        codecs.row([
            codec.codec.clone(),
            codec.chunks.to_string(),
            codec.samples.to_string(),
            size(codec.encoded_bytes as f64),
            size(codec.stored_bytes),
            format!("{:.3}", ratio(codec.stored_bytes, codec.samples)),
        ]);
    }
    part(&mut out, "Bytes of values by codec", &codecs);
    for (title, list) in [
        ("Metrics by bytes of their values", &found.metrics_by_bytes),
        ("Metrics by series", &found.metrics_by_series),
    ] {
        part(&mut out, title, &metrics(list));
    }
    for (title, list) in [
        ("Labels by distinct values", &found.labels_by_values),
        ("Labels by bytes of their values", &found.labels_by_bytes),
    ] {
        part(&mut out, title, &labels(list));
    }
    for (title, list) in [
        ("Label pairs by series", &found.pairs_by_series),
        ("Label pairs by series that started or stopped", &found.pairs_by_churn),
    ] {
        part(&mut out, title, &pairs(list));
    }
    let mut churn = Table::new(1, &["window", "series", "started", "stopped"]);
    for window in &found.churn {
        churn.row([
            time(window.start),
            window.series.to_string(),
            window.started.to_string(),
            window.stopped.to_string(),
        ]);
    }
    part(&mut out, "Series by time", &churn);
    out
}

fn head(found: &Analysis) -> String {
    let mut out = String::new();
    let ids: Vec<String> = found.blocks.iter().take(3).map(|b| b.id.to_string()).collect();
    let more = found.blocks.len().saturating_sub(ids.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let _ = writeln!(out, "blocks       {} ({}{more})", found.blocks.len(), ids.join(", "));
    if let Some((first, last)) = found.times {
        let _ = writeln!(
            out,
            "samples      {} from {} to {}",
            found.samples,
            time(first),
            time(last)
        );
    }
    let _ = writeln!(out, "series       {} of {} metrics", found.series, found.metrics);
    let _ = writeln!(
        out,
        "labels       {} names, {} pairs",
        found.label_names, found.label_pairs
    );
    let _ = writeln!(
        out,
        "bytes        {}, {:.3} a sample",
        size(found.bytes.total as f64),
        found.bytes_per_sample().unwrap_or(0.0)
    );
    if found.untracked > 0 {
        let _ = writeln!(
            out,
            "             {} labels of series were not counted: lists lack entries; raise --max-tracked",
            found.untracked
        );
    }
    out
}

fn part(out: &mut String, title: &str, table: &Table) {
    if !table.is_empty() {
        let _ = write!(out, "\n{title}\n{}", table.render("  "));
    }
}

fn metrics(list: &[MetricUse]) -> Table {
    let mut table = Table::new(1, &["metric", "series", "samples", "size", "B/sample"]);
    for metric in list {
        table.row([
            metric.name.clone(),
            metric.series.to_string(),
            metric.samples.to_string(),
            size(metric.value_bytes),
            format!("{:.3}", ratio(metric.value_bytes, metric.samples)),
        ]);
    }
    table
}

fn labels(list: &[LabelUse]) -> Table {
    let mut table = Table::new(1, &["label", "values", "size", "series"]);
    for label in list {
        table.row([
            label.name.clone(),
            label.values.to_string(),
            size(label.value_bytes as f64),
            label.series.to_string(),
        ]);
    }
    table
}

fn pairs(list: &[PairUse]) -> Table {
    let mut table = Table::new(1, &["label pair", "series", "came or went"]);
    for pair in list {
        table.row([
            format!("{}={:?}", pair.name, pair.value),
            pair.series.to_string(),
            pair.churned.to_string(),
        ]);
    }
    table
}

fn json(found: &Analysis) -> Value {
    let metric =
        |m: &MetricUse| json!({"name": m.name, "series": m.series, "samples": m.samples, "value_bytes": m.value_bytes});
    let label =
        |l: &LabelUse| json!({"name": l.name, "values": l.values, "value_bytes": l.value_bytes, "series": l.series});
    let pair = |p: &PairUse| json!({"name": p.name, "value": p.value, "series": p.series, "churned": p.churned});
    json!({
        "blocks": found.blocks.iter().map(list::json).collect::<Value>(),
        "unreadable": found.unreadable.iter().map(ToString::to_string).collect::<Value>(),
        "first_sample": found.times.map(|(first, _)| first.millis()),
        "last_sample": found.times.map(|(_, last)| last.millis()),
        "samples": found.samples,
        "series": found.series,
        "metrics": found.metrics,
        "label_names": found.label_names,
        "label_pairs": found.label_pairs,
        "untracked": found.untracked,
        "bytes_per_sample": found.bytes_per_sample(),
        "bytes": {
            "total": found.bytes.total,
            "values": found.bytes.values,
            "timestamps": found.bytes.timestamps,
            "index": found.bytes.index,
        },
        "codecs": found.codecs.iter().map(|c| json!({
            "codec": c.codec,
            "chunks": c.chunks,
            "samples": c.samples,
            "encoded_bytes": c.encoded_bytes,
            "stored_bytes": c.stored_bytes,
        })).collect::<Value>(),
        "metrics_by_series": found.metrics_by_series.iter().map(metric).collect::<Value>(),
        "metrics_by_bytes": found.metrics_by_bytes.iter().map(metric).collect::<Value>(),
        "labels_by_values": found.labels_by_values.iter().map(label).collect::<Value>(),
        "labels_by_bytes": found.labels_by_bytes.iter().map(label).collect::<Value>(),
        "pairs_by_series": found.pairs_by_series.iter().map(pair).collect::<Value>(),
        "pairs_by_churn": found.pairs_by_churn.iter().map(pair).collect::<Value>(),
        "churn": found.churn.iter().map(|w| json!({
            "start": w.start.millis(),
            "end": w.end.millis(),
            "series": w.series,
            "started": w.started,
            "stopped": w.stopped,
        })).collect::<Value>(),
    })
}
