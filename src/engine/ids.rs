//! The events that a customer remembers, so that a repeat is recognised.
//!
//! Few ids lie with the customer; from some dozens on they go into append-only chunks, each a state row of its own, with an index
//! in memory: a customer with millions of events looks up in constant time and writes only its newest chunk at a checkpoint.

use std::num::NonZeroU64;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::prefetch::{prefetch, prefetch_all};
use crate::model::Event;

const MS_PER_MINUTE: i64 = 60_000;

/// Ids kept with the customer; one more, and they move into chunks.
pub(super) const MOST_INLINE: usize = 32;
/// For so many more ids room is made at least.
const LEAST_GROWTH: usize = 1;
/// A chunk with so many ids takes no more: the open one is written anew by every checkpoint.
const FULL: usize = 64;
/// Ids that a stored chunk has at most: earlier releases filled them so far.
pub(super) const CHUNK: usize = 512;
/// Chunks a customer may have, so that a place in them fits 32 bits.
pub(super) const MOST_CHUNKS: u32 = 1 << 23;

/// One remembered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RememberedId {
    /// Of kind and event id.
    pub(super) hash: u64,
    /// Event time in minutes since 1970, rounded up: forgetting a little late is allowed.
    pub(super) minute: u32,
    /// Of the content.
    pub(super) content: u32,
}

impl RememberedId {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let minutes = event.time_ms.div_euclid(MS_PER_MINUTE) + i64::from(event.time_ms.rem_euclid(MS_PER_MINUTE) > 0);
        let minute = minutes.clamp(0, i64::from(u32::MAX)) as u32;
        RememberedId { hash: event.id_hash(), minute, content: event.content_hash() }
    }

    fn is_before(&self, limit_ms: i64) -> bool {
        is_minute_before(self.minute, limit_ms)
    }
}

fn is_minute_before(minute: u32, limit_ms: i64) -> bool {
    i64::from(minute) * MS_PER_MINUTE < limit_ms
}

/// What [`Ids::remember`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// New; it is remembered now, in this chunk if the chunk had no unsaved change yet.
    Never { dirtied_chunk: Option<u32> },
    /// The same event.
    Before,
    /// The same identity with other content.
    WithOtherContent,
}

#[derive(Debug)]
pub(super) enum Ids {
    Few(SmallVec<[RememberedId; 1]>),
    Many(Box<ManyIds>),
}

#[derive(Debug, Default)]
pub(super) struct ManyIds {
    /// A chunk's position is its number; an empty one is free.
    chunks: Vec<Chunk>,
    /// Places: chunk number times [`CHUNK`] plus position.
    index: HashTable<u32>,
    /// The chunk that takes the next id.
    open: u32,
    /// No chunk before this one is free.
    next_free: u32,
}

#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) ids: Vec<RememberedId>,
    /// Of the newest id.
    minute: u32,
    /// Whether it waits for the next cut.
    pub(super) is_dirty: bool,
    /// Hash of its row as of the last cut; `None` = no row.
    pub(super) stored: Option<NonZeroU64>,
}

impl Default for Ids {
    fn default() -> Self {
        Ids::Few(SmallVec::new())
    }
}

impl Ids {
    /// Asks for their memory (`engine/foresee.rs`).
    pub(super) fn prefetch(&self) {
        match self {
            Ids::Few(ids) => prefetch_all(ids),
            Ids::Many(many) => prefetch(&many.open),
        }
    }

    /// The same of the chunk that takes the next id, once that is here.
    pub(super) fn prefetch_open(&self) {
        if let Some(chunk) = self.open_chunk() {
            prefetch(chunk);
        }
    }

    /// The same of where it takes it, once the chunk is here.
    pub(super) fn prefetch_newest(&self) {
        if let Some(newest) = self.open_chunk().and_then(|chunk| chunk.ids.last()) {
            prefetch(newest);
        }
    }

    fn open_chunk(&self) -> Option<&Chunk> {
        match self {
            Ids::Few(_) => None,
            Ids::Many(many) => many.chunks.get(many.open as usize),
        }
    }

