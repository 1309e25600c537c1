//! The edges and the wiring of tidegauge: the only crate that sees all the others.
//!
//! ```text
//!   main -> cli -> app::run
//!                    |-- telemetry, clock
//!                    |-- config      the YAML file, read once and again at each reload
//!                    |-- preset      jobs that need no file
//!                    |-- access      who may ask, and over what: TLS, users, tokens
//!                    |-- tsdb::Db    <- model's two doors -> scraper::Manager, query::Engine
//!                    '-- http + api  listener, /api/v1, /metrics, the page
//! ```
//!
//! [`app::run`] starts the parts in order and stops them in reverse; the program and its tests both call it.

#![forbid(unsafe_code)]

pub mod access;
pub mod active;
pub mod api;
pub mod app;
mod budget;
pub mod cli;
pub mod clock;
pub mod config;
mod features;
mod gate;
pub mod hpa;
pub mod http;
#[cfg(feature = "kubernetes")]
pub mod kubeapi;
pub mod preset;
mod profile;
pub mod query_log;
mod quoted;
mod remote;
mod site;
pub mod telemetry;
mod ui;

#[cfg(any(test, feature = "fuzz"))]
pub use remote::fuzz;
