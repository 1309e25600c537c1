//! How small samples of one's own get: by the smallest encoding for each run, and by Gorilla's for all.
//!
//! ```sh
//! tidegauge tsdb dump data/snapshots/1760000000000-00000000 > samples.txt
//! cargo run --release -p tidegauge-tsdb --example bench_compression -- samples.txt
//! ```
//!
//! The file has a line for each sample: the series, the value, and the time in seconds (`up{job="x"} 1 1760000000.5`).
//! Lines that begin with `#` are passed over. Samples of a series must be in order of time.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::time::Instant;
use tidegauge_model::Timestamp;
use tidegauge_tsdb::column::{self, Codec, Encoder, EncodingChoice};

/// Values per run: what a head seals at a time, twice.
const RUN: usize = 240;

#[derive(Default)]
struct Series {
    times: Vec<Timestamp>,
    values: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: bench_compression FILE")?;
    print!("{}", report(&read(BufReader::new(std::fs::File::open(path)?))?)?);
    Ok(())
}

fn read(lines: impl BufRead) -> Result<Vec<Series>, Box<dyn Error>> {
    let mut all: BTreeMap<String, Series> = BTreeMap::new();
    for (no, line) in lines.lines().enumerate() {
        let line = line?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || format!("line {}: not `series value seconds`", no + 1);
        let mut fields = line.rsplitn(3, ' ');
        let (at, value, name) = (fields.next(), fields.next(), fields.next());
        let at: f64 = at.ok_or_else(bad)?.parse().map_err(|_| bad())?;
        let value: f64 = value.ok_or_else(bad)?.parse().map_err(|_| bad())?;
        let name = name.ok_or_else(bad)?;
        if !all.contains_key(name) {
            all.insert(name.to_owned(), Series::default());
        }
        if let Some(series) = all.get_mut(name) {
            series.times.push(Timestamp::from_millis((at * 1000.0).round() as i64));
            series.values.push(value);
        }
    }
    Ok(all.into_values().collect())
}

fn report(series: &[Series]) -> Result<String, Box<dyn Error>> {
    let samples: usize = series.iter().map(|s| s.values.len()).sum();
    let per_sample = |bytes: usize| bytes as f64 / samples.max(1) as f64;
    let mut out = format!("{samples} samples of {} series, in runs of {RUN}\n\n", series.len());
    out.push_str("values    bytes/sample   encode M/s   decode M/s   codecs (share of runs)\n");
    for choice in [EncodingChoice::Auto, EncodingChoice::Gorilla] {
        let mut encoder = Encoder::new(choice);
        let (mut runs, mut codecs) = (Vec::new(), BTreeMap::<String, usize>::new());
        let began = Instant::now();
        for values in series.iter().flat_map(|s| s.values.chunks(RUN)) {
            let mut bytes = Vec::new();
            encoder.encode(values, &mut bytes);
            runs.push((bytes, values));
        }
        let encoding = began.elapsed().as_secs_f64();
        let (mut decoded, began) = (Vec::new(), Instant::now());
        for (bytes, values) in &runs {
            decoded.clear();
            column::decode(bytes, values.len(), &mut decoded)?;
        }
        let decoding = began.elapsed().as_secs_f64();
        for (bytes, values) in &runs {
            decoded.clear();
            column::decode(bytes, values.len(), &mut decoded)?;
            if !decoded.iter().zip(*values).all(|(a, b)| a.to_bits() == b.to_bits()) {
                return Err("a run came back otherwise than it went in".into());
            }
            let codec = Codec::of(bytes).map_or_else(String::new, |c| format!("{c:?}").to_lowercase());
            *codecs.entry(codec).or_default() += 1;
        }
        let bytes = runs.iter().map(|(bytes, _)| bytes.len()).sum();
        let share = |(codec, n): (&String, &usize)| format!("{codec} {:.0} %", 100.0 * *n as f64 / runs.len() as f64);
        out.push_str(&format!(
            "{:<9} {:>12.3} {:>12.0} {:>12.0}   {}\n",
            format!("{choice:?}").to_lowercase(),
            per_sample(bytes),
            samples as f64 / encoding / 1e6,
            samples as f64 / decoding / 1e6,
            codecs.iter().map(share).collect::<Vec<_>>().join(", ")
        ));
    }
    let mut bytes = Vec::new();
    for times in series.iter().flat_map(|s| s.times.chunks(RUN)) {
        column::encode_timestamps(times, &mut bytes);
    }
    out.push_str(&format!(
        "\ntimestamps {:.3} bytes/sample if each series had its own; the store keeps them once for all series of a target\n",
        per_sample(bytes.len())
    ));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_compares_what_it_reads() {
        let mut text = String::from("# a comment\n");
        for i in 0..500 {
            text.push_str(&format!(
                "up{{job=\"a b\"}} 1 {}\nrequests {} {}.5\n",
                i * 15,
                i * 7,
                i * 15
            ));
        }
        let series = read(text.as_bytes()).unwrap();
        assert_eq!(series.len(), 2);
        assert_eq!(series[0].times[1], Timestamp::from_millis(15_500));
        let report = report(&series).unwrap();
        assert!(report.starts_with("1000 samples of 2 series"), "{report}");
        assert!(report.contains("gorilla") && report.contains("xor 100 %"), "{report}");
        assert!(read("up x 1\n".as_bytes()).is_err());
    }
}
