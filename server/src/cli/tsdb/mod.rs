//! `tidegauge tsdb`: looks into a data directory or a snapshot. Nothing here changes what it reads.

mod analyze;
mod dump;
mod list;
mod table;
mod verify;

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use tidegauge_model::Timestamp;

/// What can be asked about stored data.
#[derive(Debug, Subcommand)]
pub(crate) enum Tsdb {
    /// List the blocks of a data directory or a snapshot, also of one that is served
    #[command(after_help = "Examples:\n  \
        tidegauge tsdb list\n  \
        tidegauge tsdb list --format=json /var/lib/tidegauge | jq '.[].bytes'")]
    List(list::List),
    /// Read every byte and say what is damaged; works beside a server, changes nothing, exits with 1 on damage
    #[command(after_help = "Examples:\n  \
        tidegauge tsdb verify\n  \
        tidegauge tsdb verify data/snapshots/1760000000000-00000000\n  \
        tidegauge tsdb verify data/01K7E4T3ZV1N1M4Q4Y7C9W3S5R    # one block")]
    Verify(verify::Verify),
    /// Tell what takes the room in blocks: cardinality, churn, bytes
    #[command(after_help = "Examples:\n  \
        tidegauge tsdb analyze --limit 10\n  \
        tidegauge tsdb analyze --each                             # one report a block\n  \
        tidegauge tsdb analyze --block 01K7E4T3ZV1N1M4Q4Y7C9W3S5R --format=json data\n\n\
        What no block holds yet (the log of a running server) is not counted: take a snapshot and analyze that.")]
    Analyze(analyze::Analyze),
    /// Write samples as OpenMetrics text, from a snapshot or a store that no server holds
    #[command(after_help = "Examples:\n  \
        tidegauge tsdb dump data/snapshots/1760000000000-00000000\n  \
        tidegauge tsdb dump --match='{job=\"node\"}' --match=up --min-time=2026-01-01T00:00:00Z > samples.txt\n\n\
        A running server's data: POST /api/v1/admin/tsdb/snapshot (needs --web.enable-admin-api), then dump the\n\
        snapshot's folder.")]
    Dump(dump::Dump),
}

impl Tsdb {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Verify(verify) => verify.run(),
            Self::Analyze(analyze) => analyze.run(),
            Self::Dump(dump) => dump.run(),
        }
    }
}

/// Where the data is.
#[derive(Debug, Args)]
struct Dir {
    /// Data directory or snapshot
    #[arg(value_name = "DIR", default_value = "data/")]
    dir: PathBuf,
}

impl Dir {
    /// The folder, which must be one.
    fn get(&self) -> anyhow::Result<PathBuf> {
        anyhow::ensure!(self.dir.is_dir(), "{} is not a folder", self.dir.display());
        Ok(std::path::absolute(&self.dir)?)
    }
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables for people
    Text,
    /// One JSON document
    Json,
}

/// A time for people: RFC 3339 where there is such a date, else milliseconds.
fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| at.millis().to_string(), |t| t.to_string())
}

/// A size for people, of three digits or so.
fn size(bytes: f64) -> String {
    let mut size = bytes;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    let digits = usize::from(unit != "B" && size < 100.0) + usize::from(unit != "B" && size < 10.0);
    format!("{size:.digits$} {unit}")
}

/// A share of something; nothing of nothing is 0.
fn ratio(part: f64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (150_000.0, "146 KiB"),
            (15e6, "14.3 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_without_a_date_are_numbers() {
        assert_eq!(time(Timestamp::from_millis(1_500)), "1970-01-01T00:00:01.5Z");
        assert_eq!(time(Timestamp::from_millis(i64::MAX)), i64::MAX.to_string());
    }
}
