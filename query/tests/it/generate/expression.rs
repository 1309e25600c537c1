//! Random valid expressions.

use super::data::DataOptions;
use super::random::Rng;
use tidegauge_query::parser::ExprKind;
use tidegauge_query::{Features, ParseOptions, parse};

/// What expressions may contain.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// When the data is: times behind `@` lie around it.
    pub(crate) data: DataOptions,
    /// How deep calls, operators and subqueries may nest.
    pub(crate) max_depth: usize,
    /// How many subqueries may stand in one another; they multiply what it costs.
    pub(crate) max_subqueries: usize,
    /// Which parts of the language are switched on.
    pub(crate) features: Features,
    /// Functions, aggregations and operators to do without, by their names.
    pub(crate) without: &'static [&'static str],
    /// What the whole shall be.
    pub(crate) wanted: Wanted,
    /// Whether blanks, comments, letter case, quotes and parentheses vary too.
    pub(crate) untidy: bool,
}

impl Default for Options {
    /// Expressions for range queries over the stable language, 4 deep.
    fn default() -> Self {
        Self {
            data: DataOptions::default(),
            max_depth: 4,
            max_subqueries: 2,
            features: Features::default(),
            without: &[],
            wanted: Wanted::Steps,
            untidy: false,
        }
    }
}

/// What an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An instant vector.
    Vector,
    /// What a range query takes: an instant vector, or a scalar at times.
    Steps,
    /// Anything: range vectors and strings too.
    Any,
}

/// The text of a random expression that is valid under these options.
pub(crate) fn expression(rng: &mut Rng, options: &Options) -> String {
    let depth = rng.below(options.max_depth + 1);
    let mut writer = Writer {
        rng,
        options,
        subqueries: 0,
    };
    let text = match (options.wanted, writer.rng.below(20)) {
        (Wanted::Any, 0) => writer.string(),
        (Wanted::Any, 1 | 2) => writer.matrix(depth),
        (Wanted::Steps | Wanted::Any, 3 | 4) => writer.scalar(depth),
        _ => writer.vector(depth),
    };
    if options.untidy { untidy(rng, &text) } else { text }
}

/// Writes expressions of each type. Each method's `depth` says how many levels may still be below.
pub(super) struct Writer<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) options: &'a Options,
    /// How many subqueries are around what is being written.
    pub(super) subqueries: usize,
}

impl Writer<'_> {
    /// An instant vector.
    pub(super) fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.rng.below(12) {
                0 => format!("vector({})", self.number()),
                1..=3 => self.window_call(0),
                _ => self.selector(),
            };
        }
        let below = depth - 1;
        match self.rng.below(20) {
            0 => self.selector(),
            1 | 2 => self.window_call(below),
            3..=7 => self.vector_call(below),
            8..=11 => self.aggregate(below),
            12..=14 => self.binary(below),
            15 if self.rng.percent(60) => self.with_scalar(below),
            15 => self.chain(below),
            16 => self.info_join(below),
            17 => self.histogram(below),
            18 => format!("-{}", self.vector(below)),
            _ => format!("({})", self.vector(below)),
        }
    }

    /// An operand of an operator: in parentheses if it has operators itself, and at times if it has none.
    pub(super) fn operand(&mut self, text: String) -> String {
        let is_closed = parse(&text, &ParseOptions::with_features(self.options.features)).is_ok_and(|expr| {
            use ExprKind::{Aggregate, Call, Number, Paren, Vector};
            matches!(expr.kind, Aggregate(_) | Call(_) | Number(_) | Paren(_) | Vector(_))
        });
        if is_closed && self.rng.percent(70) {
            text
        } else {
            format!("({text})")
        }
    }

    /// Whether a function, aggregation or operator may be used.
    pub(super) fn may(&self, name: &str) -> bool {
        !self.options.without.contains(&name)
    }
}

/// The same expression written less neatly.
fn untidy(rng: &mut Rng, text: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut escaped = false;
    for c in text.chars() {
        match quote {
            Some(q) => {
                if c == q && !escaped {
                    quote = None;
                }
                escaped = c == '\\' && q != '`' && !escaped;
                out.push(c);
            }
            None if matches!(c, '"' | '\'' | '`') => {
                quote = Some(c);
                out.push(c);
            }
            None if c == ' ' => {
                let blanks = [" ", " ", " ", "  ", "\n", "\t", "\r\n  ", " # a \"comment\n", " #\n"];
                out.push_str(rng.pick(&blanks));
            }
            None if matches!(c, '(' | ')' | ',') && rng.percent(10) => {
                out.push(c);
                out.push(' ');
            }
            None => out.push(c),
        }
    }
    out
}
