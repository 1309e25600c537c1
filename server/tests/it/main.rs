//! The server, from outside: one file a subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly like the tests themselves"
)]

mod access;
mod access_peer;
#[cfg(feature = "kubernetes")]
mod aggregation;
#[cfg(feature = "kubernetes")]
mod aggregator;
mod api;
#[cfg(feature = "kubernetes")]
mod apiserver;
mod beside;
mod browser;
#[cfg(feature = "kubernetes")]
mod certificate;
#[cfg(feature = "kubernetes")]
mod churn;
mod cli;
#[cfg(feature = "kubernetes")]
mod cluster;
mod config;
mod contract;
mod crash;
mod crowd;
#[cfg(feature = "kubernetes")]
mod custom_metrics;
mod dashboards;
mod deploy;
mod discovery;
mod exporters;
mod front;
mod hpa;
mod hpa_backtest;
#[cfg(feature = "kubernetes")]
mod hpa_day;
#[cfg(feature = "kubernetes")]
mod hpa_live;
mod hpa_rules;
#[cfg(feature = "kubernetes")]
mod incluster;
mod keys;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod limits;
mod load;
mod logs;
#[cfg(feature = "kubernetes")]
mod measure_hpa;
mod measure_remote_write;
mod measure_scrape;
#[cfg(feature = "kubernetes")]
mod metrics_api;
mod names;
mod openapi;
mod ordered;
mod pair;
mod panics;
mod peers;
#[path = "../../../query/tests/it/planted.rs"]
mod planted;
#[cfg(feature = "kubernetes")]
mod preset;
mod process;
mod profile;
mod program;
mod promtool;
mod remote_write;
mod remote_write_beside;
mod remote_write_bombs;
mod remote_write_senders;
mod remote_write_v2;
mod replay;
mod secrets;
mod self_metrics;
mod site;
#[cfg(feature = "kubernetes")]
mod sources;
mod stop;
mod tls_client;
mod tsdb;
