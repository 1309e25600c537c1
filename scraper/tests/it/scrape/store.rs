//! A store in a mood: it forgets, it is full, it lets timelines go.

use super::rig::{Reply, Target, eventually, job, jobs, manager, samples};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{
    AppendError, Appendable, Appender, CommitError, Committed, Exemplar, Histogram, Labels, OnReject, SeriesRef,
    TimelineRef, Timestamp, is_stale,
};
use tidegauge_scraper::{Health, Manager, ScrapeOptions};

/// A store that can let all columns go, and refuse commits; and that lets no timeline outlive its appender.
#[derive(Default)]
struct Moody {
    store: MemoryStore,
    mood: Mutex<Mood>,
    /// The keys of all timelines there ever were.
    timelines: Mutex<BTreeSet<String>>,
    appenders: AtomicU64,
    /// How often a timeline of an older appender was named.
    outlived: AtomicU64,
}

#[derive(Default)]
struct Mood {
    /// Columns below this are gone.
    generation: u64,
    /// The column that each metric was given last, by its bits.
    given: BTreeMap<String, u64>,
    /// Columns that are gone alone.
    lost: BTreeSet<u64>,
    full: bool,
}

struct MoodyAppender<'a> {
    inner: Box<dyn Appender + 'a>,
    serial: u64,
    moody: &'a Moody,
}

const GENERATION: u32 = 32;
/// Of a column that was given again after it was lost.
const AGAIN: u64 = 1 << 63;

impl Appendable for Moody {
    fn appender(&self) -> Box<dyn Appender + '_> {
        let inner = self.store.appender();
        let serial = self.appenders.fetch_add(1, Ordering::Relaxed);
        Box::new(MoodyAppender {
            inner,
            serial,
            moody: self,
        })
    }
}

impl MoodyAppender<'_> {
    fn check(&self, series: SeriesRef, place: usize) -> Result<SeriesRef, AppendError> {
        let mood = self.moody.mood.lock();
        if (series.bits() & !AGAIN) >> GENERATION != mood.generation || mood.lost.contains(&series.bits()) {
            return Err(AppendError::StaleRef { place });
        }
        Ok(SeriesRef::from_bits(series.bits() & u64::from(u32::MAX)))
    }
}

impl MoodyAppender<'_> {
    /// A timeline that this appender was asked for.
    fn own(&self, timeline: TimelineRef) -> Result<TimelineRef, AppendError> {
        if timeline.bits() >> GENERATION != self.serial {
            self.moody.outlived.fetch_add(1, Ordering::Relaxed);
            return Err(AppendError::Labels("a timeline of another appender".to_owned()));
        }
        Ok(TimelineRef::from_bits(timeline.bits() & u64::from(u32::MAX)))
    }
}

