//! What the head calls the series of a block, once somebody found out: so that a series that is in several places is
//! told to be one by a number, without its labels.

use super::super::cache::{Item, Key, Part};
use super::{BlockReader, SeriesNo};
use crate::index::series::{KeptPages, PAGE};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The numbers in the head of so many series of a block.
#[derive(Debug)]
pub(crate) struct HeadNumbersPage {
    /// Which of the head's indexes gave them.
    epoch: u64,
    /// 0: not known, else one more than the number.
    numbers: [AtomicU32; PAGE],
}

/// Looks up numbers in the head by numbers in a block, best in rising order.
#[derive(Debug)]
pub(crate) struct HeadNumbers<'r> {
    reader: &'r BlockReader,
    epoch: u64,
    held: Option<(u32, Arc<HeadNumbersPage>)>,
}

impl BlockReader {
    /// What is known of its series' numbers in the head's index of that epoch.
    pub(crate) fn head_numbers(&self, epoch: u64) -> HeadNumbers<'_> {
        HeadNumbers {
            reader: self,
            epoch,
            held: None,
        }
    }

    fn key(&self, part: Part) -> Key {
        Key {
            owner: self.owner.number,
            part,
        }
    }
}

impl HeadNumbers<'_> {
    /// The number of a series; `None` if it is not known yet, or there is none.
    pub(crate) fn get(&mut self, series: SeriesNo) -> Option<u32> {
        // Relaxed: a number is all there is to it.
        self.place(series)?.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Remembers a number.
    pub(crate) fn set(&mut self, series: SeriesNo, number: u32) {
        if let Some(place) = self.place(series) {
            place.store(number.wrapping_add(1), Ordering::Relaxed);
        }
    }

    fn place(&mut self, series: SeriesNo) -> Option<&AtomicU32> {
        let (page, place) = (series.rank() / PAGE as u32, series.rank() as usize % PAGE);
        if self.held.as_ref().is_none_or(|(held, _)| *held != page) {
            self.held = Some((page, self.page(page)));
        }
        self.held.as_ref().and_then(|(_, page)| page.numbers.get(place))
    }

    fn page(&self, page: u32) -> Arc<HeadNumbersPage> {
        let key = self.reader.key(Part::HeadNumbers(page));
        if let Some(Item::HeadNumbers(page)) = self.reader.cache.get(key)
            && page.epoch == self.epoch
        {
            return page;
        }
        let page = Arc::new(HeadNumbersPage {
            epoch: self.epoch,
            numbers: [const { AtomicU32::new(0) }; PAGE],
        });
        self.reader.cache.put(key, Item::HeadNumbers(Arc::clone(&page)));
        page
    }
}

impl KeptPages for BlockReader {
    fn kept(&self, page: u32) -> Option<Arc<[u8]>> {
        match self.cache.get(self.key(Part::Series(page))) {
            Some(Item::Series(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn keep(&self, page: u32, bytes: &Arc<[u8]>) {
        self.cache
            .put(self.key(Part::Series(page)), Item::Series(Arc::clone(bytes)));
    }
}
