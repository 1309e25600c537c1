//! What a frame means: entries, one after another, of one commit.
//!
//! ```text
//!   1 timeline  number, key: length + 1 and text, or 0 if the store made it
//!   2 column    number, home timeline + 1 or 0, pairs, then for each: name, value     (texts: length, UTF-8)
//!               as versions 1 and 2 of the log have it; read, not written
//!   3 shape     timeline, kept, added, then for each added place its column: zigzag step from the one before
//!   4 row       timeline, zigzag step of its time, flags u8, [ranges], [ended], values
//!                 flags bit 0: key row; its time steps from 0, and it gives all that is known of the timeline
//!                       bit 1: ranges: how many edges, then steps; absent: all places that have not ended
//!                       bit 2: ended: how many, then steps: places that hold nothing from this row on
//!                       bit 3: changed places as a bitmap; else how many, then steps
//!                 values: a code after the place's value before, for each place that changed; in a key row, a code
//!                       after 0 for every place of the shape
//!   5 late      column + 1, how many, then for each: zigzag step of its time from the one before, the first from 0; its
//!               value: a code after the value before, the first after 0
//!               or: 0, zigzag start, zigzag end: blocks have the late samples of these times that were told so far
//!   6 histogram column, length, then so many bytes: code, zigzag step of its time
//!                 code: see `crate::head::histogram_code`; one that stands alone has a time that steps from 0, others
//!                       build on the column's histogram before
//!   7 exemplar  column, zigzag time, flags u8, value u64 (bits), pairs as in a column
//!                 flags bit 0: the time is its own, else that of its sample
//!   8 deletion  zigzag start, zigzag end (both included), matchers, then for each: operator u8, name, value
//!                 operator 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`; all must hold. What lies in the log before it is meant
//!   9 column    number, home timeline + 1 or 0, pairs, then for each beside the pair at its place in the column that the
//!               record told of before:
//!                 0: the same;  1: its name, then a value;  else length of the name + 2, the name, a value
//!                 only names and pairs of up to 128 bytes are told by a number
//! ```
//!
//! 5 to 8 are of version 2 of the log, 9 is of version 3. All numbers are varints. Codes are those of [`crate::head::delta`]. A place
//! that is new in this row changes from 0.

mod decode;
mod encode;

pub(crate) use decode::{Read, Told, read, read_changed, read_histogram, read_steps};
pub(crate) use encode::{Entries, encode, encode_deletion, encode_late_done};

use tidegauge_model::MatchOp;

const TIMELINE: u8 = 1;
const COLUMN: u8 = 2;
const SHAPE: u8 = 3;
const ROW: u8 = 4;
const DELETION: u8 = 8;
const COLUMN_BESIDE: u8 = 9;
/// In an entry 9: the pair, or its name, is that of the column before.
const SAME_PAIR: u64 = 0;
const SAME_NAME: u64 = 1;
/// Names begin here: their length plus this.
const OTHER_NAME: usize = 2;
/// The longest text that stands for itself a second time: a log cannot ask for much more memory than it takes.
const MAX_REPEATED_BYTES: usize = 128;
const OPERATORS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
const LATE: u8 = 5;
const HISTOGRAM: u8 = 6;
const EXEMPLAR: u8 = 7;
const OWN_TIME: u8 = 1;
pub(crate) const KEY: u8 = 1;
pub(crate) const RANGES: u8 = 2;
pub(crate) const ENDED: u8 = 4;
pub(crate) const BITMAP: u8 = 8;
/// Rows from one key row of a timeline to the next.
pub(crate) const KEY_ROWS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Cursor, Malformed};
    use crate::head::State;
    use crate::head::series::Index;
    use crate::timeline::NONE;
    use crate::wal::writer::Book;
    use tidegauge_model::Labels;

    fn columns(record: &[u8]) -> Result<Vec<Vec<(String, String)>>, Malformed> {
        let (mut cursor, mut told, mut columns) = (Cursor::new(record), Told::new(), Vec::new());
        while !cursor.is_empty() {
            if let Read::Column { pairs, .. } = read(&mut cursor, &mut told)? {
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                columns.push(pairs.into_iter().map(owned).collect());
            }
        }
        Ok(columns)
    }

    /// The record that defines a series for each of these label sets.
    fn defined(sets: &[Vec<(String, String)>]) -> Vec<u8> {
        let (mut state, mut index, mut book, mut out) =
            (State::default(), Index::default(), Book::default(), Vec::new());
        let columns: Vec<u32> = sets
            .iter()
            .filter_map(|pairs| {
                let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))).ok()?;
                let series = index.add(&labels)?;
                Some(state.add_column(series, NONE))
            })
            .collect();
        let mut entries = Entries::new(&state, &index, &mut book, &mut out);
        columns.iter().for_each(|column| entries.define(*column, false, NONE));
        out
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn columns_are_told_beside_the_one_before() {
        let long = "v".repeat(MAX_REPEATED_BYTES);
        let sets = [
            pairs(&[("a", "1"), ("b", "2"), ("c", &long)]),
            pairs(&[("a", "1"), ("b", "3"), ("c", &long)]),
            pairs(&[("b", "3")]),
            pairs(&[("a", "1"), ("b", "3"), ("c", ""), ("d", "ü")]),
        ];
        let record = defined(&sets);
        assert_eq!(columns(&record).unwrap()[..2], sets[..2]);
        assert_eq!(columns(&record).unwrap()[2], sets[2]);
        // Of the second column: the same pair, the same name with a value of a byte, the same name with the long one.
        let second = [&[9, 1, 0, 3, 0, 1, 1, b'3', 1, 128, 1][..], long.as_bytes()].concat();
        let at = record.windows(second.len()).position(|bytes| bytes == second);
        assert!(at.is_some(), "{record:?}");
    }

    #[test]
    fn what_refers_to_no_column_is_malformed() {
        let long = "n".repeat(MAX_REPEATED_BYTES + 1);
        let name = [&[9, 0, 0, 1, 131, 1][..], long.as_bytes(), &[0]].concat();
        for (record, good) in [
            (vec![9, 0, 0, 1, 3, b'a', 1, b'b', 9, 1, 0, 1, 0], true),
            (vec![9, 0, 0, 1, 0], false),
            (vec![9, 0, 0, 1, 1, 1, b'b'], false),
            (vec![9, 0, 0, 1, 3, b'a', 1, b'b', 9, 1, 0, 2, 0, 0], false),
            (vec![9, 0, 0, 1, 3, 0xff, 1, b'b'], false),
            (vec![9, 0, 0, 1, 200, b'a'], false),
            (name.clone(), true),
            ([&name[..], &[9, 1, 0, 1, 0]].concat(), false),
            ([&name[..], &[9, 1, 0, 1, 1, 0]].concat(), false),
        ] {
            assert_eq!(columns(&record).is_ok(), good, "{record:?}");
        }
    }
}
