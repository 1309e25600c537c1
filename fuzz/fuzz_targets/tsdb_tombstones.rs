//! See `tidegauge_tsdb::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (tidegauge_tsdb::fuzz::target("tsdb_tombstones").expect("it is in the table").run)(bytes));
