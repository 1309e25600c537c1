//! The listener: accepts connections within limits, and stops without cutting answers short.

mod listener;

pub use listener::{ServeOptions, serve};
