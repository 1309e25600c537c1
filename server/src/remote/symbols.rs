//! The symbols of a message of remote write 2.0, and labels told as references to them.
//!
//! ```text
//!   Request       4: symbol string*    5: TimeSeries*
//!   labels_refs   name, value, name, value, ...: places among the symbols, packed or one by one
//! ```
//!
//! Places differ from request to request, texts do not. So a symbol is hashed once for a request, and the key of a series
//! is made of the hashes of its symbols in their order: what is known of a series is found without looking at its texts.

use super::known::Key;
use super::labels::Pair;
use super::room::Room;
use super::wire::{Fields, Value, WireError};
use super::write_in::WriteError;

/// The most symbols of a message.
const MAX_SYMBOLS: usize = 1 << 20;
/// What a symbol takes here.
const SYMBOL_BYTES: u64 = (size_of::<&[u8]>() + size_of::<Hash>()) as u64;
/// No place among the symbols.
const NOWHERE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Hash {
    low: u64,
    high: u64,
}

/// The symbols of one message.
#[derive(Debug)]
pub(super) struct Symbols<'b> {
    texts: Vec<&'b [u8]>,
    hashes: Vec<Hash>,
    /// Where `__name__` is.
    name: u32,
}

/// What tells a series apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) key: Key,
    /// The symbol of its metric name, if it has one.
    pub(super) name: Option<u32>,
}

impl<'b> Symbols<'b> {
    /// Collects the symbols of a message, wherever they lie in it.
    pub(super) fn read(message: &'b [u8], room: &mut Room) -> Result<Self, WriteError> {
        let mut symbols = Self {
            texts: Vec::new(),
            hashes: Vec::new(),
            name: NOWHERE,
        };
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number != 4 {
                continue;
            }
            let text = value.bytes("Symbols")?;
            if symbols.texts.len() >= MAX_SYMBOLS {
                return Err(WriteError::Symbols(MAX_SYMBOLS));
            }
            if symbols.texts.len() == symbols.texts.capacity() {
                let more = symbols.texts.len().max(256);
                room.take(more as u64 * SYMBOL_BYTES)?;
                symbols.texts.reserve_exact(more);
                symbols.hashes.reserve_exact(more);
            }
            if text == b"__name__" && symbols.name == NOWHERE {
                symbols.name = symbols.texts.len() as u32;
            }
            let hash = xxhash_rust::xxh3::xxh3_128(text);
            symbols.texts.push(text);
            symbols.hashes.push(Hash {
                low: hash as u64,
                high: (hash >> 64) as u64,
            });
        }
        Ok(symbols)
    }

    /// The text at a place.
    pub(super) fn text(&self, place: u64) -> Option<&'b [u8]> {
        self.texts.get(usize::try_from(place).ok()?).copied()
    }

    /// The identity of a series by its label fields; `None` if a reference leads nowhere or has no partner.
    #[inline]
    pub(super) fn identity(&self, labels: &[u8]) -> Result<Option<Identity>, WireError> {
        let (mut low, mut high) = (0u64, 0u64);
        let (mut count, mut name, mut after_name, mut lost) = (0usize, NOWHERE, false, false);
        each_ref(labels, |place| {
            let Some(hash) = self.hashes.get(place as usize) else {
                lost = true;
                return;
            };
            // Each step is one to one, so that sets differ unless the hashes of their symbols conspire.
            low = (low.rotate_left(23) ^ hash.low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            high = (high.rotate_left(29) ^ hash.high).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
            if after_name {
                name = place as u32;
            }
            after_name = count % 2 == 0 && place == u64::from(self.name);
            count += 1;
        })?;
        if lost || count % 2 != 0 {
            return Ok(None);
        }
        let key = Key::of_symbols(low ^ low >> 32, (high >> 32) as u32);
        let name = (name != NOWHERE).then_some(name);
        Ok(Some(Identity { key, name }))
    }

    /// The pairs of label references, or which reference leads nowhere.
    pub(super) fn pairs(&self, labels: &[u8]) -> Result<Result<Vec<Pair<'b>>, String>, WireError> {
        let (mut pairs, mut before, mut why) = (Vec::new(), None, None);
        each_ref(labels, |place| {
            let Some(text) = self.text(place) else {
                let symbols = self.texts.len();
                why.get_or_insert_with(|| format!("reference {place} is outside of a table of {symbols} symbols"));
                return;
            };
            match before.take() {
                None => before = Some(text),
                Some(name) if pairs.len() < MAX_PAIRS => pairs.push((name, text)),
                Some(_) => {
                    why.get_or_insert_with(|| format!("more than {MAX_PAIRS} labels"));
                }
            }
        })?;
        if before.is_some() {
            why.get_or_insert_with(|| "an odd number of references".to_owned());
        }
        Ok(why.map_or(Ok(pairs), Err))
    }
}

