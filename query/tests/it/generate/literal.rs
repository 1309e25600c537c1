//! Random numbers, strings, durations.

use super::expression::Writer;

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "10",
    "0.5",
    "-1",
    "-0",
    "100",
    "1e3",
    ".5",
    "2.",
    "0x1F",
    "017",
    "1_000",
    "1e-9",
    "1E+2",
    "Inf",
    "+Inf",
    "-Inf",
    "NaN",
    "nan",
    "inf",
    "5m",
    "1h30m",
    "100ms",
    "-1m",
    "3.7",
    "1e100",
    "9007199254740993",
];

/// Ranges and windows of subqueries.
const DURATIONS: &[&str] = &[
    "1m", "1m", "2m", "5m", "5m", "30s", "45s", "15s", "90s", "1m30s", "10m", "20m", "29999ms", "300", "61.5", "0x3c",
    "7m15s", "1h", "1ms", "3_00",
];
const STEPS: &[&str] = &["1m", "30s", "15s", "17s", "45s", "2m", "60", "20.5", "90001ms"];
const OFFSETS: &[&str] = &[
    "1m", "30s", "-30s", "5m", "-5m", "15s", "1ms", "-1ms", "0s", "10", "-10.5", "1h", "20m", "+1m", "0",
];

impl Writer<'_> {
    /// A number literal.
    pub(super) fn number(&mut self) -> String {
        match self.rng.below(4) {
            0 => self.rng.between(-5, 20).to_string(),
            1 => format!("{}", self.rng.between(-400, 4000) as f64 / 16.0),
            _ => self.rng.pick(NUMBERS).to_owned(),
        }
    }

    /// A string literal.
    pub(super) fn string(&mut self) -> String {
        let texts = [
            "",
            "a",
            "job",
            "größe 🌡",
            "a b",
            "$1",
            "line\nbreak",
            "quo\"te",
            "back\\slash",
            "200",
        ];
        let text = self.rng.pick(&texts);
        self.quoted(text)
    }

    /// A text in one of the three kinds of quotes.
    pub(super) fn quoted(&mut self, text: &str) -> String {
        let quote = if self.options.untidy { self.rng.below(6) } else { 0 };
        match quote {
            1 if !text.contains('`') => return format!("`{text}`"),
            2 => return escaped(text, '\''),
            _ => {}
        }
        escaped(text, '"')
    }

    /// A duration above zero.
    pub(super) fn duration(&mut self) -> String {
        let plain = self.rng.pick(DURATIONS);
        self.computed(plain)
    }

    /// The step of a subquery, long enough for its range.
    pub(super) fn step(&mut self) -> String {
        let plain = self.rng.pick(STEPS);
        self.computed(plain)
    }

    /// An offset.
    pub(super) fn offset(&mut self) -> String {
        let plain = self.rng.pick(OFFSETS);
        if self.options.features.duration_expressions && self.rng.percent(10) {
            let other = self.rng.pick(&["1m", "5", "-30s"]);
            let op = self.rng.pick(&["+", "-", "*"]);
            return format!("({plain} {op} {other})");
        }
        plain.to_owned()
    }

    /// The duration, or an expression of nearly the same value.
    fn computed(&mut self, plain: &str) -> String {
        if !self.options.features.duration_expressions || !self.rng.percent(15) {
            return plain.to_owned();
        }
        match self.rng.below(16) {
            // Nothing, which is refused.
            8 => format!("{plain} - {plain}"),
            0 => format!("{plain} + 1s"),
            1 => format!("{plain} * 2"),
            2 => format!("2 * {plain} - {plain} / 2"),
            3 => format!("({plain} + 30) / 1"),
            4 => format!("-(-{plain})"),
            5 => format!("{plain} + 7 % 4"),
            6 => format!("{plain} * 2 ^ -1 ^ 2"),
            _ => format!("+{plain}"),
        }
    }
}

fn escaped(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}
