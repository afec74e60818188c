//! What a customer did, day by day, packed: one short entry a day; and of the days that are no longer kept apart one entry for each
//! month with orders or refunds, and one for all other days.
//!
//! Promises that folding days changes neither the total nor any month's money. Most customers have one day; it costs them some ten bytes.

use smallvec::SmallVec;

use super::packed::{self, Packed};
use super::prefetch::prefetch_all;
use crate::model::{Day, Measure, Month, Sums, TimeZone};

/// Entries, ascending by day: length of the packed sums (1 byte), flags (1), day (2, little endian), packed sums. The entries of the
/// folded days come first, by month; that of the days without money has month 0.
#[derive(Clone, Debug, Default)]
pub(super) struct History(SmallVec<[u8; IN_PLACE]>);

const IN_PLACE: usize = 16;
const HEAD: usize = 4;
const FOLDED: u8 = 1;
const TO_BE_SERVED: u8 = 2;

/// What [`History::add`] found.
pub(super) struct DayBefore {
    /// The day's sums before.
    pub(super) sums: Sums,
    /// The day had no event yet.
    pub(super) is_new: bool,
    /// The day was not waiting to be served yet; now it is.
    pub(super) is_newly_dirty: bool,
}

struct Entry<'a> {
    offset: usize,
    flags: u8,
    day: Day,
    packed: &'a [u8],
}

impl Entry<'_> {
    fn length(&self) -> usize {
        HEAD + self.packed.len()
    }

    fn is_folded(&self) -> bool {
        self.flags & FOLDED != 0
    }

    fn month(&self) -> Month {
        if self.is_folded() { self.day } else { TimeZone::month_of(self.day) }
    }
}

fn has_money(sums: &Sums) -> bool {
    sums.get(Measure::Orders) > 0 || sums.get(Measure::Refunds) > 0
}

impl History {
    /// Adds to a day, which then waits to be served.
    pub(super) fn add(&mut self, day: Day, amounts: &Sums) -> DayBefore {
        let (offset, old) = self.locate(day);
        let (length, flags, before) =
            old.map_or((0, 0, Sums::default()), |entry| (entry.length(), entry.flags, Packed::read(entry.packed)));
        let mut after = before;
        after.add_all(amounts);
        self.write(offset, length, flags | TO_BE_SERVED, day, &after);
        DayBefore { sums: before, is_new: length == 0, is_newly_dirty: flags & TO_BE_SERVED == 0 }
    }

    /// Asks for its memory (`engine/foresee.rs`).
    pub(super) fn prefetch(&self) {
        prefetch_all(&self.0);
    }

    /// The sums over everything; `Active` is the number of days.
    pub(super) fn total(&self) -> Sums {
        let mut total = Sums::default();
        for entry in self.entries() {
            total.add_all(&Packed::read(entry.packed));
            if !entry.is_folded() {
                total.add(Measure::Active, 1);
            }
        }
        total
    }

    /// The sums of the folded days by month, ascending; month 0 = days without money. `Active` is the number of days.
    pub(super) fn folded(&self) -> impl Iterator<Item = (Month, Sums)> {
        self.entries().filter(Entry::is_folded).map(|entry| (entry.day, Packed::read(entry.packed)))
    }

    /// Orders and money by month: in any order, a month more than once.
    pub(super) fn months(&self) -> impl Iterator<Item = (Month, Sums)> {
        self.entries().map(|entry| (entry.month(), Packed::read(entry.packed))).filter(|(_, sums)| has_money(sums))
    }

    /// The days that are kept apart, ascending.
    pub(super) fn days(&self) -> impl Iterator<Item = (Day, Sums)> {
        self.entries().filter(|entry| !entry.is_folded()).map(|entry| (entry.day, Packed::read(entry.packed)))
    }

    /// The day's sums; it no longer waits to be served. `None` if it is not kept apart.
    pub(super) fn take_served(&mut self, day: Day) -> Option<Sums> {
        let (offset, entry) = self.locate(day);
        let sums = Packed::read(entry?.packed);
        if let Some(flags) = self.0.get_mut(offset + 1) {
            *flags &= !TO_BE_SERVED;
        }
        Some(sums)
    }

