//! Discovery against an API server on loopback: what the server is told to say decides, never the clock.

mod api;
mod churn;
mod cluster;
mod faults;
mod finder;
mod fixtures;
mod replay;

use super::hub::KubernetesOptions;
use api::{Api, Piece, Reply};
use finder::{Finder, options};
