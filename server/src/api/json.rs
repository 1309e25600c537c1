//! A writer of JSON text: no tree in between, keys in the order they are written.

use super::number;
use tidegauge_model::{Labels, Timestamp};

/// A string with its quotes, as upstream writes names and values of label sets.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        push_escaped(out, text.as_bytes());
    }
    out.push(b'"');
}

/// A string with its quotes, as upstream writes all others: what means something in HTML or ends a line in JavaScript is
/// escaped too.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Both line ends begin with this byte.
    if !bytes.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return push_string(out, text);
    }
    out.push(b'"');
    let mut done = 0;
    for (at, c) in text.char_indices() {
        if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
            push_escaped(out, bytes.get(done..at).unwrap_or_default());
            out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            done = at + c.len_utf8();
        }
    }
    push_escaped(out, bytes.get(done..).unwrap_or_default());
    out.push(b'"');
}

/// Whether no byte needs an escape. Looks at eight at a time: hardly any text has one.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    words
        .iter()
        .chain([&last])
        .all(|word| !has_special(u64::from_le_bytes(*word)))
}

/// Whether a byte of the word is a control character, `"` or `\`; the ones above 127 are neither.
fn has_special(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // The top bit of a byte of this is set if the byte is below `limit`. A byte behind such a one may be reported with
    // it, which only costs a second look.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let quote = word ^ (ONES * 0x22);
    let backslash = word ^ (ONES * 0x5c);
    (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & TOPS != 0
}

fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
        out.extend_from_slice(escape);
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        }
        done = at + 1;
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
}

/// A label set as an object.
pub(crate) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

/// Writes label sets one after another, each as an object. Sets beside each other have most pairs in common, so the text
/// of each pair is kept, by its place, for as long as the next set has the same there.
#[derive(Debug, Default)]
pub(crate) struct LabelSets {
    pairs: Vec<PairText>,
}

#[derive(Debug, Default)]
struct PairText {
    name: String,
    value: String,
    /// With what stands before it: `,"name":"value"`.
    text: Vec<u8>,
}

impl LabelSets {
    /// Writes the next set.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, labels: &Labels) {
        let mut len = 0;
        for (name, value) in labels.iter() {
            if len == self.pairs.len() {
                self.pairs.push(PairText::default());
            }
            if let Some(pair) = self.pairs.get_mut(len) {
                if pair.text.is_empty() || pair.value != value || pair.name != name {
                    pair.set(if len == 0 { b'{' } else { b',' }, name, value);
                }
                out.extend_from_slice(&pair.text);
            }
            len += 1;
        }
        out.extend_from_slice(if len == 0 { b"{}" } else { b"}" });
    }
}

impl PairText {
    fn set(&mut self, before: u8, name: &str, value: &str) {
        if self.name != name {
            name.clone_into(&mut self.name);
        }
        value.clone_into(&mut self.value);
        self.text.clear();
        self.text.push(before);
        push_string(&mut self.text, name);
        self.text.push(b':');
        push_string(&mut self.text, value);
    }
}

/// Writes one value: an object or array with its members, separators in place.
#[derive(Debug, Default)]
pub(crate) struct Json {
    out: Vec<u8>,
}

impl Json {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The text.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// `{...}`
    pub(crate) fn object(&mut self, members: impl FnOnce(&mut Self)) -> &mut Self {
        self.separate();
        self.out.push(b'{');
        members(self);
        self.out.push(b'}');
        self
    }

    /// `[...]`
    pub(crate) fn array(&mut self, members: impl FnOnce(&mut Self)) -> &mut Self {
        self.separate();
        self.out.push(b'[');
        members(self);
        self.out.push(b']');
        self
    }