    /// Makes every day wait to be served, and names those that did not yet.
    pub(super) fn mark_all(&mut self) -> SmallVec<[Day; 4]> {
        let clean: SmallVec<[(usize, Day); 4]> = self
            .entries()
            .filter(|entry| !entry.is_folded() && entry.flags & TO_BE_SERVED == 0)
            .map(|entry| (entry.offset, entry.day))
            .collect();
        for (offset, _) in &clean {
            if let Some(flags) = self.0.get_mut(offset + 1) {
                *flags |= TO_BE_SERVED;
            }
        }
        clean.into_iter().map(|(_, day)| day).collect()
    }

    /// Folds the days before `first_kept` that do not wait to be served; tells whether there was any.
    pub(super) fn fold_before(&mut self, first_kept: Day) -> bool {
        let is_foldable = |entry: &Entry<'_>| !entry.is_folded() && entry.day < first_kept && entry.flags & TO_BE_SERVED == 0;
        if !self.entries().any(|entry| is_foldable(&entry)) {
            return false;
        }
        let mut folded: SmallVec<[(Month, Sums); 2]> = SmallVec::new();
        let mut rest: SmallVec<[u8; IN_PLACE]> = SmallVec::new();
        for entry in self.entries() {
            if !entry.is_folded() && !is_foldable(&entry) {
                rest.extend_from_slice(self.0.get(entry.offset..entry.offset + entry.length()).unwrap_or_default());
                continue;
            }
            let mut sums = Packed::read(entry.packed);
            if !entry.is_folded() {
                sums.add(Measure::Active, 1);
            }
            let month = if has_money(&sums) { entry.month() } else { 0 };
            match folded.binary_search_by_key(&month, |(known, _)| *known) {
                Ok(place) => folded.iter_mut().skip(place).take(1).for_each(|(_, known)| known.add_all(&sums)),
                Err(place) => folded.insert(place, (month, sums)),
            }
        }
        *self = History::of_folded(folded.into_iter());
        self.0.extend_from_slice(&rest);
        true
    }

    fn of_folded(months: impl Iterator<Item = (Month, Sums)>) -> Self {
        let mut history = History::default();
        for (month, sums) in months {
            history.write(history.0.len(), 0, FOLDED, month, &sums);
        }
        history
    }

    /// Builds a history from the folded sums, by ascending month, and the days, in any order.
    pub(super) fn restore(folded: impl Iterator<Item = (Month, Sums)>, days: impl Iterator<Item = (Day, Sums)>) -> Self {
        let mut history = History::of_folded(folded);
        for (day, sums) in days {
            history.add(day, &sums);
            history.take_served(day);
        }
        history.0.shrink_to_fit();
        history
    }

