//! How often repetitions within repetitions repeat what is innermost: RE2 allows a thousand times.

/// The most that counted repetitions may come to, one within the other.
const MOST: u32 = 1000;

/// Follows a pattern from left to right.
#[derive(Debug)]
pub(super) struct Repeats {
    /// Of each open group, how often what has been read in it is repeated at most.
    open: Vec<u32>,
    /// The same of the group that is being read.
    group: u32,
    /// The same of what was read last, which a repetition would repeat.
    last: u32,
}

impl Repeats {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            group: 1,
            last: 1,
        }
    }

    /// One character, class or escape; or a bar, which nothing repeats.
    pub(super) fn one(&mut self) {
        self.group = self.group.max(self.last);
        self.last = 1;
    }

    /// A group begins.
    pub(super) fn open(&mut self) {
        self.one();
        self.open.push(self.group);
        self.group = 1;
    }

    /// A group ends; what it holds is repeated together.
    pub(super) fn close(&mut self) {
        self.one();
        self.last = self.group;
        // A parenthesis too many is told by whoever reads the rewritten pattern.
        self.group = self.open.pop().unwrap_or(1);
    }

    /// What was read last is repeated `min` to `max` times, for ever without `max`.
    ///
    /// # Errors
    /// The number of times that this comes to, if that is too many.
    pub(super) fn counted(&mut self, min: u32, max: Option<u32>) -> Result<(), u32> {
        // What is not there at all repeats nothing; upstream's order of these.
        self.last = match max {
            Some(0) => 1,
            most => self.last.saturating_mul(most.unwrap_or(min).max(1)),
        };
        if self.last > MOST { Err(self.last) } else { Ok(()) }
    }
}
