//! Writes the seeds of all targets into `corpus/<target>/`, where the fuzzer looks for them.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    for target in tidegauge_tsdb::fuzz::TARGETS {
        write(target.name, (target.seeds)())?;
    }
    for target in tidegauge_scraper::fuzz::TARGETS {
        write(target.name, (target.seeds)())?;
    }
    for target in tidegauge_server::fuzz::TARGETS {
        write(target.name, (target.seeds)())?;
    }
    for target in tidegauge_query::fuzz::TARGETS {
        write(target.name, (target.seeds)())?;
    }
    Ok(())
}

fn write(target: &str, seeds: Vec<Vec<u8>>) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    for (nth, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{nth}")), seed)?;
    }
    Ok(())
}
