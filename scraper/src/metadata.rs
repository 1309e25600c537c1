//! Type, help and unit of metric families, as each target declared them: kept once per text, not once per target.
//!
//! Like the samples, the declarations of a body are expected to be those of the last one, in the same order; then
//! nothing is allocated and nothing written.
//!
//! A family that a body no longer declares stays for ten more scrapes, and what a body leaves out of a declaration
//! stays as it was, as upstream has both.

use crate::parse::Escaped;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tidegauge_model::{Metadata, MetricKind};

/// The longest help text that is kept, in bytes.
const MAX_HELP_BYTES: usize = 4096;
/// For how many scrapes a family stays that is no longer declared.
const STAYS_SCRAPES: u64 = 10;
/// How many families behind the expected one are tried first.
const LOOK_AHEAD: usize = 32;

/// A family's name and what was declared of it.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) name: Arc<str>,
    pub(crate) metadata: Arc<Metadata>,
}

/// What a target declared. Replaced as a whole when it changes.
pub(crate) type Families = Arc<Declarations>;

/// The families of a target's last body, in its order, and those that stay for a while.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    present: Vec<Family>,
    departed: Vec<Departed>,
}

/// A family that the last body did not declare.
#[derive(Debug, Clone)]
struct Departed {
    family: Family,
    /// The last scrape that had it.
    seen: u64,
}

impl Declarations {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Family> {
        let departed = self.departed.iter().map(|departed| &departed.family);
        self.present.iter().chain(departed)
    }
}

/// Which scrape of a target this is, and which was the last one that brought a body.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ScrapeNo {
    pub(crate) this: u64,
    pub(crate) last_good: u64,
}

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
    refused: u64,
    scrape: ScrapeNo,
    /// The family of the last body that should come next.
    cursor: usize,
    /// This body's families, once they are not the last one's.
    next: Option<Next>,
    current: Option<Declared<'b>>,
}

/// The families of a body that says something else than the last one.
#[derive(Debug)]
struct Next {
    families: Vec<Family>,
    places: HashMap<Arc<str>, usize>,
    /// What is known from earlier bodies, made when first needed.
    earlier: Option<HashMap<Arc<str>, Family>>,
}

/// What consecutive lines say of one family.
#[derive(Debug, Clone, Copy)]
struct Declared<'b> {
    name: Escaped<'b>,
    kind: Option<MetricKind>,
    help: Option<Escaped<'b>>,
    unit: Option<Escaped<'b>>,
}

impl<'b, 'i> MetadataPass<'b, 'i> {
    pub(crate) fn new(before: Families, interner: &'i Interner, limit: usize, scrape: ScrapeNo) -> Self {
        Self {
            before,
            interner,
            limit,
            refused: 0,
            scrape,
            cursor: 0,
            next: None,
            current: None,
        }
    }

    pub(crate) fn kind(&mut self, name: Escaped<'b>, kind: MetricKind) {
        self.of(name).kind = Some(kind);
    }

    pub(crate) fn help(&mut self, name: Escaped<'b>, help: Escaped<'b>) {
        self.of(name).help = Some(help);
    }

    pub(crate) fn unit(&mut self, name: Escaped<'b>, unit: Escaped<'b>) {
        self.of(name).unit = Some(unit);
    }

    /// The families, if they are others than before, and how many declarations there was no room for.
    pub(crate) fn finish(mut self) -> (Option<Families>, u64) {
        self.close();
        let refused = self.refused;
        (self.changed(), refused)
    }

    fn changed(self) -> Option<Families> {
        let before = &*self.before;
        let present = match self.next {
            None if self.cursor == before.present.len() => None,
            None => Some(before.present.iter().take(self.cursor).cloned().collect()),
            Some(Next { families, .. }) if same_families(&families, &before.present) => None,
            Some(Next { families, .. }) => Some(families),
        };
        let (this, last_good) = (self.scrape.this, self.scrape.last_good);
        let stays = |departed: &&Departed| this.saturating_sub(departed.seen) <= STAYS_SCRAPES;
        let Some(mut present) = present else {
            if before.departed.iter().all(|departed| stays(&departed)) {
                return None;
            }
            return Some(Arc::new(Declarations {
                present: before.present.clone(),
                departed: before.departed.iter().filter(stays).cloned().collect(),
            }));
        };
        present.shrink_to_fit();
        let here: HashSet<&str> = present.iter().map(|family| &*family.name).collect();
        let left = before.present.iter().map(|family| Departed {
            family: family.clone(),
            seen: last_good,
        });
        let departed = left
            .chain(before.departed.iter().cloned())
            .filter(|departed| stays(&departed) && !here.contains(&*departed.family.name))
            .take(self.limit.saturating_sub(present.len()))
            .collect();
        Some(Arc::new(Declarations { present, departed }))
    }

