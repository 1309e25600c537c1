//! The doors of the parser, and what may pass them.

use super::ast::Expr;
use super::check;
use super::error::ParseError;
use super::features::Features;
use super::reader::Parser;
use tidegauge_model::{Labels, Matcher};

/// What the parser accepts.
#[derive(Debug, Clone, Copy)]
pub struct ParseOptions {
    /// What of the language is switched on.
    pub features: Features,
    /// How high the tree may be; each parenthesis, call, operator and sign on the way down counts.
    pub max_depth: usize,
    /// How long the text may be.
    pub max_bytes: usize,
}

impl Default for ParseOptions {
    /// The stable language, 256 levels and 1 MiB.
    fn default() -> Self {
        Self {
            features: Features::default(),
            max_depth: 256,
            max_bytes: 1 << 20,
        }
    }
}

impl ParseOptions {
    /// The defaults with some features on.
    pub fn with_features(features: Features) -> Self {
        Self {
            features,
            ..Self::default()
        }
    }
}

/// Parses and type-checks an expression.
///
/// # Errors
/// [`ParseError`] if the text is no expression, is ill-typed, too long or too deep.
pub fn parse(text: &str, options: &ParseOptions) -> Result<Expr, ParseError> {
    let mut expr = Parser::new(text, options)?.whole_expression()?;
    check::check(text, &mut expr)?;
    Ok(expr)
}

/// Parses a selector of series without modifiers, such as a `match[]` parameter: `up{job="node"}`.
///
/// One that selects everything passes; who does not want that asks [`Matcher::matches_empty`] of all.
///
/// # Errors
/// [`ParseError`] if the text is no selector.
pub fn parse_metric_selector(text: &str, options: &ParseOptions) -> Result<Vec<Matcher>, ParseError> {
    Ok(Parser::new(text, options)?.whole_selector()?.matchers)
}

/// Parses the labels of one series: `up{job="node"}`.
///
/// # Errors
/// [`ParseError`] if the text names no series.
pub fn parse_metric(text: &str, options: &ParseOptions) -> Result<Labels, ParseError> {
    let mut parser = Parser::new(text, options)?;
    let labels = parser.series_labels()?;
    parser.end()?;
    Ok(labels)
}

/// Parses the labels of one series at the front of a text, and says at which byte they end; what follows (the values
/// of a series in a test script) is not looked at.
///
/// # Errors
/// [`ParseError`] if the text does not start with a series.
pub fn parse_metric_prefix(text: &str, options: &ParseOptions) -> Result<(Labels, usize), ParseError> {
    let mut parser = Parser::new(text, options)?;
    let labels = parser.series_labels()?;
    Ok((labels, parser.last_end as usize))
}
