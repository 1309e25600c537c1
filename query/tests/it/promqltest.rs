//! Runs scripts in upstream's test language: every instant case also as a range query and with `@` on each selector.

use crate::script::{At, Command, Eval, Match, Notes, What, parse};
use crate::store::{DbStore, TestStore};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Sample, Timestamp, is_stale};
use tidegauge_query::parser::{AtModifier, Expr, ExprKind, Function};
use tidegauge_query::{Engine, EngineOptions, Features, ParseOptions, Query, QueryOutput, Value};

/// Everything that upstream's runner switches on.
fn features() -> Features {
    Features {
        type_and_unit_labels: false,
        ..Features::ALL
    }
}

fn engine(features: Features) -> Engine {
    Engine::new(EngineOptions {
        max_samples: 10_000,
        timeout: Duration::from_secs(100),
        features,
        ..EngineOptions::default()
    })
}

/// Runs a script's commands; gives for each evaluation its line and what is wrong, if anything is.
fn run(
    commands: &[Command],
    store: &mut dyn TestStore,
    features: Features,
    wanted: impl Fn(usize) -> bool,
) -> Vec<(usize, Result<(), String>)> {
    let engine = engine(features);
    let mut results = Vec::new();
    for command in commands {
        match &command.what {
            What::Clear => store.clear(),
            What::Load(series) => {
                for (labels, samples) in series {
                    store.add(labels, samples);
                }
            }
            What::Eval(eval) if wanted(command.line) => {
                store.prepare();
                let case = Case {
                    engine: &engine,
                    features,
                    store: &*store,
                    eval,
                };
                results.push((command.line, case.run()));
            }
            What::Eval(_) => {}
        }
    }
    results
}

struct Case<'a> {
    engine: &'a Engine,
    features: Features,
    store: &'a dyn TestStore,
    eval: &'a Eval,
}