    /// `"name":`, to be followed by one value.
    pub(crate) fn key(&mut self, name: &str) -> &mut Self {
        self.separate();
        push_text(&mut self.out, name);
        self.out.push(b':');
        self
    }

    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.separate();
        push_text(&mut self.out, text);
        self
    }

    pub(crate) fn labels(&mut self, labels: &Labels) -> &mut Self {
        self.separate();
        push_labels(&mut self.out, labels);
        self
    }

    pub(crate) fn integer(&mut self, number: i64) -> &mut Self {
        self.separate();
        self.out
            .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self
    }

    /// A count; beyond `i64` it would not be a JSON integer for most readers anyway.
    pub(crate) fn count(&mut self, number: u64) -> &mut Self {
        self.integer(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// A finite number; 0 for what JSON cannot say.
    pub(crate) fn float(&mut self, number: f64) -> &mut Self {
        self.separate();
        number::push_value(&mut self.out, if number.is_finite() { number } else { 0.0 });
        self
    }

    /// A number in quotes, as samples are printed.
    pub(crate) fn number_text(&mut self, number: f64) -> &mut Self {
        self.separate();
        self.out.push(b'"');
        number::push_value(&mut self.out, number);
        self.out.push(b'"');
        self
    }

    /// Seconds since the epoch, as they stand beside a sample.
    pub(crate) fn time(&mut self, at: Timestamp) -> &mut Self {
        self.separate();
        number::push_time(&mut self.out, at);
        self
    }

    /// Seconds since the epoch, as a number like any other.
    pub(crate) fn seconds(&mut self, at: Timestamp) -> &mut Self {
        self.separate();
        number::push_seconds(&mut self.out, at);
        self
    }

    pub(crate) fn boolean(&mut self, yes: bool) -> &mut Self {
        self.separate();
        self.out.extend_from_slice(if yes { b"true" } else { b"false" });
        self
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        self.separate();
        self.out.extend_from_slice(b"null");
        self
    }

    /// A comma, unless a value or a list has just begun.
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_reads_back(text in "(\\PC|[\u{0}-\u{7f}]){0,40}") {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
            let special = text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\');
            prop_assert_eq!(is_plain(text.as_bytes()), !special);
        }
    }

    #[test]
    fn texts_are_safe_inside_of_html() {
        for (text, expected) in [
            ("plain", "\"plain\""),
            ("<op:->", "\"\\u003cop:-\\u003e\""),
            (
                "\"a\"&\u{2028}\u{2029}é€\u{7f}\n",
                "\"\\\"a\\\"\\u0026\\u2028\\u2029é€\u{7f}\\n\"",
            ),
        ] {
            let mut out = Vec::new();
            push_text(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        push_string(&mut out, "a\"b\\c\n\r\t\u{1}\u{1f}é\u{2028}");
        let back: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(back, "a\"b\\c\n\r\t\u{1}\u{1f}é\u{2028}");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001fé\u{2028}\""
        );
    }

    #[test]
    fn label_sets_are_written_the_same_whether_others_came_before_or_not() {
        let sets: [&[(&str, &str)]; 7] = [
            &[("a", "1"), ("b", "2")],
            &[("a", "1"), ("b", "3")],
            &[("b", "3")],
            &[],
            &[("a", "1"), ("b", "3"), ("c", "\"é\"")],
            &[("a", "1"), ("c", "3"), ("d", "\"é\"")],
            &[("a", "1"), ("b", "2")],
        ];
        let mut writer = LabelSets::default();
        for pairs in sets {
            let labels = Labels::from_pairs(pairs.iter().copied()).unwrap();
            let (mut out, mut alone) = (Vec::new(), Vec::new());
            writer.push(&mut out, &labels);
            push_labels(&mut alone, &labels);
            assert_eq!(String::from_utf8(out), String::from_utf8(alone));
        }
    }

    #[test]
    fn members_are_separated() {
        let mut json = Json::new();
        json.object(|o| {
            o.key("a").integer(1).key("b").array(|a| {
                a.string("x")
                    .string("{")
                    .object(|_| {})
                    .array(|_| {})
                    .float(1e-9)
                    .null()
                    .boolean(true);
            });
            o.key("c")
                .labels(&Labels::from_pairs([("z", "1"), ("y", "2")]).unwrap());
        });
        assert_eq!(
            String::from_utf8(json.finish()).unwrap(),
            r#"{"a":1,"b":["x","{",{},[],1e-09,null,true],"c":{"y":"2","z":"1"}}"#
        );
    }
}
