//! What stops a query, and that threads change nothing.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{
    Cancel, Labels, Limited, Matcher, Meter, Querier, Queryable, ReadContext, SelectError, SelectHints, SeriesSet,
    TimeRange, Timestamp,
};
use tidegauge_query::{Engine, EngineOptions, ParseOptions, Query, QueryError, QueryOutput, StatsLevel, Value};

fn store(series: usize, samples: i64) -> MemoryStore {
    let store = MemoryStore::new();
    for i in 0..series {
        let (instance, pod) = (format!("i{i}"), format!("p{}", i % 7));
        let labels = Labels::from_pairs([("__name__", "m_total"), ("instance", &instance), ("pod", &pod)]).unwrap();
        for k in 0..samples {
            let value = (k * (i as i64 + 3)) as f64 * 0.1 + (i as f64).sin();
            store.insert(&labels, at(k * 15_000), value);
        }
    }
    store
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn query(text: &str) -> Query {
    Query::parse(text, &ParseOptions::default()).unwrap()
}

fn run(engine: &Engine, store: &MemoryStore, query: &Query) -> Result<QueryOutput, QueryError> {
    engine.range(store, query, at(0), at(600_000), 15_000)
}

#[test]
fn too_many_samples_are_refused_in_upstream_s_words() {
    let store = store(20, 40);
    let engine = |max_samples| {
        Engine::new(EngineOptions {
            max_samples,
            ..EngineOptions::default()
        })
    };
    let error = run(&engine(700), &store, &query("m_total")).unwrap_err();
    assert!(matches!(error, QueryError::TooManySamples));
    assert_eq!(
        error.to_string(),
        "query processing would load too many samples into memory in query execution"
    );
    assert!(run(&engine(900), &store, &query("m_total")).is_ok());
    // Held or not: what an aggregation looks at counts, as upstream counts it.
    assert!(run(&engine(700), &store, &query("sum(m_total)")).is_err());
    assert!(run(&engine(900), &store, &query("sum(m_total)")).is_ok());
    assert_eq!(engine(1).metrics().list().len(), 10);
}

/// The limit lies exactly at the peak that statistics show.
#[test]
fn the_limit_on_samples_is_the_peak_that_is_shown() {
    let store = store(20, 40);
    for text in [
        "m_total",
        "sum(rate(m_total[1m]))",
        "m_total * 2 + m_total",
        "quantile(0.5, m_total)",
        "max_over_time(sum by (pod) (m_total)[2m:30s])",
        "topk(2, m_total) or label_replace(m_total, \"x\", \"$1\", \"pod\", \"(.*)\")",
        "m_total - on () group_left () sum(m_total @ 300)",
        "count_values(\"v\", m_total)",
    ] {
        let with = |max_samples| {
            let engine = Engine::new(EngineOptions {
                max_samples,
                ..EngineOptions::default()
            });
            let mut query = query(text);
            query.stats = StatsLevel::PerStep;
            run(&engine, &store, &query)
        };
        let peak = with(1_000_000).unwrap().stats.peak_samples;
        assert!(peak > 100 && with(peak).is_ok(), "{text}: {peak}");
        assert!(
            matches!(with(peak - 1), Err(QueryError::TooManySamples)),
            "{text}: {peak}"
        );
    }
}

/// A store that says when it is asked for a view, and gives it when it is told to.
struct Doorkeeper {
    store: MemoryStore,
    asked: Sender<()>,
    go_on: parking_lot::Mutex<Receiver<()>>,
    /// Raised before the view is given.
    cancel: Option<Cancel>,
}

impl Queryable for Doorkeeper {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, SelectError> {
        self.asked.send(()).unwrap();
        self.go_on.lock().recv().unwrap();
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        self.store.querier(range)
    }
}

#[test]
fn queries_beyond_the_places_wait_until_there_is_one() {
    let (asked, is_asked) = channel();
    let (go_on, told) = channel();
    let keeper = Doorkeeper {
        store: store(2, 40),
        asked,
        go_on: told.into(),
        cancel: None,
    };
    let engine = Engine::new(EngineOptions {
        max_concurrency: 1,
        ..EngineOptions::default()
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| engine.instant(&keeper, &query("sum(m_total)"), at(60_000)));
        is_asked.recv().unwrap();
        // The only place is taken: whoever has no time to wait, or is not wanted any more, is told so.
        let mut hasty = query("1");
        hasty.timeout = Some(Duration::from_millis(20));
        let error = engine.instant(&keeper, &hasty, at(0)).unwrap_err();
        assert!(matches!(error, QueryError::QueueTimeout));
        assert_eq!(error.to_string(), "query timed out in query queue");
        let gone = query("1");
        gone.cancel.cancel();
        assert!(matches!(
            engine.instant(&keeper, &gone, at(0)),
            Err(QueryError::Canceled)
        ));
        // Who waits has its turn.
        let second = scope.spawn(|| engine.instant(&keeper, &query("sum(m_total)"), at(60_000)));
        go_on.send(()).unwrap();
        is_asked.recv().unwrap();
        go_on.send(()).unwrap();
        assert!(first.join().unwrap().is_ok() && second.join().unwrap().is_ok());
    });
}

