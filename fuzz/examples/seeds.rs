//! Writes the seeds of all targets of the storage engine into `corpus/<target>/`, where the fuzzer looks for them.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    for target in tidegauge_tsdb::fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        for (nth, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{nth}")), seed)?;
        }
    }
    Ok(())
}
