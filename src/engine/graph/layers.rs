//! The graph's arithmetic: a node's value is its own value plus what its children last said, by level and month.
//!
//! Owns the running sums of what lies below a node. Promises that a child's change costs as much as the child's value is long,
//! however many children there are, and that nothing below the last level is carried. Knows neither customers nor shares:
//! both are uses of it, with `M` measures.

use smallvec::SmallVec;

use crate::decode::protobuf::Reader;
use crate::engine::wire::Writer;
use crate::model::Month;

/// Level 0 is the node itself. Month 0 where there are no months.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Layer {
    pub(super) level: u8,
    pub(super) month: Month,
}

/// What a node says to its parent: itself (level 0) and what lies below, packed, ascending, without layers of zeros.
///
/// Each layer: level (1 byte), month (2, little endian), mask of the measures that are not 0 (1), and these as LEB128.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said<const M: usize>(SmallVec<[u8; 16]>);

impl<const M: usize> Said<M> {
    pub(super) const NOTHING: &'static Said<M> = &Said(SmallVec::new_const());

    /// From layers that ascend.
    pub(super) fn new(layers: impl IntoIterator<Item = (Layer, [u64; M])>) -> Self {
        let mut bytes = SmallVec::new();
        for (layer, amounts) in layers {
            let mask = amounts.iter().enumerate().fold(0_u8, |mask, (bit, amount)| mask | u8::from(*amount > 0) << bit);
            if mask == 0 {
                continue;
            }
            let [month_low, month_high] = layer.month.to_le_bytes();
            bytes.extend_from_slice(&[layer.level, month_low, month_high, mask]);
            for amount in amounts.into_iter().filter(|amount| *amount > 0) {
                push_number(&mut bytes, amount);
            }
        }
        bytes.shrink_to_fit();
        Said(bytes)
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = (Layer, [u64; M])> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let ([level, month_low, month_high, mask], mut tail) = rest.split_first_chunk::<4>().map(|(head, tail)| (*head, tail))?;
            let mut amounts = [0; M];
            for (bit, amount) in amounts.iter_mut().enumerate() {
                if mask & 1 << bit != 0 {
                    (*amount, tail) = take_number(tail);
                }
            }
            rest = tail;
            Some((Layer { level, month: Month::from_le_bytes([month_low, month_high]) }, amounts))
        })
    }

    /// As the fields of a `Layers`.
    pub(super) fn write(&self, wire: &mut Writer<'_>) {
        wire.numbers(1, self.layers().map(|(layer, _)| layer.level.into()));
        wire.numbers(2, self.layers().map(|(layer, _)| layer.month.into()));
        wire.numbers(3, self.layers().flat_map(|(_, amounts)| amounts));
    }

    /// From the fields of a `Layers`. `None` for what no node says: lists that do not fit together, layers that do not ascend, levels of
    /// `levels` or more.
    pub(super) fn read(mut wire: Reader<'_>, levels: u8) -> Option<Self> {
        let mut lists = [Reader::new(&[]), Reader::new(&[]), Reader::new(&[])];
        while let Some(field) = wire.field().ok()? {
            match (field.number as usize).checked_sub(1).and_then(|list| lists.get_mut(list)) {
                Some(list) => *list = wire.message(field).ok()?,
                None => wire.skip(field).ok()?,
            }
        }
        let [mut level_list, mut months, mut amounts] = lists;
        let mut last = None;
        let mut layers: SmallVec<[(Layer, [u64; M]); 4]> = SmallVec::new();
        while !level_list.rest().is_empty() {
            let level = u8::try_from(level_list.varint().ok()?).ok().filter(|level| *level < levels)?;
            let layer = Layer { level, month: Month::try_from(months.varint().ok()?).ok()? };
            if last.replace(layer).is_some_and(|lower| lower >= layer) {
                return None;
            }
            let mut known = [0; M];
            for amount in &mut known {
                *amount = amounts.varint().ok()?;
            }
            layers.push((layer, known));
        }
        (months.rest().is_empty() && amounts.rest().is_empty()).then(|| Said::new(layers))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        if self.0.spilled() { self.0.capacity() } else { 0 }
    }
}

