//! What a sender of 2.0 is told of the parts of a request that were not stored, in upstream's words and order.

use std::fmt::Write;

/// The most bytes of an answer.
const MAX_BYTES: usize = 64 << 10;

/// Lines by their place in the request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    lines: Vec<(Place, String)>,
    bytes: usize,
    /// Those there was no room for.
    more: u64,
}

/// Where in a request: the number of samples before it, and whether it is the sample after these.
pub(super) type Place = (u64, bool);

impl Told {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.more == 0
    }

    pub(super) fn tell(&mut self, place: Place, line: impl FnOnce() -> String) {
        if self.bytes >= MAX_BYTES {
            self.more += 1;
            return;
        }
        let line = line();
        self.bytes += line.len() + 1;
        self.lines.push((place, line));
    }

    /// The answer's text.
    pub(super) fn text(mut self) -> String {
        self.lines.sort_by_key(|(place, _)| *place);
        let mut text = String::with_capacity(self.bytes + 32);
        for (_, line) in self.lines {
            text.push_str(&line);
            text.push('\n');
        }
        if self.more > 0 {
            // A text takes all that is written to it.
            let _never_fails = writeln!(text, "and {} more", self.more);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_the_order_of_the_request_and_are_bounded() {
        let mut told = Told::default();
        assert!(told.is_empty());
        told.tell((2, false), || "before the third".into());
        told.tell((1, true), || "the second".into());
        told.tell((0, false), || "first of all".into());
        assert_eq!(told.text(), "first of all\nthe second\nbefore the third\n");
        let mut told = Told::default();
        for place in 0..1000 {
            told.tell((place, true), || "x".repeat(999));
        }
        let text = told.text();
        assert!(
            text.ends_with("x\nand 934 more\n") && text.len() < MAX_BYTES + 1100,
            "{}",
            text.len()
        );
    }
}
