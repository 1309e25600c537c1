//! The functions of PromQL: names, arguments and results. What they compute is the engine's.

use super::ast::ValueType;

/// How a function is called.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// Which function.
    pub function: Function,
    /// Its name in a query.
    pub name: &'static str,
    /// The types of its arguments, optional ones included.
    pub args: &'static [ValueType],
    /// How many of the arguments may be left out or repeated.
    pub variadic: Variadic,
    /// What it gives.
    pub returns: ValueType,
    /// Whether it needs `promql-experimental-functions`.
    pub availability: Availability,
}

/// How the number of arguments may differ from the list of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variadic {
    /// Not at all.
    Exact,
    /// The last one may be left out, or stand up to this many times.
    Optional(u8),
    /// The last one may be left out or repeated without end.
    Repeated,
}

impl Variadic {
    /// As the HTTP API shows it: 0, how often the last one may stand, or -1.
    pub const fn code(self) -> i8 {
        match self {
            Self::Exact => 0,
            Self::Optional(count) => count as i8,
            Self::Repeated => -1,
        }
    }
}

/// Whether a function is there without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Always.
    Stable,
    /// Behind `promql-experimental-functions`.
    Experimental,
}

impl Signature {
    /// The signature of a function by its name in a query, experimental or not. Case matters.
    pub fn find(name: &str) -> Option<&'static Self> {
        let at = SIGNATURES.binary_search_by(|s| s.name.cmp(name)).ok()?;
        SIGNATURES.get(at)
    }

    /// All of them, in order of name.
    pub fn all() -> &'static [Self] {
        SIGNATURES
    }

    /// The fewest arguments it takes.
    pub fn min_args(&self) -> usize {
        match self.variadic {
            Variadic::Exact => self.args.len(),
            Variadic::Optional(_) | Variadic::Repeated => self.args.len().saturating_sub(1),
        }
    }

    /// The most arguments it takes; `None` if there is no end.
    pub fn max_args(&self) -> Option<usize> {
        match self.variadic {
            Variadic::Exact => Some(self.args.len()),
            Variadic::Optional(count) => Some(self.min_args() + usize::from(count)),
            Variadic::Repeated => None,
        }
    }

    /// The type of the argument at a position, repeated ones included.
    pub fn arg(&self, position: usize) -> Option<ValueType> {
        match (self.args.get(position), self.variadic) {
            (Some(arg), _) => Some(*arg),
            (None, Variadic::Exact) => None,
            (None, _) => self.args.last().copied(),
        }
    }

    /// Whether it needs `promql-experimental-functions`.
    pub fn is_experimental(&self) -> bool {
        self.availability == Availability::Experimental
    }
}

/// Declares the enum of functions and the table of signatures from one list, which is in order of name.
macro_rules! functions {
    ($($variant:ident $name:literal ($($arg:ident),*) $variadic:expr => $returns:ident, $availability:ident;)*) => {
        /// Every function of PromQL.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "they are PromQL's own names")]
        pub enum Function { $($variant),* }

        static SIGNATURES: &[Signature] = &[$(Signature {
            function: Function::$variant,
            name: $name,
            args: &[$(ValueType::$arg),*],
            variadic: $variadic,
            returns: ValueType::$returns,
            availability: Availability::$availability,
        }),*];
    };
}

use Variadic::{Exact, Optional, Repeated};

