//! See `tidegauge_query::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (tidegauge_query::fuzz::target("promql_parse").expect("it is in the table").run)(bytes));