    /// Remembers an id unless it is there.
    pub(super) fn remember(&mut self, id: RememberedId) -> Seen {
        let known = match self {
            Ids::Few(ids) => ids.iter().find(|other| other.hash == id.hash).copied(),
            Ids::Many(many) => many.find(id.hash),
        };
        match known {
            Some(other) if other.content == id.content => return Seen::Before,
            Some(_) => return Seen::WithOtherContent,
            None => {}
        }
        match self {
            Ids::Few(ids) if ids.len() < MOST_INLINE => {
                if ids.len() == ids.capacity() {
                    // Most customers have few: room for twice as many would be the most of what they take.
                    ids.reserve_exact(LEAST_GROWTH.max(ids.len() / 4));
                }
                ids.push(id);
                Seen::Never { dirtied_chunk: None }
            }
            Ids::Few(ids) => {
                let mut many = Box::<ManyIds>::default();
                let mut dirtied_chunk = None;
                for known_id in ids.iter().chain([&id]) {
                    dirtied_chunk = dirtied_chunk.or(many.push(*known_id));
                }
                *self = Ids::Many(many);
                Seen::Never { dirtied_chunk }
            }
            Ids::Many(many) => Seen::Never { dirtied_chunk: many.push(id) },
        }
    }

    /// The ids that lie with the customer.
    pub(super) fn inline(&self) -> &[RememberedId] {
        match self {
            Ids::Few(ids) => ids,
            Ids::Many(_) => &[],
        }
    }

    /// About when the first of them may be forgotten, Unix milliseconds; `None` without any.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let minute = match self {
            Ids::Few(ids) => ids.iter().map(|id| id.minute).min(),
            Ids::Many(many) => many.chunks.iter().filter(|chunk| !chunk.ids.is_empty()).map(|chunk| chunk.minute).min(),
        };
        minute.map(|minute| i64::from(minute) * MS_PER_MINUTE)
    }

    /// Numbers and contents of the chunks that hold anything.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u32, &Chunk)> {
        let chunks: &[Chunk] = match self {
            Ids::Few(_) => &[],
            Ids::Many(many) => &many.chunks,
        };
        (0_u32..).zip(chunks).filter(|(_, chunk)| !chunk.ids.is_empty())
    }

    pub(super) fn chunk_mut(&mut self, number: u32) -> Option<&mut Chunk> {
        match self {
            Ids::Few(_) => None,
            Ids::Many(many) => many.chunks.get_mut(number as usize),
        }
    }

    /// Puts back a chunk as it was stored; whether there was none of that number.
    pub(super) fn restore_chunk(&mut self, number: u32, ids: Vec<RememberedId>, stored: NonZeroU64) -> bool {
        if matches!(self, Ids::Few(_)) {
            *self = Ids::Many(Box::default());
        }
        let Ids::Many(many) = self else { return false };
        many.restore(number, ids, stored)
    }

    /// Forgets inline ids and whole chunks older than a limit; of chunks about [`MOST_FORGOTTEN`] ids at once.
    pub(super) fn forget_before(&mut self, limit_ms: i64) -> Forgotten {
        match self {
            Ids::Few(ids) => {
                let before = ids.len();
                ids.retain(|id| !id.is_before(limit_ms));
                ids.shrink_to_fit();
                Forgotten { inline: ids.len() < before, chunks: Vec::new(), may_be_more: false }
            }
            Ids::Many(many) => {
                let (chunks, forgotten) = many.forget_before(limit_ms);
                if many.chunks.iter().all(|chunk| chunk.ids.is_empty() && !chunk.is_dirty && chunk.stored.is_none()) {
                    *self = Ids::default();
                }
                Forgotten { inline: false, chunks, may_be_more: forgotten >= MOST_FORGOTTEN }
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Ids::Few(ids) if ids.spilled() => ids.capacity() * size_of::<RememberedId>(),
            Ids::Few(_) => 0,
            Ids::Many(many) => {
                let ids = many.index.len() * size_of::<RememberedId>();
                size_of::<ManyIds>() + many.chunks.capacity() * size_of::<Chunk>() + ids + many.index.allocation_size()
            }
        }
    }
}

