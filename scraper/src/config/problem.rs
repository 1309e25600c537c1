//! What is wrong with a section, and below which of its keys.

use std::fmt;

/// One step from a section to what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Item(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

/// What is wrong, in upstream's words, and the way there as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From the section to what is wrong; whoever has the text of the file finds the line by it.
    pub path: Vec<Step>,
    /// In words.
    pub message: String,
}

impl Problem {
    /// The same problem seen from the mapping or list above.
    pub(crate) fn below(mut self, step: impl Into<Step>) -> Self {
        self.path.insert(0, step.into());
        self
    }

    /// The same problem in other words.
    pub(crate) fn told(mut self, words: impl FnOnce(&str) -> String) -> Self {
        self.message = words(&self.message);
        self
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self {
            path: Vec::new(),
            message,
        }
    }
}

impl From<&str> for Problem {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