fn push_number(bytes: &mut SmallVec<[u8; 16]>, number: u64) {
    let mut rest = number;
    while rest >= 0x80 {
        bytes.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn take_number(bytes: &[u8]) -> (u64, &[u8]) {
    let (mut number, mut shift, mut rest) = (0, 0, bytes);
    while let Some((byte, tail)) = rest.split_first() {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        rest = tail;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (number, rest)
}

/// The sums of one layer below a node. Wide enough never to overflow, so that adding and taking away are exact.
#[derive(Clone, Debug)]
struct Sum<const M: usize> {
    layer: Layer,
    amounts: [u128; M],
    /// Waits to be served.
    is_dirty: bool,
}

/// What lies below a node: level 1 = its children.
#[derive(Clone, Debug, Default)]
pub(super) struct Below<const M: usize>(Vec<Sum<M>>);

/// What a change did to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Some layer is another.
    pub(super) is_any: bool,
    /// So is what the node says to its own parent.
    pub(super) climbs: bool,
    /// Layers that wait to be served and did not before.
    pub(super) newly_dirty: usize,
    /// Memory that it took.
    pub(super) new_bytes: usize,
}

impl Change {
    pub(super) fn and(self, other: Change) -> Change {
        Change {
            is_any: self.is_any || other.is_any,
            climbs: self.climbs || other.climbs,
            newly_dirty: self.newly_dirty + other.newly_dirty,
            new_bytes: self.new_bytes + other.new_bytes,
        }
    }
}

impl<const M: usize> Below<M> {
    /// A child said `old` before and says `new` now. Its level is one more here.
    pub(super) fn replace(&mut self, old: &Said<M>, new: &Said<M>, levels: u8) -> Change {
        self.exchange(old, new, levels, true)
    }

    /// Takes back what a child had said; nothing waits to be served for it.
    pub(super) fn restore(&mut self, said: &Said<M>, levels: u8) -> Change {
        self.exchange(Said::NOTHING, said, levels, false)
    }

    fn exchange(&mut self, old: &Said<M>, new: &Said<M>, levels: u8, to_be_served: bool) -> Change {
        let mut change = Change::default();
        if old == new {
            return change;
        }
        let bytes_before = self.bytes();
        let (mut olds, mut news) = (old.layers().peekable(), new.layers().peekable());
        let mut next = || {
            let (before, after) = (olds.peek().map(|(layer, _)| *layer), news.peek().map(|(layer, _)| *layer));
            let layer = before.into_iter().chain(after).min()?;
            let less = olds.next_if(|(at, _)| *at == layer).map_or([0; M], |(_, amounts)| amounts);
            let more = news.next_if(|(at, _)| *at == layer).map_or([0; M], |(_, amounts)| amounts);
            Some((layer, less, more))
        };
        while let Some((said, less, more)) = next() {
            if less == more {
                continue;
            }
            let sum = self.at(Layer { level: said.level + 1, ..said });
            for ((amount, before), after) in sum.amounts.iter_mut().zip(less).zip(more) {
                debug_assert!(*amount >= u128::from(before), "a child takes away what it never gave");
                *amount = (*amount + u128::from(after)).saturating_sub(before.into());
            }
            change.is_any = true;
            change.climbs |= sum.layer.level < levels;
            change.newly_dirty += usize::from(to_be_served && !sum.is_dirty);
            sum.is_dirty |= to_be_served;
        }
        change.new_bytes = self.bytes() - bytes_before;
        change
    }

    /// Makes the layers of what a child says wait to be served, counted or not.
    pub(super) fn touch(&mut self, said: &Said<M>) -> Change {
        let bytes_before = self.bytes();
        let mut change = Change::default();
        for (layer, _) in said.layers() {
            let sum = self.at(Layer { level: layer.level + 1, ..layer });
            change.newly_dirty += usize::from(!std::mem::replace(&mut sum.is_dirty, true));
        }
        change.new_bytes = self.bytes() - bytes_before;
        change
    }

    /// Memory that the layers take.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Sum<M>>()
    }

    fn at(&mut self, layer: Layer) -> &mut Sum<M> {
        let place = match self.0.binary_search_by_key(&layer, |sum| sum.layer) {
            Ok(place) => place,
            Err(place) => {
                // Most nodes have one layer, for which a vector that grows by itself makes room for four.
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(1 + self.0.len() / 8);
                }
                self.0.insert(place, Sum { layer, amounts: [0; M], is_dirty: false });
                place
            }
        };
        #[expect(clippy::indexing_slicing, reason = "found or inserted there")]
        &mut self.0[place]
    }

    /// What the node says to its parent: its own layers of level 0, ascending, and those below that still count for the parent.
    pub(super) fn say(&self, own: impl IntoIterator<Item = (Layer, [u64; M])>, levels: u8) -> Said<M> {
        let below = self.0.iter().filter(|sum| sum.layer.level < levels).map(|sum| (sum.layer, sum.amounts.map(clamp)));
        Said::new(own.into_iter().chain(below))
    }

    /// The layers, with what lies in them.
    pub(super) fn layers(&self) -> impl Iterator<Item = (Layer, [u64; M])> {
        self.0.iter().map(|sum| (sum.layer, sum.amounts.map(clamp)))
    }

    /// Visits the layers that wait to be served; none waits afterwards.
    pub(super) fn drain_dirty(&mut self, mut visit: impl FnMut(Layer, [u64; M])) {
        for sum in self.0.iter_mut().filter(|sum| sum.is_dirty) {
            sum.is_dirty = false;
            visit(sum.layer, sum.amounts.map(clamp));
        }
    }

    /// Makes all layers wait to be served.
    pub(super) fn mark_all(&mut self) -> Change {
        let newly_dirty = self.0.iter_mut().map(|sum| usize::from(!std::mem::replace(&mut sum.is_dirty, true))).sum();
        Change { newly_dirty, ..Change::default() }
    }
}

