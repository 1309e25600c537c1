//! The part of Go's `text/template` that rules for metrics are written in, between `<<` and `>>`.
//!
//! ```text
//!   text  sum(rate(<<.Series>>{<<range $k, $v := .LabelValuesByName>><<$k>>=~"<<$v>>",<<end>>}[2m]))
//!           |parse|                                                                                 --> pieces
//!                   |fill| with { Series: "x_total", LabelValuesByName: {"pod": "a|b"} }            --> text
//! ```
//!
//! Known are fields (`.Series`, `.LabelValuesByName.pod`), variables of `range`, `if`/`else if`/`else`, comments, the
//! marks `<<-` and `->>` that trim, and the functions of [`FUNCTIONS`]. Anything else of Go's is refused by name when the
//! template is read, and so is a field that there never is: a query that fails at its first use is of no help.
//!
//! # Reference
//! Go's `text/template`, and `pkg/naming/metrics_query.go` of prometheus-adapter 0.12.

mod fill;
mod parse;
mod token;

pub(crate) use fill::Value;

/// Longer templates are refused.
const MAX_BYTES: usize = 64 << 10;
/// `range` and `if` nested deeper are refused.
const MAX_DEPTH: usize = 16;

/// What can be called.
const FUNCTIONS: [(&str, Function); 7] = [
    ("and", Function::And),
    ("eq", Function::Eq),
    ("index", Function::Index),
    ("len", Function::Len),
    ("ne", Function::Ne),
    ("not", Function::Not),
    ("or", Function::Or),
];

/// A template that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Print(Term),
    If {
        /// The conditions and what stands where one holds; the first that does counts.
        arms: Vec<(Term, Vec<Piece>)>,
        otherwise: Vec<Piece>,
    },
    Range(Box<Range>),
}

#[derive(Debug, Clone, PartialEq)]
struct Range {
    key: Option<String>,
    value: Option<String>,
    over: Term,
    body: Vec<Piece>,
    /// What stands where there is nothing to go over.
    otherwise: Vec<Piece>,
}

/// Something that has a value.
#[derive(Debug, Clone, PartialEq)]
enum Term {
    /// `.`, `.A.B`
    Dot(Vec<String>),
    /// `$`, `$.A`
    Root(Vec<String>),
    /// `$x`, `$x.A`
    Variable(String, Vec<String>),
    Text(String),
    Number(i64),
    Truth(bool),
    Call(Function, Vec<Term>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    And,
    Eq,
    Index,
    Len,
    Ne,
    Not,
    Or,
}

/// Why a template cannot be read or filled, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TemplateError(String);

impl TemplateError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Template {
    /// Reads a template over these fields.
    ///
    /// # Errors
    /// [`TemplateError`] names what is not understood.
    pub(crate) fn parse(text: &str, fields: &[&str]) -> Result<Self, TemplateError> {
        Ok(Self {
            pieces: parse::pieces(text, fields)?,
        })
    }

    /// Fills it.
    ///
    /// # Errors
    /// [`TemplateError`] where a value is not of the kind that is needed, or the outcome would be too long.
    pub(crate) fn fill(&self, fields: &Value) -> Result<String, TemplateError> {
        fill::fill(&self.pieces, fields)
    }

    /// Whether some part of it is not plain text.
    pub(crate) fn has_actions(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }
}

#[cfg(test)]
mod tests;
