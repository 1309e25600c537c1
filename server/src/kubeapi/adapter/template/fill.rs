//! From the pieces of a template to the text.

use super::{Function, Piece, Range, TemplateError, Term};
use std::collections::BTreeMap;
use std::fmt;

/// A longer outcome is refused, and so is one that takes this many steps: a `range` within a `range` multiplies.
const MAX_OUTCOME: usize = 1 << 20;

/// What a term may be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Truth(bool),
    List(Vec<Value>),
    /// Also what has the fields.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// A list of texts.
    pub(crate) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::List(texts.into_iter().map(Self::Text).collect())
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Truth(_) => "a truth value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// What Go holds for true: all but the empty and the zero.
    fn holds(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0,
            Self::Truth(truth) => *truth,
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
        }
    }
}

impl fmt::Display for Value {
    /// As Go prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("map[")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}:{value}", if i > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

pub(super) fn fill(pieces: &[Piece], root: &Value) -> Result<String, TemplateError> {
    let mut filler = Filler {
        root,
        variables: Vec::new(),
        out: String::new(),
        steps: 0,
    };
    filler.list(pieces, root)?;
    Ok(filler.out)
}

struct Filler<'f> {
    root: &'f Value,
    variables: Vec<(&'f str, Value)>,
    out: String,
    steps: usize,
}

impl<'f> Filler<'f> {
    fn list(&mut self, pieces: &'f [Piece], dot: &Value) -> Result<(), TemplateError> {
        for piece in pieces {
            self.steps += 1;
            match piece {
                Piece::Text(text) => self.out.push_str(text),
                Piece::Print(term) => {
                    let value = self.term(term, dot)?;
                    self.out.push_str(&value.to_string());
                }
                Piece::If { arms, otherwise } => {
                    let mut chosen = otherwise;
                    for (condition, body) in arms {
                        if self.term(condition, dot)?.holds() {
                            chosen = body;
                            break;
                        }
                    }
                    self.list(chosen, dot)?;
                }
                Piece::Range(range) => self.range(range, dot)?,
            }
            if self.out.len() > MAX_OUTCOME || self.steps > MAX_OUTCOME {
                return Err(TemplateError::new(format!(
                    "the template grows to more than {MAX_OUTCOME} bytes or steps"
                )));
            }
        }
        Ok(())
    }

    fn range(&mut self, range: &'f Range, dot: &Value) -> Result<(), TemplateError> {
        let over: Vec<(Value, Value)> = match self.term(&range.over, dot)? {
            Value::List(items) => (0..).map(Value::Number).zip(items).collect(),
            Value::Map(entries) => entries.into_iter().map(|(k, v)| (Value::Text(k), v)).collect(),
            other => return Err(TemplateError::new(format!("range cannot go over {}", other.kind()))),
        };
        if over.is_empty() {
            return self.list(&range.otherwise, dot);
        }
        let known = self.variables.len();
        for (key, value) in over {
            if let Some(name) = &range.key {
                self.variables.push((name, key));
            }
            if let Some(name) = &range.value {
                self.variables.push((name, value.clone()));
            }
            self.list(&range.body, &value)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, TemplateError> {
        match term {
            Term::Dot(fields) => field(dot, fields),
            Term::Root(fields) => field(self.root, fields),
            Term::Variable(name, fields) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| TemplateError::new(format!("there is no variable ${name}")))?;
                field(value, fields)
            }
            Term::Text(text) => Ok(Value::Text(text.clone())),
            Term::Number(number) => Ok(Value::Number(*number)),
            Term::Truth(truth) => Ok(Value::Truth(*truth)),
            Term::Call(function, arguments) => {
                let values: Result<Vec<Value>, TemplateError> =
                    arguments.iter().map(|argument| self.term(argument, dot)).collect();
                call(*function, values?)
            }
        }
    }
}

/// What lies behind these names. A map has no text for a name that it does not have, as in Go.
fn field(value: &Value, fields: &[String]) -> Result<Value, TemplateError> {
    let mut at = value;
    for name in fields {
        let Value::Map(entries) = at else {
            return Err(TemplateError::new(format!("{} has no field .{name}", at.kind())));
        };
        match entries.get(name) {
            Some(next) => at = next,
            None => return Ok(Value::Text(String::new())),
        }
    }
    Ok(at.clone())
}

fn call(function: Function, mut values: Vec<Value>) -> Result<Value, TemplateError> {
    let missing = || TemplateError::new("a function is given too few values");
    let first = values.first().ok_or_else(missing)?;
    Ok(match function {
        Function::And => {
            let at = values.iter().position(|value| !value.holds());
            values.swap_remove(at.unwrap_or(values.len() - 1))
        }
        Function::Or => {
            let at = values.iter().position(Value::holds);
            values.swap_remove(at.unwrap_or(values.len() - 1))
        }
        Function::Not => Value::Truth(!first.holds()),
        Function::Eq => Value::Truth(equals(first, values.get(1..).unwrap_or_default())?),
        Function::Ne => Value::Truth(!equals(first, values.get(1..).unwrap_or_default())?),
        Function::Len => {
            let len = match first {
                Value::Text(text) => text.len(),
                Value::List(items) => items.len(),
                Value::Map(entries) => entries.len(),
                other => return Err(TemplateError::new(format!("len of {}", other.kind()))),
            };
            Value::Number(i64::try_from(len).unwrap_or(i64::MAX))
        }
        Function::Index => index(first, values.get(1).ok_or_else(missing)?)?,
    })
}

fn equals(first: &Value, others: &[Value]) -> Result<bool, TemplateError> {
    for other in others {
        let comparable = matches!(
            (first, other),
            (Value::Text(_), Value::Text(_))
                | (Value::Number(_), Value::Number(_))
                | (Value::Truth(_), Value::Truth(_))
        );
        if !comparable {
            let (a, b) = (first.kind(), other.kind());
            return Err(TemplateError::new(format!("{a} cannot be compared with {b}")));
        }
    }
    Ok(others.contains(first))
}

fn index(of: &Value, at: &Value) -> Result<Value, TemplateError> {
    match (of, at) {
        (Value::Map(entries), Value::Text(key)) => Ok(entries.get(key).cloned().unwrap_or(Value::Text(String::new()))),
        (Value::List(items), Value::Number(at)) => {
            let item = usize::try_from(*at).ok().and_then(|at| items.get(at));
            item.cloned()
                .ok_or_else(|| TemplateError::new(format!("index {at} of a list of {}", items.len())))
        }
        (of, at) => Err(TemplateError::new(format!(
            "{} has no index of {}",
            of.kind(),
            at.kind()
        ))),
    }
}