impl Case<'_> {
    fn run(&self) -> Result<(), String> {
        let eval = self.eval;
        if eval.expect.unknown {
            return Err("expects a histogram".into());
        }
        let options = ParseOptions {
            features: self.features,
            ..ParseOptions::default()
        };
        let query = match Query::parse(&eval.expr, &options) {
            Ok(query) => query,
            Err(error) => return self.failed(&error.to_string()),
        };
        let output = match eval.at {
            At::Instant(at) => self.engine.instant(self.store.queryable(), &query, ms(at)),
            At::Range { start, end, step } => {
                self.engine
                    .range(self.store.queryable(), &query, ms(start), ms(end), step)
            }
        };
        let output = match output {
            Ok(output) => output,
            Err(error) => return self.failed(&error.to_string()),
        };
        if eval.expect.fail.is_some() {
            return Err(format!("did not fail: {:?}", output.value));
        }
        notes(&eval.expect.warn, &output.annotations.warnings(), "warning")?;
        notes(&eval.expect.info, &output.annotations.infos(), "info")?;
        match eval.at {
            At::Instant(at) => {
                self.check_instant(&output, at)?;
                self.again_as_range(&query, at)?;
                self.again_with_at(&query, at)
            }
            At::Range { start, step, .. } => self.check_range(&output, start, step),
        }
    }

    fn failed(&self, error: &str) -> Result<(), String> {
        match &self.eval.expect.fail {
            None => Err(format!("failed: {error}")),
            Some(expected) if expected.matches(error) => Ok(()),
            // Upstream's runner compares with the error of the parser too, whose text may differ in details.
            Some(Match::Any) => Ok(()),
            Some(expected) => Err(format!("failed with {error:?} instead of {expected:?}")),
        }
    }

    fn check_instant(&self, output: &QueryOutput, at: i64) -> Result<(), String> {
        let eval = self.eval;
        if let Some(expected) = &eval.expect.string {
            return match &output.value {
                Value::String { text, .. } if text == expected => Ok(()),
                other => Err(format!("expected string {expected:?}, got {other:?}")),
            };
        }
        if let Some((start, _, step)) = eval.expect.range_vector {
            return self.check_range(output, start, step);
        }
        match &output.value {
            Value::Scalar(sample) => match eval.expect.scalar {
                Some(expected) if equal(sample.value, expected) => Ok(()),
                expected => Err(format!("expected {expected:?}, got scalar {}", sample.value)),
            },
            Value::Vector(samples) => {
                let got: Vec<(Labels, f64)> = samples.iter().map(|s| (s.labels.clone(), s.value)).collect();
                if samples.iter().any(|s| s.at != ms(at)) {
                    return Err("a sample has another time".into());
                }
                self.check_vector(&got, eval.expect.ordered)
            }
            other => Err(format!("unexpected {}: {other:?}", other.kind())),
        }
    }

    fn check_vector(&self, got: &[(Labels, f64)], ordered: bool) -> Result<(), String> {
        if self.eval.expect.scalar.is_some() {
            return Err(format!("expected a scalar, got {got:?}"));
        }
        let expected: Vec<(Labels, f64)> = self
            .eval
            .series
            .iter()
            .map(|(labels, points)| (labels.clone(), points.first().copied().flatten().unwrap_or(f64::NAN)))
            .collect();
        if ordered {
            let labels = |v: &[(Labels, f64)]| v.iter().map(|(l, _)| l.clone()).collect::<Vec<_>>();
            if labels(got) != labels(&expected) {
                return Err(format!("order: expected {expected:?}, got {got:?}"));
            }
        }
        let by_labels: BTreeMap<&Labels, f64> = got.iter().map(|(l, v)| (l, *v)).collect();
        if by_labels.len() != got.len() {
            return Err(format!("series occur twice: {got:?}"));
        }
        if got.len() != expected.len() {
            return Err(format!("expected {expected:?}, got {got:?}"));
        }
        for (labels, value) in &expected {
            match by_labels.get(labels) {
                Some(got) if equal(*got, *value) => {}
                other => return Err(format!("{labels}: expected {value}, got {other:?} among {got:?}")),
            }
        }
        Ok(())
    }

    fn check_range(&self, output: &QueryOutput, start: i64, step: i64) -> Result<(), String> {
        let Value::Matrix(series) = &output.value else {
            return Err(format!("expected a matrix, got {:?}", output.value));
        };
        if let (Some(value), [one]) = (self.eval.expect.scalar, series.as_slice()) {
            return match one.points.iter().all(|p| equal(p.value, value)) && one.labels.is_empty() {
                true => Ok(()),
                false => Err(format!("expected {value} at each step, got {one:?}")),
            };
        }
        if !series.is_sorted_by(|a, b| a.labels < b.labels) {
            return Err(format!("not sorted by labels: {series:?}"));
        }
        let expected: BTreeMap<Labels, Vec<Sample>> = self
            .eval
            .series
            .iter()
            .map(|(labels, points)| {
                let samples = points.iter().enumerate().filter_map(|(i, point)| {
                    let at = ms(start + step * i as i64);
                    point.map(|value| Sample { at, value })
                });
                (labels.clone(), samples.collect())
            })
            .collect();
        if expected.len() != series.len() {
            return Err(format!("expected {expected:?}, got {series:?}"));
        }
        for got in series {
            let Some(points) = expected.get(&got.labels) else {
                return Err(format!("unexpected series {got:?}, expected {expected:?}"));
            };
            let same = points.len() == got.points.len()
                && points
                    .iter()
                    .zip(&got.points)
                    .all(|(a, b)| a.at == b.at && equal(a.value, b.value));
            if !same {
                return Err(format!("{}: expected {points:?}, got {:?}", got.labels, got.points));
            }
        }
        Ok(())
    }

    /// Upstream's runner does this to find functions that differ between the two kinds of query.
    fn again_as_range(&self, query: &Query, at: i64) -> Result<(), String> {
        let expect = &self.eval.expect;
        let text = &self.eval.expr;
        let depends = ["start()", "end()", "range()", "step()"]
            .iter()
            .any(|f| text.contains(f));
        if expect.string.is_some() || expect.range_vector.is_some() || depends {
            return Ok(());
        }
        let store = self.store.queryable();
        let output = self
            .engine
            .range(store, query, ms(at - 60_000), ms(at + 60_000), 60_000);
        let output = output.map_err(|e| format!("as a range query: {e}"))?;
        if expect.ordered {
            return Ok(());
        }
        let Value::Matrix(series) = output.value else {
            return Err("as a range query: no matrix".into());
        };
        let middle = |points: &[Sample]| points.iter().find(|p| p.at == ms(at)).map(|p| p.value);
        if let Some(expected) = expect.scalar {
            let got = series.first().and_then(|s| middle(&s.points));
            return match got {
                Some(got) if equal(got, expected) => Ok(()),
                _ => Err(format!("as a range query: expected {expected}, got {got:?}")),
            };
        }
        let got: Vec<(Labels, f64)> = series
            .iter()
            .filter_map(|s| middle(&s.points).map(|v| (s.labels.clone(), v)))
            .collect();
        self.check_vector(&got, false)
            .map_err(|e| format!("as a range query: {e}"))
    }

    /// With `@` on every selector the time of evaluation must not matter.
    fn again_with_at(&self, query: &Query, at: i64) -> Result<(), String> {
        if calls_depend_on_time(&query.expr) {
            return Ok(());
        }
        let mut fixed = query.clone();
        fix_times(&mut fixed.expr, at);
        let times = if at == 0 {
            vec![-1000, 0, 1000]
        } else {
            vec![-10 * at, 0, at / 5, at, 10 * at]
        };
        for time in times {
            let output = self.engine.instant(self.store.queryable(), &fixed, ms(time));
            let output = output.map_err(|e| format!("with @ at {time}: {e}"))?;
            self.check_instant(&output, time)
                .map_err(|e| format!("with @ at {time}: {e}"))?;
        }
        Ok(())
    }
}

