//! What one source tells of one container or node, and what it uses by that.
//!
//! ```text
//!   cpu      ... x      x  |  x        x     rate = (last - before) / (their times): the window
//!   memory   ... x      x  |  x        x     the last
//!                       stale marker: what lies before it belongs to something else
//! ```

use tidegauge_model::{Column, Sample, Timestamp, Values, is_stale};

/// A container younger than this has too little behind it to tell a rate by its start.
const FRESH_MIN_MS: i64 = 10_000;
/// A container younger than this counts from its start, where nothing had been used, even if it was seen before.
const FRESH_MAX_MS: i64 = 15_000;
/// One that was seen only once counts from its start while it is younger than this: scrapes may lie a minute apart.
const FIRST_SEEN_MAX_MS: i64 = 60_000;
/// What is this far behind others that say the same, or that run beside it, has gone without a stale marker.
const GONE_MS: i64 = 90_000;

/// The end of a series: its last sample, and the one before, unless a stale marker lies between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) last: Sample,
    pub(super) before: Option<Sample>,
}

impl Tail {
    /// The end of a column; `None` if it has ended, or its last sample is not after `oldest`.
    pub(super) fn of(column: &Column<'_>, oldest: Timestamp) -> Option<Self> {
        let Values::Float(values) = column.values else {
            return None;
        };
        let samples = column.timestamps.iter().zip(values).rev();
        let mut samples = samples
            .map(|(at, value)| Sample { at: *at, value: *value })
            .take_while(|sample| !is_stale(sample.value));
        let last = samples.next().filter(|last| last.at > oldest)?;
        Some(Self {
            last,
            before: samples.next(),
        })
    }
}

/// How much processor time had been used, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    at: Timestamp,
    cpu_nano: u64,
}

impl Point {
    /// `None` if it is no amount of time.
    fn of(sample: Sample) -> Option<Self> {
        Some(Self {
            at: sample.at,
            cpu_nano: whole(sample.value * 1e9)?,
        })
    }
}

/// A number with its fraction cut off; `None` if it is below zero, or none at all.
fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

/// Where series come from. The first is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The kubelet's `/metrics/resource`.
    Resource,
    /// cAdvisor's metrics.
    Cadvisor,
}

/// What one source tells of one container or node.
#[derive(Debug, Clone)]
pub(super) struct Track {
    source: Source,
    /// Tells sources of one kind apart, the same way each time.
    identity: u64,
    cpu: Option<Tail>,
    memory: Option<Tail>,
    started: Option<Tail>,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// When it was measured.
    pub(super) at: Timestamp,
    /// The time that the processor time is an average over.
    pub(super) window_ms: i64,
    /// Billionths of a core.
    pub(super) cpu_nano: i64,
    /// The working set.
    pub(super) memory_bytes: i64,
}

/// Which of a track's series a tail is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Cpu,
    Memory,
    Started,
}

impl Track {
    pub(super) fn new(source: Source, identity: u64) -> Self {
        Self {
            source,
            identity,
            cpu: None,
            memory: None,
            started: None,
        }
    }

    pub(super) fn set(&mut self, part: Part, tail: Tail) {
        *match part {
            Part::Cpu => &mut self.cpu,
            Part::Memory => &mut self.memory,
            Part::Started => &mut self.started,
        } = Some(tail);
    }

