//! Which series a rule takes, and what it calls their metric.

use regex::{Regex, RegexBuilder};
use tidegauge_model::from_re2;

/// A compiled expression may take so much; rules are few.
const MAX_REGEX_BYTES: usize = 4 << 20;

/// An expression as Go reads it, found anywhere in a text.
///
/// # Errors
/// What is wrong with it.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    let rewritten = from_re2(pattern).map_err(|why| format!("error parsing regexp: {why}"))?;
    RegexBuilder::new(&rewritten)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            let last = text.trim_end().lines().next_back().unwrap_or_default();
            format!("error parsing regexp: {}", last.strip_prefix("error: ").unwrap_or(last))
        })
}

/// A condition on the name of a series.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    regex: Regex,
    wanted: bool,
}

impl Filter {
    /// The name must match, anywhere in it.
    pub(super) fn is(pattern: &str) -> Result<Self, String> {
        regex(pattern).map(|regex| Self { regex, wanted: true })
    }

    /// The name must not match.
    pub(super) fn is_not(pattern: &str) -> Result<Self, String> {
        regex(pattern).map(|regex| Self { regex, wanted: false })
    }

    pub(crate) fn takes(&self, series: &str) -> bool {
        self.regex.is_match(series) == self.wanted
    }
}

/// From the name of a series to that of its metric.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    matches: Regex,
    takes: String,
}

impl Naming {
    /// By the keys `matches` and `as`, which may be empty: every series is taken then, by its own name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(matches: &str, takes: &str) -> Result<Self, String> {
        let matches = regex(if matches.is_empty() { "(?s)^.*$" } else { matches })?;
        let takes = match (takes, matches.captures_len()) {
            ("", 1) => "$0",
            ("", 2) => "$1",
            ("", _) => return Err("it has several groups: `as` must say which the name is made of".to_owned()),
            (given, _) => given,
        };
        Ok(Self {
            matches,
            takes: takes.to_owned(),
        })
    }

    /// What the metric of a series is called; `None` if the rule does not take it.
    pub(crate) fn name(&self, series: &str) -> Option<String> {
        let mut name = String::new();
        self.matches.captures(series)?.expand(&self.takes, &mut name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_as_go_expands_them() {
        for (matches, takes, series, name) in [
            ("", "", "up", Some("up")),
            ("", "x_$0", "up", Some("x_up")),
            ("", "cheesy", "cheddar", Some("cheesy")),
            ("^(.*)_total$", "", "hits_total", Some("hits")),
            ("^(.*)_total$", "${1}_per_second", "hits_total", Some("hits_per_second")),
            ("^(.*)_total$", "$1_per_second", "hits_total", Some("")),
            ("^(?P<base>.*)_total$", "${base}.x$$", "hits_total", Some("hits.x$")),
            ("^container_", "", "container_x", Some("container_")),
            ("^(.*)_total$", "", "hits", None),
            ("h(.)t", "$1$9", "xhits", Some("i")),
        ] {
            let naming = Naming::new(matches, takes).unwrap();
            assert_eq!(naming.name(series).as_deref(), name, "{matches} {takes}");
        }
        assert!(Naming::new("^(.)(.)$", "").unwrap_err().contains("several groups"));
        assert!(Naming::new("(", "").unwrap_err().contains("error parsing regexp"));
        assert!(Naming::new("(?x)a", "").is_err());
    }

    #[test]
    fn filters_look_anywhere() {
        assert!(Filter::is("_total").unwrap().takes("a_total_b"));
        assert!(!Filter::is("^_total").unwrap().takes("a_total"));
        assert!(!Filter::is_not("_total$").unwrap().takes("a_total"));
    }
}
