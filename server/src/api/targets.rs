//! `targets`, `targets/metadata`, `scrape_pools`, `metadata`: what is scraped, and what it says of itself.

use super::error::ApiError;
use super::json::Json;
use super::params::{Params, parse_int};
use super::query::parse_options;
use super::render::Reply;
use super::shared::Shared;
use super::status::{ZERO_TIME, hostname, rfc3339};
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegauge_model::{Labels, Matcher, Metadata};
use tidegauge_scraper::{DroppedTarget, TargetStatus};
use url::Url;
