//! Calls: those over instant vectors and scalars.

use super::numbers::{log2, max, min};
use super::walk::Walk;
use super::{Answer, Failure, Item, Outcome, calendar};
use tidegauge_model::Labels;
use tidegauge_query::parser::{Call, ExprKind, Function};

impl Walk<'_> {
    pub(super) fn call(&self, call: &Call, at: i64) -> Outcome<Answer> {
        use Function as F;
        if let Some(range) = Self::range_argument(&call.args) {
            return self.range_call(call, range, at);
        }
        let function = call.function.function;
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let number = |index: usize| self.scalar(&call.args[index], at);
        let vector = |index: usize| self.vector(&call.args[index], at);
        Ok(match function {
            F::Pi => Answer::Scalar(std::f64::consts::PI),
            F::Time => Answer::Scalar(seconds(at)),
            F::Start => Answer::Scalar(seconds(self.start)),
            F::End => Answer::Scalar(seconds(self.end)),
            F::Range => Answer::Scalar(seconds(self.durations.range_ms)),
            F::Step => Answer::Scalar(seconds(self.durations.step_ms)),
            F::MinOf => Answer::Scalar(min(number(0)?, number(1)?)),
            F::MaxOf => Answer::Scalar(max(number(0)?, number(1)?)),
            F::Scalar => Answer::Scalar(match vector(0)?.as_slice() {
                [only] => only.value,
                _ => f64::NAN,
            }),
            F::Vector => Answer::Vector(vec![nobody(number(0)?)]),
            F::Absent => Answer::Vector(self.absence(&call.args[0], vector(0)?.is_empty())),
            F::Timestamp => Answer::Vector(self.timestamps(call, at)?),
            F::Sort | F::SortDesc | F::SortByLabel | F::SortByLabelDesc => Answer::Vector(vector(0)?),
            F::LabelReplace | F::LabelJoin => Answer::Vector(self.relabelled(call, at)?),
            F::HistogramQuantile | F::HistogramFraction | F::HistogramQuantiles => {
                Answer::Vector(self.histograms(call, at)?)
            }
            F::HistogramAvg | F::HistogramCount | F::HistogramStddev | F::HistogramStdvar | F::HistogramSum => {
                // Functions of native histograms, of which there are none.
                vector(0)?;
                Answer::Vector(Vec::new())
            }
            F::Info => Answer::Vector(self.info(call, at)?),
            F::Clamp | F::ClampMin | F::ClampMax => {
                let (least, most) = match function {
                    F::ClampMin => (number(1)?, f64::INFINITY),
                    F::ClampMax => (f64::NEG_INFINITY, number(1)?),
                    _ => (number(1)?, number(2)?),
                };
                let items = vector(0)?;
                if most < least {
                    return Ok(Answer::Vector(Vec::new()));
                }
                Answer::Vector(self.changed(items, |value| max(least, min(most, value)))?)
            }
            F::Round => {
                let nearest = if call.args.len() > 1 { number(1)? } else { 1.0 };
                let by = 1.0 / nearest;
                Answer::Vector(self.changed(vector(0)?, |value| (value * by + 0.5).floor() / by)?)
            }
            _ if calendar::is_of_calendar(function) => Answer::Vector(self.dates(call, at)?),
            _ => match of_one_number(function) {
                Some(f) => Answer::Vector(self.changed(vector(0)?, f)?),
                // `start_timestamp`
                None => return Err(Failure::Unsupported("a function of what is not stored")),
            },
        })
    }

    /// The time of the sample that a selector found, else that of the step.
    fn timestamps(&self, call: &Call, at: i64) -> Outcome<Vec<Item>> {
        let timed = match &call.args[0].unparenthesised().kind {
            ExprKind::Vector(selector) => self.newest_samples(selector, at)?,
            _ => self
                .vector(&call.args[0], at)?
                .into_iter()
                .map(|item| (item, at))
                .collect(),
        };
        let items = timed.into_iter().map(|(item, when)| Item {
            value: when as f64 / 1000.0,
            ..self.nameless(item)
        });
        self.distinct(items.collect())
    }

    /// Functions of the calendar: of the values, else of the time of the step.
    fn dates(&self, call: &Call, at: i64) -> Outcome<Vec<Item>> {
        let function = call.function.function;
        let Some(arg) = call.args.first() else {
            return Ok(vec![nobody(calendar::of(function, (at / 1000) as f64)?)]);
        };
        let mut items = self.vector(arg, at)?;
        for item in &mut items {
            item.value = calendar::of(function, item.value)?;
        }
        self.changed(items, |value| value)
    }
}

/// A value without labels.
fn nobody(value: f64) -> Item {
    Item {
        labels: Labels::empty(),
        value,
        drop_name: false,
    }
}

fn of_one_number(function: Function) -> Option<fn(f64) -> f64> {
    use Function as F;
    Some(match function {
        F::Abs => f64::abs,
        F::Ceil => f64::ceil,
        F::Floor => f64::floor,
        F::Exp => f64::exp,
        F::Sqrt => f64::sqrt,
        F::Ln => f64::ln,
        F::Log2 => log2,
        F::Log10 => |v| v.ln() * std::f64::consts::LOG10_E,
        F::Sin => f64::sin,
        F::Cos => f64::cos,
        F::Tan => f64::tan,
        F::Asin => f64::asin,
        F::Acos => f64::acos,
        F::Atan => f64::atan,
        F::Sinh => f64::sinh,
        F::Cosh => f64::cosh,
        F::Tanh => f64::tanh,
        F::Asinh => f64::asinh,
        F::Acosh => f64::acosh,
        F::Atanh => f64::atanh,
        F::Rad => |v| v * std::f64::consts::PI / 180.0,
        F::Deg => |v| v * 180.0 / std::f64::consts::PI,
        F::Sgn => |v| match v {
            _ if v > 0.0 => 1.0,
            _ if v < 0.0 => -1.0,
            _ => v,
        },
        _ => return None,
    })
}
