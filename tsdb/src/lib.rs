//! Front page; see ARCHITECTURE.md.

pub mod block;
mod codec;
pub mod column;
mod error;
pub mod fs;
mod index;

pub use codec::Malformed;
pub use error::Error;