    /// When it was heard of last; `None` if it has ended.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        let times = self.cpu.iter().chain(&self.memory).map(|tail| tail.last.at);
        times.max()
    }

    /// Whether it has gone, without saying so, while another was still heard of at a time.
    pub(super) fn has_gone_by(&self, time: Timestamp) -> bool {
        self.newest().is_none_or(|newest| time - newest > GONE_MS)
    }

    /// When what it tells of started, if it says so.
    fn started(&self) -> Option<Timestamp> {
        time(self.started?.last.value)
    }

    /// What is used by its last samples; `None` if they do not tell, as before the second of a counter.
    pub(super) fn usage(&self) -> Option<Usage> {
        let last = Point::of(self.cpu?.last)?;
        let memory = whole(self.memory?.last.value)?;
        // A container without either is one that begins or ends.
        if last.cpu_nano == 0 || memory == 0 {
            return None;
        }
        let before = self.before(last)?;
        let used = last.cpu_nano.checked_sub(before.cpu_nano)?;
        let window_ms = last.at - before.at;
        Some(Usage {
            at: last.at,
            window_ms,
            // A float is as exact as the one the numbers were read from; what is beyond an integer is its largest.
            cpu_nano: (used as f64 / seconds(window_ms)) as i64,
            memory_bytes: i64::try_from(memory).unwrap_or(i64::MAX),
        })
    }

    /// The point that the last is compared with.
    fn before(&self, last: Point) -> Option<Point> {
        let seen = self.cpu?.before.and_then(Point::of).filter(|seen| seen.at < last.at);
        let Some(started) = self.started() else {
            return seen;
        };
        if self.started.and_then(|tail| tail.before).and_then(|s| time(s.value)) > Some(started) {
            return None;
        }
        let seen = seen.filter(|seen| started < seen.at);
        let age_ms = last.at - started;
        let counts_from_start = match seen {
            Some(_) => (FRESH_MIN_MS..FRESH_MAX_MS).contains(&age_ms),
            None => (FRESH_MIN_MS..=FIRST_SEEN_MAX_MS).contains(&age_ms),
        };
        if counts_from_start {
            return Some(Point {
                at: started,
                cpu_nano: 0,
            });
        }
        seen
    }
}

/// A time given in seconds.
fn time(seconds: f64) -> Option<Timestamp> {
    let ms = (seconds * 1000.0).round();
    // Beyond it, differences with times of samples would not fit.
    (ms.abs() < 1e17).then_some(Timestamp::from_millis(ms as i64))
}

/// Seconds as the Kubernetes programs count them: whole ones and the rest apart.
fn seconds(ms: i64) -> f64 {
    (ms / 1000) as f64 + (ms % 1000 * 1_000_000) as f64 / 1e9
}

