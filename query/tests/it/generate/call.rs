//! Random calls of functions.

use super::expression::Writer;
use super::schema::Shape;
use tidegauge_query::parser::{Function, Signature, ValueType};

impl Writer<'_> {
    /// A call that takes a range vector.
    pub(super) fn window_call(&mut self, depth: usize) -> String {
        let signature = self.function(|s| s.args.contains(&ValueType::Matrix) && s.returns == ValueType::Vector);
        let counters = matches!(
            signature.function,
            Function::Rate | Function::Increase | Function::Irate | Function::Resets
        );
        if counters && self.rng.percent(60) {
            // Mostly of what they are made for.
            let family =
                self.family_like(|shape| matches!(shape, Shape::Counter | Shape::FloatCounter | Shape::Buckets(_)));
            let series = self.series_of(family);
            return format!("{}({})", signature.name, self.range_of(&series));
        }
        self.call_of(signature, depth)
    }

    /// A call that takes instant vectors, scalars or nothing and gives an instant vector.
    pub(super) fn vector_call(&mut self, depth: usize) -> String {
        let signature = self.function(|s| !s.args.contains(&ValueType::Matrix) && s.returns == ValueType::Vector);
        self.call_of(signature, depth)
    }

    /// A call that gives a scalar.
    pub(super) fn scalar_call(&mut self, depth: usize) -> String {
        let signature = self.function(|s| s.returns == ValueType::Scalar);
        self.call_of(signature, depth)
    }

    fn function(&mut self, fits: impl Fn(&Signature) -> bool) -> &'static Signature {
        let all: Vec<&'static Signature> = Signature::all()
            .iter()
            .filter(|s| fits(s) && self.may(s.name))
            .filter(|s| !s.is_experimental() || self.options.features.experimental_functions)
            .collect();
        self.rng.pick(&all)
    }

    fn call_of(&mut self, signature: &Signature, depth: usize) -> String {
        let args = match signature.function {
            Function::LabelReplace => self.label_replace(depth),
            Function::LabelJoin => self.label_join(depth),
            Function::HistogramQuantile => vec![self.quantile(depth), self.some_buckets(depth)],
            Function::HistogramFraction => {
                vec![self.bound(depth), self.bound(depth), self.some_buckets(depth)]
            }
            Function::HistogramQuantiles => {
                vec![
                    self.some_buckets(depth),
                    "\"q\"".into(),
                    self.quantile(0),
                    self.quantile(0),
                ]
            }
            Function::QuantileOverTime => vec![self.quantile(depth), self.matrix(depth)],
            Function::DoubleExponentialSmoothing => vec![self.matrix(depth), self.factor(), self.factor()],
            Function::Info => self.info_args(depth),
            Function::SortByLabel | Function::SortByLabelDesc => self.sort_by_label(depth),
            Function::Timestamp if self.rng.percent(60) => vec![self.selector()],
            _ => self.plain_args(signature, depth),
        };
        format!("{}({})", signature.name, args.join(", "))
    }

    /// Arguments of the right types, as many as are allowed.
    fn plain_args(&mut self, signature: &Signature, depth: usize) -> Vec<String> {
        let (min, max) = (
            signature.min_args(),
            signature.max_args().unwrap_or(signature.min_args() + 2),
        );
        let count = self.rng.between(min as i64, max as i64) as usize;
        (0..count)
            .filter_map(|i| signature.arg(i))
            .map(|kind| match kind {
                ValueType::Vector => self.vector(depth),
                ValueType::Matrix => self.matrix(depth),
                ValueType::Scalar => self.scalar(depth.min(1)),
                _ => self.string(),
            })
            .collect()
    }

    fn label_replace(&mut self, depth: usize) -> Vec<String> {
        let vector = self.vector(depth);
        let target = self
            .rng
            .pick(&["new", "job", "instance", "le", "__name__", "ü b", "code"]);
        let replacement = self.rng.pick(&[
            "$1",
            "${1}-x",
            "",
            "$1$2",
            "fixed",
            "$0",
            "$name",
            "a$$b",
            "$1x",
            "${name}:$2",
        ]);
        let source = self.rng.pick(&[
            "job",
            "instance",
            "code",
            "missing",
            "__name__",
            "service.name",
            "le",
            "",
        ]);
        let pattern = self.rng.pick(&[
            "(.*)",
            "(.*):(.*)",
            "a.*",
            "(?P<name>[a-z]+).*",
            "",
            "([0-9])[0-9]*",
            ".+",
            "(?i)API|(d)b",
            "nothing",
        ]);
        let (target, replacement, source) = (self.quoted(target), self.quoted(replacement), self.quoted(source));
        vec![vector, target, replacement, source, self.quoted(pattern)]
    }

    fn label_join(&mut self, depth: usize) -> Vec<String> {
        let vector = self.vector(depth);
        let target = self.rng.pick(&["new", "job", "__name__", "my.label", "code"]);
        let separator = self.rng.pick(&["", "-", ", ", "ß"]);
        let sources = self
            .rng
            .some(&["job", "instance", "code", "missing", "__name__", "service.name"], 3);
        let mut args = vec![vector, self.quoted(target), self.quoted(separator)];
        args.extend(sources.into_iter().map(|name| self.quoted(name)));
        args
    }

    fn sort_by_label(&mut self, depth: usize) -> Vec<String> {
        let mut args = vec![self.vector(depth)];
        // Without any label upstream's order is by the whole label set.
        let labels = self
            .rng
            .some(&["job", "instance", "code", "le", "missing", "service.name"], 3);
        args.extend(labels.into_iter().map(|name| self.quoted(name)));
        args
    }

    /// A factor of smoothing: between 0 and 1, or one that is refused.
    fn factor(&mut self) -> String {
        self.rng
            .pick(&["0.5", "0.1", "0.9", "0.3", "0.01", "0.99", "1", "0", "NaN"])
            .to_owned()
    }

    fn quantile(&mut self, depth: usize) -> String {
        match self.rng.below(12) {
            0 => self.rng.pick(&["-0.1", "1.1", "NaN", "Inf", "-Inf"]).to_owned(),
            1 => self.scalar(depth.min(1)),
            _ => self
                .rng
                .pick(&["0.5", "0.9", "0.99", "0", "1", "0.25", "0.001", "0.7"])
                .to_owned(),
        }
    }

    fn bound(&mut self, depth: usize) -> String {
        match self.rng.below(8) {
            0 => self.scalar(depth.min(1)),
            _ => self
                .rng
                .pick(&["0", "0.1", "0.3", "1", "2", "-1", "-Inf", "Inf", "NaN", "10"])
                .to_owned(),
        }
    }

    /// Buckets of histograms, mostly.
    fn some_buckets(&mut self, depth: usize) -> String {
        if self.rng.percent(7) {
            return self.vector(depth);
        }
        let family = self.family_like(|shape| matches!(shape, Shape::Buckets(_)));
        let mut text = self.series_of(family);
        text = if self.rng.percent(60) {
            let function = self.rng.pick(&["rate", "increase", "max_over_time", "delta"]);
            format!("{function}({})", self.range_of(&text))
        } else {
            self.shifted(text)
        };
        match self.rng.below(8) {
            0 => format!("sum by (le) ({text})"),
            1 => format!("sum by (le, job) ({text})"),
            2 => format!("sum without (instance) ({text})"),
            3 => format!("sum by (job) ({text})"),
            _ => text,
        }
    }

    /// A call of a function of histograms.
    pub(super) fn histogram(&mut self, depth: usize) -> String {
        let name = self
            .rng
            .pick(&["histogram_quantile", "histogram_quantile", "histogram_fraction"]);
        match Signature::find(name) {
            Some(signature) if self.may(name) => self.call_of(signature, depth),
            _ => self.some_buckets(depth),
        }
    }

    fn info_args(&mut self, depth: usize) -> Vec<String> {
        let vector = self.vector(depth);
        let second = [
            "",
            "",
            "{version=~\".+\"}",
            "{version=\"1.0\"}",
            "{region=\"eu\", version!=\"\"}",
            "{__name__=\"build_info\"}",
            "{__name__=~\"(build|target)_info\"}",
            "{__name__=~\".+_info\", branch=~\".*\"}",
            "{missing=\"\"}",
            "{\"build_info\", branch=\"main\"}",
            "{__name__!=\"target_info\"}",
        ];
        match self.rng.pick(&second) {
            "" => vec![vector],
            second => vec![vector, second.to_owned()],
        }
    }
}
