//! What processor and memory are used for, in the form that `pprof` and Grafana read.
//!
//! ```text
//!   /debug/pprof/profile -> cpu:  stacks, a hundred times for each second of work --.
//!   /debug/pprof/heap    -> heap: what each part accounts for -----------------------+-> message: profile.proto, packed
//! ```

mod cpu;
mod heap;
mod message;

pub(crate) use cpu::{BYTES_NEEDED, Cpu, NoProfile};
pub(crate) use heap::profile as heap;
