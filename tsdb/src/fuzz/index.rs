//! The index of a block without its file: the lengths of four sections, then these.

use crate::codec::{Cursor, Malformed, ZstdPool};
use crate::index::pairs::{self, Pairs, Scan};
use crate::index::postings::{Postings, PostingsBuilder};
use crate::index::select::Index;
use crate::index::series::{Limits, Run, SeriesBuilder, SeriesTable};
use tidegauge_model::{MatchOp, Matcher};

const SPANS: u32 = 100;

pub(super) fn run(bytes: &[u8]) {
    // What is refused is refused: only a panic counts.
    let _refused = read(bytes);
}

fn read(bytes: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let series = u32::from(u16::from_le_bytes(cursor.array()?));
    let chunks = u32::from(u16::from_le_bytes(cursor.array()?));
    let mut lengths = [0usize; 4];
    for length in &mut lengths {
        *length = cursor.u32()? as usize;
    }
    let [pairs_len, postings_len, pages_len, directory_len] = lengths;
    let pairs = Pairs::new(cursor.take(pairs_len.min(cursor.remaining()))?);
    let postings = Postings::new(cursor.take(postings_len.min(cursor.remaining()))?, series);
    let pages = cursor.take(pages_len.min(cursor.remaining()))?;
    let directory = cursor.take(directory_len.min(cursor.remaining()))?;
    let zstd = ZstdPool::default();
    let limits = Limits {
        pairs: pairs.as_ref().map_or(1000, Pairs::pair_count),
        spans: SPANS,
        chunks,
    };
    if let Ok(table) = SeriesTable::new(pages, directory, series, limits, &zstd).and_then(|t| t.check().map(|()| t)) {
        let mut entries = table.entries();
        for no in (0..series).chain((0..series).rev().step_by(7)) {
            if entries.seek(no).is_ok() {
                assert!(entries.pairs().iter().all(|p| *p < limits.pairs));
                assert!(entries.runs().iter().all(|r| r.span < SPANS && r.chunk < chunks));
            }
        }
    }
    let (pairs, postings) = (pairs?, postings?);
    pairs.check()?;
    postings.check(pairs.pair_count(), pairs.name_count())?;
    read_pairs(&pairs)?;
    let index = Index {
        pairs,
        postings,
        series,
    };
    for matchers in matchers() {
        if let Ok(found) = index.select(&matchers) {
            assert!(found.is_sorted() && found.iter().all(|s| *s < series));
        }
    }
    Ok(())
}

fn read_pairs(pairs: &Pairs<'_>) -> Result<(), Malformed> {
    let mut text = String::new();
    for pair in (0..pairs.pair_count().min(10_000)).chain([u32::MAX]) {
        // Each stands for itself: one that is damaged does not keep others from being read.
        let _refused = pairs.get(pair, &mut text);
    }
    for no in 0..pairs.name_count() {
        let name = pairs.name(no)?;
        let _found = pairs.find_name(name.name)?;
        pairs.scan(&name, "m", |_, _| Scan::Next)?;
        let _found = pairs.find(&name, "value-7")?;
    }
    Ok(())
}

/// Matchers of every kind, over names that the seeds have.
pub(super) fn matchers() -> Vec<Vec<Matcher>> {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let one = |op, name: &str, value: &str| Matcher::new(op, name, value).ok();
    let lists = [
        vec![],
        vec![one(Equal, "__name__", "up")],
        vec![one(NotEqual, "a", "value-3"), one(Regex, "b", ".+")],
        vec![one(Regex, "a", "value-1.*"), one(NotRegex, "b", "|value-2.*")],
        vec![one(NotRegex, "a", "value-1|value-2|value-3|value-4|value-5|value-6")],
        vec![one(Equal, "b", "")],
        vec![one(Regex, "a", "value-1|value-2|value-3|value-4|value-5|value-6")],
    ];
    lists.into_iter().map(|l| l.into_iter().flatten().collect()).collect()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [3u32, 150, 1500].iter().filter_map(|n| seed(*n)).collect()
}

/// Series with a label `a` of their own and a label `b` of twenty values, two chunks each.
fn seed(series: u32) -> Option<Vec<u8>> {
    let mut texts: Vec<(String, String)> = (0..series)
        .map(|i| ("a".to_owned(), format!("value-{i:04}")))
        .chain((0..series.min(20)).map(|i| ("b".to_owned(), format!("value-{i:02}"))))
        .collect();
    texts.sort();
    let list: Vec<(&str, &str)> = texts.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut postings = PostingsBuilder::default();
    for a in 0..series {
        postings.push(&[a])?;
    }
    for b in 0..series.min(20) {
        postings.push(&(0..series).filter(|s| s % 20 == b).collect::<Vec<_>>())?;
    }
    let all: Vec<u32> = (0..series).collect();
    postings.push(&all)?;
    postings.push(&all)?;
    let mut table = SeriesBuilder::default();
    for a in 0..series {
        let runs = [2 * a, 2 * a + 1].map(|chunk| Run {
            span: chunk % 3,
            chunk,
            has_stale: chunk % 7 == 0,
        });
        table.push(&[a, series + a % 20], &runs)?;
    }
    let (pages, directory) = table.build()?;
    let sections = [pairs::build(&list)?, postings.build()?, pages, directory];
    let mut out = u16::try_from(series).ok()?.to_le_bytes().to_vec();
    out.extend_from_slice(&u16::try_from(2 * series).ok()?.to_le_bytes());
    for section in &sections {
        out.extend_from_slice(&u32::try_from(section.len()).ok()?.to_le_bytes());
    }
    out.extend(sections.iter().flatten());
    Some(out)
}
