//! `tidegauge tsdb list`: the blocks there are.

use super::table::Table;
use super::{Dir, Format, ratio, size, time};
use crate::cli::{complain, print};
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use std::sync::Arc;
use tidegauge_tsdb::block::{self, BlockCache, BlockMeta, BlockReader};
use tidegauge_tsdb::fs::{Fs, RealFs};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    dir: Dir,
    /// Form of the list
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl List {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let dir = self.dir.get()?;
        let fs: Arc<dyn Fs> = Arc::new(RealFs::new());
        let cache = BlockCache::new(0);
        let (mut blocks, mut unreadable) = (Vec::new(), 0usize);
        for id in block::list_blocks(&*fs, &dir)? {
            match BlockReader::open(&fs, &dir.join(id.to_string()), &cache) {
                Ok(block) => blocks.push(block.meta().clone()),
                Err(error) => {
                    unreadable += 1;
                    complain(format_args!("{:#}", anyhow::Error::from(error)));
                }
            }
        }
        blocks.sort_by_key(|b| (b.range.start, b.id));
        match self.format {
            Format::Text => print(text(&blocks)),
            Format::Json => print(format_args!("{:#}\n", blocks.iter().map(json).collect::<Value>())),
        }
        if unreadable > 0 {
            bail!("{unreadable} blocks cannot be read; `tidegauge tsdb verify` tells all that is wrong");
        }
        Ok(())
    }
}

fn text(blocks: &[BlockMeta]) -> String {
    if blocks.is_empty() {
        return "no blocks\n".to_owned();
    }
    let mut table = Table::new(
        3,
        &[
            "BLOCK", "FROM", "TO", "LEVEL", "SERIES", "CHUNKS", "SAMPLES", "SIZE", "B/SAMPLE",
        ],
    );
    for block in blocks {
        table.row([
            block.id.to_string(),
            time(block.range.start),
            time(block.range.end),
            block.level.to_string(),
            block.series.to_string(),
            block.chunks.to_string(),
            block.samples.to_string(),
            size(block.bytes as f64),
            format!("{:.3}", ratio(block.bytes as f64, block.samples)),
        ]);
    }
    let (bytes, samples) = blocks.iter().fold((0, 0), |(b, s), m| (b + m.bytes, s + m.samples));
    format!(
        "{}{} blocks, {samples} samples, {}, {:.3} bytes a sample\n",
        table.render(""),
        blocks.len(),
        size(bytes as f64),
        ratio(bytes as f64, samples)
    )
}

/// A block as JSON. Times are milliseconds; `max_time` is the first instant behind its range.
pub(super) fn json(block: &BlockMeta) -> Value {
    json!({
        "id": block.id.to_string(),
        "min_time": block.range.start.millis(),
        "max_time": block.range.end.millis(),
        "first_sample": block.first.millis(),
        "last_sample": block.last.millis(),
        "level": block.level,
        "parents": block.parents.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "series": block.series,
        "chunks": block.chunks,
        "samples": block.samples,
        "bytes": block.bytes,
        "bytes_per_sample": ratio(block.bytes as f64, block.samples),
    })
}