/// About so many ids of chunks are forgotten at once: a busy customer must not hold up the others.
const MOST_FORGOTTEN: usize = 4_096;

/// What [`Ids::forget_before`] did.
pub(super) struct Forgotten {
    /// An id that lay with the customer went.
    pub(super) inline: bool,
    /// Chunks that went and had no unsaved change before.
    pub(super) chunks: Vec<u32>,
    /// To be called again.
    pub(super) may_be_more: bool,
}

impl ManyIds {
    fn place(number: u32, position: usize) -> u32 {
        number * CHUNK as u32 + position as u32
    }

    fn at(chunks: &[Chunk], place: u32) -> Option<&RememberedId> {
        chunks.get(place as usize / CHUNK)?.ids.get(place as usize % CHUNK)
    }

    fn find(&self, hash: u64) -> Option<RememberedId> {
        let is_it = |place: &u32| Self::at(&self.chunks, *place).is_some_and(|id| id.hash == hash);
        self.index.find(hash, is_it).and_then(|place| Self::at(&self.chunks, *place)).copied()
    }

    /// Appends an id that is not there; the number of the chunk if that had no unsaved change yet.
    fn push(&mut self, id: RememberedId) -> Option<u32> {
        if self.chunks.get(self.open as usize).is_none_or(|chunk| chunk.ids.len() >= FULL) {
            let mut behind = (self.next_free..).zip(self.chunks.iter().skip(self.next_free as usize));
            let free = behind.find(|(_, chunk)| chunk.ids.is_empty()).map_or(self.chunks.len() as u32, |(number, _)| number);
            if free as usize == self.chunks.len() {
                self.chunks.push(Chunk::default());
            }
            (self.open, self.next_free) = (free, free + 1);
        }
        let number = self.open;
        let chunk = self.chunks.get_mut(number as usize)?;
        let position = chunk.ids.len();
        chunk.ids.push(id);
        chunk.minute = chunk.minute.max(id.minute);
        let was_dirty = std::mem::replace(&mut chunk.is_dirty, true);
        self.index_place(Self::place(number, position), id.hash);
        (!was_dirty).then_some(number)
    }

    fn index_place(&mut self, place: u32, hash: u64) {
        let ManyIds { chunks, index, .. } = self;
        index.insert_unique(hash, place, |other| Self::at(chunks, *other).map_or(0, |id| id.hash));
    }

    fn restore(&mut self, number: u32, ids: Vec<RememberedId>, stored: NonZeroU64) -> bool {
        while self.chunks.len() <= number as usize {
            self.chunks.push(Chunk::default());
        }
        let Some(chunk) = self.chunks.get_mut(number as usize) else { return false };
        if chunk.stored.is_some() {
            return false;
        }
        let hashes: Vec<u64> = ids.iter().map(|id| id.hash).collect();
        *chunk = Chunk { minute: ids.iter().map(|id| id.minute).max().unwrap_or_default(), ids, is_dirty: false, stored: Some(stored) };
        if chunk.ids.len() < FULL {
            self.open = number;
        }
        for (position, hash) in hashes.into_iter().enumerate() {
            self.index_place(Self::place(number, position), hash);
        }
        true
    }

