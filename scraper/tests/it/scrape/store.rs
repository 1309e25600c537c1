//! A store in a mood: it forgets, it is full, it lets timelines go.

use super::rig::{Reply, Target, eventually, job, jobs, manager};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{
    AppendError, Appendable, Appender, CommitError, Committed, Exemplar, Histogram, Labels, OnReject, SeriesRef,
    TimelineRef, Timestamp,
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
    full: bool,
}

struct MoodyAppender<'a> {
    inner: Box<dyn Appender + 'a>,
    serial: u64,
    moody: &'a Moody,
}

const GENERATION: u32 = 32;

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
        if series.bits() >> GENERATION != self.moody.mood.lock().generation {
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
        Ok(SeriesRef::from_bits(
            series.bits() | self.moody.mood.lock().generation << GENERATION,
        ))
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
    let counted = |name: &str| {
        manager
            .metrics()
            .list()
            .iter()
            .find(|f| f.0 == name)
            .map_or(0.0, |f| f.3[0].1)
    };
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

fn scrapes(manager: &Manager) -> f64 {
    let all = manager.metrics().list();
    let family = all
        .iter()
        .find(|family| family.0 == "tidegauge_scrape_scrapes_total")
        .unwrap();
    family.3[0].1
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