    fn of(&mut self, name: Escaped<'b>) -> &mut Declared<'b> {
        if self.current.is_some_and(|current| current.name.raw() != name.raw()) {
            self.close();
        }
        self.current.get_or_insert(Declared {
            name,
            kind: None,
            help: None,
            unit: None,
        })
    }

    fn close(&mut self) {
        let Some(declared) = self.current.take() else { return };
        let expected = self.before.present.get(self.cursor);
        if self.next.is_none() && expected.is_some_and(|expected| declared.is(expected)) {
            self.cursor += 1;
            return;
        }
        self.diverge(&declared);
    }

    #[cold]
    fn diverge(&mut self, declared: &Declared<'b>) {
        let (before, cursor) = (&*self.before, self.cursor);
        let next = self
            .next
            .get_or_insert_with(|| Next::beginning(before.present.get(..cursor).unwrap_or_default()));
        // Some families left out: go on behind them.
        let mut ahead = before.present.iter().skip(cursor).take(LOOK_AHEAD);
        let family = match ahead.position(|family| declared.is(family)) {
            Some(ahead) => {
                self.cursor = cursor + ahead + 1;
                before.present.get(cursor + ahead).cloned()
            }
            None => None,
        };
        let family = family.unwrap_or_else(|| {
            let name = declared.name.text();
            match next.known(before, &name) {
                Some(known) if declared.is(known) => known.clone(),
                known => {
                    let metadata = declared.metadata(known.map(|known| &*known.metadata));
                    self.interner.family(&name, metadata)
                }
            }
        });
        self.refused += u64::from(!next.put(family, self.limit));
    }
}

impl Next {
    /// The families so far, which were as expected.
    fn beginning(families: &[Family]) -> Self {
        Self {
            families: families.to_vec(),
            places: (0..)
                .zip(families)
                .map(|(place, f)| (Arc::clone(&f.name), place))
                .collect(),
            earlier: None,
        }
    }

    /// What this body, or else the ones before, say of a family.
    fn known(&mut self, before: &Declarations, name: &str) -> Option<&Family> {
        if let Some(place) = self.places.get(name) {
            return self.families.get(*place);
        }
        let earlier = self
            .earlier
            .get_or_insert_with(|| before.iter().map(|f| (Arc::clone(&f.name), f.clone())).collect());
        earlier.get(name)
    }

    /// Takes a family in; one that the body declares again is what it says last. `false`: there is no room.
    fn put(&mut self, family: Family, limit: usize) -> bool {
        if let Some(place) = self.places.get(&family.name) {
            if let Some(held) = self.families.get_mut(*place) {
                *held = family;
            }
        } else if self.families.len() < limit {
            self.places.insert(Arc::clone(&family.name), self.families.len());
            self.families.push(family);
        } else {
            return false;
        }
        true
    }
}

fn same_families(one: &[Family], other: &[Family]) -> bool {
    let same = |(one, other): (&Family, &Family)| one.name == other.name && one.metadata == other.metadata;
    one.len() == other.len() && one.iter().zip(other).all(same)
}

impl Declared<'_> {
    /// Whether it says nothing of a family that is not known.
    fn is(&self, family: &Family) -> bool {
        let metadata = &family.metadata;
        let help_is = |help| same(help, &metadata.help) || help_text(help) == metadata.help;
        same(self.name, &family.name)
            && self.kind.is_none_or(|kind| kind == metadata.kind)
            && self.help.is_none_or(help_is)
            && self.unit.is_none_or(|unit| same(unit, &metadata.unit))
    }

    /// What it says, and of what it does not say what was known.
    fn metadata(&self, known: Option<&Metadata>) -> Metadata {
        let text = |declared: Option<String>, known: Option<&String>| declared.or_else(|| known.cloned());
        Metadata {
            kind: self
                .kind
                .or(known.map(|known| known.kind))
                .unwrap_or(MetricKind::Unknown),
            help: text(self.help.map(help_text), known.map(|known| &known.help)).unwrap_or_default(),
            unit: text(
                self.unit.map(|unit| unit.text().into_owned()),
                known.map(|known| &known.unit),
            )
            .unwrap_or_default(),
        }
    }
}

/// Whether a text reads as this. Bytes first, as almost no text holds escape sequences.
fn same(written: Escaped<'_>, text: &str) -> bool {
    written.raw() == text.as_bytes() || (written.raw().contains(&b'\\') && written.text() == text)
}