/// What is used by the best of those that tell of the same thing; `None` if none of them knows. They are never added up.
pub(super) fn choose(tracks: &[&Track]) -> Option<Usage> {
    let newest = tracks.iter().filter_map(|track| track.newest()).max()?;
    let started = tracks.iter().filter_map(|track| track.started()).max();
    tracks
        .iter()
        .filter(|track| !track.has_gone_by(newest))
        // What was measured before the last start was measured of the container before.
        .filter(|track| started.is_none_or(|started| track.newest() >= Some(started)))
        .filter_map(|track| Some((track, track.usage()?)))
        .min_by_key(|(track, usage)| (track.source, std::cmp::Reverse(usage.at), track.identity))
        .map(|(_, usage)| usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegauge_model::stale_marker;

    /// The samples of a series as (seconds, value); NaN is a stale marker.
    fn tail(samples: &[(f64, f64)]) -> Option<Tail> {
        let at = |s: f64| Timestamp::from_millis((s * 1000.0).round() as i64);
        let times: Vec<Timestamp> = samples.iter().map(|(t, _)| at(*t)).collect();
        let stale = |v: f64| if v.is_nan() { stale_marker() } else { v };
        let values: Vec<f64> = samples.iter().map(|(_, v)| stale(*v)).collect();
        let column = Column {
            timestamps: &times,
            values: Values::Float(&values),
            dense: true,
            has_stale: true,
        };
        Tail::of(&column, at(700.0))
    }

    fn track(source: Source, cpu: &[(f64, f64)], memory: &[(f64, f64)], started: &[(f64, f64)]) -> Track {
        Track {
            source,
            identity: 1,
            cpu: tail(cpu),
            memory: tail(memory),
            started: tail(started),
        }
    }

    /// (time in s, window in ms, cpu in nano-cores, memory)
    fn told(usage: Option<Usage>) -> Option<(f64, i64, i64, i64)> {
        usage.map(|u| (u.at.seconds(), u.window_ms, u.cpu_nano, u.memory_bytes))
    }

    const M: &[(f64, f64)] = &[(1000.0, 4096.0)];

    #[test]
    fn usage_is_what_metrics_server_would_say() {
        let nan = f64::NAN;
        for (why, cpu, memory, started, expected) in [
            (
                "the last two samples, by their own times",
                &[(900.0, 1.0), (985.0, 10.0), (1000.064, 14.0)][..],
                &[(985.0, 1.0), (1000.0, 4096.9)][..],
                &[][..],
                Some((1000.064, 15_064, 265_533_722, 4096)),
            ),
            ("one sample tells no rate", &[(1000.0, 4.0)], M, &[], None),
            ("too old to be of now", &[(685.0, 1.0), (700.0, 2.0)], M, &[], None),
            (
                "a pair may reach beyond the look-back",
                &[(690.0, 1.0), (750.0, 4.0)],
                &[(750.0, 1.0)],
                &[],
                Some((750.0, 60_000, 50_000_000, 1)),
            ),
            (
                "it has ended",
                &[(970.0, 1.0), (985.0, 2.0), (1000.0, nan)],
                M,
                &[],
                None,
            ),
            (
                "it ended and came again",
                &[(970.0, 1.0), (985.0, nan), (1000.0, 3.0)],
                M,
                &[],
                None,
            ),
            (
                "it came again, twice seen",
                &[(970.0, 9.0), (972.0, nan), (985.0, 1.0), (1000.0, 4.0)],
                M,
                &[],
                Some((1000.0, 15_000, 200_000_000, 4096)),
            ),
            (
                "memory has ended",
                &[(985.0, 1.0), (1000.0, 2.0)],
                &[(985.0, 1.0), (1000.0, nan)],
                &[],
                None,
            ),
            ("no memory", &[(985.0, 1.0), (1000.0, 2.0)], &[], &[], None),
            (
                "memory is zero",
                &[(985.0, 1.0), (1000.0, 2.0)],
                &[(1000.0, 0.9)],
                &[],
                None,
            ),
            ("cpu is zero", &[(985.0, 0.0), (1000.0, 0.0)], M, &[], None),
            (
                "idle is not zero",
                &[(985.0, 2.0), (1000.0, 2.0)],
                M,
                &[],
                Some((1000.0, 15_000, 0, 4096)),
            ),
            ("cpu goes down", &[(985.0, 3.0), (1000.0, 2.0)], M, &[], None),
            ("no number", &[(985.0, 3.0), (1000.0, f64::INFINITY)], M, &[], None),
            ("below zero", &[(985.0, -3.0), (1000.0, 3.0)], M, &[], None),
            (
                "fresh: counts from its start",
                &[(1000.0, 1.2)],
                M,
                &[(1000.0, 988.0)],
                Some((1000.0, 12_000, 100_000_000, 4096)),
            ),
            (
                "fresh: counts from its start even if there are two samples",
                &[(990.0, 1.0), (1000.0, 1.2)],
                M,
                &[(1000.0, 988.0)],
                Some((1000.0, 12_000, 100_000_000, 4096)),
            ),
            ("too fresh", &[(1000.0, 1.2)], M, &[(1000.0, 990.001)], None),
            (
                "just not too fresh",
                &[(1000.0, 1.0)],
                M,
                &[(1000.0, 990.0)],
                Some((1000.0, 10_000, 100_000_000, 4096)),
            ),
            (
                "not fresh any more",
                &[(990.0, 1.0), (1000.0, 1.2)],
                M,
                &[(1000.0, 985.0)],
                Some((1000.0, 10_000, 20_000_000, 4096)),
            ),
            (
                "seen for the first time by a slow scrape",
                &[(1000.0, 3.0)],
                M,
                &[(1000.0, 940.0)],
                Some((1000.0, 60_000, 50_000_000, 4096)),
            ),
            (
                "seen for the first time, long after its start",
                &[(1000.0, 3.0)],
                M,
                &[(1000.0, 939.0)],
                None,
            ),
            (
                "restarted since the sample before",
                &[(980.0, 1.0), (1000.0, 3.0)],
                M,
                &[(980.0, 20.0), (1000.0, 983.0)],
                Some((1000.0, 17_000, 176_470_588, 4096)),
            ),
            (
                "restarted, and too fresh",
                &[(985.0, 1.0), (1000.0, 3.0)],
                M,
                &[(985.0, 20.0), (1000.0, 995.0)],
                None,
            ),
            (
                "restarted before both samples",
                &[(985.0, 1.0), (1000.0, 3.0)],
                M,
                &[(970.0, 20.0), (985.0, 970.0), (1000.0, 970.0)],
                Some((1000.0, 15_000, 133_333_333, 4096)),
            ),
            (
                "its start went back",
                &[(985.0, 1.0), (1000.0, 3.0)],
                M,
                &[(985.0, 30.0), (1000.0, 20.0)],
                None,
            ),
            (
                "starts after its last sample",
                &[(985.0, 1.0), (1000.0, 3.0)],
                M,
                &[(1000.0, 1001.0)],
                None,
            ),
            (
                "a start that is no time is none",
                &[(985.0, 1.0), (1000.0, 4.0)],
                M,
                &[(1000.0, f64::INFINITY)],
                Some((1000.0, 15_000, 200_000_000, 4096)),
            ),
        ] {
            let track = track(Source::Resource, cpu, memory, started);
            assert_eq!(told(track.usage()), expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn whatever_samples_say_no_usage_is_below_zero(
            // Their times are those that were asked for; their values and the start are whatever a target says.
            samples in proptest::collection::vec((0.0..2000.0, prop_oneof![0.0..1e4, any::<f64>()]), 0..6),
            started in prop_oneof![0.0..2000.0, any::<f64>()],
        ) {
            let mut samples = samples;
            samples.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
            let track = track(Source::Resource, &samples, &samples, &[(1000.0, started)]);
            if let Some(usage) = choose(&[&track]) {
                prop_assert!(usage.cpu_nano >= 0 && usage.memory_bytes > 0 && usage.window_ms > 0, "{usage:?}");
            }
        }
    }

    #[test]
    fn one_of_several_is_chosen_and_nothing_added_up() {
        use Source::{Cadvisor, Resource};
        let one = |source, at: f64, cpu: f64| {
            track(
                source,
                &[(at - 10.0, 1.0), (at, 1.0 + cpu * 10.0)],
                &[(at, 5.0)],
                &[(at, 20.0)],
            )
        };
        let with = |mut track: Track, identity| {
            track.identity = identity;
            track
        };
        let started = |source, at: f64| track(source, &[(1000.0, 1.0)], M, &[(1000.0, at)]);
        for (why, tracks, cpu) in [
            (
                "resource first",
                vec![one(Cadvisor, 1000.0, 2.0), one(Resource, 990.0, 1.0)],
                Some(1),
            ),
            (
                "the newer of alike",
                vec![one(Resource, 990.0, 1.0), one(Resource, 1000.0, 2.0)],
                Some(2),
            ),
            (
                "always the same of equals",
                vec![with(one(Resource, 1000.0, 1.0), 7), with(one(Resource, 1000.0, 2.0), 3)],
                Some(2),
            ),
            (
                "one that has gone",
                vec![one(Resource, 905.0, 1.0), one(Cadvisor, 1000.0, 2.0)],
                Some(2),
            ),
            (
                "one that does not tell",
                vec![track(Resource, &[(1000.0, 1.0)], M, &[]), one(Cadvisor, 1000.0, 2.0)],
                Some(2),
            ),
            (
                "the container before",
                vec![one(Cadvisor, 980.0, 1.0), started(Cadvisor, 995.0)],
                None,
            ),
            ("none", vec![], None),
        ] {
            let tracks: Vec<&Track> = tracks.iter().collect();
            let chosen = choose(&tracks).map(|usage| usage.cpu_nano / 1_000_000_000);
            assert_eq!(chosen, cpu, "{why}");
        }
    }
}
