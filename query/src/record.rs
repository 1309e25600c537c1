//! What each part of a plan did while it was evaluated: the ground that statistics, the limit on samples and explain
//! stand on.
//!
//! ```text
//!   evaluate(node)  --enter, leave-->  Done of the node: values per step, time, bytes
//!   select, rows    --selected, read-> Leaf of the selector: series, chunks, samples, windows
//!                                        |
//!                                        `--> account: what upstream would count     explain: the tree for people
//! ```
//!
//! Totals are always kept: they cost a few additions for each part of the plan and each series. Values by step,
//! times and windows are kept when somebody asked for them.

use crate::value::StatsLevel;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tidegauge_model::{Lease, SeriesSet};

/// A part of the plan, by its place in memory: the plan does not move while it is evaluated. A part and its first
/// field share a place, so the kind is part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Node(usize),
    Select(usize),
    Window(usize),
}

fn place<T>(part: &T) -> usize {
    std::ptr::from_ref(part).addr()
}

impl Key {
    pub(crate) fn node(node: &crate::plan::Node) -> Self {
        Self::Node(place(node))
    }

    pub(crate) fn select(select: &crate::plan::Select) -> Self {
        Self::Select(place(select))
    }

    pub(crate) fn window(window: &crate::plan::Window) -> Self {
        Self::Window(place(window))
    }

    /// Where it is taken down what a range vector is made of.
    pub(crate) fn of_source(window: &crate::plan::Window) -> Self {
        match &window.source {
            crate::plan::Source::Series(select) => Self::select(select),
            crate::plan::Source::Subquery { .. } => Self::window(window),
        }
    }
}

/// What a node gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// Series; one for a scalar.
    pub(crate) rows: u64,
    /// Values over all steps.
    pub(crate) values: u64,
    /// Values by step, if they are counted.
    pub(crate) by_step: Option<Vec<u64>>,
    /// From its start to its end, with all that lies below it.
    pub(crate) wall: Duration,
    /// Bytes the query held when it was done.
    pub(crate) held_bytes: u64,
    /// What of upstream's limit it takes.
    pub(crate) load: Load,
    /// Its rows went on one by one.
    pub(crate) streamed: bool,
}

/// Samples as upstream counts them against its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    /// Held when the part is done.
    pub(crate) held: u64,
    /// The most held at a time until then.
    pub(crate) peak: u64,
}

/// What was read for a selector, or for a function over a subquery.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaf {
    pub(crate) series: u64,
    pub(crate) timelines: u64,
    pub(crate) chunks: u64,
    /// Samples decoded.
    pub(crate) read: u64,
    /// Series that use the windows found for their timeline, and series whose windows were found for them alone.
    pub(crate) windows_shared: u64,
    pub(crate) windows_own: u64,
    /// How long the store took to find the series.
    pub(crate) select: Duration,
    /// Series that gave a row.
    pub(crate) rows: u64,
    /// Values given over all steps.
    pub(crate) values: u64,
    pub(crate) values_by_step: Option<Vec<u64>>,
    /// Samples that steps looked at.
    pub(crate) seen: u64,
    pub(crate) seen_by_step: Option<Vec<u64>>,
    /// Samples in the last window of a series, the most of all.
    pub(crate) last_window: u64,
    /// From the first to the last row; what takes the rows is in it.
    pub(crate) wall: Duration,
}

impl Leaf {
    /// Adds what another part of the same selection counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.read += other.read;
        self.windows_shared += other.windows_shared;
        self.windows_own += other.windows_own;
        self.rows += other.rows;
        self.values += other.values;
        self.seen += other.seen;
        self.last_window = self.last_window.max(other.last_window);
        add_steps(&mut self.seen_by_step, other.seen_by_step);
        add_steps(&mut self.values_by_step, other.values_by_step);
    }

    /// Adds a series that is given as it is stored.
    pub(crate) fn whole(&mut self, samples: u64) {
        self.add(Self {
            rows: 1,
            values: samples,
            read: samples,
            windows_own: 1,
            seen: samples,
            seen_by_step: Some(vec![samples]),
            ..Self::default()
        });
    }
}

fn add_steps(mine: &mut Option<Vec<u64>>, theirs: Option<Vec<u64>>) {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine.iter_mut().zip(theirs).for_each(|(n, more)| *n += more),
        (mine @ None, theirs) => *mine = theirs,
        (Some(_), None) => {}
    }
}

/// Takes down what happens.
#[derive(Debug)]
pub(crate) struct Recorder {
    level: StatsLevel,
    nodes: Mutex<HashMap<Key, Done>>,
    leaves: Mutex<HashMap<Key, Leaf>>,
    /// Pays for the counts by step.
    leases: Mutex<Vec<Lease>>,
}

/// When something began, if times are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began(Option<Instant>);

impl Began {
    pub(crate) fn elapsed(self) -> Duration {
        self.0.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

impl Recorder {
    pub(crate) fn new(level: StatsLevel) -> Self {
        Self {
            level,
            nodes: Mutex::default(),
            leaves: Mutex::default(),
            leases: Mutex::default(),
        }
    }

    /// Whether samples and values are counted by step.
    pub(crate) fn by_step(&self) -> bool {
        self.level != StatsLevel::Totals
    }

    /// Whether times and windows are wanted.
    pub(crate) fn explains(&self) -> bool {
        self.level == StatsLevel::Explain
    }

    /// Something begins.
    pub(crate) fn begin(&self) -> Began {
        Began(self.explains().then(Instant::now))
    }

    /// Keeps what pays for counts by step.
    pub(crate) fn keep(&self, lease: Lease) {
        self.leases.lock().push(lease);
    }

    /// A node is done.
    pub(crate) fn done(&self, key: Key, done: Done) {
        self.nodes.lock().insert(key, done);
    }

    /// Changes what is known of a leaf.
    pub(crate) fn leaf(&self, key: Key, change: impl FnOnce(&mut Leaf)) {
        change(self.leaves.lock().entry(key).or_default());
    }

    /// The store has found the series of a selector.
    pub(crate) fn selected(&self, key: Key, set: &SeriesSet, began: Began) {
        let explains = self.explains();
        self.leaf(key, |leaf| {
            for group in set {
                leaf.series += group.len() as u64;
                leaf.timelines += 1;
                if explains {
                    leaf.chunks += (0..group.len()).map(|i| group.chunks(i) as u64).sum::<u64>();
                }
            }
            leaf.select += began.elapsed();
        });
    }

    /// All rows of a leaf have been taken.
    pub(crate) fn took(&self, key: Key, began: Began) {
        if self.explains() {
            self.leaf(key, |leaf| leaf.wall += began.elapsed());
        }
    }

    /// What is known of a node.
    pub(crate) fn with_node<T>(&self, key: Key, read: impl FnOnce(Option<&Done>) -> T) -> T {
        read(self.nodes.lock().get(&key))
    }

    /// A copy of what is known of a node.
    pub(crate) fn node_of(&self, key: Key) -> Option<Done> {
        self.nodes.lock().get(&key).cloned()
    }

    /// What is known of a leaf; nothing at all if it was never read.
    pub(crate) fn leaf_of(&self, key: Key) -> Leaf {
        self.leaves.lock().get(&key).cloned().unwrap_or_default()
    }

    /// Series read.
    pub(crate) fn series(&self) -> u64 {
        self.leaves.lock().values().map(|leaf| leaf.series).sum()
    }
}