#[test]
fn a_client_that_goes_while_a_query_runs_stops_it() {
    let (asked, _is_asked) = channel();
    let (go_on, told) = channel();
    go_on.send(()).unwrap();
    let wanted = query("sum(m_total)");
    let keeper = Doorkeeper {
        store: store(2, 40),
        asked,
        go_on: told.into(),
        cancel: Some(wanted.cancel.clone()),
    };
    let error = Engine::new(EngineOptions::default())
        .instant(&keeper, &wanted, at(60_000))
        .unwrap_err();
    assert!(matches!(error, QueryError::Canceled), "{error}");
    assert_eq!(error.to_string(), "query was canceled in expression evaluation");
}

/// One long function over one series does not outlive its deadline by much.
#[test]
fn a_deadline_holds_inside_a_function() {
    let store = store(1, 4);
    let engine = Engine::new(EngineOptions {
        timeout: Duration::from_millis(200),
        ..EngineOptions::default()
    });
    let began = Instant::now();
    // 86,400 windows of 86,400 samples.
    let long = query("sum(quantile_over_time(0.5, quantile_over_time(0.5, vector(time())[1d:1s])[1d:1s]))");
    let error = engine.instant(&store, &long, at(0)).unwrap_err();
    assert!(matches!(error, QueryError::Timeout), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn lookback_is_the_engine_s_unless_the_query_has_its_own() {
    let store = store(1, 10);
    let engine = Engine::new(EngineOptions {
        lookback_ms: 60_000,
        ..EngineOptions::default()
    });
    // The newest sample lies at 135 s.
    for (ms, own, found) in [
        (194_999, None, 1),
        (195_000, None, 0),
        (195_000, Some(60_001), 1),
        (140_000, Some(5_000), 0),
        (139_999, Some(5_000), 1),
    ] {
        let mut query = query("m_total");
        query.lookback_ms = own;
        let Value::Vector(samples) = engine.instant(&store, &query, at(ms)).unwrap().value else {
            panic!("no vector");
        };
        assert_eq!(samples.len(), found, "{ms} {own:?}");
    }
}

#[test]
fn a_passed_deadline_and_a_lost_client_stop_it() {
    let store = store(3, 10);
    let engine = Engine::new(EngineOptions::default());
    let mut late = query("m_total");
    late.timeout = Some(Duration::ZERO);
    let error = run(&engine, &store, &late).unwrap_err();
    assert!(matches!(error, QueryError::Timeout));
    assert_eq!(error.to_string(), "query timed out in expression evaluation");
    let gone = query("m_total");
    gone.cancel.cancel();
    assert!(matches!(run(&engine, &store, &gone), Err(QueryError::Canceled)));
}

#[test]
fn memory_is_metered_refused_and_given_back() {
    let store = store(200, 40);
    let memory = Meter::new("queries", 64 << 10);
    let engine = Engine::new(EngineOptions {
        memory: memory.clone(),
        ..EngineOptions::default()
    });
    let error = run(&engine, &store, &query("m_total")).unwrap_err();
    assert!(matches!(&error, QueryError::Memory(over) if over.wanted > 0), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("query needs more memory than it may have: ") && text.contains(" 65536 allowed"),
        "{text}"
    );
    assert_eq!(memory.used(), 0);
    let output = run(&engine, &store, &query("sum by (pod) (m_total)")).unwrap();
    assert!(output.stats.peak_bytes > 0);
    assert_eq!(memory.used(), 0);
}

#[test]
fn samples_are_counted_by_step() {
    let store = store(2, 40);
    let engine = Engine::new(EngineOptions::default());
    let mut counted = query("rate(m_total[1m])");
    counted.stats = StatsLevel::PerStep;
    let output = engine.range(&store, &counted, at(60_000), at(90_000), 15_000).unwrap();
    assert_eq!(output.stats.samples, 2 * 3 * 4);
    let steps = output.stats.samples_per_step.unwrap();
    assert_eq!(steps, [(at(60_000), 8), (at(75_000), 8), (at(90_000), 8)]);
}

#[test]
fn range_queries_want_scalars_or_vectors_and_a_step() {
    let store = store(1, 10);
    let engine = Engine::new(EngineOptions::default());
    let error = run(&engine, &store, &query("m_total[1m]")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
    );
    assert!(engine.range(&store, &query("1"), at(0), at(1), 0).is_err());
    let none = engine.range(&store, &query("1"), at(1), at(0), 1).unwrap();
    assert!(matches!(none.value, Value::Matrix(series) if series.is_empty()));
}

/// Steps are room too, whether or not a series has values at them.
#[test]
fn endless_subqueries_are_refused_before_they_take_room() {
    let store = store(1, 2);
    let memory = Meter::new("queries", 1 << 20);
    let engine = Engine::new(EngineOptions {
        memory: memory.clone(),
        ..EngineOptions::default()
    });
    for (text, samples) in [
        ("count_over_time(m_total[10y:1ms])", true),
        ("absent_over_time(nothing[1h:10ms])", false),
        ("count_over_time(vector(time())[1h:10ms])", false),
    ] {
        let error = engine.instant(&store, &query(text), at(0)).unwrap_err();
        assert_eq!(matches!(error, QueryError::TooManySamples), samples, "{text}: {error}");
        assert_eq!(matches!(error, QueryError::Memory(_)), !samples, "{text}: {error}");
        assert_eq!(memory.used(), 0);
    }
}

/// Work enough to be cut into parts gives the same bits on one thread and on several.
#[test]
fn threads_change_no_bit() {
    let store = store(600, 300);
    let engine = |threads| {
        Engine::new(EngineOptions {
            threads,
            ..EngineOptions::default()
        })
    };
    let (one, many) = (engine(1), engine(3));
    for text in [
        "rate(m_total[2m])",
        "sum(rate(m_total[2m]))",
        "avg by (pod) (m_total)",
        "stddev by (pod) (m_total)",
        "quantile(0.9, m_total)",
        "count by (pod) (max_over_time(rate(m_total[1m])[2m:30s]))",
        "topk by (pod) (2, m_total)",
    ] {
        let bits = |engine: &Engine| -> Vec<(Labels, Vec<(Timestamp, u64)>)> {
            let output = engine
                .range(&store, &query(text), at(0), at(4_500_000), 15_000)
                .unwrap();
            let Value::Matrix(series) = output.value else {
                panic!("{text}: no matrix");
            };
            series
                .into_iter()
                .map(|s| (s.labels, s.points.iter().map(|p| (p.at, p.value.to_bits())).collect()))
                .collect()
        };
        let expect = bits(&one);
        assert!(!expect.is_empty(), "{text}");
        assert_eq!(bits(&many), expect, "{text}");
    }
}

/// A store whose parts are broken: the view, or what it is asked.
struct Broken {
    view: bool,
}

impl Queryable for Broken {
    fn querier(&self, _: TimeRange) -> Result<Box<dyn Querier + '_>, SelectError> {
        assert!(!self.view, "on purpose");
        Ok(Box::new(BrokenView))
    }
}

struct BrokenView;

impl Querier for BrokenView {
    fn select(&self, _: &[Matcher], _: &SelectHints, _: &ReadContext) -> Result<SeriesSet, SelectError> {
        panic!("on purpose")
    }

    fn series(&self, _: &[Matcher], _: usize, _: &ReadContext) -> Result<Limited<Vec<Labels>>, SelectError> {
        panic!("on purpose")
    }

    fn label_names(&self, _: &[Matcher], _: usize, _: &ReadContext) -> Result<Limited<Vec<String>>, SelectError> {
        panic!("on purpose")
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Matcher],
        _: usize,
        _: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError> {
        panic!("on purpose")
    }
}

#[test]
fn a_panic_in_the_store_gives_back_all_that_its_query_held() {
    let memory = Meter::new("queries", 1 << 20);
    let engine = Engine::new(EngineOptions {
        max_concurrency: 1,
        timeout: Duration::from_secs(10),
        memory: memory.clone(),
        ..EngineOptions::default()
    });
    let good = store(3, 40);
    for view in [true, false] {
        let query = query("sum(rate(m_total[5m])) / sum(m_total)");
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            engine.range(&Broken { view }, &query, at(0), at(600_000), 15_000)
        }));
        assert!(asked.is_err());
        assert_eq!(memory.used(), 0);
        let listings = engine.metrics().list();
        let running = listings
            .iter()
            .find(|metric| metric.0 == "tidegauge_query_running")
            .unwrap();
        assert_eq!(running.3[0].1, 0.0);
        // There is one place: if it were not free again, this would wait in the queue until its time is up.
        assert!(run(&engine, &good, &query).is_ok());
    }
}
