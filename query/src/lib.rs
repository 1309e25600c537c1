//! PromQL: parser and engine. Synchronous; reads through the door of `model`.
//!
//! ```text
//!   text --parser--> tree
//! ```

#![forbid(unsafe_code)]

pub mod parser;

pub use parser::{Features, ParseError, ParseOptions, parse};
