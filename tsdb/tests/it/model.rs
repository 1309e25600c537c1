//! The store against the in-memory oracle, under random operations.

use crate::support::{Content, all, at, content, eager, histogram, open, options, view_content};
use proptest::prelude::*;
use std::sync::Arc;
use tidegauge_model::testing::{MemoryStore, Rules};
use tidegauge_model::{
    Appendable, Histogram, Labels, MatchOp, Matcher, OnReject, Queryable, ReadContext, RejectReason, SelectHints,
    TimeRange, is_stale, stale_marker,
};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options, SnapshotHead};

#[derive(Debug, Clone)]
enum Op {
    /// A row of a timeline: which, how far its time moves, its columns and values.
    Row(usize, i64, Vec<(usize, usize)>),
    /// Samples with their own times.
    Loose(Vec<(usize, i64, usize)>),
    /// Deletes from one instant to another: of one metric, of one owner, or of every series.
    Delete(usize, i64, i64),
    Clean,
    /// The same with histograms; floats among them, where the last says so.
    Histograms(Vec<(usize, i64, usize, bool)>),
    /// Another out-of-order window.
    Window(i64),
    Reopen,
    Seal,
    Maintain,
    Compact,
    Snapshot,
}

const VALUES: [f64; 8] = [0.0, 1.0, -0.0, 0.1, 1e300, f64::NAN, f64::INFINITY, 17.25];

fn op() -> impl Strategy<Value = Op> {
    let step = prop_oneof![6 => Just(5i64), 2 => Just(0), 1 => -7i64..0, 1 => 1i64..40, 1 => Just(400)];
    let columns = proptest::collection::vec((0usize..7, 0usize..9), 1..7);
    let full = (0usize..9).prop_map(|v| (0..6).map(|c| (c, v)).collect::<Vec<_>>());
    prop_oneof![
        8 => (0usize..2, step.clone(), prop_oneof![2 => full, 1 => columns]).prop_map(|(t, s, c)| Op::Row(t, s, c)),
        4 => proptest::collection::vec((0usize..7, -9i64..30, 0usize..9), 1..9).prop_map(Op::Loose),
        3 => (0i64..30, proptest::collection::btree_set(0usize..7, 1..7), 0usize..9)
            .prop_map(|(t, s, v)| Op::Loose(s.into_iter().map(|s| (s, t, v)).collect())),
        2 => (0usize..10, -80i64..20, 0i64..120).prop_map(|(what, from, width)| Op::Delete(what, from, width)),
        1 => Just(Op::Clean),
        2 => proptest::collection::vec((0usize..7, -600i64..30, 0usize..9), 1..5).prop_map(Op::Loose),
        1 => prop_oneof![1 => Just(0i64), 1 => Just(40), 2 => Just(300), 1 => Just(10_000)].prop_map(Op::Window),
        4 => proptest::collection::vec((0usize..7, -9i64..30, 0usize..9, proptest::bool::weighted(0.2)), 1..9)
            .prop_map(Op::Histograms),
        1 => Just(Op::Reopen),
        1 => Just(Op::Seal),
        1 => Just(Op::Maintain),
        1 => Just(Op::Compact),
        1 => Just(Op::Snapshot),
    ]
}

/// Columns whose series come by several ways. They never go stale: a marker of a column that does not own its series is
/// dropped here and kept by the oracle.
const MOVING: [usize; 3] = [1, 3, 6];

fn series(timeline: usize, column: usize) -> Labels {
    let owner = if column == 6 {
        "shared".to_owned()
    } else {
        format!("t{timeline}")
    };
    Labels::from_pairs([("__name__", format!("m{column}")), ("owner", owner)]).unwrap()
}

fn value(column: usize, value: usize) -> f64 {
    match VALUES.get(value) {
        Some(v) => *v,
        None if MOVING.contains(&column) => 3.0,
        None => stale_marker(),
    }
}

