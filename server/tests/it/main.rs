//! The server, from outside: one file a subject.

mod api;
mod cli;
mod config;
mod crash;
mod peers;
mod process;
mod program;
mod remote_write;
mod replay;
mod site;
