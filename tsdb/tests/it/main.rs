//! Tests of the store through its public doors, one file a subject.

mod atomic;
mod crash;
mod damage;
mod directory;
mod measure;
mod model;
mod store;
mod support;
