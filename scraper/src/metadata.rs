//! Type, help and unit of metric families, as each target declared them: kept once per text, not once per target.
//!
//! Like the samples, the declarations of a body are expected to be those of the last one, in the same order; then
//! nothing is allocated and nothing written.

use crate::parse::Escaped;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use tidegauge_model::{Metadata, MetricKind};

/// The longest help text that is kept, in bytes.
const MAX_HELP_BYTES: usize = 4096;

/// A family's name and what was declared of it.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) name: Arc<str>,
    pub(crate) metadata: Arc<Metadata>,
}

/// A target's families in the order of its body. Replaced as a whole when it changes.
pub(crate) type Families = Arc<Vec<Family>>;

/// Keeps one copy of each name and declaration for all targets.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    inner: Mutex<Interned>,
}

#[derive(Debug, Default)]
struct Interned {
    names: HashSet<Arc<str>>,
    metadata: HashSet<Arc<Metadata>>,
    /// What nobody else holds is dropped when there is twice as much as after the last time.
    sweep_at: usize,
}

impl Interner {
    fn family(&self, name: &str, metadata: Metadata) -> Family {
        let mut inner = self.inner.lock();
        let name = match inner.names.get(name) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = Arc::from(name);
                inner.names.insert(Arc::clone(&name));
                name
            }
        };
        let metadata = match inner.metadata.get(&metadata) {
            Some(metadata) => Arc::clone(metadata),
            None => {
                let metadata = Arc::new(metadata);
                inner.metadata.insert(Arc::clone(&metadata));
                metadata
            }
        };
        inner.sweep();
        Family { name, metadata }
    }
}

impl Interned {
    fn sweep(&mut self) {
        let held = self.names.len() + self.metadata.len();
        if held < self.sweep_at.max(1024) {
            return;
        }
        self.names.retain(|name| Arc::strong_count(name) > 1);
        self.metadata.retain(|metadata| Arc::strong_count(metadata) > 1);
        self.sweep_at = 2 * (self.names.len() + self.metadata.len());
    }
}

/// The walk over one body's declarations.
#[derive(Debug)]
pub(crate) struct MetadataPass<'b, 'i> {
    before: Families,
    interner: &'i Interner,
    limit: usize,
    /// The family of the last body that should come next.
    cursor: usize,
    /// This body's families, once they are not the last one's.
    next: Option<Vec<Family>>,
    current: Option<Declared<'b>>,
}

/// What consecutive lines say of one family.
#[derive(Debug, Clone, Copy)]
struct Declared<'b> {
    name: Escaped<'b>,
    kind: MetricKind,
    help: Option<Escaped<'b>>,
    unit: Option<Escaped<'b>>,
}

impl<'b, 'i> MetadataPass<'b, 'i> {
    pub(crate) fn new(before: Families, interner: &'i Interner, limit: usize) -> Self {
        Self {
            before,
            interner,
            limit,
            cursor: 0,
            next: None,
            current: None,
        }
    }

    pub(crate) fn kind(&mut self, name: Escaped<'b>, kind: MetricKind) {
        self.of(name).kind = kind;
    }

    pub(crate) fn help(&mut self, name: Escaped<'b>, help: Escaped<'b>) {
        self.of(name).help = Some(help);
    }

    pub(crate) fn unit(&mut self, name: Escaped<'b>, unit: Escaped<'b>) {
        self.of(name).unit = Some(unit);
    }

    /// The families, if they are others than before.
    pub(crate) fn finish(mut self) -> Option<Families> {
        self.close();
        match self.next {
            None if self.cursor == self.before.len() => None,
            None => Some(Arc::new(self.before.iter().take(self.cursor).cloned().collect())),
            Some(mut next) => {
                next.shrink_to_fit();
                Some(Arc::new(next))
            }
        }
    }

