//! The index of groups that are not in memory: fourteen bytes for each.
//!
//! It is what a state of any size costs while it is away, so it decides how many times a state may be larger than its memory. Entries lie sorted by hash in
//! buckets of a few hundred: a hash table would hold the whole hash again, stand up to half empty, and need both its old and its new memory
//! whenever it grows. Promises exactness by number; by hash it may name groups of other keys too. Never holds a group.

use super::ColdGroup;

/// Of so many entries a bucket is, on average, before there are twice as many buckets.
const FULL_BUCKET: usize = 512;

/// A bucket grows by an eighth, and by so many entries at least.
const LEAST_GROWTH: usize = 8;

const MS_PER_MINUTE: i64 = 60_000;

/// Numbers have 48 bits: at 100,000 groups a second they last for 89 years.
const MOST_NUMBER: u64 = (1 << 48) - 1;

#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
struct Entry {
    hash: u32,
    number_low: u32,
    number_high: u16,
    /// Before it is this minute nothing in the group may be forgotten.
    due_minute: u32,
}

const _: () = assert!(size_of::<Entry>() == 14);

impl Entry {
    fn group(self) -> ColdGroup {
        ColdGroup { number: (u64::from(self.number_high) << 32) | u64::from(self.number_low), hash: self.hash }
    }
}

/// Which groups there are.
#[derive(Debug)]
pub(super) struct ColdIndex {
    /// A power of two of them. Which one an entry is in is said by the first bits of its hash, and all are sorted by hash.
    buckets: Vec<Vec<Entry>>,
    len: usize,
    next_number: u64,
    /// Memory of all entries, places kept free included.
    capacity: usize,
    due: Due,
}

/// A pass over the groups that are due.
#[derive(Debug, Default)]
struct Due {
    limit_ms: i64,
    /// The next bucket to look through.
    bucket: usize,
    /// Due in the bucket before.
    groups: Vec<ColdGroup>,
}

impl Default for ColdIndex {
    fn default() -> Self {
        let due = Due { bucket: 1, ..Due::default() };
        ColdIndex { buckets: vec![Vec::new()], len: 0, next_number: 0, capacity: 0, due }
    }
}

impl ColdIndex {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let of_entries = self.capacity * size_of::<Entry>();
        of_entries + self.buckets.capacity() * size_of::<Vec<Entry>>() + self.due.groups.capacity() * size_of::<ColdGroup>()
    }

    /// Numbers a group of this hash of which nothing may be forgotten before `due_ms`, Unix milliseconds.
    pub(super) fn insert(&mut self, hash: u32, due_ms: i64) -> ColdGroup {
        if self.len >= self.buckets.len() * FULL_BUCKET {
            self.split();
        }
        let number = self.next_number & MOST_NUMBER;
        self.next_number += 1;
        let due_minute = u32::try_from((due_ms / MS_PER_MINUTE).max(0)).unwrap_or(u32::MAX);
        let entry = Entry { hash, number_low: number as u32, number_high: (number >> 32) as u16, due_minute };
        let at = self.bucket_of(hash);
        if let Some(bucket) = self.buckets.get_mut(at) {
            self.capacity -= bucket.capacity();
            if bucket.len() == bucket.capacity() {
                bucket.reserve_exact(LEAST_GROWTH.max(bucket.len() / 8));
            }
            bucket.insert(bucket.partition_point(|known| known.hash <= hash), entry);
            self.capacity += bucket.capacity();
            self.len += 1;
        }
        entry.group()
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, group: ColdGroup) -> bool {
        let at = self.bucket_of(group.hash);
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        let Some(place) = place(bucket, group) else { return false };
        bucket.remove(place);
        self.len -= 1;
        if bucket.capacity() > 2 * bucket.len() + LEAST_GROWTH {
            self.capacity -= bucket.capacity();
            bucket.shrink_to(bucket.len() + bucket.len() / 8);
            self.capacity += bucket.capacity();
        }
        true
    }

    /// Adds the groups of a hash: those of another key with the same hash too, which does no harm.
    pub(super) fn find(&self, hash: u32, out: &mut Vec<ColdGroup>) {
        let Some(bucket) = self.buckets.get(self.bucket_of(hash)) else { return };
        out.extend(of_hash(bucket, hash).map(Entry::group));
    }

    /// From now on [`ColdIndex::next_due`] names those of which something may be forgotten when all before `limit_ms` is.
    pub(super) fn begin_pass(&mut self, limit_ms: i64) {
        self.due.limit_ms = limit_ms;
        self.due.bucket = 0;
        self.due.groups.clear();
    }

    /// The next group that is due.
    pub(super) fn next_due(&mut self) -> Option<ColdGroup> {
        loop {
            while let Some(group) = self.due.groups.pop() {
                if self.buckets.get(self.bucket_of(group.hash)).is_some_and(|bucket| place(bucket, group).is_some()) {
                    return Some(group);
                }
            }
            let bucket = self.buckets.get(self.due.bucket)?;
            self.due.bucket += 1;
            let limit_ms = self.due.limit_ms;
            let is_due = |entry: &&Entry| i64::from(entry.due_minute) * MS_PER_MINUTE < limit_ms;
            self.due.groups.extend(bucket.iter().filter(is_due).map(|entry| entry.group()));
        }
    }

    fn bucket_of(&self, hash: u32) -> usize {
        first_bits(hash, self.buckets.len())
    }

    /// Makes two buckets of each: the first of the two has the smaller hashes.
    fn split(&mut self) {
        let buckets = std::mem::take(&mut self.buckets);
        let count = 2 * buckets.len();
        self.buckets.reserve_exact(count);
        for mut smaller in buckets {
            let middle = self.buckets.len() + 1;
            self.capacity -= smaller.capacity();
            let mut larger = smaller.split_off(smaller.partition_point(|entry| first_bits(entry.hash, count) < middle));
            smaller.shrink_to_fit();
            larger.shrink_to_fit();
            self.capacity += smaller.capacity() + larger.capacity();
            self.buckets.extend([smaller, larger]);
        }
        self.due.bucket *= 2;
    }
}

