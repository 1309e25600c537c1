//! Properties of the engine on random data and expressions. The random source is `generate`, the judge `oracle`.
//!
//! A run is the same each time; `TIDEGAUGE_PROPERTY_TIMES` asks for so many times as many expressions, other ones each
//! time.

use crate::generate::{DataOptions, DataSet, Options, Rng, Wanted, data, expression};
use crate::oracle::Oracle;
use crate::oracle::compare::{ORDER_MATTERS, Told, When, ask_engine, ask_oracles, difference, smallest, told};
use crate::store::{DbStore, Layout, TestStore};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Meter, Queryable, Sample, Timestamp};
use tidegauge_query::parser::{AggregateOp, AtModifier, Expr, ExprKind, Function};
use tidegauge_query::{Engine, EngineOptions, Features, ParseOptions, Query, QueryError, Value, parse};

/// Expressions over the same data.
const PER_WORLD: u64 = 25;

/// How many expressions, and the seed they come from.
fn cases(few: u64) -> (u64, u64) {
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
struct World {
    /// What it was made from.
    seed: (u64, u64),
    rng: Rng,
    span: DataOptions,
    features: Features,
    settings: EngineOptions,
    data: DataSet,
    memory: MemoryStore,
    engine: Engine,
}

impl World {
    /// The n-th of a run.
    fn new(seed: u64, n: u64) -> Self {
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
        let data = data(&mut rng, &span);
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
    fn expression(&mut self, wanted: Wanted) -> (String, Expr) {
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

    /// A few steps within the data or a little beyond.
    fn steps(&mut self) -> (i64, i64, i64) {
        let DataOptions { start_ms, end_ms, .. } = self.span;
        let start = self.rng.between(start_ms - 10_000, end_ms);
        let step_ms = self.rng.pick(&[15_000, 20_000, 60_000, 7_301, 150_000, 1]);
        let end = start + step_ms * self.rng.between(1, 6) + self.rng.between(0, step_ms - 1);
        (start, end, step_ms)
    }

    fn when(&mut self) -> When {
        let (start, end, step_ms) = self.steps();
        if self.rng.percent(40) {
            When::Instant(start)
        } else {
            When::Range { start, end, step_ms }
        }
    }

    /// One that has the series in order, and one that has them the other way round.
    fn oracles(&self) -> [Oracle; 2] {
        [false, true].map(|reverse| Oracle {
            reverse,
            series: self.data.series.clone(),
            lookback_ms: self.settings.lookback_ms,
            default_step_ms: self.settings.default_subquery_step_ms,
            delayed_names: self.features.delayed_name_removal,
        })
    }

    fn asked(&self, store: &dyn Queryable, expr: &Expr, when: When) -> Told {
        ask_engine(&self.engine, store, &Query::new(expr.to_string(), expr.clone()), when)
    }

    /// The real store with this data.
    fn db(&self, layout: Layout) -> DbStore {
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

/// Whether some part of an expression is so.
fn any(expr: &Expr, is: &dyn Fn(&Expr) -> bool) -> bool {
    is(expr) || expr.children().into_iter().any(|child| any(child, is))
}

/// Whether a range query may be refused though each of its steps would be answered. It evaluates a subquery at times
/// between the windows of its steps too; it refuses series that lose their names and become one even where they have no
/// step in common; with delayed removal it looks for twins at every node and not at the end alone.
fn only_ranges_are_refused(world: &World, expr: &Expr, why: &str) -> bool {
    let twins = why.contains("same labelset");
    let may_be = |e: &Expr| match &e.kind {
        ExprKind::Subquery(_) => true,
        ExprKind::Matrix(matrix) => twins && matrix.vector.name.is_none(),
        _ => false,
    };
    twins && world.features.delayed_name_removal || any(expr, &may_be)
}

/// Whether an answer may be another one where series come in another order: the oracles say so, or they cannot tell and
/// some part chooses among series.
fn order_may_matter(oracles: &[Oracle; 2], expr: &Expr, when: When) -> bool {
    use AggregateOp as Op;
    let chooses = |e: &Expr| matches!(&e.kind, ExprKind::Aggregate(a) if matches!(a.op, Op::Topk | Op::Bottomk | Op::Limitk | Op::Stddev | Op::Stdvar));
    match ask_oracles(oracles, expr, when) {
        Told::Unknown(why) => why == ORDER_MATTERS || any(expr, &chooses),
        _ => false,
    }
}

/// With delayed removal a series of `or` that keeps its name at some steps only has it at all of them, as upstream's.
fn mixes_names(world: &World, expr: &Expr) -> bool {
    let is_or = |e: &Expr| matches!(&e.kind, ExprKind::Binary(b) if b.op.as_str() == "or");
    world.features.delayed_name_removal && any(expr, &is_or)
}

#[test]
fn the_naive_evaluator_agrees() {
    let (count, seed) = cases(750);
    let mut unknown: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut refused, mut empty, mut wrong) = (0, 0, Vec::new());
    for number in 0..count.div_ceil(PER_WORLD) {
        let mut world = World::new(seed, number);
        let oracles = world.oracles();
        for _ in 0..PER_WORLD {
            let (text, expr) = world.expression(Wanted::Any);
            let when = match expr.value_type().as_str() {
                "vector" | "scalar" => world.when(),
                _ => When::Instant(world.steps().0),
            };
            if matches!(when, When::Range { .. }) && mixes_names(&world, &expr) {
                continue;
            }
            let disagrees = |expr: &Expr| {
                let expect = ask_oracles(&oracles, expr, when);
                let got = world.asked(&world.memory, expr, when);
                match (&got, &expect, when) {
                    (Told::Refused(why), Told::Values(_), When::Range { .. })
                        if only_ranges_are_refused(&world, expr, why) =>
                    {
                        None
                    }
                    _ => difference(&got, &expect),
                }
            };
            match ask_oracles(&oracles, &expr, when) {
                Told::Unknown(why) => *unknown.entry(why).or_default() += 1,
                Told::Refused(_) => refused += 1,
                Told::Values(values) => empty += u64::from(values.is_empty()),
                Told::Text(_) => {}
            }
            if disagrees(&expr).is_some() {
                let part = smallest(&expr, &|e| disagrees(e).is_some());
                let how = disagrees(part).unwrap();
                wrong.push(format!(
                    "seed {:?}, {when:?}: {part}\n    in {text}\n    engine, oracle: {how}",
                    world.seed
                ));
            }
        }
    }
    println!("{count} expressions: {empty} empty, {refused} refused, unknown {unknown:?}");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    let unknown: u64 = unknown.values().sum();
    assert!(unknown * 5 <= count, "{unknown} of {count} were not compared");
    assert!(
        (refused + empty) * 2 <= count,
        "{refused} of {count} were refused, {empty} empty"
    );
}

#[test]
fn every_layout_of_the_real_store_answers_as_memory_does() {
    let (count, seed) = cases(150);
    for number in 0..count.div_ceil(PER_WORLD) {
        let mut world = World::new(seed ^ 0x5707e, number);
        let stores = Layout::ALL.map(|layout| (layout, world.db(layout)));
        let oracles = world.oracles();
        for _ in 0..PER_WORLD {
            let (text, expr) = world.expression(Wanted::Steps);
            let when = world.when();
            let memory = world.asked(&world.memory, &expr, when);
            for (layout, store) in &stores {
                let Some(how) = difference(&memory, &world.asked(store.queryable(), &expr, when)) else {
                    continue;
                };
                // Stores have orders of their own.
                if !order_may_matter(&oracles, &expr, when) {
                    panic!(
                        "seed {:?}, {when:?}, {layout:?}: {text}\n    memory, store: {how}",
                        world.seed
                    );
                }
            }
        }
    }
}

#[test]
fn a_range_query_is_the_sequence_of_instant_queries() {
    let (count, seed) = cases(750);
    let mut refused = 0;
    for number in 0..count.div_ceil(PER_WORLD) {
        let mut world = World::new(seed ^ 0x5e90e9ce, number);
        let oracles = world.oracles();
        for _ in 0..PER_WORLD {
            let (text, mut expr) = world.expression(Wanted::Steps);
            let (start, end, step_ms) = world.steps();
            // What a query's own start, end and step say is another thing at each instant.
            pin(&mut expr, start, end);
            let asks_for_steps = |e: &Expr| {
                use Function as F;
                matches!(&e.kind, ExprKind::Call(c) if matches!(c.function.function, F::Start | F::End | F::Step | F::Range))
            };
            if any(&expr, &asks_for_steps)
                || text.contains("step()")
                || text.contains("range()")
                || mixes_names(&world, &expr)
            {
                continue;
            }
            let when = When::Range { start, end, step_ms };
            let range = world.asked(&world.memory, &expr, when);
            let mut instants = Told::Values(BTreeMap::new());
            for at in (start..=end).step_by(step_ms as usize) {
                match (&mut instants, world.asked(&world.memory, &expr, When::Instant(at))) {
                    (Told::Values(all), Told::Values(more)) => all.extend(more),
                    (Told::Values(_), other) => instants = other,
                    _ => break,
                }
            }
            refused += u64::from(matches!(range, Told::Refused(_)));
            if let (Told::Refused(why), Told::Values(_)) = (&range, &instants)
                && only_ranges_are_refused(&world, &expr, why)
            {
                continue;
            }
            if let Some(how) = difference(&range, &instants)
                && !order_may_matter(&oracles, &expr, when)
            {
                panic!(
                    "seed {:?}, {start} to {end} by {step_ms}: {text}\n    range, instants: {how}",
                    world.seed
                );
            }
        }
    }
    assert!(refused * 4 <= count, "{refused} of {count} were refused");
}

/// Replaces `@ start()` and `@ end()` by the times they stand for.
fn pin(expr: &mut Expr, start: i64, end: i64) {
    let fixed = |at: &mut Option<AtModifier>| match at {
        Some(AtModifier::Start) => *at = Some(AtModifier::Timestamp(Timestamp::from_millis(start))),
        Some(AtModifier::End) => *at = Some(AtModifier::Timestamp(Timestamp::from_millis(end))),
        Some(AtModifier::Timestamp(_)) | None => {}
    };
    match &mut expr.kind {
        ExprKind::Vector(selector) => fixed(&mut selector.at),
        ExprKind::Matrix(matrix) => fixed(&mut matrix.vector.at),
        ExprKind::Subquery(subquery) => {
            fixed(&mut subquery.at);
            pin(&mut subquery.expr, start, end);
        }
        ExprKind::Paren(inner) => pin(inner, start, end),
        ExprKind::Unary(unary) => pin(&mut unary.expr, start, end),
        ExprKind::Binary(binary) => {
            pin(&mut binary.lhs, start, end);
            pin(&mut binary.rhs, start, end);
        }
        ExprKind::Aggregate(aggregate) => {
            pin(&mut aggregate.expr, start, end);
            aggregate.param.iter_mut().for_each(|param| pin(param, start, end));
        }
        ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| pin(arg, start, end)),
        ExprKind::Number(_) | ExprKind::String(_) => {}
    }
}

/// An engine with little room refuses a query or answers it as one with room does, and holds nothing afterwards.
#[test]
fn limits_change_no_answer() {
    let (count, seed) = cases(200);
    let (mut stopped, mut answered) = (0, 0);
    for number in 0..count.div_ceil(PER_WORLD) {
        let mut world = World::new(seed ^ 0x11317, number);
        for _ in 0..PER_WORLD {
            let (text, expr) = world.expression(Wanted::Steps);
            let when = world.when();
            let memory = Meter::new("queries", 1 << world.rng.between(6, 20));
            let engine = Engine::new(EngineOptions {
                max_samples: 1 << world.rng.between(0, 14),
                memory: memory.clone(),
                ..world.settings.clone()
            });
            let query = Query::new(text.as_str(), expr);
            let ms = Timestamp::from_millis;
            let outcome = match when {
                When::Instant(at) => engine.instant(&world.memory, &query, ms(at)),
                When::Range { start, end, step_ms } => engine.range(&world.memory, &query, ms(start), ms(end), step_ms),
            };
            assert_eq!(memory.used(), 0, "{text}");
            if let Err(QueryError::TooManySamples | QueryError::Memory(_)) = outcome {
                stopped += 1;
                continue;
            }
            answered += 1;
            if let Some(how) = difference(&told(outcome), &world.asked(&world.memory, &query.expr, when)) {
                panic!(
                    "seed {:?}, {when:?}: {text}\n    with limits, without: {how}",
                    world.seed
                );
            }
        }
    }
    assert!(
        stopped > count / 10 && answered > count / 10,
        "{stopped} stopped, {answered} answered"
    );
}

/// What sorts gives its series in that order when asked at one time, and the same ones as without.
#[test]
fn instant_queries_are_in_the_order_asked_for() {
    let (count, seed) = cases(150);
    for number in 0..count.div_ceil(PER_WORLD) {
        let mut world = World::new(seed ^ 0x50e7, number);
        for _ in 0..PER_WORLD {
            let (inner, _) = world.expression(Wanted::Vector);
            let at = world.steps().0;
            for (call, rises) in [
                ("sort(", true),
                ("sort_desc(", false),
                ("topk(1000, ", false),
                ("bottomk(1000, ", true),
            ] {
                let text = format!("{call}{inner})");
                let query = Query::parse(&text, &ParseOptions::with_features(world.features)).unwrap();
                let Ok(output) = world.engine.instant(&world.memory, &query, Timestamp::from_millis(at)) else {
                    continue;
                };
                let Value::Vector(samples) = &output.value else {
                    panic!("{text}: {:?}", output.value);
                };
                let in_order = samples.is_sorted_by(|a, b| match (a.value.is_nan(), b.value.is_nan()) {
                    (false, false) if rises => a.value <= b.value,
                    (false, false) => a.value >= b.value,
                    (a, b) => a <= b,
                });
                assert!(in_order, "seed {:?} at {at}: {text}\n{samples:?}", world.seed);
                let plain = parse(&inner, &ParseOptions::with_features(world.features)).unwrap();
                if let Some(how) = difference(
                    &told(Ok(output)),
                    &world.asked(&world.memory, &plain, When::Instant(at)),
                ) {
                    panic!("seed {:?} at {at}: {text}\n    sorted, plain: {how}", world.seed);
                }
            }
        }
    }
}

#[test]
fn what_is_printed_parses_to_the_same_tree() {
    let (count, seed) = cases(2_000);
    let mut rng = Rng::new(seed);
    let parse_options = ParseOptions::with_features(Features::ALL);
    for number in 0..count {
        let options = Options {
            max_depth: 6,
            features: Features::ALL,
            wanted: Wanted::Any,
            untidy: number % 2 == 0,
            ..Options::default()
        };
        let text = expression(&mut rng, &options);
        let expr = parse(&text, &parse_options).unwrap_or_else(|e| panic!("{text}: {e}"));
        for printed in [expr.to_string(), expr.pretty(), expr.pretty_within(20)] {
            let again = parse(&printed, &parse_options).unwrap_or_else(|e| panic!("{text}\nprinted as {printed}: {e}"));
            assert_eq!(again, expr, "{text}\nprinted as {printed}");
        }
    }
}

/// Queries heavy enough to be cut give the same bits on one thread and on several.
#[test]
fn threads_change_no_bit_of_random_queries() {
    let (count, seed) = cases(20);
    let mut rng = Rng::new(seed ^ 0x7ead);
    let start = 1_700_000_000_000;
    let span = DataOptions {
        start_ms: start,
        end_ms: start + 1_800_000,
        interval_ms: 1_000,
    };
    let store = data(&mut rng, &span).in_memory();
    let [one, several] = [1, 3].map(|threads| {
        Engine::new(EngineOptions {
            threads,
            ..EngineOptions::default()
        })
    });
    let options = Options {
        data: span,
        max_depth: 2,
        max_subqueries: 0,
        wanted: Wanted::Vector,
        ..Options::default()
    };
    let when = When::Range {
        start,
        end: span.end_ms,
        step_ms: 2_000,
    };
    for _ in 0..count {
        let text = expression(&mut rng, &options);
        let query = Query::parse(&text, &ParseOptions::default()).unwrap();
        match (
            ask_engine(&one, &store, &query, when),
            ask_engine(&several, &store, &query, when),
        ) {
            (Told::Values(a), Told::Values(b)) => {
                assert_eq!(a.len(), b.len(), "{text}");
                let same = a
                    .iter()
                    .zip(&b)
                    .all(|(a, b)| a.0 == b.0 && a.1.to_bits() == b.1.to_bits());
                assert!(same, "{text}");
            }
            (Told::Refused(a), Told::Refused(b)) => assert_eq!(a, b, "{text}"),
            (a, b) => panic!("{text}: {a:?} or {b:?}"),
        }
    }
}
