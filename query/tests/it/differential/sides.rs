//! We and Prometheus over the same data: what each answers, how far they agree, and the least on which they do not.

use super::answer::{Answer, Outcome};
use super::case::{Case, When};
use super::compare::{Verdict, compare, notes};
use super::known::{self, Smallest};
use super::prometheus::{Connection, Prometheus};
use super::tally::Tally;
use crate::generate::{DataOptions, DataSet, Options, Rng, Wanted, data, expression};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, SeriesRef, Timestamp};
use tidegauge_query::{Engine, EngineOptions, Features, ParseOptions, Query, parse};
use tidegauge_tsdb::{Db, Fsync, Options as DbOptions};

/// Of the language, what Prometheus 3.5.3 does not know yet.
pub(super) const NEWER: &[&str] = &[
    "end",
    "first_over_time",
    "histogram_quantiles",
    "max_of",
    "min_of",
    "range",
    "start",
    "start_timestamp",
    "step",
    "ts_of_first_over_time",
];

/// How often a side is asked again whether it agrees with itself.
const ASK_AGAIN: usize = 4;
/// Longer takes no query here that is worth asking.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A number from the environment.
pub(super) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// Both sides with the same data.
pub(super) struct Sides {
    pub(super) seed: u64,
    features: Features,
    engine: Engine,
    db: Arc<Db>,
    _dir: tempfile::TempDir,
    pub(super) prometheus: Prometheus,
}

impl Sides {
    pub(super) fn new(delayed_name_removal: bool) -> Self {
        let seed = setting("TIDEGAUGE_DIFF_SEED").unwrap_or(1);
        let set = data(&mut Rng::nth(seed, u64::MAX), &DataOptions::default());
        let mut flags = "promql-experimental-functions,promql-duration-expr".to_owned();
        if delayed_name_removal {
            flags.push_str(",promql-delayed-name-removal");
        }
        let prometheus = Prometheus::start(&flags);
        prometheus.fill(&set);
        let mut features = Features::default();
        assert!(flags.split(',').all(|flag| features.enable(flag)));
        let engine = Engine::new(EngineOptions {
            features,
            timeout: TIMEOUT,
            ..EngineOptions::default()
        });
        let (db, dir) = filled(&set);
        let sides = Self {
            seed,
            features,
            engine,
            db,
            _dir: dir,
            prometheus,
        };
        sides.check_what_is_newer();
        sides
    }

    /// The list of what is left out is true.
    fn check_what_is_newer(&self) {
        let mut connection = self.prometheus.connect();
        for name in NEWER {
            let answer = connection.ask("/api/v1/format_query", &[("query", &format!("{name}()"))]);
            let error = answer["error"].as_str().unwrap_or_default();
            assert!(
                error.contains("unknown function") || error.contains("unexpected"),
                "{name}: {answer}"
            );
        }
    }

    pub(super) fn parse_options(&self) -> ParseOptions {
        ParseOptions::with_features(self.features)
    }

    /// The n-th query of the run.
    pub(super) fn case(&self, n: u64) -> Case {
        let mut rng = Rng::nth(self.seed, n);
        let is_range = rng.percent(50);
        let options = Options {
            features: self.features,
            without: NEWER,
            wanted: if is_range { Wanted::Steps } else { Wanted::Any },
            untidy: rng.percent(20),
            ..Options::default()
        };
        let text = expression(&mut rng, &options);
        Case {
            text,
            when: When::random(&mut rng, &options.data, is_range),
        }
    }

    fn ours(&self, case: &Case) -> Answer {
        let query = match Query::parse(&case.text, &self.parse_options()) {
            Ok(query) => query,
            Err(error) => return Answer::refusal("bad_data", error.to_string()),
        };
        let ms = Timestamp::from_millis;
        known::without_newer_notes(Answer::of(match case.when {
            When::At(at) => self.engine.instant(&*self.db, &query, ms(at)),
            When::Range { start, end, step } => self.engine.range(&*self.db, &query, ms(start), ms(end), step),
        }))
    }

    fn theirs(&self, connection: &mut Connection, case: &Case) -> Answer {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let timeout = format!("{}s", TIMEOUT.as_secs());
        let json = match case.when {
            When::At(at) => connection.ask(
                "/api/v1/query",
                &[("query", &case.text), ("time", &seconds(at)), ("timeout", &timeout)],
            ),
            When::Range { start, end, step } => {
                let (start, end, step) = (seconds(start), seconds(end), seconds(step));
                let params = [
                    ("query", &*case.text),
                    ("start", &start),
                    ("end", &end),
                    ("step", &step),
                    ("timeout", &timeout),
                ];
                connection.ask("/api/v1/query_range", &params)
            }
        };
        let mut answer = Answer::from_json(&json);
        if let Err(refusal) = &mut answer.result {
            let prefix = "invalid parameter \"query\": ";
            refusal.text = refusal.text.strip_prefix(prefix).unwrap_or(&refusal.text).to_owned();
        }
        answer
    }

    /// Asks both and compares.
    pub(super) fn ask(&self, connection: &mut Connection, case: &Case) -> (Answer, Answer, Verdict) {
        let (ours, theirs) = (self.ours(case), self.theirs(connection, case));
        let verdict = match parse(&case.text, &self.parse_options()) {
            Ok(expr) => compare(&expr, &ours, &theirs),
            Err(error) => panic!("{} is not valid: {error}; theirs: {:?}", case.text, theirs.result),
        };
        (ours, theirs, verdict)
    }

