//! Network in: finds targets, scrapes them and hands their samples to the store through the door in.
//!
//! ```text
//!   [ discovery ] --groups--> [ pool ] --a loop per target--> [ scrape_loop ] --> [ fetch ] --body--.
//!   [ manager ] applies configurations, owns the pools                                               |
//!                                                                                                    v
//!   store <-- one row, one commit <-- [ append ] <-- samples, report, stale markers <-- parse, predict, relabel
//! ```
//!
//! ```text
//!   body --> [ parse ] --> entries --> [ predict ] -- known line --------------> column, value
//!                                          |
//!                                          +-- new line --> Entries::pairs -> [ relabel ] --> resolve
//! ```
//!
//! A body is parsed in place and borrowed from: nothing is allocated per line. What the previous body of the same
//! target said is the prediction for this one, so that only lines that differ become label sets.
//!
//! Words: a **series part** is a sample line up to its value, as written; a **slot** is what a series part stands
//! for: a column of the store, or nothing because relabelling dropped it.
//!
//! Waiting and fetching are async, on a thread of their own; what follows a fetch is done there if it is little, else by
//! one blocking call, a few of which run at a time. Targets are independent: each has its connection, its deadline, its
//! bound on the body and its one error.

#![forbid(unsafe_code)]

mod append;
mod ask;
pub mod config;
mod discovery;
mod error;
mod failure_log;
mod fetch;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod histogram;
mod job_counts;
mod manager;
mod metadata;
mod metrics;
pub mod naming;
pub mod parse;
mod pool;
pub mod predict;
pub mod relabel;
mod report;
mod sample;
mod scrape_loop;
mod target;
mod thread;
mod walk;

pub use ask::{Answer, AskError, AskOptions, ask};
#[cfg(feature = "kubernetes")]
pub use discovery::kubernetes::{
    Call, CallError, Cluster, ClusterAt, Container, Document, InCluster, KubernetesOptions, Meta, Node, Pairs, Pod,
    Reply, Requests, Watching, check_kubeconfig,
};
pub use discovery::{Discovered, DiscoveryOptions, Outcome, ProviderStatus, discover_once, files_named};
pub use error::ScrapeError;
pub use manager::{Manager, RelabelStep, ScrapeOptions, TargetMetadata, TargetsSnapshot};
pub use metrics::{Family, Metrics};
pub use target::{DroppedTarget, Health, TargetStatus};
