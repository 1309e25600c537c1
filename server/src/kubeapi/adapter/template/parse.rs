//! From the text of a template to its pieces.

use super::token::{Part, Token, parts};
use super::{FUNCTIONS, Function, MAX_BYTES, MAX_DEPTH, Piece, Range, TemplateError, Term};
use crate::cli::flags::nearest;

/// Words of Go's that are not known here.
const REFUSED: [&str; 7] = ["with", "template", "define", "block", "break", "continue", "nil"];

pub(super) fn pieces(text: &str, fields: &[&str]) -> Result<Vec<Piece>, TemplateError> {
    if text.len() > MAX_BYTES {
        return Err(TemplateError::new(format!("a template of more than {MAX_BYTES} bytes")));
    }
    let mut parser = Parser {
        parts: parts(text)?.into_iter(),
        fields,
        variables: Vec::new(),
    };
    match parser.list(0)? {
        (pieces, Stop::Text) => Ok(pieces),
        (_, Stop::End) => Err(TemplateError::new("<<end>> without a range or if before it")),
        (_, Stop::Else(_)) => Err(TemplateError::new("<<else>> without a range or if before it")),
    }
}

struct Parser<'p> {
    parts: std::vec::IntoIter<Part>,
    fields: &'p [&'p str],
    /// The variables that are known here.
    variables: Vec<String>,
}

/// What ends a list of pieces.
enum Stop {
    Text,
    End,
    /// With the tokens behind `else`.
    Else(Vec<Token>),
}

