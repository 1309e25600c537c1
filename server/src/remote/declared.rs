//! What senders say of their metrics: types, help texts and units, the newest of each metric, in memory.
//!
//! ```text
//!   1.0 MetricMetadata  1: type   2: metric family   4: help            5: unit          beside the series, once a minute
//!   2.0 Metadata        1: type                      3: help reference  4: unit reference   with each series
//! ```
//!
//! Upstream's receiver keeps none of it where it can be asked for. Here it is served with what targets say.

use super::symbols::Symbols;
use super::wire::{Fields, Value, WireError};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::{Lease, Metadata, Meter, MetricKind};

/// The most metrics that are remembered.
const MAX_METRICS: usize = 50_000;
/// The most bytes they may take together.
const MAX_BYTES: u64 = 16 << 20;
/// The most bytes of a metric's texts; longer ones are not remembered.
const MAX_TEXT: usize = 16 << 10;
/// What a metric takes beside its texts.
const METRIC_BYTES: u64 = 160;

/// What is known of a metric.
#[derive(Debug)]
struct Known {
    metadata: Arc<Metadata>,
    /// The most it ever took.
    bytes: u64,
}

/// Metadata by metric.
#[derive(Debug)]
pub(crate) struct Declared {
    metrics: RwLock<HashMap<Box<str>, Known>>,
    /// The share that pays for requests, and what is held of it; that only grows.
    meter: Meter,
    lease: Mutex<Option<Lease>>,
    left_out: AtomicU64,
}

impl Declared {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            metrics: RwLock::default(),
            meter: meter.clone(),
            lease: Mutex::default(),
            left_out: AtomicU64::new(0),
        }
    }

    /// Metrics and what is said of them, in no order; of one metric, if it is named.
    pub(crate) fn list(&self, metric: Option<&str>) -> Vec<(String, Arc<Metadata>)> {
        let metrics = self.metrics.read();
        let copy = |name: &str, known: &Known| (name.to_owned(), Arc::clone(&known.metadata));
        match metric {
            Some(metric) => metrics
                .get(metric)
                .map(|known| copy(metric, known))
                .into_iter()
                .collect(),
            None => metrics.iter().map(|(name, known)| copy(name, known)).collect(),
        }
    }

    /// How many metrics are remembered.
    pub(super) fn len(&self) -> usize {
        self.metrics.read().len()
    }

    /// How often something said was not remembered.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Remembers what a message of 1.0 says.
    pub(super) fn take_v1(&self, message: &[u8]) -> Result<(), WireError> {
        let mut said = Said::default();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => said.kind = kind(value)?,
                2 => said.metric = value.bytes("MetricFamilyName")?,
                4 => said.help = value.bytes("Help")?,
                5 => said.unit = value.bytes("Unit")?,
                _ => {}
            }
        }
        self.remember(said);
        Ok(())
    }

    /// Remembers what a series of 2.0 says of the metric that it belongs to.
    pub(super) fn take_v2(&self, message: &[u8], name: u32, symbols: &Symbols<'_>) -> Result<(), WireError> {
        let mut said = Said::default();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            // A reference that leads nowhere costs the text it stands for, not the samples.
            let text = |value: Value<'_>, field| {
                let Value::Varint(place) = value else {
                    let found = value.wire_type();
                    return Err(WireError::Type { found, field });
                };
                Ok(symbols.text(place).unwrap_or_default())
            };
            match number {
                1 => said.kind = kind(value)?,
                3 => said.help = text(value, "HelpRef")?,
                4 => said.unit = text(value, "UnitRef")?,
                _ => {}
            }
        }
        said.metric = family(symbols.text(u64::from(name)).unwrap_or_default(), said.kind);
        self.remember(said);
        Ok(())
    }

    fn remember(&self, said: Said<'_>) {
        if said.is_nothing() {
            return;
        }
        let texts = [said.metric, said.help, said.unit].map(|text| std::str::from_utf8(text).ok());
        let [Some(metric), Some(help), Some(unit)] = texts else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if self
            .metrics
            .read()
            .get(metric)
            .is_some_and(|known| said.is(&known.metadata))
        {
            return;
        }
        let bytes = METRIC_BYTES + (metric.len() + help.len() + unit.len()) as u64;
        let mut metrics = self.metrics.write();
        let before = metrics.get(metric).map(|known| known.bytes);
        let fits = bytes <= MAX_TEXT as u64 && (before.is_some() || metrics.len() < MAX_METRICS);
        if !fits || !self.pay(bytes.saturating_sub(before.unwrap_or(0))) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let metadata = Arc::new(Metadata {
            kind: said.kind,
            help: help.to_owned(),
            unit: unit.to_owned(),
        });
        let bytes = bytes.max(before.unwrap_or(0));
        metrics.insert(metric.into(), Known { metadata, bytes });
    }

    fn pay(&self, bytes: u64) -> bool {
        let mut held = self.lease.lock();
        match &mut *held {
            Some(lease) => lease.bytes() + bytes <= MAX_BYTES && lease.grow(bytes).is_ok(),
            None => {
                *held = self.meter.lease(bytes).ok();
                held.is_some()
            }
        }
    }
}