    /// Numbers of the chunks that had no unsaved change before, and how many ids went.
    fn forget_before(&mut self, limit_ms: i64) -> (Vec<u32>, usize) {
        let ManyIds { chunks, index, next_free, .. } = self;
        let (mut dirtied, mut forgotten) = (Vec::new(), 0);
        for (number, chunk) in (0_u32..).zip(chunks) {
            if chunk.ids.is_empty() || !is_minute_before(chunk.minute, limit_ms) {
                continue;
            }
            if forgotten >= MOST_FORGOTTEN {
                break;
            }
            forgotten += chunk.ids.len();
            for (position, id) in std::mem::take(&mut chunk.ids).into_iter().enumerate() {
                let place = Self::place(number, position);
                if let Ok(entry) = index.find_entry(id.hash, |other| *other == place) {
                    entry.remove();
                }
            }
            chunk.minute = 0;
            *next_free = number.min(*next_free);
            if !std::mem::replace(&mut chunk.is_dirty, true) {
                dirtied.push(number);
            }
        }
        (dirtied, forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64, minute: u32) -> RememberedId {
        RememberedId { hash: number.wrapping_mul(0x9e37_79b9_7f4a_7c15), minute, content: number as u32 }
    }

    #[test]
    fn repeats_and_conflicts_are_told_apart_in_every_size() {
        let mut ids = Ids::default();
        for number in 0..2_000 {
            assert!(matches!(ids.remember(id(number, 10)), Seen::Never { .. }), "{number}");
            assert_eq!(ids.remember(id(number / 2, 10)), Seen::Before);
            assert_eq!(ids.remember(RememberedId { content: 9_999, ..id(number, 10) }), Seen::WithOtherContent);
        }
        assert!(ids.inline().is_empty());
        let lengths = (0..33).map(|number| ids.chunk_mut(number).map_or(0, |chunk| chunk.ids.len()));
        assert_eq!(lengths.collect::<Vec<_>>(), [&[FULL; 31][..], &[16, 0]].concat());
    }

    #[test]
    fn a_chunk_is_reported_once_until_it_is_saved() {
        let mut ids = Ids::default();
        let mut reported = Vec::new();
        for number in 0..140 {
            if let Seen::Never { dirtied_chunk: Some(chunk) } = ids.remember(id(number, 10)) {
                reported.push((number, chunk));
            }
        }
        assert_eq!(reported, [(MOST_INLINE as u64, 0), (64, 1), (128, 2)]);
    }

    #[test]
    fn whole_chunks_are_forgotten_and_their_numbers_used_again() {
        let mut ids = Ids::default();
        for number in 0..2 * FULL as u64 {
            ids.remember(id(number, if number < FULL as u64 { 10 } else { 20 }));
        }
        for number in 0..2 {
            ids.chunk_mut(number).expect("a chunk").is_dirty = false;
        }
        assert!(ids.forget_before(600_000).chunks.is_empty(), "minute 10 is not before minute 10");
        assert_eq!(ids.forget_before(600_001).chunks, [0]);
        assert!(matches!(ids.remember(id(5, 30)), Seen::Never { dirtied_chunk: None }));
        assert_eq!(ids.remember(id(100, 20)), Seen::Before);
        assert_eq!(ids.chunk_mut(0).map(|chunk| chunk.ids.len()), Some(1));
    }

    #[test]
    fn many_chunks_are_forgotten_in_pieces() {
        let mut ids = Ids::default();
        for number in 0..10_000 {
            ids.remember(id(number, 10));
        }
        let pieces: Vec<bool> = (0..3).map(|_| ids.forget_before(i64::MAX).may_be_more).collect();
        assert_eq!(pieces, [true, true, false]);
        assert!(matches!(ids.remember(id(5, 30)), Seen::Never { .. }), "all are forgotten");
    }

    #[test]
    fn chunks_of_earlier_releases_are_taken_back_whole() {
        let mut ids = Ids::default();
        let stored = NonZeroU64::MIN;
        for number in 0..2 {
            let chunk = (0..CHUNK as u64).map(|position| id(u64::from(number) * CHUNK as u64 + position, 10)).collect();
            assert!(ids.restore_chunk(number, chunk, stored));
        }
        assert!((0..2 * CHUNK as u64).all(|number| ids.remember(id(number, 10)) == Seen::Before));
        assert_eq!(ids.remember(id(5_000, 10)), Seen::Never { dirtied_chunk: Some(2) });
        assert_eq!(ids.chunk_mut(2).map(|chunk| chunk.ids.len()), Some(1), "what was full before takes no more");
    }

    #[test]
    fn minutes_are_rounded_up() {
        let exact = RememberedId { hash: 1, minute: 10, content: 0 };
        assert!(!exact.is_before(600_000) && exact.is_before(600_001));
    }
}