/// What a sample holds.
#[derive(Debug, Clone)]
enum Held {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// One sample of a commit: the key of its timeline, or none.
type Given = (Option<&'static str>, Labels, i64, Held);

/// A few histograms, some with another layout; the last is the stale marker, which moving columns never get.
fn some_histogram(column: usize, value: usize) -> Arc<Histogram> {
    Arc::new(match value {
        8 if !MOVING.contains(&column) => Histogram::stale(),
        n => histogram(n as u32),
    })
}

const KEYS: [&str; 2] = ["a", "b"];

/// Hands samples over and gives (ordinal, reason) of those refused.
fn commit(store: &dyn Appendable, given: &[Given]) -> Vec<(u64, RejectReason)> {
    let mut appender = store.appender();
    for same in given.chunk_by(|a, b| a.0.is_some() && (a.0, a.2) == (b.0, b.2)) {
        let (key, _, time, _) = &same[0];
        let timeline = key.map(|key| appender.timeline(key).unwrap());
        let row: Vec<_> = same
            .iter()
            .map(|g| (appender.resolve(timeline, &g.1).unwrap(), &g.3))
            .collect();
        let floats = || -> Vec<_> {
            let float = |held: &Held| match held {
                Held::Float(value) => *value,
                Held::Histogram(_) => panic!("rows are of floats"),
            };
            row.iter().map(|(series, held)| (*series, float(held))).collect()
        };
        match (timeline, row[0].1) {
            (Some(timeline), _) => appender.append_row(timeline, at(*time), &floats()).unwrap(),
            (None, Held::Float(value)) => appender.append_at(row[0].0, at(*time), *value).unwrap(),
            (None, Held::Histogram(h)) => appender.append_histogram(row[0].0, at(*time), Arc::clone(h)).unwrap(),
        }
    }
    let done = appender.commit(OnReject::Skip).unwrap();
    assert_eq!(done.samples + done.rejected.len() as u64, given.len() as u64);
    done.rejected.iter().map(|r| (r.ordinal, r.reason)).collect()
}

fn bits(reason: &RejectReason) -> String {
    match reason {
        RejectReason::Duplicate { at, existing, new } => {
            format!("duplicate {at:?} {:x} {:x}", existing.to_bits(), new.to_bits())
        }
        RejectReason::HistogramExists { at, new } => format!("histogram exists {at:?} {:x}", new.to_bits()),
        other => format!("{other:?}"),
    }
}

/// What the oracle must know to decide as the store does.
fn rules(options: &Options) -> Rules {
    Rules {
        behind_ms: options.block_ms / 2,
        out_of_order_ms: options.out_of_order_ms,
    }
}

struct Machine {
    fs: Arc<dyn Fs>,
    options: Options,
    db: Option<Arc<Db>>,
    oracle: MemoryStore,
    now: [i64; 3],
    /// Whether something was deleted: the index may still know labels then.
    deleted: bool,
    /// Rounds of maintenance; a series without samples in the head goes in the second. A restart counts as two.
    rounds: u32,
    /// The round in which each loose column got its newest histogram, if it ever got one.
    histograms: [Option<u32>; 7],
}

impl Machine {
    fn new(block_ms: i64, segment_bytes: u64, always: bool, window_ms: i64, late_bytes: usize) -> Self {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
        let options = Options {
            block_ms,
            segment_bytes,
            out_of_order_ms: window_ms,
            late_bytes,
            ..options(Fsync::Never)
        };
        let options = if always { eager(options) } else { options };
        let db = Some(open(&fs, options.clone()).unwrap());
        Self {
            fs,
            oracle: MemoryStore::with_rules(rules(&options)),
            options,
            db,
            now: [1000; 3],
            deleted: false,
            rounds: 0,
            histograms: [None; 7],
        }
    }

    /// A float that comes by itself. A store that has let go of a series and its histograms, which are in a block, takes
    /// a float marker for what it is, where the oracle makes it one of a histogram: none comes once it may have.
    fn loose(&self, column: usize, n: usize) -> Held {
        let value = value(column, n);
        let kept =
            self.options.block_ms >= 1_000_000 || self.histograms[column].is_none_or(|round| self.rounds - round <= 1);
        Held::Float(if kept || !is_stale(value) { value } else { 3.0 })
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn give(&mut self, given: &[Given]) {
        let told =
            |refused: Vec<(u64, RejectReason)>| -> Vec<_> { refused.iter().map(|(n, r)| (*n, bits(r))).collect() };
        let (got, expect) = (told(commit(self.db(), given)), told(commit(&self.oracle, given)));
        assert_eq!(got, expect, "{given:?}");
        for (n, (_, labels, _, held)) in (0..).zip(given) {
            let column: usize = labels.value("__name__")[1..].parse().unwrap();
            if matches!(held, Held::Histogram(_)) && got.iter().all(|(refused, _)| *refused != n) {
                self.histograms[column] = Some(self.rounds);
            }
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Row(t, step, columns) => {
                self.now[*t] += step;
                let given: Vec<Given> = columns
                    .iter()
                    .map(|(c, v)| (Some(KEYS[*t]), series(*t, *c), self.now[*t], Held::Float(value(*c, *v))))
                    .collect();
                self.give(&given);
            }
            Op::Loose(samples) => {
                self.now[2] += 11;
                let given: Vec<Given> = samples
                    .iter()
                    .map(|(c, t, v)| {
                        (
                            None,
                            series(if MOVING.contains(c) { 0 } else { 2 }, *c),
                            self.now[2] + t,
                            self.loose(*c, *v),
                        )
                    })
                    .collect();
                self.give(&given);
            }
            Op::Histograms(samples) => {
                self.now[2] += 11;
                let given: Vec<Given> = samples
                    .iter()
                    .map(|(c, t, v, float)| {
                        let held = if *float {
                            self.loose(*c, *v)
                        } else {
                            Held::Histogram(some_histogram(*c, *v))
                        };
                        (
                            None,
                            series(if MOVING.contains(c) { 0 } else { 2 }, *c),
                            self.now[2] + t,
                            held,
                        )
                    })
                    .collect();
                self.give(&given);
            }
            Op::Delete(what, from, width) => {
                let matchers = match what {
                    0..=6 => vec![Matcher::equal("__name__", format!("m{what}"))],
                    7 => vec![Matcher::equal("owner", "t1")],
                    8 => vec![Matcher::new(MatchOp::NotRegex, "owner", "t0|x").unwrap()],
                    _ => Vec::new(),
                };
                let from = self.now.iter().max().unwrap() + from;
                let range = TimeRange::new(at(from), at(from + width));
                let before = self.db().querier(TimeRange::ALL).unwrap();
                let shown = view_content(&*before, TimeRange::ALL);
                self.db().delete(&matchers, range).unwrap();
                assert_eq!(view_content(&*before, TimeRange::ALL), shown, "a view stays as it was");
                drop(before);
                self.oracle.delete(&matchers, range);
                self.deleted = true;
            }
            Op::Clean => {
                self.db().clean_tombstones().unwrap();
            }
            Op::Window(window_ms) => {
                self.options.out_of_order_ms = *window_ms;
                self.db().set_out_of_order_ms(*window_ms);
                self.oracle.set_rules(rules(&self.options));
            }
            Op::Reopen => {
                self.rounds += 2;
                self.db = None;
                self.db = Some(open(&self.fs, self.options.clone()).unwrap());
            }
            Op::Seal => self.db().seal(),
            Op::Maintain => {
                self.rounds += 1;
                self.db().maintain().unwrap();
            }
            Op::Compact => {
                self.rounds += 1;
                self.db().maintain().unwrap();
                self.db().compact().unwrap();
            }
            Op::Snapshot => drop(self.db().snapshot(SnapshotHead::Include).unwrap()),
        }
    }

    fn check(&self, range: TimeRange) {
        let (got, expect): (Content, Content) = (content(self.db(), range), content(&self.oracle, range));
        assert_eq!(got, expect);
    }

    fn check_labels(&self) {
        let cx = ReadContext::unlimited();
        let (a, b) = (
            self.db().querier(TimeRange::ALL).unwrap(),
            self.oracle.querier(TimeRange::ALL).unwrap(),
        );
        for matchers in [
            vec![],
            vec![Matcher::equal("__name__", "m1")],
            vec![Matcher::equal("owner", "shared")],
        ] {
            assert_eq!(
                a.series(&matchers, 3, &cx).unwrap(),
                b.series(&matchers, 3, &cx).unwrap()
            );
            let names = |q: &dyn tidegauge_model::Querier| q.label_names(&matchers, 0, &cx).unwrap().items;
            let values = |q: &dyn tidegauge_model::Querier| q.label_values("owner", &matchers, 0, &cx).unwrap().items;
            for (got, expect) in [(names(&*a), names(&*b)), (values(&*a), values(&*b))] {
                if self.deleted {
                    // The index knows labels until their samples are gone from the disk.
                    assert!(expect.iter().all(|e| got.contains(e)), "{expect:?} in {got:?}");
                } else {
                    assert_eq!(got, expect);
                }
            }
            let hints = SelectHints::range(TimeRange::ALL);
            let count = |q: &dyn tidegauge_model::Querier| {
                q.select(&matchers, &hints, &cx)
                    .unwrap()
                    .iter()
                    .map(|g| g.len())
                    .sum::<usize>()
            };
            assert_eq!(count(&*a), count(&*b));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_the_oracle(
        ops in proptest::collection::vec(op(), 1..60),
        block_ms in prop_oneof![Just(100i64), Just(500), Just(1_000_000)],
        segment_bytes in prop_oneof![Just(200u64), Just(1 << 20)],
        checkpoints: bool,
        window_ms in prop_oneof![1 => Just(0i64), 3 => Just(500)],
        late_bytes in prop_oneof![Just(0usize), Just(1 << 20)],
        from in 900i64..1500,
        width in 0i64..400,
    ) {
        let mut machine = Machine::new(block_ms, segment_bytes, checkpoints, window_ms, late_bytes);
        for op in &ops {
            machine.run(op);
            machine.check(TimeRange::new(at(from), at(from + width)));
        }
        machine.check(TimeRange::ALL);
        machine.check_labels();
        machine.run(&Op::Reopen);
        machine.check(TimeRange::ALL);
        assert_eq!(all(machine.db()), all(&machine.oracle));
    }
}

/// A series that goes from one of the store's own timelines to another in one commit.
#[test]
fn a_series_that_moves_within_a_commit_comes_back_whole() {
    let mut machine = Machine::new(100, 200, false, 0, 0);
    machine.run(&Op::Loose(vec![
        (1, 21, 0),
        (1, 22, 0),
        (0, 0, 0),
        (0, 27, 0),
        (6, 21, 0),
        (6, 27, 0),
    ]));
    machine.check(TimeRange::ALL);
    machine.run(&Op::Reopen);
    machine.check(TimeRange::ALL);
}

/// No block tells that the window is done with, and what deleted its rows has left the log.
#[test]
fn a_window_that_was_deleted_whole_does_not_come_back() {
    let row = |step, v| Op::Row(0, step, (0..6).map(|column| (column, v)).collect());
    let loose = |columns: &[usize]| Op::Loose(columns.iter().map(|column| (*column, 0, 0)).collect());
    let mut machine = Machine::new(100, 200, true, 0, 0);
    let ops = [
        loose(&[5]),
        Op::Loose(vec![(0, -62, 0)]),
        row(400, 0),
        Op::Maintain,
        loose(&[0, 1]),
        loose(&[0, 1, 2]),
        Op::Window(300),
        Op::Histograms(vec![(0, 0, 0, false)]),
        loose(&[0]),
        row(5, 0),
        row(5, 1),
        loose(&[0]),
        Op::Delete(9, -10, 10),
        Op::Histograms(vec![(0, 22, 0, true)]),
        row(400, 0),
        Op::Maintain,
        Op::Reopen,
    ];
    for op in &ops {
        machine.run(op);
        machine.check(TimeRange::ALL);
    }
}

/// Rows of one time may lie on both sides of a seal.
#[test]
fn a_second_value_is_refused_after_its_row_was_sealed() {
    let all = || (0..6).map(|column| (column, 0)).collect();
    let mut machine = Machine::new(100, 200, false, 0, 0);
    let ops = [
        Op::Row(0, 5, all()),
        Op::Row(0, 4, vec![(1, 0)]),
        Op::Row(0, -2, all()),
        Op::Snapshot,
        Op::Row(0, 0, vec![(6, 0)]),
        Op::Row(0, 0, vec![(2, 1)]),
    ];
    for op in &ops {
        machine.run(op);
        machine.check(TimeRange::ALL);
    }
}