    /// The smallest part of the query on which the sides still differ, and whether they agree on its operands but for the
    /// last digits.
    fn shrink(&self, connection: &mut Connection, case: &Case) -> (Case, bool) {
        let mut smallest = case.clone();
        'again: loop {
            let mut is_close_below = false;
            for smaller in smallest.parts(&self.parse_options()) {
                match self.ask(connection, &smaller) {
                    (_, _, Verdict::Different(..)) => {
                        smallest = smaller;
                        continue 'again;
                    }
                    (_, _, Verdict::Close) => is_close_below = true,
                    // Where both refuse, what is below them tells.
                    (ours, _, _) if ours.result.is_err() => {
                        for part in smaller.parts(&self.parse_options()) {
                            is_close_below |= self.ask(connection, &part).2 == Verdict::Close;
                        }
                    }
                    _ => {}
                }
            }
            return (smallest, is_close_below);
        }
    }

    /// The smallest part of a query that differs, and why it does, if that is known.
    fn explain(&self, connection: &mut Connection, case: &Case) -> (Case, Option<&'static str>) {
        let (smallest, is_close_below) = self.shrink(connection, case);
        let (ours, theirs, verdict) = self.ask(connection, &smallest);
        let theirs_again: Vec<Answer> = (0..ASK_AGAIN).map(|_| self.theirs(connection, &smallest)).collect();
        let agrees_with_instants = self.agrees_with_instants(connection, &smallest, &ours);
        let reason = parse(&smallest.text, &self.parse_options()).ok().and_then(|expr| {
            known::reason(&Smallest {
                expr: &expr,
                ours: &ours,
                theirs: &theirs,
                theirs_again: &theirs_again,
                verdict: &verdict,
                is_close_below,
                agrees_with_instants,
                is_range: smallest.when.is_range(),
                is_delayed: self.features.delayed_name_removal,
            })
        });
        (smallest, reason)
    }

    /// Whether an answer over time is what they answer at each time by itself.
    fn agrees_with_instants(&self, connection: &mut Connection, case: &Case, ours: &Answer) -> bool {
        let is_about_the_range = ["start()", "end()"].iter().any(|word| case.text.contains(word));
        let (When::Range { start, end, step }, Ok(expr)) = (case.when, parse(&case.text, &self.parse_options())) else {
            return false;
        };
        let mut series: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        for at in (start..=end).step_by(step as usize) {
            let instant = Case {
                text: case.text.clone(),
                when: When::At(at),
            };
            let Ok(outcome) = self.theirs(connection, &instant).result else {
                return false;
            };
            for (labels, points) in outcome.by_series().into_iter().flatten() {
                series.entry(labels).or_default().extend(points);
            }
        }
        let theirs = Answer {
            result: Ok(Outcome::Matrix(series.into_iter().collect())),
            ..ours.clone()
        };
        !is_about_the_range && !matches!(compare(&expr, ours, &theirs), Verdict::Different(..))
    }

    /// Asks one query and books what came of it.
    pub(super) fn book(&self, connection: &mut Connection, n: u64, tally: &Mutex<Tally>) {
        let case = self.case(n);
        let (ours, theirs, verdict) = self.ask(connection, &case);
        let notes = notes(&ours, &theirs);
        let explained = matches!(verdict, Verdict::Different(..)).then(|| self.explain(connection, &case));
        let (ours, theirs) = (ours.result.is_ok(), theirs.result.is_ok());
        tally
            .lock()
            .unwrap()
            .add(n, &case, ours && theirs, verdict, notes, explained);
    }
}

/// The real store with the data, written as remote write would, the older half sealed.
fn filled(set: &DataSet) -> (Arc<Db>, tempfile::TempDir) {
    const SLICE_MS: i64 = 600_000;
    let dir = tempfile::tempdir().unwrap();
    let options = DbOptions {
        retention_ms: 0,
        fsync: Fsync::Never,
        maintenance: None,
        ..DbOptions::default()
    };
    let db = Db::open(
        dir.path(),
        options,
        Arc::new(HandClock::at(Timestamp::from_millis(i64::MAX / 2))),
    )
    .unwrap();
    let mut slices: BTreeMap<i64, Vec<(&Labels, i64, f64)>> = BTreeMap::new();
    for (labels, samples) in &set.series {
        for (at, value) in samples {
            slices
                .entry(at.div_euclid(SLICE_MS))
                .or_default()
                .push((labels, *at, *value));
        }
    }
    let half = slices.len() / 2;
    for (i, slice) in slices.into_values().enumerate() {
        if i == half {
            db.seal();
        }
        let mut appender = db.appender();
        let mut refs: BTreeMap<&Labels, SeriesRef> = BTreeMap::new();
        let samples: Vec<(SeriesRef, Timestamp, f64)> = slice
            .into_iter()
            .map(|(labels, at, value)| {
                let series = *refs
                    .entry(labels)
                    .or_insert_with(|| appender.resolve(None, labels).unwrap());
                (series, Timestamp::from_millis(at), value)
            })
            .collect();
        appender.append_many(&samples).unwrap();
        appender.commit(OnReject::Fail).unwrap();
    }
    (db, dir)
}
