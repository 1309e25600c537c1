//! Where in the query's text something stands.

/// A stretch of the query's text in bytes: the first byte, and the one after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    /// From `start` to before `end`.
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// From the start of `self` to the end of `last`.
    pub const fn to(self, last: Self) -> Self {
        Self::new(self.start, last.end)
    }

    /// The text it covers; empty if it does not lie in `text`.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or("")
    }

    /// The place of its first byte in `text`, as errors and annotations name it.
    pub fn place(self, text: &str) -> Place {
        Place::at(text, self.start)
    }
}

/// A place for people: `line:column`, both counted from one; the column in bytes, as upstream counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which line.
    pub line: usize,
    /// Which byte of the line.
    pub column: usize,
}

impl Place {
    /// The place of a byte of `text`; bytes past the end count as one on its last line.
    pub fn at(text: &str, byte: u32) -> Self {
        let byte = (byte as usize).min(text.len());
        let before = text.as_bytes().get(..byte).unwrap_or_default();
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        Self {
            line: 1 + before.iter().filter(|&&b| b == b'\n').count(),
            column: 1 + byte - line_start,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_in_bytes() {
        let text = "a +\n  ü b";
        for (byte, expect) in [(0, "1:1"), (2, "1:3"), (3, "1:4"), (4, "2:1"), (9, "2:6"), (99, "2:7")] {
            assert_eq!(Place::at(text, byte).to_string(), expect, "byte {byte}");
        }
        assert_eq!(Span::new(2, 3).of(text), "+");
    }
}
