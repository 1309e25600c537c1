//! Tests of the program as a whole and of its configuration.

mod cli;
mod config;
mod crash;
mod peers;
mod process;
mod program;