fn help_text(help: Escaped<'_>) -> String {
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

    fn pass_at(scrape: (u64, u64), before: &Families, interner: &Interner, body: &str) -> Option<Families> {
        let scrape = ScrapeNo {
            this: scrape.0,
            last_good: scrape.1,
        };
        let mut pass = MetadataPass::new(Arc::clone(before), interner, 3, scrape);
        for entry in Entries::new(body.as_bytes(), Format::PrometheusText) {
            match entry.unwrap() {
                Entry::Help { metric, text } => pass.help(metric, text),
                Entry::Type { metric, kind } => pass.kind(metric, kind),
                _ => {}
            }
        }
        pass.finish().0
    }

    fn pass(before: &Families, interner: &Interner, body: &str) -> Option<Families> {
        pass_at((2, 1), before, interner, body)
    }

    /// Each family as `name kind help`, in order.
    fn shown(families: &Families) -> Vec<String> {
        let one = |f: &Family| format!("{} {} {}", f.name, f.metadata.kind.as_str(), f.metadata.help);
        families.iter().map(one).collect()
    }

    #[test]
    fn families_are_kept_until_they_change() {
        let interner = Interner::default();
        let body = "# HELP a Is\\\\ a.\n# TYPE a counter\na 1\n# TYPE b gauge\nb 1\n";
        let first = pass(&Families::default(), &interner, body).unwrap();
        assert_eq!(shown(&first), ["a counter Is\\ a.", "b gauge "]);
        assert!(
            pass(&first, &interner, body).is_none(),
            "the same again changes nothing"
        );

        let fewer = pass(&first, &interner, "# TYPE b gauge\nb 1\n").unwrap();
        assert_eq!(shown(&fewer), ["b gauge ", "a counter Is\\ a."]);
        assert!(
            Arc::ptr_eq(&fewer.present[0].metadata, &first.present[1].metadata),
            "kept once"
        );

        let many = "# TYPE c gauge\n# TYPE d gauge\n# TYPE e gauge\n# TYPE f gauge\n";
        let many = pass(&fewer, &interner, many).unwrap();
        assert_eq!(shown(&many), ["c gauge ", "d gauge ", "e gauge "], "the limit holds");
        let long = format!("# HELP a {}\n", "ü".repeat(5000));
        let cut = pass(&Families::default(), &interner, &long).unwrap();
        assert_eq!(cut.present[0].metadata.help.len(), MAX_HELP_BYTES);
        assert!(pass(&cut, &interner, &long).is_none());
    }

    #[test]
    fn what_a_body_does_not_say_stays_as_it_was() {
        let interner = Interner::default();
        let first = pass(
            &Families::default(),
            &interner,
            "# HELP a x\n# TYPE a counter\n# TYPE b gauge\n",
        )
        .unwrap();
        for (body, families) in [
            ("# TYPE a counter\n# TYPE b gauge\n", None),
            ("# TYPE a gauge\n# TYPE b gauge\n", Some(["a gauge x", "b gauge "])),
            ("# TYPE b gauge\n# HELP a y\n", Some(["b gauge ", "a counter y"])),
            // Declared again, and apart: as the last lines say.
            ("# HELP a x\n# TYPE b gauge\n# TYPE a counter\n", None),
            (
                "# HELP a x\n# TYPE b gauge\n# TYPE a summary\n",
                Some(["a summary x", "b gauge "]),
            ),
        ] {
            let found = pass(&first, &interner, body).map(|families| shown(&families));
            assert_eq!(found, families.map(|f| f.map(str::to_owned).to_vec()), "{body}");
        }
    }

    /// As Prometheus 3.5.3 keeps them.
    #[test]
    fn a_family_that_leaves_stays_for_ten_scrapes() {
        let interner = Interner::default();
        let (whole, less) = ("# HELP a x\n# TYPE b gauge\n", "# TYPE b gauge\n");
        let mut families = pass_at((1, 0), &Families::default(), &interner, whole).unwrap();
        for this in 2..=11 {
            if let Some(changed) = pass_at((this, this - 1), &families, &interner, less) {
                families = changed;
            }
            assert_eq!(shown(&families), ["b gauge ", "a unknown x"], "{this}");
        }
        let gone = pass_at((12, 11), &families, &interner, less).unwrap();
        assert_eq!(shown(&gone), ["b gauge "]);
        // Scrapes that bring nothing count, and take nothing away.
        let late = pass_at((14, 1), &families, &interner, less).unwrap();
        assert_eq!(shown(&late), ["b gauge "]);
        // It comes back with less, and is what it was.
        let back = pass_at((11, 10), &families, &interner, "# TYPE b gauge\n# TYPE a gauge\n").unwrap();
        assert_eq!(shown(&back), ["b gauge ", "a gauge x"]);
        assert!(back.departed.is_empty());
    }
}
