//! Front page; see ARCHITECTURE.md.

pub mod block;
mod error;
pub mod fs;

pub use error::Error;
