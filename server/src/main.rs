//! The `tidegauge` program: hands the command line to [`tidegauge_server::cli`].

use std::process::ExitCode;
use tidegauge_tsdb::allocator::MiMalloc;

/// Chosen for its resident size: glibc's allocator keeps what it once had.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tidegauge_server::cli::main(std::env::args_os())
}