fn ms(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn calls_depend_on_time(expr: &Expr) -> bool {
    use Function as F;
    let here = match &expr.kind {
        ExprKind::Call(call) => matches!(
            call.function.function,
            F::DaysInMonth
                | F::DayOfMonth
                | F::DayOfWeek
                | F::DayOfYear
                | F::Hour
                | F::Minute
                | F::Month
                | F::Year
                | F::PredictLinear
                | F::Time
                | F::Timestamp
                | F::Start
                | F::End
                | F::Range
                | F::Step
        ),
        _ => false,
    };
    here || expr.children().into_iter().any(calls_depend_on_time)
}

fn fix_times(expr: &mut Expr, at: i64) {
    let fixed = Some(AtModifier::Timestamp(ms(at)));
    match &mut expr.kind {
        ExprKind::Vector(selector) => selector.at = selector.at.or(fixed),
        ExprKind::Matrix(selector) => selector.vector.at = selector.vector.at.or(fixed),
        // What is inside is evaluated at times that the subquery's own fixes.
        ExprKind::Subquery(subquery) => subquery.at = subquery.at.or(fixed),
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                fix_times(param, at);
            }
            fix_times(&mut aggregate.expr, at);
        }
        ExprKind::Binary(binary) => {
            fix_times(&mut binary.lhs, at);
            fix_times(&mut binary.rhs, at);
        }
        ExprKind::Unary(unary) => fix_times(&mut unary.expr, at),
        ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| fix_times(arg, at)),
        ExprKind::Paren(inner) => fix_times(inner, at),
        ExprKind::Number(_) | ExprKind::String(_) => {}
    }
}

fn notes(expected: &Notes, got: &[String], kind: &str) -> Result<(), String> {
    if expected.none && !got.is_empty() {
        return Err(format!("expected no {kind}, got {got:?}"));
    }
    if expected.some.is_empty() {
        return Ok(());
    }
    for wanted in &expected.some {
        if !got.iter().any(|text| wanted.matches(text)) {
            return Err(format!("no {kind} matches {wanted:?}: {got:?}"));
        }
    }
    match got.iter().find(|text| !expected.some.iter().any(|m| m.matches(text))) {
        Some(text) => Err(format!("unexpected {kind} {text:?}")),
        None => Ok(()),
    }
}

/// Upstream's comparison of floats.
fn equal(a: f64, b: f64) -> bool {
    const EPSILON: f64 = 1e-6;
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (diff, sum) = ((a - b).abs(), a.abs() + b.abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < EPSILON * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < EPSILON
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    files
}

#[test]
fn our_own_scripts_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/promql");
    let mut cases = 0;
    let mut wrong = Vec::new();
    for path in scripts(&folder) {
        let commands = parse(&std::fs::read_to_string(&path).unwrap());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // `name.off.test` runs with every feature off, as a server does by default.
        let features = if name.ends_with(".off.test") {
            Features::default()
        } else {
            features()
        };
        for (line, result) in run(&commands, &mut MemoryStore::new(), features, |_| true) {
            cases += 1;
            if let Err(why) = result {
                wrong.push(format!("{name}:{line} {why}"));
            }
        }
    }
    assert!(cases > 0, "no cases in {}", folder.display());
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The cases that need what tidegauge does not evaluate yet.
const NOT_YET: [&str; 2] = ["native-histograms", "start-timestamps"];

/// Runs upstream's scripts on a store; `known_gaps.txt` lists every case that does not pass.
fn conformance(mut store: impl TestStore) {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let folder = Path::new(&shared).join("conformance/promql");
    let index: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("index.json")).unwrap()).unwrap();
    let mut wanted: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for case in index.as_array().unwrap() {
        let requires: Vec<&str> = case["requires"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r.as_str().unwrap())
            .collect();
        if !requires.iter().any(|r| NOT_YET.contains(r)) {
            let lines = wanted.entry(case["file"].as_str().unwrap().to_owned()).or_default();
            lines.insert(case["line"].as_u64().unwrap() as usize);
        }
    }
    let gaps: BTreeSet<&str> = include_str!("known_gaps.txt")
        .lines()
        .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
        .map(|l| l.split_whitespace().next().unwrap())
        .collect();
    let (mut passed, mut wrong) = (0, Vec::new());
    for (file, lines) in &wanted {
        store.clear();
        let commands = parse(&std::fs::read_to_string(folder.join(file)).unwrap());
        let results = run(&commands, &mut store, features(), |line| lines.contains(&line));
        assert_eq!(
            results.len(),
            lines.len(),
            "{file}: cases of the index that the script has"
        );
        for (line, result) in results {
            let name = format!("{file}:{line}");
            match (result, gaps.contains(name.as_str())) {
                (Ok(()), true) => wrong.push(format!("{name} passes: take it off the list of gaps")),
                (Err(why), false) => wrong.push(format!("{name} {why}")),
                (Ok(()), false) => passed += 1,
                (Err(_), true) => {}
            }
        }
    }
    println!("{passed} cases pass, {} known gaps", gaps.len());
    assert!(
        wrong.is_empty(),
        "{} wrong, {passed} pass:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn upstream_scripts_pass_in_memory() {
    conformance(MemoryStore::new());
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn upstream_scripts_pass_on_the_real_store() {
    conformance(DbStore::new(7));
}