/// As many of the first bits as number so many buckets, a power of two.
fn first_bits(hash: u32, buckets: usize) -> usize {
    ((u64::from(hash) * buckets as u64) >> 32) as usize
}

fn of_hash(bucket: &[Entry], hash: u32) -> impl Iterator<Item = Entry> {
    let first = bucket.partition_point(|entry| entry.hash < hash);
    bucket.iter().skip(first).copied().take_while(move |entry| entry.hash == hash)
}

fn place(bucket: &[Entry], group: ColdGroup) -> Option<usize> {
    let first = bucket.partition_point(|entry| entry.hash < group.hash);
    let after = of_hash(bucket, group.hash).position(|entry| entry.group().number == group.number)?;
    Some(first + after)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Spread over all buckets, and some twice.
    fn hash_of(key: u32) -> u32 {
        (key % 3_000).wrapping_mul(0x9E37_79B1)
    }

    #[test]
    fn an_entry_takes_little_more_than_its_fourteen_bytes() {
        let mut index = ColdIndex::default();
        for key in 0..1_000_000_u32 {
            index.insert(key.wrapping_mul(0x9E37_79B1), 0);
        }
        let bytes = index.allocated_bytes();
        assert!(bytes < 16 * index.len(), "{bytes} bytes for {}", index.len());
    }

    #[test]
    fn nothing_is_due_before_a_pass_and_all_that_is_due_once_in_it() {
        let mut index = ColdIndex::default();
        let groups: Vec<ColdGroup> = (0..5_000_u32).map(|key| index.insert(hash_of(key), i64::from(key) * MS_PER_MINUTE)).collect();
        assert_eq!(index.next_due(), None);
        index.begin_pass(2_000 * MS_PER_MINUTE);
        let mut due: Vec<ColdGroup> = std::iter::from_fn(|| index.next_due()).collect();
        due.sort_unstable();
        assert_eq!(due, groups.get(..2_000).expect("so many groups"));
    }

    #[test]
    fn what_is_due_far_away_or_long_ago_is_not_forgotten_too_early() {
        let mut index = ColdIndex::default();
        let (never, ever) = (index.insert(1, i64::MAX), index.insert(2, i64::MIN));
        index.begin_pass(4_102_444_800_000);
        assert_eq!((index.next_due(), index.next_due()), (Some(ever), None));
        assert!(index.remove(never) && index.remove(ever) && !index.remove(ever));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Beside a map from number to hash.
        #[test]
        fn the_index_is_a_map(steps in proptest::collection::vec((0..4_u8, any::<u32>()), 0..6_000)) {
            let mut index = ColdIndex::default();
            let mut known: BTreeMap<u64, ColdGroup> = BTreeMap::new();
            for (step, key) in steps {
                if step > 0 {
                    let group = index.insert(hash_of(key), 0);
                    prop_assert_eq!(group.hash, hash_of(key));
                    prop_assert!(known.insert(group.number, group).is_none());
                } else if let Some(group) = known.range(u64::from(key) % (known.len() as u64 + 1)..).next().map(|(_, group)| *group) {
                    known.remove(&group.number);
                    prop_assert!(index.remove(group));
                    prop_assert!(!index.remove(group));
                }
                prop_assert_eq!(index.len(), known.len());
            }
            prop_assert_eq!(index.capacity, index.buckets.iter().map(Vec::capacity).sum::<usize>());
            for key in 0..3_000 {
                let mut found = Vec::new();
                index.find(hash_of(key), &mut found);
                found.sort_unstable();
                let expected: Vec<ColdGroup> = known.values().filter(|group| group.hash == hash_of(key)).copied().collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
