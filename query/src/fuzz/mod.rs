//! The parser and the engine under foreign bytes: what fuzz targets and their tests on stable feed.
//!
//! A target takes any bytes whatever. It must come back: no panic, no endless work, nothing held beyond the query's
//! share of memory. That a query is refused is fine, however it is refused.
//!
//! A new one: write the function, add it to [`TARGETS`] with its seeds, and a file of five lines to `fuzz/fuzz_targets`.
//! The tests here pick it up from the table.

mod eval;
mod parse;
#[cfg(test)]
mod tests;

/// Something that meets foreign bytes, and what it is tried with.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name; that of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Feeds it. Must not panic, whatever the bytes.
    pub run: fn(&[u8]),
    /// Valid inputs, to be mutated.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "promql_parse",
        run: parse::run,
        seeds: parse::seeds,
    },
    Target {
        name: "promql_eval",
        run: eval::run,
        seeds: eval::seeds,
    },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}
