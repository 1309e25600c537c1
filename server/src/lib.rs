//! Front page; see ARCHITECTURE.md.

#![forbid(unsafe_code)]

pub mod api;
pub mod http;
mod remote;
mod ui;
