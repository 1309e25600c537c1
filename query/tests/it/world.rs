//! Random data, and all that is asked about it.
//!
//! A run is the same each time; `TIDEGAUGE_PROPERTY_TIMES` asks for so many times as many expressions, other ones each
//! time.

use crate::generate::{DataOptions, DataSet, Options, Rng, Wanted, data, expression};
use crate::oracle::Oracle;
use crate::oracle::compare::{Told, When, ask_engine};
use crate::store::{DbStore, Layout, TestStore};
use std::time::{SystemTime, UNIX_EPOCH};
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Queryable, Sample, Timestamp, is_stale};
use tidegauge_query::parser::Expr;
use tidegauge_query::{Engine, EngineOptions, Features, ParseOptions, Query, parse};

/// Expressions over the same data.
pub(crate) const PER_WORLD: u64 = 25;

/// How many expressions, and the seed they come from.
pub(crate) fn cases(few: u64) -> (u64, u64) {
    let asked = std::env::var("TIDEGAUGE_PROPERTY_TIMES").ok();
    let Some(times) = asked.and_then(|n| n.parse::<u64>().ok()) else {
        return (few, 1);
    };
    #[expect(clippy::disallowed_methods, reason = "a long run is to see other cases each time")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    println!("seed {}", now.as_secs());
    (few * times, now.as_secs())
}

/// Random data, and the engine and the oracles that are asked about it.
pub(crate) struct World {
    /// What it was made from.
    pub(crate) seed: (u64, u64),
    pub(crate) rng: Rng,
    pub(crate) span: DataOptions,
    pub(crate) features: Features,
    pub(crate) settings: EngineOptions,
    pub(crate) data: DataSet,
    pub(crate) memory: MemoryStore,
    pub(crate) engine: Engine,
}

impl World {
    /// The n-th of a run.
    pub(crate) fn new(seed: u64, n: u64) -> Self {
        let mut rng = Rng::nth(seed, n);
        let start_ms = 1_700_000_000_000 + rng.between(0, 60_000);
        let span = DataOptions {
            start_ms,
            end_ms: start_ms + 600_000,
            interval_ms: 15_000,
        };
        let features = match rng.below(4) {
            0 | 1 => Features::default(),
            2 => Features {
                delayed_name_removal: false,
                ..Features::ALL
            },
            _ => Features::ALL,
        };
        let settings = EngineOptions {
            lookback_ms: rng.pick(&[300_000, 60_000, 20_000]),
            features,
            threads: 1,
            ..EngineOptions::default()
        };
        let mut data = data(&mut rng, &span);
        cancel_out(&mut rng, &mut data);
        Self {
            seed: (seed, n),
            rng,
            span,
            features,
            memory: data.in_memory(),
            data,
            engine: Engine::new(settings.clone()),
            settings,
        }
    }

    /// A random expression and its text.
    pub(crate) fn expression(&mut self, wanted: Wanted) -> (String, Expr) {
        let options = Options {
            data: self.span,
            features: self.features,
            wanted,
            ..Options::default()
        };
        let text = expression(&mut self.rng, &options);
        let expr = parse(&text, &ParseOptions::with_features(self.features)).unwrap_or_else(|e| panic!("{text}: {e}"));
        (text, expr)
    }

    /// A few steps within the data or a little beyond; often at the very times of samples, so that samples lie on the
    /// edges of windows.
    pub(crate) fn steps(&mut self) -> (i64, i64, i64) {
        let DataOptions {
            start_ms,
            end_ms,
            interval_ms,
        } = self.span;
        if self.rng.percent(50) {
            let start = start_ms + interval_ms * self.rng.between(0, 40);
            let step_ms = interval_ms * self.rng.pick(&[1, 1, 2, 4]);
            return (start, start + step_ms * self.rng.between(1, 6), step_ms);
        }
        let start = self.rng.between(start_ms - 10_000, end_ms);
        let step_ms = self.rng.pick(&[15_000, 20_000, 60_000, 7_301, 150_000, 1]);
        let end = start + step_ms * self.rng.between(1, 6) + self.rng.between(0, step_ms - 1);
        (start, end, step_ms)
    }

    pub(crate) fn when(&mut self) -> When {
        let (start, end, step_ms) = self.steps();
        if self.rng.percent(40) {
            When::Instant(start)
        } else {
            When::Range { start, end, step_ms }
        }
    }

    /// One that has the series in order, and one that has them the other way round.
    pub(crate) fn oracles(&self) -> [Oracle; 2] {
        [false, true].map(|reverse| Oracle {
            reverse,
            series: self.data.series.clone(),
            lookback_ms: self.settings.lookback_ms,
            default_step_ms: self.settings.default_subquery_step_ms,
            delayed_names: self.features.delayed_name_removal,
        })
    }

    pub(crate) fn asked(&self, store: &dyn Queryable, expr: &Expr, when: When) -> Told {
        ask_engine(&self.engine, store, &Query::new(expr.to_string(), expr.clone()), when)
    }

    /// The real store with this data.
    pub(crate) fn db(&self, layout: Layout) -> DbStore {
        let mut db = DbStore::laid_out(layout);
        for (labels, samples) in &self.data.series {
            let samples: Vec<Sample> = samples
                .iter()
                .map(|(at, value)| Sample {
                    at: Timestamp::from_millis(*at),
                    value: *value,
                })
                .collect();
            db.add(labels, &samples);
        }
        db.prepare();
        db
    }
}

/// Makes some gauges ones whose values cancel out, so that a sum is right only if it keeps what rounding loses.
fn cancel_out(rng: &mut Rng, data: &mut DataSet) {
    for (labels, samples) in &mut data.series {
        let is_gauge = matches!(
            labels.metric_name(),
            Some("limit" | "temperature" | "memory_bytes" | "single" | "rpc_seconds")
        );
        if !is_gauge || rng.percent(50) {
            continue;
        }
        for (_, value) in samples.iter_mut().filter(|(_, value)| !is_stale(*value)) {
            *value = rng.pick(&[1e17, -1e17, 1.0, 3.5, -0.25]);
        }
    }
}

/// Whether some part of an expression is so.
pub(crate) fn any(expr: &Expr, is: &dyn Fn(&Expr) -> bool) -> bool {
    is(expr) || expr.children().into_iter().any(|child| any(child, is))
}
