//! Random operators: between scalars, between vectors, over vectors.

use super::expression::Writer;
use super::schema::{FAMILIES, LABELS, Shape};
use tidegauge_query::parser::{AggregateOp, ValueType};

const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISON: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
const SETS: &[&str] = &["and", "or", "unless"];
/// Functions that keep the labels as they are, the name apart.
const ELEMENTWISE: &[&str] = &["abs", "ceil", "floor", "sgn", "sqrt", "deg", "exp"];

impl Writer<'_> {
    /// A scalar.
    pub(super) fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.rng.below(6) {
                0 => "time()".to_owned(),
                1 => "pi()".to_owned(),
                _ => self.number(),
            };
        }
        let below = depth - 1;
        match self.rng.below(8) {
            0 | 1 => {
                let (lhs, rhs) = (self.scalar(below), self.scalar(below));
                let (lhs, rhs) = (self.operand(lhs), self.operand(rhs));
                let op = self.rng.pick(ARITHMETIC);
                format!("{lhs} {op} {rhs}")
            }
            2 => {
                let (lhs, rhs) = (self.scalar(below), self.scalar(below));
                // In parentheses: comparisons of what is itself compared would need `bool` elsewhere.
                format!("(({lhs}) {} bool ({rhs}))", self.rng.pick(COMPARISON))
            }
            3 => format!("-{}", self.scalar(below)),
            4 => format!("({})", self.scalar(below)),
            5 => format!("scalar({})", self.one_series(below)),
            _ => self.scalar_call(below),
        }
    }

    /// A vector that has one series, mostly.
    fn one_series(&mut self, depth: usize) -> String {
        match self.rng.below(4) {
            0 => self.vector(depth),
            1 => "single".to_owned(),
            _ => format!(
                "{}({})",
                self.rng.pick(&["sum", "max", "avg", "count"]),
                self.vector(depth)
            ),
        }
    }

    /// An operator between a vector and a scalar.
    pub(super) fn with_scalar(&mut self, depth: usize) -> String {
        let (vector, scalar) = (self.vector(depth), self.scalar(depth.min(1)));
        let (vector, scalar) = (self.operand(vector), self.operand(scalar));
        let op = self.value_operator();
        if self.rng.percent(70) {
            format!("{vector} {op} {scalar}")
        } else {
            format!("{scalar} {op} {vector}")
        }
    }

    /// Operators one after another, for their precedence. What is compared is a vector: it stands first.
    pub(super) fn chain(&mut self, depth: usize) -> String {
        let first = self.vector(depth);
        let mut text = self.operand(first);
        for _ in 0..self.rng.between(2, 4) {
            let next = if self.rng.percent(25) {
                self.vector(0)
            } else {
                self.scalar(0)
            };
            let next = self.operand(next);
            text = format!("{text} {} {next}", self.value_operator());
        }
        text
    }

    /// An arithmetic operator or a comparison.
    fn value_operator(&mut self) -> String {
        if self.rng.percent(60) {
            return self.rng.pick(ARITHMETIC).to_owned();
        }
        let op = self.rng.pick(COMPARISON);
        if self.rng.percent(40) {
            format!("{op} bool")
        } else {
            op.to_owned()
        }
    }

    /// An operator between vectors.
    pub(super) fn binary(&mut self, depth: usize) -> String {
        match self.rng.below(10) {
            0..=2 => self.same_series(depth),
            3..=5 => self.grouped_sides(depth),
            6 | 7 => self.set(depth),
            _ => self.any_sides(depth),
        }
    }

    /// Two vectors of the same series.
    fn same_series(&mut self, depth: usize) -> String {
        let family = &FAMILIES[self.rng.below(FAMILIES.len())];
        let (lhs, rhs) = (self.alike(family.name, depth), self.alike(family.name, depth));
        let op = self.value_operator();
        let matching = match self.rng.below(6) {
            0 => format!("ignoring ({}) ", self.rng.pick(&["missing", "__name__", ""])),
            1 => {
                let labels: Vec<&str> = family.labels.iter().map(|(name, _)| *name).collect();
                let mut labels: Vec<String> = labels.iter().map(|name| self.label(name)).collect();
                if matches!(family.shape, Shape::Buckets(_)) {
                    labels.push("le".into());
                }
                let fill = if self.rng.percent(20) { "group_left () " } else { "" };
                format!("on ({}) {fill}", labels.join(", "))
            }
            _ => String::new(),
        };
        let fill = self.fill();
        format!("{lhs} {op} {matching}{fill}{rhs}")
    }

    /// `fill`, where it is switched on.
    fn fill(&mut self) -> String {
        if !self.options.features.fill_modifiers || !self.rng.percent(20) {
            return String::new();
        }
        let name = self.rng.pick(&["fill", "fill_left", "fill_right"]);
        format!("{name}({}) ", self.rng.pick(&["0", "1.5", "-1", "NaN"]))
    }

    /// A vector with the labels of a family.
    fn alike(&mut self, name: &str, depth: usize) -> String {
        let quoted = self.quoted(name);
        let series = format!("{{{quoted}}}");
        match self.rng.below(4) {
            0 => self.shifted(series),
            1 if depth > 0 => format!("{}({series})", self.rng.pick(ELEMENTWISE)),
            2 => format!(
                "{}({})",
                self.rng.pick(&["rate", "avg_over_time", "max_over_time"]),
                self.range_of(&series)
            ),
            _ => series,
        }
    }

    /// Two vectors that are grouped by the labels they are matched on.
    fn grouped_sides(&mut self, depth: usize) -> String {
        let labels = self
            .rng
            .pick(&["job", "job, instance", "instance", "code", "job, code", ""]);
        let (lhs, rhs) = (self.vector(depth), self.vector(depth));
        let (one, two) = (
            self.rng.pick(&["sum", "max", "count", "avg"]),
            self.rng.pick(&["min", "sum", "group"]),
        );
        let op = self.value_operator();
        let (mut lhs, mut rhs) = (
            format!("{one} by ({labels}) ({lhs})"),
            format!("{two} by ({labels}) ({rhs})"),
        );
        let group = match self.rng.below(6) {
            0 => {
                lhs = self.many_side(depth);
                self.group("group_left", labels)
            }
            1 => {
                rhs = self.many_side(depth);
                self.group("group_right", labels)
            }
            _ => String::new(),
        };
        let fill = self.fill();
        format!("{lhs} {op} on ({labels}) {group}{fill}{rhs}")
    }

    fn many_side(&mut self, depth: usize) -> String {
        let text = self.vector(depth);
        self.operand(text)
    }

    /// `group_left` or `group_right`, copying labels that are not matched on.
    fn group(&mut self, side: &str, matched: &str) -> String {
        let mut copied = self.rng.some(LABELS, 2);
        copied.retain(|label| !matched.contains(label));
        let copied: Vec<String> = copied.into_iter().map(|name| self.label(name)).collect();
        format!("{side} ({}) ", copied.join(", "))
    }

    /// Labels with commas between.
    fn labels(&mut self, most: usize) -> String {
        let labels = self.rng.some(LABELS, most);
        let labels: Vec<String> = labels.into_iter().map(|name| self.label(name)).collect();
        labels.join(", ")
    }

    /// A set operator.
    fn set(&mut self, depth: usize) -> String {
        let (lhs, rhs) = (self.vector(depth), self.vector(depth));
        let (lhs, rhs) = (self.operand(lhs), self.operand(rhs));
        let op = self.rng.pick(SETS);
        let matching = match self.rng.below(5) {
            0 => format!("on ({}) ", self.labels(3)),
            1 => format!("ignoring ({}) ", self.labels(3)),
            _ => String::new(),
        };
        format!("{lhs} {op} {matching}{rhs}")
    }

    /// Whatever vectors, matched in whatever way: mostly nothing comes of it, or an error.
    fn any_sides(&mut self, depth: usize) -> String {
        let (lhs, rhs) = (self.vector(depth), self.vector(depth));
        let (lhs, rhs) = (self.operand(lhs), self.operand(rhs));
        let op = self.value_operator();
        let mut matching = String::new();
        if self.rng.percent(60) {
            let kind = self.rng.pick(&["on", "ignoring"]);
            // A label that is matched on cannot be copied as well.
            let (own, copied) = LABELS.split_at(LABELS.len() / 2);
            let on = self.rng.some(own, 3).join(", ");
            matching = format!("{kind} ({on}) ");
            if self.rng.percent(40) {
                let side = self.rng.pick(&["group_left", "group_right"]);
                let copied = self.rng.some(copied, 2);
                let copied: Vec<String> = copied.into_iter().map(|name| self.label(name)).collect();
                matching.push_str(&format!("{side} ({}) ", copied.join(", ")));
            }
        }
        let fill = if matching.is_empty() {
            String::new()
        } else {
            self.fill()
        };
        format!("{lhs} {op} {matching}{fill}{rhs}")
    }

    /// Labels of an info metric joined the usual way.
    pub(super) fn info_join(&mut self, depth: usize) -> String {
        let vector = self.vector(depth);
        let vector = self.operand(vector);
        let info = self.rng.pick(&[
            "target_info",
            "build_info",
            "up",
            "max by (job, instance, version) (target_info)",
        ]);
        let labels = self
            .rng
            .pick(&["", "version", "version, region", "branch", "missing", "le"]);
        if self.rng.percent(70) {
            format!("{vector} * on (job, instance) group_left ({labels}) {info}")
        } else {
            format!("{info} * on (job, instance) group_right ({labels}) {vector}")
        }
    }

    /// An aggregation.
    pub(super) fn aggregate(&mut self, depth: usize) -> String {
        let may_be_experimental = self.options.features.experimental_functions;
        let all: Vec<AggregateOp> = AggregateOp::ALL
            .into_iter()
            .filter(|op| self.may(op.as_str()) && (may_be_experimental || !op.is_experimental()))
            .collect();
        let op = self.rng.pick(&all);
        let grouping = match self.rng.below(5) {
            0 | 1 => String::new(),
            2 | 3 => format!("by ({})", self.labels(3)),
            _ => format!("without ({})", self.labels(3)),
        };
        let param = match op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => self.count(depth),
            AggregateOp::Quantile => self.ratio(depth, &["0.5", "0.9", "0", "1", "0.25", "-0.5", "2", "NaN"]),
            AggregateOp::LimitRatio => self.ratio(depth, &["0.5", "-0.5", "0.9", "1", "-1", "0.1", "1.5", "-2"]),
            _ => match op.param() {
                Some(ValueType::String) => self
                    .rng
                    .pick(&["\"value\"", "\"job\"", "\"my.value\"", "\"instance\""])
                    .to_owned(),
                _ => String::new(),
            },
        };
        let comma = if param.is_empty() { "" } else { ", " };
        let vector = self.vector(depth);
        let name = op.as_str();
        let name = if self.options.untidy && self.rng.percent(10) {
            name.to_uppercase()
        } else {
            name.to_owned()
        };
        if self.rng.percent(70) && !grouping.is_empty() {
            format!("{name} {grouping} ({param}{comma}{vector})")
        } else {
            let space = if grouping.is_empty() { "" } else { " " };
            format!("{name}({param}{comma}{vector}){space}{grouping}")
        }
    }

    /// How many series `topk` and its like shall take.
    fn count(&mut self, depth: usize) -> String {
        match self.rng.below(12) {
            0 => self
                .rng
                .pick(&["0", "-1", "1e3", "2.9", "Inf", "NaN", "1e100"])
                .to_owned(),
            1 => self.scalar(depth.min(1)),
            _ => self.rng.between(1, 6).to_string(),
        }
    }

    fn ratio(&mut self, depth: usize, values: &[&str]) -> String {
        if self.rng.percent(8) {
            self.scalar(depth.min(1))
        } else {
            self.rng.pick(values).to_owned()
        }
    }
}
