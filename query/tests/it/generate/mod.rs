//! Random data and random PromQL over it, from a seed: the same seed gives the same data and the same texts.
//!
//! ```text
//!   Rng::new(seed) --+--> data(rng, DataOptions)      --> DataSet: series with their samples
//!                    +--> expression(rng, Options)    --> text of a valid expression over those series
//!                    `--> damaged(rng, text)          --> the text with an edit or two, valid or not
//! ```
//!
//! What the data is called is one table, [`schema::FAMILIES`], so that expressions name series that are there. The data
//! has what goes wrong in practice: resets, gaps, jitter, stale markers, NaN and infinities, odd histograms, names that
//! are not ASCII, info metrics that change, series that differ by name alone.

mod call;
mod damage;
mod data;
mod expression;
mod histogram;
mod literal;
mod operator;
mod random;
mod schema;
mod selector;
mod tests;

pub(crate) use damage::damaged;
pub(crate) use data::{DataOptions, DataSet, data};
pub(crate) use expression::{Options, Wanted, expression};
pub(crate) use random::Rng;