pub(super) fn clamp(amount: u128) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb;

    fn said(layers: &[(u8, Month, [u64; 2])]) -> Said<2> {
        Said::new(layers.iter().map(|(level, month, amounts)| (Layer { level: *level, month: *month }, *amounts)))
    }

    fn layers(below: &Below<2>) -> Vec<(u8, Month, [u64; 2])> {
        below.layers().map(|(layer, amounts)| (layer.level, layer.month, amounts)).collect()
    }

    #[test]
    fn what_is_said_survives_packing_and_the_wire() {
        let to_wire = |said: &Said<2>| {
            let mut bytes = Vec::new();
            said.write(&mut Writer(&mut bytes));
            bytes
        };
        let read = |bytes: &[u8], levels: u8| Said::<2>::read(Reader::new(bytes), levels);
        let full = said(&[(0, 31, [1, 0]), (0, 59, [0, 300]), (2, 31, [u64::MAX, 127]), (3, 0, [0, 0])]);
        assert_eq!(full.layers().count(), 3, "zeros are nothing");
        assert_eq!(read(&to_wire(&full), 3), Some(full.clone()));
        assert_eq!(read(&to_wire(&full), 2), None, "deeper than anybody says");
        assert_eq!(read(&[], 3), Some(Said::default()));
        let whole = pb::Layers::decode(&*to_wire(&full)).expect("as prost reads it");
        assert_eq!(read(&whole.encode_to_vec(), 3), Some(full));
        type Damage = fn(&mut pb::Layers);
        let damages: [Damage; 5] = [
            |torn| torn.amounts.truncate(1),
            |longer| longer.amounts.push(1),
            |longer| longer.months.push(31),
            |turned| turned.levels.reverse(),
            |higher| higher.months.iter_mut().for_each(|month| *month = 1 << 16),
        ];
        for damage in damages {
            let mut damaged = whole.clone();
            damage(&mut damaged);
            assert_eq!(read(&damaged.encode_to_vec(), 3), None, "{damaged:?}");
        }
    }

    #[test]
    fn a_node_is_the_sum_of_what_its_children_last_said() {
        let mut below = Below::default();
        let first = said(&[(0, 31, [1, 0]), (1, 31, [2, 5])]);
        let change = below.replace(Said::NOTHING, &first, 3);
        assert_eq!(change, Change { is_any: true, climbs: true, newly_dirty: 2, new_bytes: 2 * size_of::<Sum<2>>() });
        below.replace(Said::NOTHING, &said(&[(0, 31, [1, 7])]), 3);
        assert_eq!(layers(&below), [(1, 31, [2, 7]), (2, 31, [2, 5])]);
        let change = below.replace(&first, &said(&[(0, 59, [1, 0])]), 3);
        assert_eq!((change.is_any, change.newly_dirty), (true, 1));
        assert_eq!(layers(&below), [(1, 31, [1, 7]), (1, 59, [1, 0]), (2, 31, [0, 0])]);
        let mut dirty = Vec::new();
        below.drain_dirty(|layer, _| dirty.push(layer.level));
        assert_eq!(dirty, [1, 1, 2], "a layer that fell to zero is served too");
        assert_eq!(below.replace(&first, &first, 3), Change::default());
    }

    #[test]
    fn nothing_below_the_last_level_climbs() {
        let mut below = Below::default();
        let change = below.replace(Said::NOTHING, &said(&[(1, 0, [1, 1])]), 2);
        assert_eq!((change.is_any, change.climbs), (true, false));
        below.replace(Said::NOTHING, &said(&[(0, 0, [1, 1])]), 2);
        let own = [(Layer { level: 0, month: 0 }, [9, 9])];
        assert_eq!(below.say(own, 2), said(&[(0, 0, [9, 9]), (1, 0, [1, 1])]));
    }

    #[test]
    fn sums_beyond_64_bits_come_back_exactly() {
        let mut below = Below::default();
        let most = said(&[(0, 0, [u64::MAX, 0])]);
        below.replace(Said::NOTHING, &most, 2);
        below.replace(Said::NOTHING, &most, 2);
        assert_eq!(layers(&below), [(1, 0, [u64::MAX, 0])]);
        below.replace(&most, &said(&[(0, 0, [5, 0])]), 2);
        below.replace(&most, Said::NOTHING, 2);
        assert_eq!(layers(&below), [(1, 0, [5, 0])]);
    }
}
