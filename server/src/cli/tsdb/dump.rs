//! `tidegauge tsdb dump`: samples as text, in order of series and time.
//!
//! The store is opened as a server would open it, log included, on an overlay that keeps changes to itself: the data
//! stays as it is. Its lock is taken meanwhile, so that no server changes it.

use super::Dir;
use crate::cli::{complain, store};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::{self, BufWriter, ErrorKind, Write};
use tidegauge_model::{
    ColumnBuf, Labels, Matcher, Queryable, ReadContext, SelectHints, SeriesSet, TimeRange, Timestamp, Values,
};
use tidegauge_query::ParseOptions;
use tidegauge_query::parser::parse_metric_selector;
use tidegauge_tsdb::Db;

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub(crate) struct Dump {
    #[command(flatten)]
    dir: Dir,
    /// Series to write, as a selector; may be repeated, series that meet one are written [default: all]
    #[arg(long = "match", value_name = "SELECTOR")]
    matches: Vec<String>,
    /// Earliest time: milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    min_time: Option<Timestamp>,
    /// Latest time, itself included: milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    max_time: Option<Timestamp>,
}

impl Dump {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let dir = self.dir.get()?;
        let mut selectors = Vec::new();
        for text in &self.matches {
            let parsed = parse_metric_selector(text, &ParseOptions::default());
            selectors.push(parsed.map_err(|e| anyhow!("--match={text}: {e}"))?);
        }
        if selectors.is_empty() {
            selectors.push(Vec::new());
        }
        let range = TimeRange::new(
            self.min_time.unwrap_or(TimeRange::ALL.start),
            self.max_time.unwrap_or(TimeRange::ALL.end),
        );
        let db = store::open(&dir)?;
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let written = dump(&db, &selectors, range, &mut out).and_then(|left_out| {
            out.flush()?;
            Ok(left_out)
        });
        match written {
            Ok(0) => Ok(()),
            Ok(left_out) => {
                complain(format_args!(
                    "{left_out} series of native histograms are left out: the text has no form for them"
                ));
                Ok(())
            }
            // A reader that has gone (`| head`) is no error.
            Err(e)
                if e.downcast_ref::<io::Error>()
                    .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) =>
            {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

/// Writes the series that meet a selector; gives how many were left out for their kind.
fn dump(db: &Db, selectors: &[Vec<Matcher>], range: TimeRange, out: &mut impl Write) -> anyhow::Result<usize> {
    let querier = db.querier(range)?;
    let (cx, hints) = (ReadContext::unlimited(), SelectHints::range(range));
    let mut sets: Vec<SeriesSet> = Vec::new();
    for matchers in selectors {
        sets.push(querier.select(matchers, &hints, &cx)?);
    }
    let groups: Vec<_> = sets.iter().flatten().collect();
    let mut series: Vec<(Labels, usize, usize)> = Vec::new();
    for (no, group) in groups.iter().enumerate() {
        series.extend((0..group.len()).map(|place| (group.labels(place), no, place)));
    }
    series.sort();
    // A series that meets several selectors is written once.
    series.dedup_by(|a, b| a.0 == b.0);
    let (mut buf, mut left_out) = (ColumnBuf::default(), 0);
    for (labels, group, place) in &series {
        let Some(group) = groups.get(*group) else { continue };
        let column = group.read(*place, &mut buf)?;
        let Values::Float(values) = column.values else {
            left_out += 1;
            continue;
        };
        let name = series_name(labels);
        for (at, value) in column.timestamps.iter().zip(values) {
            out.write_all(name.as_bytes())?;
            sample(out, *value, *at)?;
        }
    }
    out.write_all(b"# EOF\n")?;
    Ok(left_out)
}

/// `name{label="value"}` in OpenMetrics' words; names that it has no form for are quoted within the braces.
fn series_name(labels: &Labels) -> String {
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{text}\"")
    };
    let name = labels.metric_name().unwrap_or_default();
    let plain = is_plain(name, true);
    let mut parts = Vec::new();
    if !plain && !name.is_empty() {
        parts.push(quoted(name));
    }
    for (label, value) in labels.iter().filter(|(label, _)| *label != "__name__") {
        let label = if is_plain(label, false) {
            label.to_owned()
        } else {
            quoted(label)
        };
        parts.push(format!("{label}={}", quoted(value)));
    }
    match (plain, parts.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{name}{{{}}}", parts.join(",")),
        (false, _) => format!("{{{}}}", parts.join(",")),
    }
}

fn is_plain(name: &str, colons: bool) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (colons && b == b':');
    name.bytes().all(fits) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// ` value seconds` and the end of the line.
fn sample(out: &mut impl Write, value: f64, at: Timestamp) -> io::Result<()> {
    let magnitude = value.abs();
    if value.is_nan() {
        out.write_all(b" NaN")?;
    } else if value.is_infinite() {
        out.write_all(if value > 0.0 { b" +Inf" } else { b" -Inf" })?;
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        write!(out, " {value:e}")?;
    } else {
        write!(out, " {value}")?;
    }
    let (seconds, rest) = (at.millis() / 1000, at.millis() % 1000);
    let sign = if at.millis() < 0 && seconds == 0 { "-" } else { "" };
    match rest.unsigned_abs() {
        0 => writeln!(out, " {seconds}"),
        rest => writeln!(out, " {sign}{seconds}.{rest:03}"),
    }
}

fn parse_time(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(millis) = text.parse() {
        return Ok(Timestamp::from_millis(millis));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(Timestamp::from_millis(at.as_millisecond())),
        Err(e) => Err(e).context("neither milliseconds nor a time as 2026-01-01T00:00:00Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn names_are_written_as_they_can_be_read() {
        for (pairs, text) in [
            (&[("__name__", "up")][..], "up"),
            (&[("__name__", "a:b"), ("c", "d\"\\\n")], "a:b{c=\"d\\\"\\\\\\n\"}"),
            (&[("x", "y")], "{x=\"y\"}"),
            (
                &[("__name__", "disk.free"), ("host.name", "é")],
                "{\"disk.free\",\"host.name\"=\"é\"}",
            ),
        ] {
            assert_eq!(series_name(&labels(pairs)), text);
        }
    }

    #[test]
    fn values_and_times_are_exact() {
        for (value, millis, text) in [
            (0.1, 1_500, " 0.1 1.500\n"),
            (-0.0, 0, " -0 0\n"),
            (f64::INFINITY, -1, " +Inf -0.001\n"),
            (f64::from_bits(tidegauge_model::STALE_BITS), -2_000, " NaN -2\n"),
            (5e-324, 1_760_000_000_000, " 5e-324 1760000000\n"),
            (1e300, -1_001, " 1e300 -1.001\n"),
        ] {
            let mut out = Vec::new();
            sample(&mut out, value, Timestamp::from_millis(millis)).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn times_are_milliseconds_or_dates() {
        assert_eq!(parse_time("-7").unwrap().millis(), -7);
        assert_eq!(parse_time("1970-01-01T00:00:01Z").unwrap().millis(), 1_000);
        assert!(parse_time("yesterday").is_err());
    }
}
