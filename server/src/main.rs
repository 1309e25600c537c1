//! The `tidegauge` program.
fn main() {}
