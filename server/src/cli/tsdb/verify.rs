//! `tidegauge tsdb verify`: is every byte what was written?

use super::{Dir, Format, size};
use crate::cli::{complain, print};
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use tidegauge_tsdb::fs::{Fs, RealFs};
use tidegauge_tsdb::{Finding, Progress, Report};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    dir: Dir,
    /// Form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Verify {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let dir = self.dir.get()?;
        let fs: Arc<dyn Fs> = Arc::new(RealFs::new());
        let mut shown = Shown::new();
        let report = tidegauge_tsdb::verify(&fs, &dir, &mut |progress| shown.show(progress));
        shown.clear();
        match self.format {
            Format::Text => print(text(&report)),
            Format::Json => print(format_args!("{:#}\n", json(&report))),
        }
        if !report.is_sound() {
            let problems = report.problems.len() as u64 + report.problems_unlisted;
            bail!("{} is damaged: {problems} problems", dir.display());
        }
        Ok(())
    }
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for problem in &report.problems {
        let _ = writeln!(out, "damaged: {problem}");
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for (what, more) in [("problems", report.problems_unlisted), ("notes", report.notes_unlisted)] {
        if more > 0 {
            let _ = writeln!(out, "... and {more} more {what}");
        }
    }
    let _ = writeln!(
        out,
        "read {} files, {}: {} blocks with {} samples, {} segments of the log with {} frames and {} rows; {}",
        report.files,
        size(report.bytes as f64),
        report.blocks,
        report.samples,
        report.segments,
        report.frames,
        report.rows,
        if report.is_sound() { "all sound" } else { "damaged" }
    );
    out
}

fn json(report: &Report) -> Value {
    let list = |findings: &[Finding]| {
        let finding = |f: &Finding| json!({"path": f.path.display().to_string(), "offset": f.offset, "what": f.what});
        findings.iter().map(finding).collect::<Value>()
    };
    json!({
        "sound": report.is_sound(),
        "files": report.files,
        "bytes": report.bytes,
        "blocks": report.blocks,
        "samples": report.samples,
        "segments": report.segments,
        "frames": report.frames,
        "rows": report.rows,
        "problems": list(&report.problems),
        "problems_unlisted": report.problems_unlisted,
        "notes": list(&report.notes),
        "notes_unlisted": report.notes_unlisted,
    })
}

/// The progress on standard error, if somebody looks at it: one line that is written over.
struct Shown {
    terminal: bool,
    percent: Option<u64>,
}

impl Shown {
    fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            percent: None,
        }
    }

    fn show(&mut self, progress: Progress) {
        let percent = progress.done.saturating_mul(100) / progress.total.max(1);
        if self.terminal && self.percent != Some(percent) {
            self.percent = Some(percent);
            let (done, total) = (size(progress.done as f64), size(progress.total as f64));
            // A terminal that takes no text is no reason to stop.
            drop(write!(
                std::io::stderr().lock(),
                "\r{done} of {total} ({percent} %)\x1b[K"
            ));
        }
    }

    fn clear(&self) {
        if self.percent.is_some() && write!(std::io::stderr().lock(), "\r\x1b[K").is_err() {
            complain("standard error is closed");
        }
    }
}