impl Appender for MoodyAppender<'_> {
    fn timeline(&mut self, key: &str) -> Result<TimelineRef, AppendError> {
        self.moody.timelines.lock().insert(key.to_owned());
        let timeline = self.inner.timeline(key)?;
        Ok(TimelineRef::from_bits(timeline.bits() | self.serial << GENERATION))
    }

    fn resolve(&mut self, timeline: Option<TimelineRef>, labels: &Labels) -> Result<SeriesRef, AppendError> {
        if labels.metric_name() == Some("refused") {
            return Err(AppendError::Limit {
                name: "series",
                limit: 1,
            });
        }
        let timeline = timeline.map(|timeline| self.own(timeline)).transpose()?;
        let series = self.inner.resolve(timeline, labels)?;
        let mut mood = self.moody.mood.lock();
        let mut bits = series.bits() | mood.generation << GENERATION;
        if mood.lost.contains(&bits) {
            bits |= AGAIN;
        }
        mood.given
            .insert(labels.metric_name().unwrap_or_default().to_owned(), bits);
        Ok(SeriesRef::from_bits(bits))
    }

    fn append_row(
        &mut self,
        timeline: TimelineRef,
        at: Timestamp,
        row: &[(SeriesRef, f64)],
    ) -> Result<(), AppendError> {
        let timeline = self.own(timeline)?;
        let row: Result<Vec<_>, AppendError> = row
            .iter()
            .enumerate()
            .map(|(place, (series, v))| Ok((self.check(*series, place)?, *v)))
            .collect();
        self.inner.append_row(timeline, at, &row?)
    }

    fn append_at(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), AppendError> {
        let series = self.check(series, 0)?;
        self.inner.append_at(series, at, value)
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: Timestamp,
        histogram: Arc<Histogram>,
    ) -> Result<(), AppendError> {
        let series = self.check(series, 0)?;
        self.inner.append_histogram(series, at, histogram)
    }

    fn append_exemplar(&mut self, series: SeriesRef, at: Timestamp, exemplar: &Exemplar) -> Result<(), AppendError> {
        let series = self.check(series, 0)?;
        self.inner.append_exemplar(series, at, exemplar)
    }

    fn commit(self: Box<Self>, on_reject: OnReject) -> Result<Committed, CommitError> {
        if self.moody.mood.lock().full {
            return Err(CommitError::Log("no space left on device".into()));
        }
        self.inner.commit(on_reject)
    }
}

#[tokio::test]
async fn the_stores_troubles_are_told_and_outlived() {
    let target = Target::start(Reply::text("a 1\nrefused 1\n")).await;
    let moody = Arc::new(Moody::default());
    let manager = manager(Arc::<Moody>::clone(&moody), ScrapeOptions::default());
    manager.apply(jobs(&job(target.address, "")), &Labels::empty()).unwrap();
    let status = || manager.targets().active.remove(0);
    let counted = |name: &str| counted(&manager, name);
    eventually("a scrape", || status().health == Health::Up).await;
    eventually("a refusal", || counted("tidegauge_scrape_series_refused_total") >= 1.0).await;

    // Columns that are gone are looked up again within the same scrape.
    let failures = counted("tidegauge_scrape_failures_total");
    let lines = counted("tidegauge_scrape_lines_slow_total");
    moody.mood.lock().generation = 1;
    eventually("lines looked up again", || {
        counted("tidegauge_scrape_lines_slow_total") >= lines + 2.0
    })
    .await;
    let scrapes = counted("tidegauge_scrape_scrapes_total");
    eventually("more scrapes", || {
        counted("tidegauge_scrape_scrapes_total") >= scrapes + 2.0
    })
    .await;
    assert_eq!(counted("tidegauge_scrape_failures_total"), failures);

    moody.mood.lock().full = true;
    eventually("an error", || {
        status().last_error == "cannot commit: cannot write: no space left on device"
    })
    .await;
    moody.mood.lock().full = false;
    eventually("the store to heal", || status().health == Health::Up).await;
    manager.stop().await;
}

/// A manager over such a store.
fn over(moody: &Arc<Moody>) -> Manager {
    manager(Arc::<Moody>::clone(moody), ScrapeOptions::default())
}

fn counted(manager: &Manager, name: &str) -> f64 {
    let all = manager.metrics().list();
    all.iter().find(|family| family.0 == name).unwrap().3[0].1
}

fn scrapes(manager: &Manager) -> f64 {
    counted(manager, "tidegauge_scrape_scrapes_total")
}

async fn more_scrapes(manager: &Manager, more: f64) {
    let until = scrapes(manager) + more;
    eventually("scrapes", || scrapes(manager) >= until).await;
}

