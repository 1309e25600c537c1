//! The query crate from outside: the parser over shared data, scripts in upstream's test language, limits, properties,
//! random data and expressions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail loudly like the tests themselves"
)]

mod dashboards;
mod differential;
mod explain;
mod generate;
mod heavy;
mod histograms;
mod limits;
mod oracle;
mod parse;
mod planted;
mod promqltest;
mod property;
mod script;
mod store;
mod streamed;
mod world;
