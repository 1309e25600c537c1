//! The generator itself: what it calls valid parses, and it repeats itself.

use super::{DataOptions, Options, Rng, Wanted, damaged, data, expression};
use tidegauge_model::{Timestamp, is_stale};
use tidegauge_query::parser::ValueType;
use tidegauge_query::{Engine, EngineOptions, Features, ParseOptions, Query, Value, parse};

#[test]
fn expressions_are_valid_and_of_the_kind_wanted() {
    for features in [Features::default(), Features::ALL] {
        let parse_options = ParseOptions::with_features(features);
        for seed in 0..4000 {
            let wanted = [Wanted::Any, Wanted::Steps, Wanted::Vector][seed as usize % 3];
            let options = Options {
                features,
                wanted,
                untidy: seed % 2 == 0,
                ..Options::default()
            };
            let text = expression(&mut Rng::new(seed), &options);
            let expr = parse(&text, &parse_options).unwrap_or_else(|error| panic!("seed {seed}: {text}\n{error}"));
            let kind = expr.value_type();
            let fits = match wanted {
                Wanted::Any => true,
                Wanted::Steps => matches!(kind, ValueType::Vector | ValueType::Scalar),
                Wanted::Vector => kind == ValueType::Vector,
            };
            assert!(fits, "seed {seed}: {text} is a {kind:?}");
            assert_eq!(text, expression(&mut Rng::new(seed), &options), "seed {seed}");
        }
    }
}

#[test]
fn damage_is_often_refused_and_never_panics() {
    let (mut refused, count) = (0, 4000);
    let options = Options::default();
    for seed in 0..count {
        let mut rng = Rng::new(seed);
        let text = expression(&mut rng, &options);
        let text = damaged(&mut rng, &text);
        refused += u64::from(parse(&text, &ParseOptions::default()).is_err());
    }
    assert!((count / 4..count).contains(&refused), "{refused} of {count}");
}

#[test]
fn data_is_sorted_and_has_every_kind_of_trouble() {
    let set = data(&mut Rng::new(1), &DataOptions::default());
    assert!(set.series.is_sorted_by(|a, b| a.0 < b.0));
    let mut values = Vec::new();
    for (labels, samples) in &set.series {
        assert!(samples.is_sorted_by(|a, b| a.0 < b.0), "{labels}");
        values.extend(samples.iter().map(|(_, value)| *value));
    }
    assert!(values.len() > 20_000, "{} samples", values.len());
    for trouble in [
        is_stale as fn(f64) -> bool,
        |v| v.is_nan() && !is_stale(v),
        f64::is_infinite,
        |v| v == 0.0 && v.is_sign_negative(),
        |v| v.is_subnormal(),
    ] {
        assert!(values.iter().any(|v| trouble(*v)));
    }
}

/// Expressions that find nothing test nothing.
#[test]
fn most_expressions_find_something() {
    let options = Options::default();
    let store = data(&mut Rng::new(2), &options.data).in_memory();
    let engine = Engine::new(EngineOptions::default());
    let at = Timestamp::from_millis(options.data.start_ms + 1_800_000);
    let count = 300;
    let found = (0..count).filter(|seed| {
        let text = expression(&mut Rng::new(*seed), &options);
        let query = Query::parse(&text, &ParseOptions::default()).unwrap();
        match engine.instant(&store, &query, at).map(|output| output.value) {
            Ok(Value::Vector(samples)) => !samples.is_empty(),
            Ok(_) => true,
            Err(_) => false,
        }
    });
    let found = found.count() as u64;
    assert!(found * 2 > count, "{found} of {count}");
}
