//! Random selectors: of series at a time, over a range, and subqueries.

use super::expression::Writer;
use super::schema::{FAMILIES, Family, LABELS, Shape};

impl Writer<'_> {
    /// A selector of an instant vector, perhaps shifted.
    pub(super) fn selector(&mut self) -> String {
        let text = self.series();
        self.shifted(text)
    }

    /// A selector of one family, or of several, without modifiers.
    pub(super) fn series(&mut self) -> String {
        if self.rng.percent(8) {
            return self.several();
        }
        let family = self.family();
        self.series_of(family)
    }

    fn family(&mut self) -> &'static Family {
        // Families that can be worth more than others come more often.
        &FAMILIES[self.rng.below(FAMILIES.len())]
    }

    /// A family whose values have this shape.
    pub(super) fn family_like(&mut self, like: impl Fn(Shape) -> bool) -> &'static Family {
        loop {
            let family = self.family();
            if like(family.shape) {
                return family;
            }
        }
    }

    /// A selector of a family without modifiers.
    pub(super) fn series_of(&mut self, family: &Family) -> String {
        let mut matchers: Vec<String> = Vec::new();
        let most = self.rng.weighted(&[(6, 0), (5, 1), (2, 2)]);
        for _ in 0..most {
            matchers.push(self.matcher(family));
        }
        let name = self.quoted_name(family.name);
        let is_word = family
            .name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
        if is_word && self.rng.percent(85) {
            return match (matchers.is_empty(), self.rng.percent(5)) {
                (true, false) => family.name.to_owned(),
                (true, true) => format!("{}{{}}", family.name),
                _ => format!("{}{{{}}}", family.name, matchers.join(", ")),
            };
        }
        let at = self.rng.below(matchers.len() + 1);
        matchers.insert(at, name);
        let comma = if self.rng.percent(5) { "," } else { "" };
        format!("{{{}{comma}}}", matchers.join(", "))
    }

    /// A metric name within braces.
    fn quoted_name(&mut self, name: &str) -> String {
        let quoted = self.quoted(name);
        if self.rng.percent(30) {
            format!("__name__={quoted}")
        } else {
            quoted
        }
    }

    /// A selector that may meet several names.
    fn several(&mut self) -> String {
        let by_name = [
            "{__name__=~\"twin:.*\"}",
            "{__name__=~\"twin:one|twin:two|limit\"}",
            "{__name__=~\".*_total\", job=\"api\"}",
            "{__name__!~\"[a-z].*\", job=~\".+\"}",
            "{job=\"db\", code=\"404\"}",
            "{instance=\"a:9100\", mode=\"\", le=\"\"}",
            "{__name__=~\"(up|queue)\", code!=\"500\"}",
            "{__name__=~\"t.*\", __name__!=\"target_info\"}",
            "no_such_metric",
            "{__name__=\"up\", job=\"nobody\"}",
        ];
        self.rng.pick(&by_name).to_owned()
    }

    fn matcher(&mut self, family: &Family) -> String {
        let own = !family.labels.is_empty() && self.rng.percent(85);
        let (label, value) = if own {
            let (label, values) = self.rng.pick(family.labels);
            (label, self.rng.pick(values))
        } else {
            (self.other_label(), self.rng.pick(&["", "api", "x"]))
        };
        let name = self.label(label);
        let regex = self.rng.percent(40);
        let op = match (regex, self.rng.percent(30)) {
            (false, false) => "=",
            (false, true) => "!=",
            (true, false) => "=~",
            (true, true) => "!~",
        };
        let value = if regex {
            let rest: String = value.chars().skip(1).collect();
            let pattern = match self.rng.below(9) {
                0 => format!(".{}", escaped_pattern(&rest)),
                1 => format!("{}|other", escaped_pattern(value)),
                2 => format!("{}|", escaped_pattern(value)),
                3 => ".*".to_owned(),
                4 => ".+".to_owned(),
                5 => format!("(?i){}", escaped_pattern(&value.to_uppercase())),
                6 => "[a-m].*".to_owned(),
                7 => String::new(),
                _ => format!("^{}$", escaped_pattern(value)),
            };
            self.quoted(&pattern)
        } else {
            self.quoted(value)
        };
        format!("{name}{op}{value}")
    }

    /// A label that may be none of the family's. Not the name, which may be said once only.
    fn other_label(&mut self) -> &'static str {
        loop {
            let label = self.rng.pick(LABELS);
            if label != "__name__" {
                return label;
            }
        }
    }

    /// A label's name as it stands in braces or groupings.
    pub(super) fn label(&mut self, name: &str) -> String {
        let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if is_word && !(self.options.untidy && self.rng.percent(5)) {
            name.to_owned()
        } else {
            self.quoted(name)
        }
    }

    /// With `offset` and `@`, or without.
    pub(super) fn shifted(&mut self, text: String) -> String {
        let (offset, at) = (self.rng.percent(12), self.rng.percent(8));
        let mut modifiers = Vec::new();
        if offset {
            modifiers.push(format!("offset {}", self.offset()));
        }
        if at {
            modifiers.push(self.at());
        }
        if self.rng.percent(50) {
            modifiers.reverse();
        }
        let mut text = text;
        for modifier in modifiers {
            text.push(' ');
            text.push_str(&modifier);
        }
        if text.contains("offset (") {
            // An operator that follows would be taken for one of durations.
            text = format!("({text})");
        }
        text
    }

    fn at(&mut self) -> String {
        let data = self.options.data;
        match self.rng.below(6) {
            0 => "@ start()".to_owned(),
            1 => "@ end()".to_owned(),
            2 => format!("@ {}", self.rng.pick(&["0", "-1", "1e9"])),
            _ => {
                let ms = self.rng.between(data.start_ms - 60_000, data.end_ms + 400_000);
                format!("@ {}", ms as f64 / self.rng.pick(&[1000.0, 1000.0, 1000.0]))
            }
        }
    }

    /// A range vector: a range selector, or a subquery.
    pub(super) fn matrix(&mut self, depth: usize) -> String {
        let may_nest = self.subqueries < self.options.max_subqueries;
        if may_nest && self.rng.percent(if depth == 0 { 10 } else { 45 }) {
            return self.subquery(depth);
        }
        let series = self.series();
        self.range_of(&series)
    }

    /// A range selector of these series.
    pub(super) fn range_of(&mut self, series: &str) -> String {
        let text = format!("{series}[{}]", self.duration());
        self.shifted(text)
    }

    fn subquery(&mut self, depth: usize) -> String {
        self.subqueries += 1;
        let inner = if depth == 0 {
            self.series()
        } else {
            let inner = self.vector(depth - 1);
            format!("({inner})")
        };
        self.subqueries -= 1;
        let range = self.rng.pick(&["5m", "2m", "10m", "1m", "7m30s", "301"]);
        let step = if self.rng.percent(25) {
            String::new()
        } else {
            self.step()
        };
        self.shifted(format!("{inner}[{range}:{step}]"))
    }
}

/// A text as a pattern that matches it.
fn escaped_pattern(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() && c != '"' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