/// The most labels of a series that are looked at; stores take far fewer.
pub(super) const MAX_PAIRS: usize = 4096;

/// Hands on the references in fields 1.
#[inline]
fn each_ref(message: &[u8], mut each: impl FnMut(u64)) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(one)) => each(one),
            (1, other) => {
                let mut packed = Fields::new(other.bytes("LabelsRefs")?);
                while !packed.is_empty() {
                    each(packed.varint()?);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::Meter;

    fn table(texts: &[&str]) -> Vec<u8> {
        let field = |text: &&str| [&[0x22, text.len() as u8], text.as_bytes()].concat();
        texts.iter().flat_map(field).collect()
    }

    fn read(message: &[u8]) -> Symbols<'_> {
        Symbols::read(message, &mut Room::of(&Meter::unlimited("test"), u64::MAX).unwrap()).unwrap()
    }

    #[test]
    fn the_same_labels_have_the_same_key_whatever_their_places() {
        let (one, other) = (
            table(&["", "__name__", "up", "job", "a"]),
            table(&["", "job", "a", "x", "up", "__name__"]),
        );
        let (one, other) = (read(&one), read(&other));
        let key = |symbols: &Symbols<'_>, labels: &[u8]| symbols.identity(labels).unwrap().unwrap();
        let first = key(&one, b"\x0a\x04\x01\x02\x03\x04");
        assert_eq!(first.name, Some(2));
        let again = key(&other, b"\x0a\x04\x05\x04\x01\x02");
        assert_eq!((again.key, again.name), (first.key, Some(4)));
        assert_eq!(
            key(&other, b"\x08\x05\x08\x04\x0a\x02\x01\x02").key,
            first.key,
            "not packed"
        );
        for labels in [
            &b"\x0a\x04\x05\x04\x01\x03"[..],
            b"\x0a\x04\x01\x02\x05\x04",
            b"\x0a\x02\x05\x04",
            b"",
        ] {
            assert_ne!(key(&other, labels).key, first.key, "{labels:?}");
        }
        assert_eq!(
            key(&other, b"\x0a\x04\x01\x05\x03\x02").name,
            None,
            "a value is no name"
        );
    }

    #[test]
    fn references_that_lead_nowhere_are_told() {
        let message = table(&["", "a", "b"]);
        let symbols = read(&message);
        for (labels, why) in [
            (
                &b"\x0a\x02\x01\x03"[..],
                "reference 3 is outside of a table of 3 symbols",
            ),
            (b"\x0a\x03\x01\x02\x01", "an odd number of references"),
            (b"\x0a\x02\x01\xff\xff\xff\xff\xff\x0f", "unexpected EOF"),
        ] {
            let told = match (symbols.identity(labels), symbols.pairs(labels)) {
                (Ok(None), Ok(Err(why))) => why,
                (Err(_), Err(error)) => error.to_string(),
                other => panic!("{other:?}"),
            };
            assert_eq!(told, why);
        }
        let pairs = symbols.pairs(b"\x0a\x04\x01\x02\x00\x00").unwrap().unwrap();
        assert_eq!(pairs, [(&b"a"[..], &b"b"[..]), (b"", b"")]);
    }
}
