//! Tests of the crate from outside. Those over shared data find it by `TIDEGAUGE_SHARED`.

mod parse;
