//! What random data is called, so that random expressions can name it.

/// Series of one name.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// Labels with the values they take; the series are all combinations, less a few left out at random.
    pub(crate) labels: &'static [(&'static str, &'static [&'static str])],
    pub(crate) shape: Shape,
}

/// What the values of a family look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Rises by whole numbers, falls to near zero at times.
    Counter,
    /// Rises by fractions, falls to near zero at times.
    FloatCounter,
    /// Wanders around in steps of a hundredth.
    Gauge,
    /// Whole numbers of little size, some below zero.
    Small,
    /// Large whole numbers.
    Bytes,
    /// 1 or 0.
    Up,
    /// NaN, infinities, both zeros, numbers close to the ends of what a float holds.
    Special,
    /// Unix times, some far away.
    Clock,
    /// Always the same.
    Constant,
    /// Always 1, as info metrics are; the values of the last label take turns.
    Info,
    /// The buckets of a histogram: the labels without `le`.
    Buckets(Oddity),
}

/// What is wrong with a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// Nothing.
    None,
    /// Something else for each series.
    Any,
}

const JOBS: &[&str] = &["api", "db"];
const INSTANCES: &[&str] = &["a:9100", "b:9100", "c:80"];

/// Every family.
pub(crate) const FAMILIES: &[Family] = &[
    Family {
        name: "requests_total",
        labels: &[("job", JOBS), ("instance", INSTANCES), ("code", &["200", "404", "500"])],
        shape: Shape::Counter,
    },
    Family {
        name: "errors_total",
        labels: &[("job", JOBS), ("instance", INSTANCES)],
        shape: Shape::Counter,
    },
    Family {
        name: "cpu_seconds_total",
        labels: &[("job", JOBS), ("instance", INSTANCES), ("mode", &["idle", "user"])],
        shape: Shape::FloatCounter,
    },
    Family {
        name: "temperature",
        labels: &[("job", JOBS), ("instance", INSTANCES)],
        shape: Shape::Gauge,
    },
    Family {
        name: "queue",
        labels: &[("job", JOBS), ("instance", INSTANCES), ("code", &["200", "500"])],
        shape: Shape::Small,
    },
    Family {
        name: "memory_bytes",
        labels: &[("job", JOBS), ("instance", INSTANCES)],
        shape: Shape::Bytes,
    },
    Family {
        name: "up",
        labels: &[("job", JOBS), ("instance", INSTANCES)],
        shape: Shape::Up,
    },
    Family {
        name: "special",
        labels: &[("job", JOBS), ("instance", INSTANCES)],
        shape: Shape::Special,
    },
    Family {
        name: "clock_seconds",
        labels: &[("job", &["api"]), ("instance", INSTANCES)],
        shape: Shape::Clock,
    },
    // The same labels, another name.
    Family {
        name: "twin:one",
        labels: &[("job", JOBS), ("code", &["200", "404"])],
        shape: Shape::Small,
    },
    Family {
        name: "twin:two",
        labels: &[("job", JOBS), ("code", &["200", "404"])],
        shape: Shape::Small,
    },
    Family {
        name: "single",
        labels: &[],
        shape: Shape::Gauge,
    },
    Family {
        name: "limit",
        labels: &[("job", JOBS)],
        shape: Shape::Constant,
    },
    Family {
        name: "latency_seconds_bucket",
        labels: &[("job", JOBS), ("instance", INSTANCES)],
        shape: Shape::Buckets(Oddity::None),
    },
    Family {
        name: "odd_bucket",
        labels: &[("job", JOBS), ("kind", &["1", "2", "3", "4", "5"])],
        shape: Shape::Buckets(Oddity::Any),
    },
    Family {
        name: "rpc_seconds",
        labels: &[("job", JOBS), ("quantile", &["0.5", "0.9", "1"])],
        shape: Shape::Gauge,
    },
    Family {
        name: "target_info",
        labels: &[
            ("job", JOBS),
            ("instance", INSTANCES),
            ("region", &["eu"]),
            ("version", &["1.0", "1.1"]),
        ],
        shape: Shape::Info,
    },
    Family {
        name: "build_info",
        labels: &[("job", JOBS), ("instance", INSTANCES), ("branch", &["main", "next"])],
        shape: Shape::Info,
    },
    Family {
        name: "http.requests",
        labels: &[("job", JOBS), ("service.name", &["web", "größe", "a\"b\\c\nd"])],
        shape: Shape::Counter,
    },
    Family {
        name: "температура 🌡",
        labels: &[("job", JOBS), ("location", &["küche", "bad", "東京"])],
        shape: Shape::Gauge,
    },
];

/// Label names that expressions group and match by; the last ones no series has.
pub(crate) const LABELS: &[&str] = &[
    "job",
    "job",
    "instance",
    "instance",
    "code",
    "mode",
    "le",
    "kind",
    "version",
    "region",
    "branch",
    "quantile",
    "service.name",
    "location",
    "__name__",
    "missing",
    "no such",
];
