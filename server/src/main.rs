//! The `tidegauge` program: hands the command line to [`tidegauge_server::cli`].

use std::process::ExitCode;

/// Chosen for its resident size: glibc's allocator keeps what it once had.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegauge_server::cli::main(std::env::args_os())
}