impl Parser<'_> {
    fn list(&mut self, depth: usize) -> Result<(Vec<Piece>, Stop), TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::new(format!(
                "range and if nested more than {MAX_DEPTH} deep"
            )));
        }
        let mut pieces = Vec::new();
        while let Some(part) = self.parts.next() {
            let tokens = match part {
                Part::Text(text) => {
                    pieces.push(Piece::Text(text));
                    continue;
                }
                Part::Action(tokens) => tokens,
            };
            let word = match tokens.first() {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            let behind = tokens.get(1..).unwrap_or_default();
            match word {
                "end" if behind.is_empty() => return Ok((pieces, Stop::End)),
                "end" => return Err(TemplateError::new("something stands behind end")),
                "else" => return Ok((pieces, Stop::Else(behind.to_vec()))),
                "if" => pieces.push(self.choice(behind, depth)?),
                "range" => pieces.push(self.range(behind, depth)?),
                _ => pieces.push(Piece::Print(self.whole(&tokens)?)),
            }
        }
        Ok((pieces, Stop::Text))
    }

    fn choice(&mut self, condition: &[Token], depth: usize) -> Result<Piece, TemplateError> {
        let mut condition = self.whole(condition)?;
        let mut arms = Vec::new();
        loop {
            let (body, end) = self.list(depth + 1)?;
            arms.push((condition, body));
            match end {
                Stop::Text => return Err(TemplateError::new("<<if>> without <<end>>")),
                Stop::End => {
                    let otherwise = Vec::new();
                    return Ok(Piece::If { arms, otherwise });
                }
                Stop::Else(tokens) if tokens.is_empty() => {
                    let otherwise = self.otherwise("if", depth)?;
                    return Ok(Piece::If { arms, otherwise });
                }
                Stop::Else(tokens) => {
                    let behind = match tokens.first() {
                        Some(Token::Word(word)) if word == "if" => tokens.get(1..).unwrap_or_default(),
                        _ => return Err(TemplateError::new("only if may stand behind else")),
                    };
                    condition = self.whole(behind)?;
                }
            }
        }
    }

    /// What stands between `else` and `end`.
    fn otherwise(&mut self, of: &str, depth: usize) -> Result<Vec<Piece>, TemplateError> {
        match self.list(depth + 1)? {
            (pieces, Stop::End) => Ok(pieces),
            (_, Stop::Else(_)) => Err(TemplateError::new(format!("a second <<else>> of one {of}"))),
            (_, Stop::Text) => Err(TemplateError::new(format!("<<{of}>> without <<end>>"))),
        }
    }

    fn range(&mut self, tokens: &[Token], depth: usize) -> Result<Piece, TemplateError> {
        let name = |token: &Token| match token {
            Token::Variable(name, fields) if !name.is_empty() && fields.is_empty() => Some(name.clone()),
            _ => None,
        };
        let (key, value, over) = match tokens {
            [key, Token::Comma, value, Token::Declare, over @ ..] => (name(key), name(value), over),
            [value, Token::Declare, over @ ..] => (None, name(value), over),
            over => (None, None, over),
        };
        let declared = tokens.contains(&Token::Declare);
        if declared && value.is_none() || tokens.contains(&Token::Comma) && key.is_none() {
            return Err(TemplateError::new(
                "range is written `range`, `range $x :=` or `range $i, $x :=`",
            ));
        }
        let over = self.whole(over)?;
        let known = self.variables.len();
        self.variables.extend(key.iter().chain(&value).cloned());
        let (body, end) = self.list(depth + 1)?;
        self.variables.truncate(known);
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Else(tokens) if tokens.is_empty() => self.otherwise("range", depth)?,
            Stop::Else(_) => return Err(TemplateError::new("nothing may stand behind the else of a range")),
            Stop::Text => return Err(TemplateError::new("<<range>> without <<end>>")),
        };
        Ok(Piece::Range(Box::new(Range {
            key,
            value,
            over,
            body,
            otherwise,
        })))
    }

    /// All tokens as one term.
    fn whole(&self, tokens: &[Token]) -> Result<Term, TemplateError> {
        if tokens.is_empty() {
            return Err(TemplateError::new("nothing between << and >>, or behind if or range"));
        }
        if tokens.contains(&Token::Declare) {
            return Err(TemplateError::new("variables are declared by range alone"));
        }
        let (term, rest) = self.call(tokens, 0)?;
        match rest.first() {
            None => Ok(term),
            Some(Token::Close) => Err(TemplateError::new("a closing parenthesis too many")),
            Some(Token::Comma) => Err(TemplateError::new("a comma where none belongs")),
            Some(_) => Err(TemplateError::new("two values without a function before them")),
        }
    }

    /// A function with its arguments, or a single operand.
    fn call<'t>(&self, tokens: &'t [Token], depth: usize) -> Result<(Term, &'t [Token]), TemplateError> {
        let function = match tokens.first() {
            Some(Token::Word(name)) if !matches!(name.as_str(), "true" | "false") => function(name)?,
            _ => return self.operand(tokens, depth),
        };
        let mut arguments = Vec::new();
        let mut rest = tokens.get(1..).unwrap_or_default();
        while !matches!(rest.first(), None | Some(Token::Close | Token::Comma)) {
            let (argument, after) = self.operand(rest, depth)?;
            arguments.push(argument);
            rest = after;
        }
        check_arguments(function, arguments.len())?;
        Ok((Term::Call(function, arguments), rest))
    }

    fn operand<'t>(&self, tokens: &'t [Token], depth: usize) -> Result<(Term, &'t [Token]), TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::new(format!("parentheses more than {MAX_DEPTH} deep")));
        }
        let Some((first, rest)) = tokens.split_first() else {
            return Err(TemplateError::new("a value is missing"));
        };
        let term = match first {
            Token::Path(fields) => Term::Dot(self.known(fields)?),
            Token::Variable(name, fields) if name.is_empty() => Term::Root(self.known(fields)?),
            Token::Variable(name, fields) => {
                if !self.variables.contains(name) {
                    return Err(TemplateError::new(format!("there is no variable ${name}")));
                }
                Term::Variable(name.clone(), fields.clone())
            }
            Token::Text(text) => Term::Text(text.clone()),
            Token::Number(number) => Term::Number(*number),
            Token::Word(word) if word == "true" || word == "false" => Term::Truth(word == "true"),
            Token::Word(word) => Term::Call(
                function(word).and_then(|f| check_arguments(f, 0).map(|()| f))?,
                Vec::new(),
            ),
            Token::Open => {
                let (term, rest) = self.call(rest, depth + 1)?;
                return match rest.split_first() {
                    Some((Token::Close, rest)) => Ok((term, rest)),
                    _ => Err(TemplateError::new("a parenthesis without an end")),
                };
            }
            Token::Close | Token::Comma | Token::Declare => return Err(TemplateError::new("a value is missing")),
        };
        Ok((term, rest))
    }

    /// The fields, if there is the first of them.
    fn known(&self, fields: &[String]) -> Result<Vec<String>, TemplateError> {
        if let Some(name) = fields.first()
            && !self.fields.contains(&name.as_str())
        {
            let near = nearest(name, self.fields.iter().copied());
            let known = match near {
                Some(near) => format!("did you mean .{near}?"),
                None => format!("there are .{}", self.fields.join(", .")),
            };
            return Err(TemplateError::new(format!("there is no field .{name} here; {known}")));
        }
        Ok(fields.to_vec())
    }
}

fn function(name: &str) -> Result<Function, TemplateError> {
    if REFUSED.contains(&name) {
        return Err(TemplateError::new(format!("`{name}` is not supported in templates")));
    }
    let found = FUNCTIONS.iter().find(|(known, _)| *known == name);
    found.map(|(_, function)| *function).ok_or_else(|| {
        let known: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
        TemplateError::new(format!(
            "the function {name:?} is not supported in templates; there are {}",
            known.join(", ")
        ))
    })
}

fn check_arguments(function: Function, given: usize) -> Result<(), TemplateError> {
    let (name, least, most) = match function {
        Function::And => ("and", 1, usize::MAX),
        Function::Or => ("or", 1, usize::MAX),
        Function::Eq => ("eq", 2, usize::MAX),
        Function::Ne => ("ne", 2, 2),
        Function::Index => ("index", 2, 2),
        Function::Len => ("len", 1, 1),
        Function::Not => ("not", 1, 1),
    };
    match given < least || given > most {
        true => Err(TemplateError::new(format!("{name} is given {given} values"))),
        false => Ok(()),
    }
}
