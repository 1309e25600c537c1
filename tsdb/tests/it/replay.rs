//! Restarts at every place of a run's life: what was acknowledged comes back, value for value.

use crate::support::{Content, all, at, eager, labels, open, options};
use proptest::prelude::*;
use std::sync::Arc;
use tidegauge_model::{Appendable, OnReject, stale_marker};
use tidegauge_tsdb::fs::{Fs, MemoryFs};
use tidegauge_tsdb::{Db, Fsync, Options};

/// How a process ends without closing its store.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The power goes.
    Crash,
    /// The process dies.
    Kill,
}

/// What happens before a row.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Seal,
    Maintain,
    Restart(End),
}

/// How a row relates to the one before.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// All columns, one step later.
    Dense,
    /// Half of the columns now, the other half at the same time in a commit of its own.
    Split,
    /// One column is missing.
    Gap,
    /// One column goes stale.
    Stale,
    /// A column that was not there before.
    Grown,
}

struct Day {
    disk: MemoryFs,
    fs: Arc<dyn Fs>,
    options: Options,
    db: Option<Arc<Db>>,
    told: Content,
    columns: usize,
}

impl Day {
    fn new(options: Options) -> Self {
        let disk = MemoryFs::new();
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let db = open(&fs, options.clone()).unwrap();
        Self {
            disk,
            fs,
            options,
            db: Some(db),
            told: Content::new(),
            columns: 6,
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn restart(&mut self, end: End) {
        match end {
            End::Crash => self.disk.crash(),
            End::Kill => self.disk.kill(),
        }
        // Nothing is closed: whatever the old store still does meets dead handles.
        drop(self.db.take());
        self.db = Some(open(&self.fs, self.options.clone()).unwrap());
        self.check("after a restart");
    }

    fn check(&self, when: &str) {
        let found = all(self.db());
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            self.told.keys().collect::<Vec<_>>(),
            "{when}"
        );
        for (labels, expect) in &self.told {
            let got = &found[labels];
            let differs = got.iter().zip(expect).position(|(a, b)| a != b);
            assert!(
                got.len() == expect.len() && differs.is_none(),
                "{when}: {labels:?} has {} of {} samples, the first that differs is {differs:?}",
                got.len(),
                expect.len()
            );
        }
    }

    fn commit(&mut self, time: i64, row: &[(usize, f64)]) {
        let db = self.db.as_ref().unwrap();
        let mut appender = db.appender();
        let timeline = appender.timeline("t").unwrap();
        let resolved: Vec<_> = row
            .iter()
            .map(|(c, v)| (appender.resolve(Some(timeline), &labels(&format!("m{c}"))).unwrap(), *v))
            .collect();
        appender.append_row(timeline, at(time), &resolved).unwrap();
        appender.commit(OnReject::Fail).unwrap();
        for (c, v) in row {
            self.told
                .entry(labels(&format!("m{c}")))
                .or_default()
                .push((time, v.to_bits()));
        }
    }

    fn row(&mut self, n: usize, shape: Shape) {
        let time = 1_000_000 + n as i64 * 1000;
        let missing = n % self.columns;
        let mut row: Vec<(usize, f64)> = (0..self.columns)
            .map(|c| {
                let value = match c % 3 {
                    0 => n as f64,
                    1 => (n / 7) as f64 + 0.25,
                    _ => (n * n % 1009) as f64 * 1e-3,
                };
                (c, value)
            })
            .collect();
        match shape {
            Shape::Dense => self.commit(time, &row),
            Shape::Split => {
                let rest = row.split_off(row.len() / 2);
                self.commit(time, &row);
                self.commit(time, &rest);
            }
            Shape::Gap => {
                row.remove(missing);
                self.commit(time, &row);
            }
            Shape::Stale => {
                row[missing].1 = stale_marker();
                self.commit(time, &row);
            }
            Shape::Grown => {
                row.push((self.columns, n as f64));
                self.columns += 1;
                self.commit(time, &row);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Nothing => {}
            Event::Seal => self.db().seal(),
            Event::Maintain => self.db().maintain().unwrap(),
            Event::Restart(end) => self.restart(end),
        }
    }
}

/// Few columns and steady values, as in the report of a lost value: row 120 came back with the value of row 119.
#[test]
fn the_first_row_behind_a_run_keeps_its_own_value() {
    for rows in [118, 119, 120, 121, 122, 239, 240, 241, 242] {
        for split in [None, Some(0), Some(118), Some(119), Some(120), Some(239), Some(240)] {
            let mut day = Day::new(options(Fsync::Always));
            for n in 0..rows {
                let shape = if split == Some(n) { Shape::Split } else { Shape::Dense };
                day.row(n, shape);
            }
            day.restart(End::Crash);
            day.row(rows, Shape::Dense);
            day.restart(End::Kill);
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        90 => Just(Event::Nothing),
        2 => Just(Event::Seal),
        2 => Just(Event::Maintain),
        1 => Just(Event::Restart(End::Crash)),
        1 => Just(Event::Restart(End::Kill)),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        80 => Just(Shape::Dense),
        8 => Just(Shape::Split),
        6 => Just(Shape::Gap),
        3 => Just(Shape::Stale),
        1 => Just(Shape::Grown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_across_runs(
        days in proptest::collection::vec((event(), shape()), 100..400),
        block_ms in prop_oneof![Just(7_200_000i64), Just(50_000)],
        segment_bytes in prop_oneof![Just(64u64 << 20), Just(3000)],
        checkpoints: bool,
    ) {
        let options = Options { block_ms, segment_bytes, ..options(Fsync::Always) };
        let mut day = Day::new(if checkpoints { eager(options) } else { options });
        for (n, (event, shape)) in days.into_iter().enumerate() {
            day.happen(event);
            day.row(n, shape);
        }
        day.check("at the end");
        day.restart(End::Crash);
        day.restart(End::Kill);
    }
}