#[tokio::test]
async fn every_appender_asks_for_its_timeline() {
    let target = Target::start(Reply::text("a 1\nb 1\n")).await;
    let moody = Arc::new(Moody::default());
    let manager = over(&moody);
    let yaml = job(target.address, "");
    manager.apply(jobs(&yaml), &Labels::empty()).unwrap();
    // Good scrapes, one with a marker, columns that are gone, failed ones, another loop, and the target's end.
    more_scrapes(&manager, 3.0).await;
    target.say(Reply::text("a 1\nc 1\n"));
    more_scrapes(&manager, 2.0).await;
    moody.mood.lock().generation = 1;
    more_scrapes(&manager, 2.0).await;
    target.say(Reply::text("{\n"));
    more_scrapes(&manager, 3.0).await;
    target.say(Reply::text("a 1\n"));
    let other_loop = job(target.address, "honor_labels: true");
    manager.apply(jobs(&other_loop), &Labels::empty()).unwrap();
    more_scrapes(&manager, 3.0).await;
    assert_eq!(manager.targets().active[0].health, Health::Up);
    let appenders = || moody.appenders.load(Ordering::Relaxed);
    manager.apply(vec![], &Labels::empty()).unwrap();
    let before = appenders();
    eventually("the markers of the end", || appenders() > before).await;
    manager.stop().await;
    assert_eq!(moody.outlived.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_column_with_times_of_its_own_that_is_gone_is_found_again() {
    let target = Target::start(Reply::text("a 1\nt 1 1600000000000\nu 1 1600000000000\n")).await;
    let moody = Arc::new(Moody::default());
    let manager = over(&moody);
    manager.apply(jobs(&job(target.address, "")), &Labels::empty()).unwrap();
    more_scrapes(&manager, 2.0).await;
    {
        let mut mood = moody.mood.lock();
        let lost = mood.given["t"];
        mood.lost.insert(lost);
    }
    // The same lines, so that the column is known from before.
    target.say(Reply::text("a 2\nt 2 1600000001000\nu 2 1600000001000\n"));
    eventually("what came since", || {
        samples(&moody.store, "a").last().map(|s| s.1) == Some(2.0)
    })
    .await;
    let own = [(1_600_000_000_000, 1.0), (1_600_000_001_000, 2.0)];
    assert_eq!(samples(&moody.store, "t"), own);
    assert_eq!(samples(&moody.store, "u"), own);
    let looked_up = counted(&manager, "tidegauge_scrape_lines_slow_total");
    more_scrapes(&manager, 3.0).await;
    assert_eq!(
        counted(&manager, "tidegauge_scrape_lines_slow_total"),
        looked_up,
        "once"
    );
    manager.stop().await;
    assert_eq!(counted(&manager, "tidegauge_scrape_failures_total"), 0.0);
    let a = samples(&moody.store, "a");
    assert!(a.iter().all(|(_, value)| !is_stale(*value)), "{a:?}");
    assert!(a.windows(2).all(|pair| pair[0].0 < pair[1].0), "{a:?}");
    assert_eq!(a.len(), samples(&moody.store, "up").len(), "one for each scrape");
    let added: f64 = samples(&moody.store, "scrape_series_added").iter().map(|s| s.1).sum();
    assert_eq!(added, 3.0, "none of them is new again");
}

#[tokio::test]
async fn a_target_that_returns_has_the_timeline_it_had() {
    let target = Target::start(Reply::text("a 1\n")).await;
    let moody = Arc::new(Moody::default());
    let manager = over(&moody);
    let here = job(target.address, "");
    let away = here.replace(&format!("['{}']", target.address), "[]");
    assert_ne!(here, away);
    manager.apply(jobs(&here), &Labels::empty()).unwrap();
    more_scrapes(&manager, 2.0).await;
    // Away for two scrapes and until its end is marked: what comes back is not known to the manager any more.
    let appenders = || moody.appenders.load(Ordering::Relaxed);
    let before = appenders();
    manager.apply(jobs(&away), &Labels::empty()).unwrap();
    assert!(manager.targets().active.is_empty());
    eventually("its end", || appenders() > before).await;
    manager.apply(jobs(&here), &Labels::empty()).unwrap();
    more_scrapes(&manager, 2.0).await;
    manager.stop().await;
    assert_eq!(moody.timelines.lock().len(), 1, "{:?}", moody.timelines.lock());
}