functions! {
    Abs "abs" (Vector) Exact => Vector, Stable;
    Absent "absent" (Vector) Exact => Vector, Stable;
    AbsentOverTime "absent_over_time" (Matrix) Exact => Vector, Stable;
    Acos "acos" (Vector) Exact => Vector, Stable;
    Acosh "acosh" (Vector) Exact => Vector, Stable;
    Asin "asin" (Vector) Exact => Vector, Stable;
    Asinh "asinh" (Vector) Exact => Vector, Stable;
    Atan "atan" (Vector) Exact => Vector, Stable;
    Atanh "atanh" (Vector) Exact => Vector, Stable;
    AvgOverTime "avg_over_time" (Matrix) Exact => Vector, Stable;
    Ceil "ceil" (Vector) Exact => Vector, Stable;
    Changes "changes" (Matrix) Exact => Vector, Stable;
    Clamp "clamp" (Vector, Scalar, Scalar) Exact => Vector, Stable;
    ClampMax "clamp_max" (Vector, Scalar) Exact => Vector, Stable;
    ClampMin "clamp_min" (Vector, Scalar) Exact => Vector, Stable;
    Cos "cos" (Vector) Exact => Vector, Stable;
    Cosh "cosh" (Vector) Exact => Vector, Stable;
    CountOverTime "count_over_time" (Matrix) Exact => Vector, Stable;
    DayOfMonth "day_of_month" (Vector) Optional(1) => Vector, Stable;
    DayOfWeek "day_of_week" (Vector) Optional(1) => Vector, Stable;
    DayOfYear "day_of_year" (Vector) Optional(1) => Vector, Stable;
    DaysInMonth "days_in_month" (Vector) Optional(1) => Vector, Stable;
    Deg "deg" (Vector) Exact => Vector, Stable;
    Delta "delta" (Matrix) Exact => Vector, Stable;
    Deriv "deriv" (Matrix) Exact => Vector, Stable;
    DoubleExponentialSmoothing "double_exponential_smoothing" (Matrix, Scalar, Scalar) Exact => Vector, Experimental;
    End "end" () Exact => Scalar, Experimental;
    Exp "exp" (Vector) Exact => Vector, Stable;
    FirstOverTime "first_over_time" (Matrix) Exact => Vector, Experimental;
    Floor "floor" (Vector) Exact => Vector, Stable;
    HistogramAvg "histogram_avg" (Vector) Exact => Vector, Stable;
    HistogramCount "histogram_count" (Vector) Exact => Vector, Stable;
    HistogramFraction "histogram_fraction" (Scalar, Scalar, Vector) Exact => Vector, Stable;
    HistogramQuantile "histogram_quantile" (Scalar, Vector) Exact => Vector, Stable;
    HistogramQuantiles "histogram_quantiles"
        (Vector, String, Scalar, Scalar) Optional(9) => Vector, Experimental;
    HistogramStddev "histogram_stddev" (Vector) Exact => Vector, Stable;
    HistogramStdvar "histogram_stdvar" (Vector) Exact => Vector, Stable;
    HistogramSum "histogram_sum" (Vector) Exact => Vector, Stable;
    Hour "hour" (Vector) Optional(1) => Vector, Stable;
    Idelta "idelta" (Matrix) Exact => Vector, Stable;
    Increase "increase" (Matrix) Exact => Vector, Stable;
    Info "info" (Vector, Vector) Optional(1) => Vector, Experimental;
    Irate "irate" (Matrix) Exact => Vector, Stable;
    LabelJoin "label_join" (Vector, String, String, String) Repeated => Vector, Stable;
    LabelReplace "label_replace" (Vector, String, String, String, String) Exact => Vector, Stable;
    LastOverTime "last_over_time" (Matrix) Exact => Vector, Stable;
    Ln "ln" (Vector) Exact => Vector, Stable;
    Log10 "log10" (Vector) Exact => Vector, Stable;
    Log2 "log2" (Vector) Exact => Vector, Stable;
    MadOverTime "mad_over_time" (Matrix) Exact => Vector, Experimental;
    MaxOf "max_of" (Scalar, Scalar) Exact => Scalar, Experimental;
    MaxOverTime "max_over_time" (Matrix) Exact => Vector, Stable;
    MinOf "min_of" (Scalar, Scalar) Exact => Scalar, Experimental;
    MinOverTime "min_over_time" (Matrix) Exact => Vector, Stable;
    Minute "minute" (Vector) Optional(1) => Vector, Stable;
    Month "month" (Vector) Optional(1) => Vector, Stable;
    Pi "pi" () Exact => Scalar, Stable;
    PredictLinear "predict_linear" (Matrix, Scalar) Exact => Vector, Stable;
    PresentOverTime "present_over_time" (Matrix) Exact => Vector, Stable;
    QuantileOverTime "quantile_over_time" (Scalar, Matrix) Exact => Vector, Stable;
    Rad "rad" (Vector) Exact => Vector, Stable;
    Range "range" () Exact => Scalar, Experimental;
    Rate "rate" (Matrix) Exact => Vector, Stable;
    Resets "resets" (Matrix) Exact => Vector, Stable;
    Round "round" (Vector, Scalar) Optional(1) => Vector, Stable;
    Scalar "scalar" (Vector) Exact => Scalar, Stable;
    Sgn "sgn" (Vector) Exact => Vector, Stable;
    Sin "sin" (Vector) Exact => Vector, Stable;
    Sinh "sinh" (Vector) Exact => Vector, Stable;
    Sort "sort" (Vector) Exact => Vector, Stable;
    SortByLabel "sort_by_label" (Vector, String) Repeated => Vector, Experimental;
    SortByLabelDesc "sort_by_label_desc" (Vector, String) Repeated => Vector, Experimental;
    SortDesc "sort_desc" (Vector) Exact => Vector, Stable;
    Sqrt "sqrt" (Vector) Exact => Vector, Stable;
    Start "start" () Exact => Scalar, Experimental;
    StartTimestamp "start_timestamp" (Vector) Exact => Vector, Experimental;
    StddevOverTime "stddev_over_time" (Matrix) Exact => Vector, Stable;
    StdvarOverTime "stdvar_over_time" (Matrix) Exact => Vector, Stable;
    Step "step" () Exact => Scalar, Experimental;
    SumOverTime "sum_over_time" (Matrix) Exact => Vector, Stable;
    Tan "tan" (Vector) Exact => Vector, Stable;
    Tanh "tanh" (Vector) Exact => Vector, Stable;
    Time "time" () Exact => Scalar, Stable;
    Timestamp "timestamp" (Vector) Exact => Vector, Stable;
    TsOfFirstOverTime "ts_of_first_over_time" (Matrix) Exact => Vector, Experimental;
    TsOfLastOverTime "ts_of_last_over_time" (Matrix) Exact => Vector, Experimental;
    TsOfMaxOverTime "ts_of_max_over_time" (Matrix) Exact => Vector, Experimental;
    TsOfMinOverTime "ts_of_min_over_time" (Matrix) Exact => Vector, Experimental;
    Vector "vector" (Scalar) Exact => Vector, Stable;
    Year "year" (Vector) Optional(1) => Vector, Stable;
}

impl Function {
    /// How it is called.
    pub fn signature(self) -> &'static Signature {
        // The table has one entry per variant, in the order of the variants.
        #[expect(clippy::indexing_slicing, reason = "the macro makes one entry per variant")]
        &SIGNATURES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_complete() {
        assert!(SIGNATURES.is_sorted_by(|a, b| a.name < b.name));
        for signature in SIGNATURES {
            assert_eq!(Signature::find(signature.name), Some(signature));
            assert_eq!(signature.function.signature(), signature);
        }
        assert_eq!(Signature::find("Rate"), None);
    }

    #[test]
    fn argument_counts() {
        for (name, min, max) in [
            ("rate", 1, Some(1)),
            ("round", 1, Some(2)),
            ("hour", 0, Some(1)),
            ("label_join", 3, None),
            ("sort_by_label", 1, None),
            ("histogram_quantiles", 3, Some(12)),
            ("time", 0, Some(0)),
        ] {
            let s = Signature::find(name).unwrap();
            assert_eq!((s.min_args(), s.max_args()), (min, max), "{name}");
        }
        assert_eq!(Signature::find("label_join").unwrap().arg(9), Some(ValueType::String));
    }
}