    fn of(&mut self, name: Escaped<'b>) -> &mut Declared<'b> {
        if self.current.is_some_and(|current| current.name.raw() != name.raw()) {
            self.close();
        }
        self.current.get_or_insert(Declared {
            name,
            kind: MetricKind::Unknown,
            help: None,
            unit: None,
        })
    }

    fn close(&mut self) {
        let Some(declared) = self.current.take() else { return };
        let expected = self.before.get(self.cursor);
        if let Some(expected) = expected
            && declared.is(expected)
        {
            if let Some(next) = &mut self.next {
                next.push(expected.clone());
            }
            self.cursor += 1;
            return;
        }
        self.diverge(&declared);
    }

    #[cold]
    fn diverge(&mut self, declared: &Declared<'b>) {
        let (before, cursor) = (&self.before, self.cursor);
        let next = self
            .next
            .get_or_insert_with(|| before.iter().take(cursor).cloned().collect());
        // Some families left out: go on behind them.
        let ahead = before
            .iter()
            .skip(cursor)
            .take(32)
            .position(|family| declared.is(family));
        if let Some(ahead) = ahead {
            self.cursor = cursor + ahead + 1;
        }
        if next.len() < self.limit {
            next.push(match ahead.and_then(|ahead| before.get(cursor + ahead)) {
                Some(family) => family.clone(),
                None => self.interner.family(&declared.name.text(), declared.metadata()),
            });
        }
    }
}

impl Declared<'_> {
    fn is(&self, family: &Family) -> bool {
        let metadata = &family.metadata;
        same(Some(self.name), &family.name)
            && self.kind == metadata.kind
            && (same(self.help, &metadata.help) || help_text(self.help) == metadata.help)
            && same(self.unit, &metadata.unit)
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind,
            help: help_text(self.help),
            unit: self.unit.map(|unit| unit.text().into_owned()).unwrap_or_default(),
        }
    }
}

/// Whether a text reads as this. Bytes first, as almost no text holds escape sequences.
fn same(written: Option<Escaped<'_>>, text: &str) -> bool {
    written.map_or(text.is_empty(), |written| {
        written.raw() == text.as_bytes() || (written.raw().contains(&b'\\') && written.text() == text)
    })
}

fn help_text(help: Option<Escaped<'_>>) -> String {
    let Some(help) = help else { return String::new() };
    let mut text = help.text().into_owned();
    if text.len() > MAX_HELP_BYTES {
        let cut = (0..=MAX_HELP_BYTES)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Entries, Entry, Format};

    fn pass(before: Families, interner: &Interner, body: &str) -> Option<Families> {
        let mut pass = MetadataPass::new(before, interner, 3);
        for entry in Entries::new(body.as_bytes(), Format::PrometheusText) {
            match entry.unwrap() {
                Entry::Help { metric, text } => pass.help(metric, text),
                Entry::Type { metric, kind } => pass.kind(metric, kind),
                _ => {}
            }
        }
        pass.finish()
    }

    #[test]
    fn families_are_kept_until_they_change() {
        let interner = Interner::default();
        let body = "# HELP a Is\\\\ a.\n# TYPE a counter\na 1\n# TYPE b gauge\nb 1\n";
        let first = pass(Families::default(), &interner, body).unwrap();
        let shown: Vec<_> = first
            .iter()
            .map(|f| (&*f.name, f.metadata.kind, &*f.metadata.help))
            .collect();
        assert_eq!(
            shown,
            [("a", MetricKind::Counter, "Is\\ a."), ("b", MetricKind::Gauge, "")]
        );
        assert!(
            pass(Arc::clone(&first), &interner, body).is_none(),
            "the same again changes nothing"
        );

        let fewer = pass(Arc::clone(&first), &interner, "# TYPE b gauge\nb 1\n").unwrap();
        assert_eq!(fewer.len(), 1);
        assert!(Arc::ptr_eq(&fewer[0].metadata, &first[1].metadata), "kept once");
        assert_eq!(
            pass(Arc::clone(&first), &interner, "# HELP a x\n").unwrap()[0]
                .metadata
                .help,
            "x"
        );
        assert_eq!(pass(first, &interner, "").unwrap().len(), 0);

        let many = "# TYPE a gauge\n# TYPE b gauge\n# TYPE c gauge\n# TYPE d gauge\n";
        assert_eq!(pass(fewer, &interner, many).unwrap().len(), 3, "the limit holds");
        let long = format!("# HELP a {}\n", "ü".repeat(5000));
        let cut = pass(Families::default(), &interner, &long).unwrap();
        assert_eq!(cut[0].metadata.help.len(), MAX_HELP_BYTES);
        assert!(pass(cut, &interner, &long).is_none());
    }
}
