//! PromQL end to end: scripts in upstream's test language, limits, and properties.

mod limits;
mod property;
mod promqltest;
mod script;
mod store;
