//! Tests of the store through its public doors, one file a subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail as tests do"
)]

mod analyze;
mod atomic;
mod bad_input;
mod checkpoint;
mod compact;
mod crash;
mod damage;
mod delete;
mod directory;
mod disk;
mod kinds;
mod late;
mod log_format;
mod measure;
mod measure_write;
mod model;
mod replay;
mod stall;
mod store;
mod support;
mod verify;
