//! See `tidegauge_server::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (tidegauge_server::fuzz::target("remote_write_v1").expect("it is in the table").run)(bytes));