    pub(super) fn heap_bytes(&self) -> usize {
        if self.0.spilled() { self.0.capacity() } else { 0 }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let (head, rest) = self.0.get(offset..)?.split_first_chunk::<HEAD>()?;
            let [length, flags, day_low, day_high] = *head;
            let packed = rest.get(..usize::from(length))?;
            let entry = Entry { offset, flags, day: Day::from_le_bytes([day_low, day_high]), packed };
            offset += entry.length();
            Some(entry)
        })
    }

    /// The entry of a day, or where it belongs.
    fn locate(&self, day: Day) -> (usize, Option<Entry<'_>>) {
        for entry in self.entries() {
            if entry.is_folded() || entry.day < day {
                continue;
            }
            return (entry.offset, Some(entry).filter(|found| found.day == day));
        }
        (self.0.len(), None)
    }

    /// Puts an entry in the place of `old_length` bytes at `offset`.
    fn write(&mut self, offset: usize, old_length: usize, flags: u8, day: Day, sums: &Sums) {
        let [day_low, day_high] = day.to_le_bytes();
        // Most customers have one day, of a few small numbers.
        if self.0.len() == old_length
            && !self.0.spilled()
            && let Some((packed, length)) = packed::short(sums).filter(|(_, length)| HEAD + length <= IN_PLACE)
        {
            let mut entry = [0; IN_PLACE];
            let (head, place) = entry.split_at_mut(HEAD);
            head.copy_from_slice(&[length as u8, flags, day_low, day_high]);
            place.copy_from_slice(packed.split_at(IN_PLACE - HEAD).0);
            self.0 = SmallVec::from_buf_and_len(entry, HEAD + length);
            return;
        }
        let packed = Packed::of(sums);
        let length = HEAD + packed.bytes().len();
        if length > old_length {
            const ZEROS: [u8; 256] = [0; 256];
            let more = length - old_length;
            if self.0.len() + more > self.0.capacity() {
                // As much as an allocation of this length takes anyway, and no more.
                let whole = (self.0.len() + more).next_multiple_of(8);
                self.0.reserve_exact(whole - self.0.len());
            }
            self.0.insert_from_slice(offset, ZEROS.get(..more).unwrap_or_default());
        } else {
            self.0.drain(offset..offset + old_length - length);
        }
        let Some((head, rest)) = self.0.get_mut(offset..).and_then(<[u8]>::split_first_chunk_mut::<HEAD>) else { return };
        *head = [packed.bytes().len() as u8, flags, day_low, day_high];
        if let Some(place) = rest.get_mut(..packed.bytes().len()) {
            place.copy_from_slice(packed.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(measure: Measure, amount: u64) -> Sums {
        let mut sums = Sums::default();
        sums.add(measure, amount);
        sums
    }

    #[test]
    fn days_are_kept_in_order_and_added_up() {
        let mut history = History::default();
        for (day, amount) in [(20_002, 1), (20_000, 2), (20_001, 3), (20_000, 300), (0, 5)] {
            history.add(day, &sums(Measure::Scans, amount));
        }
        let days: Vec<(Day, u64)> = history.days().map(|(day, sums)| (day, sums.get(Measure::Scans))).collect();
        assert_eq!(days, [(0, 5), (20_000, 302), (20_001, 3), (20_002, 1)]);
        assert_eq!((history.total().get(Measure::Scans), history.total().get(Measure::Active)), (311, 4));
    }

    #[test]
    fn folding_keeps_the_total_and_spares_what_waits_to_be_served() {
        let mut history = History::default();
        for day in 10..60 {
            history.add(day, &sums(Measure::Paid, u64::from(day) * 1_000_000));
        }
        let total = history.total();
        assert!(!history.fold_before(60), "all days wait to be served");
        for day in 10..58 {
            assert!(history.take_served(day).is_some());
        }
        for first_kept in [11, 30, 60] {
            assert!(history.fold_before(first_kept));
            assert_eq!(history.total(), total);
        }
        assert_eq!(history.days().map(|(day, _)| day).collect::<Vec<_>>(), [58, 59]);
        assert!(history.take_served(20).is_none());
        let again = History::restore(history.folded(), history.days());
        assert_eq!((again.total(), again.days().count()), (total, 2));
    }

    #[test]
    fn folding_keeps_the_money_of_each_month() {
        let by_month = |history: &History| {
            let mut months = std::collections::BTreeMap::<Month, [u64; 3]>::new();
            for (month, sums) in history.months() {
                let known = months.entry(month).or_default();
                for (sum, measure) in known.iter_mut().zip([Measure::Orders, Measure::Paid, Measure::Refunded]) {
                    *sum += sums.get(measure);
                }
            }
            months
        };
        let mut history = History::default();
        for day in 0..120_u16 {
            let mut amounts = sums(Measure::Scans, 1);
            if day % 3 == 0 {
                amounts.add(Measure::Orders, 1);
                amounts.add(Measure::Paid, day.into());
            }
            if day == 100 {
                amounts = sums(Measure::Refunds, 1);
                amounts.add(Measure::Refunded, 7);
            }
            history.add(day, &amounts);
            history.take_served(day);
        }
        let (total, months) = (history.total(), by_month(&history));
        assert_eq!(months.keys().copied().collect::<Vec<_>>(), [0, 31, 59, 90]);
        for first_kept in [20, 50, 101, 200] {
            assert!(history.fold_before(first_kept));
            assert_eq!((history.total(), by_month(&history)), (total, months.clone()), "{first_kept}");
        }
        assert_eq!(history.folded().count(), 4, "january 1970 and the days without money share an entry");
    }

    #[test]
    fn the_day_before_tells_transitions() {
        let mut history = History::default();
        let first = history.add(5, &sums(Measure::Orders, 1));
        assert!(first.is_new && first.is_newly_dirty);
        let second = history.add(5, &sums(Measure::Orders, 1));
        assert!(!second.is_new && !second.is_newly_dirty);
        assert_eq!(second.sums.get(Measure::Orders), 1);
        history.take_served(5);
        assert_eq!(history.mark_all().as_slice(), [5]);
        assert!(history.mark_all().is_empty());
    }
}
