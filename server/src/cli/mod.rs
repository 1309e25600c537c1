//! The command line: subcommands, their flags, and the exit code.
//!
//! Without a subcommand the program serves, so that the arguments of a Prometheus work unchanged. Exit codes: 0 all
//! well, 1 it did not work, 2 the command line is wrong.

mod check;
mod config;
pub mod flags;
mod hpa;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod memory;
#[cfg(feature = "kubernetes")]
mod metrics_apis;
mod query;
mod serve;
mod server;
mod store;
mod tsdb;

pub use serve::ServeArgs;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Exit code of a wrong command line, as clap's.
const USAGE: u8 = 2;

/// A Prometheus-compatible monitoring server for a small cluster.
#[derive(Debug, Parser)]
#[command(
    name = "tidegauge",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    /// Print the version and exit
    #[arg(long, short = 'V')]
    version: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Scrape, store and answer (the default: `tidegauge` alone does this)
    Serve(Box<ServeArgs>),
    /// Check files without running anything
    #[command(subcommand)]
    Check(check::Check),
    /// Show the configuration as it would be used
    #[command(subcommand)]
    Config(config::Config),
    /// Ask a running server
    Query(Box<query::Query>),
    /// Look into a data directory or a snapshot
    #[command(subcommand)]
    Tsdb(tsdb::Tsdb),
    /// Rehearse autoscalers of Kubernetes on what is recorded
    #[command(subcommand)]
    Hpa(Box<hpa::Hpa>),
    /// Print what a Kubernetes cluster needs to know
    #[cfg(feature = "kubernetes")]
    #[command(subcommand)]
    Kubernetes(kubernetes::Kubernetes),
    /// Print the version
    Version,
}

/// Runs the program: parses the arguments (the first is the program's name), does what they say, and gives the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = Vec::new();
    for arg in args {
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(bad) => return usage(format_args!("argument {bad:?} is not valid UTF-8")),
        }
    }
    let program = if words.is_empty() {
        "tidegauge".to_owned()
    } else {
        words.remove(0)
    };
    let subcommand = words.first().is_some_and(|w| names_a_subcommand(w));
    let serves = !subcommand || words.first().is_some_and(|w| w == "serve");
    let (words, sorted) = if serves {
        let rest = words.into_iter().skip(usize::from(subcommand));
        match flags::sort(rest) {
            Ok(mut sorted) => (std::mem::take(&mut sorted.obeyed), Some(sorted)),
            Err(error) => return usage(error),
        }
    } else {
        (words, None)
    };
    let cli = match parse(program, words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; a closed pipe is no reason to complain.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    run(cli, &sorted.unwrap_or_default())
}

fn parse(program: String, words: Vec<String>) -> Result<Cli, clap::Error> {
    let ignored: Vec<String> = flags::FLAGS
        .iter()
        .filter(|f| f.effect == flags::Effect::None)
        .map(|f| format!("--{}", f.name))
        .collect();
    let after = format!(
        "Flags of Prometheus 3.5 that are accepted with a warning and have no effect here:\n  {}",
        ignored.join(", ")
    );
    let mut command = Cli::command().after_long_help(after);
    let matches = command.try_get_matches_from_mut(std::iter::once(program).chain(words))?;
    Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}

fn names_a_subcommand(word: &str) -> bool {
    word == "help" || Cli::command().get_subcommands().any(|c| c.get_name() == word)
}

fn run(cli: Cli, sorted: &flags::Sorted) -> ExitCode {
    if cli.version {
        return version();
    }
    let done = match cli.command {
        Some(Command::Version) => return version(),
        Some(Command::Check(check)) => check.run(),
        Some(Command::Config(config)) => config.run(),
        Some(Command::Query(query)) => query.run(),
        Some(Command::Tsdb(tsdb)) => tsdb.run(),
        Some(Command::Hpa(hpa)) => hpa.run(),
        #[cfg(feature = "kubernetes")]
        Some(Command::Kubernetes(kubernetes)) => kubernetes.run(),
        Some(Command::Serve(args)) => args.run(sorted),
        None => cli.serve.run(sorted),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn version() -> ExitCode {
    let build = crate::api::BuildInfo::default();
    print(format_args!(
        "tidegauge {} (revision {}, {})\nspeaks the HTTP API of Prometheus {}\n",
        build.product_version, build.revision, build.compiler, build.version
    ));
    ExitCode::SUCCESS
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
fn print(text: impl std::fmt::Display) {
    drop(write!(std::io::stdout().lock(), "{text}"));
}

/// Writes one line to standard error.
fn complain(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "tidegauge: {text}"));
}

fn usage(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::from(USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed_and_knows_every_obeyed_flag() {
        let command = Cli::command();
        command.clone().debug_assert();
        for flag in flags::FLAGS {
            let known = command.get_arguments().any(|a| a.get_long() == Some(flag.name));
            assert_eq!(known, flag.effect != flags::Effect::None, "--{}", flag.name);
        }
    }
}
