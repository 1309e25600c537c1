//! The query crate from outside: the parser over shared data, scripts in upstream's test language, limits, properties.

mod limits;
mod parse;
mod promqltest;
mod property;
mod script;
mod store;