/// What was said of one metric.
#[derive(Debug, Clone, Copy, Default)]
struct Said<'b> {
    metric: &'b [u8],
    kind: MetricKind,
    help: &'b [u8],
    unit: &'b [u8],
}

impl Said<'_> {
    fn is_nothing(&self) -> bool {
        self.metric.is_empty() || (self.kind == MetricKind::Unknown && self.help.is_empty() && self.unit.is_empty())
    }

    fn is(&self, known: &Metadata) -> bool {
        known.kind == self.kind && known.help.as_bytes() == self.help && known.unit.as_bytes() == self.unit
    }
}

fn kind(value: Value<'_>) -> Result<MetricKind, WireError> {
    let Value::Varint(kind) = value else {
        return Err(WireError::Type {
            found: value.wire_type(),
            field: "Type",
        });
    };
    Ok(match kind {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    })
}

/// The metric that a series belongs to: without what its name says of its part.
fn family(name: &[u8], kind: MetricKind) -> &[u8] {
    let endings: &[&[u8]] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &[b"_bucket", b"_count", b"_sum"],
        MetricKind::Summary => &[b"_count", b"_sum"],
        _ => &[],
    };
    endings.iter().find_map(|end| name.strip_suffix(*end)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Declared {
        Declared::new(&Meter::unlimited("test"))
    }

    #[test]
    fn the_newest_of_each_metric_is_remembered() {
        let declared = declared();
        declared.take_v1(b"\x08\x01\x12\x01m\x22\x04Help\x2a\x01s").unwrap();
        declared.take_v1(b"\x08\x02\x12\x01m\x22\x04Help").unwrap();
        declared.take_v1(b"\x12\x07nothing").unwrap();
        let all = declared.list(None);
        assert_eq!(all.len(), 1);
        let expected = Metadata {
            kind: MetricKind::Gauge,
            help: "Help".into(),
            unit: String::new(),
        };
        assert_eq!((all[0].0.as_str(), &*all[0].1), ("m", &expected));
        assert!(declared.list(Some("n")).is_empty());
        assert_eq!(
            declared.take_v1(b"\x0a\x00").unwrap_err().to_string(),
            "proto: wrong wireType = 2 for field Type"
        );
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let declared = declared();
        let message = |metric: &str, help: usize| {
            let length = |n: usize| [(n & 0x7f) as u8 | 0x80, (n >> 7 & 0x7f) as u8 | 0x80, (n >> 14) as u8];
            let head = [&[0x08, 1, 0x12, metric.len() as u8], metric.as_bytes(), &[0x22]].concat();
            [head, length(help).to_vec(), vec![b'x'; help]].concat()
        };
        declared.take_v1(&message("long", MAX_TEXT)).unwrap();
        declared.take_v1(b"\x08\x01\x12\x01\xff").unwrap();
        assert_eq!((declared.len(), declared.left_out()), (0, 2));
        for metric in 0..2000 {
            declared.take_v1(&message(&metric.to_string(), 15_000)).unwrap();
        }
        assert!((1000..1150).contains(&declared.len()), "{}", declared.len());
        assert_eq!(declared.left_out(), 2 + 2000 - declared.len() as u64);
    }

    #[test]
    fn series_belong_to_the_metric_that_was_declared() {
        for (name, kind, expected) in [
            ("h_bucket", MetricKind::Histogram, "h"),
            ("h_count", MetricKind::Summary, "h"),
            ("h_bucket", MetricKind::Gauge, "h_bucket"),
            ("a_total", MetricKind::Counter, "a_total"),
        ] {
            assert_eq!(family(name.as_bytes(), kind), expected.as_bytes());
        }
    }
}
