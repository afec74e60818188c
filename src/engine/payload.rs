//! Payloads of state rows: from the state to protobuf and back.
//!
//! What comes back is judged like any input: a payload that no cut can have written is an error, never a panic. It is read field by field, borrowing its
//! text, because a takeover reads millions of payloads.

use smallvec::SmallVec;

use super::customer::{Customer, KeptTimes, LastTimes, Names, Place};
use super::history::History;
use super::ids::{CHUNK, RememberedId};
use super::symbols::Symbols;
use super::wire::Writer;
use crate::decode::protobuf::{ProtobufError, Reader};
use crate::model::{Day, EventKind, Measure, Sums};

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) &'static str);

impl From<ProtobufError> for Fault {
    fn from(_: ProtobufError) -> Self {
        Fault("bytes that are no protobuf message of its kind")
    }
}

/// The payload of a cell.
pub(super) fn encode_sums(sums: &Sums, out: &mut Vec<u8>) {
    write_sums(&mut Writer(out), sums);
}

/// A cell.
pub(super) fn read_sums(payload: &[u8]) -> Result<Sums, Fault> {
    sums_of(Reader::new(payload))
}

fn sums_of(mut state: Reader<'_>) -> Result<Sums, Fault> {
    let mut sums = Sums::default();
    while let Some(field) = state.field()? {
        match (field.number as usize).checked_sub(1).and_then(|place| MEASURES.get(place)) {
            Some(measure) => sums.set(*measure, state.integer(field)?),
            None => state.skip(field)?,
        }
    }
    Ok(sums)
}

/// The payload of a chunk.
pub(super) fn encode_ids(ids: &[RememberedId], out: &mut Vec<u8>) {
    write_ids(&mut Writer(out), ids);
}

/// A chunk.
pub(super) fn read_ids(payload: &[u8]) -> Result<Vec<RememberedId>, Fault> {
    let ids = StoredIds::of(Reader::new(payload))?.iter();
    if ids.len() > CHUNK { Err(Fault("too many remembered ids")) } else { Ok(ids.collect()) }
}

/// Remembered ids as they lie in a payload: three arrays of one length.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StoredIds<'a> {
    hashes: &'a [[u8; 8]],
    minutes: &'a [[u8; 4]],
    contents: &'a [[u8; 4]],
}

impl<'a> StoredIds<'a> {
    fn of(mut state: Reader<'a>) -> Result<Self, Fault> {
        let mut ids = StoredIds::default();
        while let Some(field) = state.field()? {
            match field.number {
                1 => ids.hashes = whole_chunks(state.message(field)?)?,
                2 => ids.minutes = whole_chunks(state.message(field)?)?,
                3 => ids.contents = whole_chunks(state.message(field)?)?,
                _ => state.skip(field)?,
            }
        }
        if [ids.minutes.len(), ids.contents.len()] != [ids.hashes.len(); 2] {
            return Err(Fault("remembered ids of unequal lengths"));
        }
        Ok(ids)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = RememberedId> + use<'a> {
        self.hashes.iter().zip(self.minutes).zip(self.contents).map(|((hash, minute), content)| RememberedId {
            hash: u64::from_le_bytes(*hash),
            minute: u32::from_le_bytes(*minute),
            content: u32::from_le_bytes(*content),
        })
    }
}

fn whole_chunks<const N: usize>(list: Reader<'_>) -> Result<&[[u8; N]], Fault> {
    let (chunks, rest) = list.rest().as_chunks();
    if rest.is_empty() { Ok(chunks) } else { Err(Fault("remembered ids that are cut short")) }
}

/// The payload of a customer; `via` is the first event's: share and sharer.
pub(super) fn encode_customer(customer: &Customer, via: Option<(&str, &str)>, symbols: &Symbols, out: &mut Vec<u8>) {
    let mut state = Writer(out);
    if customer.first.is_known() {
        state.message(1, |first| write_first(first, customer, via, symbols));
    }
    let last = customer.last.read();
    state.signed(2, last.event_ms).signed(3, last.scan_ms).signed(4, last.purchase_ms).signed(5, last.share_ms);
    if let Some((_, before)) = customer.history.folded().find(|(month, _)| *month == 0) {
        state.message(6, |sums| write_sums(sums, &before));
    }
    for (day, sums) in customer.history.days() {
        state.message(7, |entry| write_day(entry, day, &sums));
    }
    let inline_ids = customer.ids.inline();
    if !inline_ids.is_empty() {
        state.message(8, |ids| write_ids(ids, inline_ids));
    }
    for (month, sums) in customer.history.folded().filter(|(month, _)| *month > 0) {
        state.message(9, |entry| write_day(entry, month, &sums));
    }
    state.signed(10, customer.appeared_ms);
}

fn write_first(state: &mut Writer<'_>, customer: &Customer, via: Option<(&str, &str)>, symbols: &Symbols) {
    let first = &customer.first;
    state.signed(1, first.time_ms).text(2, customer.names.first_event_id()).number(3, customer.first_kind as u32);
    if let Some((share, sharer)) = via {
        state.message(4, |link| {
            link.text(1, share).text(2, sharer);
        });
    }
    state.text(5, symbols.text(first.campaign)).text(6, symbols.text(first.sku)).text(7, symbols.text(first.channel));
    state.number(8, first.region);
}

fn write_day(state: &mut Writer<'_>, day: Day, sums: &Sums) {
    state.number(1, day).message(2, |amounts| write_sums(amounts, sums));
}

fn write_ids(state: &mut Writer<'_>, ids: &[RememberedId]) {
    state.fixed(1, ids.iter().map(|id| id.hash.to_le_bytes()));
    state.fixed(2, ids.iter().map(|id| id.minute.to_le_bytes()));
    state.fixed(3, ids.iter().map(|id| id.content.to_le_bytes()));
}

/// In the order of `SumsState`.
const MEASURES: [Measure; Measure::COUNT] = [
    Measure::Scans,
    Measure::Verifies,
    Measure::Draws,
    Measure::Joins,
    Measure::Visits,
    Measure::Shares,
    Measure::Orders,
    Measure::Refunds,
    Measure::Paid,
    Measure::Refunded,
    Measure::NewCustomers,
    Measure::ReferredCustomers,
    Measure::Active,
];

fn write_sums(state: &mut Writer<'_>, sums: &Sums) {
    for (field, measure) in (1..).zip(MEASURES) {
        state.number(field, sums.get(measure));
    }
}

/// What a customer's payload says.
pub(super) struct StoredCustomer<'a> {
    pub(super) names: Names,
    pub(super) first: Place,
    /// Of the first event.
    pub(super) first_kind: EventKind,
    pub(super) last: LastTimes,
    pub(super) history: History,
    pub(super) inline_ids: StoredIds<'a>,
    pub(super) appeared_ms: i64,
}

/// A customer, but for what its first event came through: [`via_of`].
pub(super) fn read_customer<'a>(id: &str, payload: &'a [u8], symbols: &mut Symbols) -> Result<StoredCustomer<'a>, Fault> {
    let (mut first, mut days, mut months, mut before) = (None, Days::default(), Days::default(), None);
    let (mut last, mut inline_ids, mut appeared_ms) = (LastTimes::default(), StoredIds::default(), 0);
    let mut state = Reader::new(payload);
    while let Some(field) = state.field()? {
        match field.number {
            1 => first = Some(FirstEvent::of(state.message(field)?)?),
            2 => last.event_ms = read_time(state.integer(field)?)?,
            3 => last.scan_ms = read_time(state.integer(field)?)?,
            4 => last.purchase_ms = read_time(state.integer(field)?)?,
            5 => last.share_ms = read_time(state.integer(field)?)?,
            6 => before = Some((0, sums_of(state.message(field)?)?)),
            7 => read_day(state.message(field)?, &mut days)?,
            8 => inline_ids = StoredIds::of(state.message(field)?)?,
            9 => read_day(state.message(field)?, &mut months)?,
            10 => appeared_ms = state.integer(field)? as i64,
            _ => state.skip(field)?,
        }
    }
    let (names, (first, first_kind)) = match first {
        None => (Names::new(id, ""), (Place::NONE, EventKind::Scan)),
        Some(known) => (Names::new(id, known.event_id), known.place(symbols)?),
    };
    let history = History::restore(before.into_iter().chain(months), days.into_iter());
    Ok(StoredCustomer { names, first, first_kind, last, history, inline_ids, appeared_ms })
}

/// Share and sharer that a customer's first event came through, if its payload names them. That event comes first in it.
pub(super) fn via_of(payload: &[u8]) -> Result<Option<(&str, &str)>, Fault> {
    let mut state = Reader::new(payload);
    while let Some(field) = state.field()? {
        if field.number != 1 {
            state.skip(field)?;
            continue;
        }
        let mut first = state.message(field)?;
        while let Some(field) = first.field()? {
            match field.number {
                4 => return read_via(first.message(field)?).map(Some),
                _ => first.skip(field)?,
            }
        }
        return Ok(None);
    }
    Ok(None)
}

fn read_time(number: u64) -> Result<i64, Fault> {
    i64::try_from(number).ok().filter(|time_ms| *time_ms <= KeptTimes::MOST_MS).ok_or(Fault("a last time out of range"))
}

/// Days or months with their sums, ascending. Most customers have one.
type Days = SmallVec<[(Day, Sums); 2]>;

fn read_day(mut state: Reader<'_>, days: &mut Days) -> Result<(), Fault> {
    let (mut day, mut sums) = (0, Sums::default());
    while let Some(field) = state.field()? {
        match field.number {
            1 => day = Day::try_from(state.integer(field)?).map_err(|_| Fault("a day out of range"))?,
            2 => sums = sums_of(state.message(field)?)?,
            _ => state.skip(field)?,
        }
    }
    if days.last().is_some_and(|(before, _)| *before >= day) {
        return Err(Fault("days that do not ascend"));
    }
    days.push((day, sums));
    Ok(())
}

/// A `FirstEventState`.
#[derive(Default)]
struct FirstEvent<'a> {
    time_ms: i64,
    event_id: &'a str,
    kind: u64,
    campaign: &'a str,
    sku: &'a str,
    channel: &'a str,
    region: u32,
}

impl<'a> FirstEvent<'a> {
    fn of(mut state: Reader<'a>) -> Result<Self, Fault> {
        let mut first = FirstEvent::default();
        while let Some(field) = state.field()? {
            match field.number {
                1 => first.time_ms = state.integer(field)? as i64,
                2 => first.event_id = state.str(field)?,
                3 => first.kind = state.integer(field)?,
                5 => first.campaign = state.str(field)?,
                6 => first.sku = state.str(field)?,
                7 => first.channel = state.str(field)?,
                8 => first.region = state.integer(field)? as u32,
                _ => state.skip(field)?,
            }
        }
        Ok(first)
    }

    fn place(&self, symbols: &mut Symbols) -> Result<(Place, EventKind), Fault> {
        let kind = EventKind::ALL.into_iter().find(|kind| *kind as u64 == self.kind).ok_or(Fault("an unknown kind of first event"))?;
        if self.time_ms <= 0 {
            return Err(Fault("a first event without a time"));
        }
        let [campaign, sku, channel] = [self.campaign, self.sku, self.channel].map(|text| symbols.intern(text));
        Ok((Place { time_ms: self.time_ms, campaign, sku, channel, region: self.region }, kind))
    }
}

/// Share and sharer of a `Via`.
pub(super) fn read_via(mut via: Reader<'_>) -> Result<(&str, &str), Fault> {
    let (mut share, mut sharer) = ("", "");
    while let Some(field) = via.field()? {
        match field.number {
            1 => share = via.str(field)?,
            2 => sharer = via.str(field)?,
            _ => via.skip(field)?,
        }
    }
    Ok((share, sharer))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb;

    #[test]
    fn every_measure_survives_a_payload() {
        let mut sums = Sums::default();
        for (index, sum) in sums.0.iter_mut().enumerate() {
            *sum = index as u64 + 1;
        }
        let mut payload = Vec::new();
        encode_sums(&sums, &mut payload);
        assert_eq!(read_sums(&payload), Ok(sums));
    }

    #[test]
    fn impossible_customers_are_refused() {
        let mut symbols = Symbols::new();
        let mut judge = |state: pb::CustomerState| read_customer("c", &state.encode_to_vec(), &mut symbols).err();
        let day = |day| pb::DayState { day, sums: None };
        let first = pb::FirstEventState { time_ms: 5, kind: 1, ..Default::default() };
        assert_eq!(judge(pb::CustomerState { first: Some(first.clone()), ..Default::default() }), None);
        let unknown_kind = pb::FirstEventState { kind: 3, ..first.clone() };
        assert!(judge(pb::CustomerState { first: Some(unknown_kind), ..Default::default() }).is_some());
        assert!(judge(pb::CustomerState { first: Some(pb::FirstEventState::default()), ..Default::default() }).is_some());
        assert!(judge(pb::CustomerState { days: vec![day(70_000)], ..Default::default() }).is_some());
        assert!(judge(pb::CustomerState { days: vec![day(2), day(2)], ..Default::default() }).is_some());
        let ids = pb::RememberedIdsState { hashes: vec![1], minutes: vec![1], contents: Vec::new() };
        assert!(judge(pb::CustomerState { ids: Some(ids), ..Default::default() }).is_some());
    }

    #[test]
    fn a_customer_is_read_as_the_generated_types_write_it() {
        let sums = pb::SumsState { scans: 3, refunded: 1 << 40, active: 2, ..Default::default() };
        let day = |day| pb::DayState { day, sums: Some(sums) };
        let via = pb::Via { share_id: "s".to_owned(), sharer_id: "李".to_owned() };
        let state = pb::CustomerState {
            first: Some(pb::FirstEventState {
                time_ms: 9,
                event_id: "e".to_owned(),
                kind: 2,
                via: Some(via),
                campaign: "c".to_owned(),
                sku: "k".to_owned(),
                channel: "w".to_owned(),
                region: 110_101,
            }),
            last_event_ms: 5,
            last_scan_ms: 4,
            last_purchase_ms: 3,
            last_share_ms: 2,
            before: Some(sums),
            days: vec![day(7), day(9)],
            ids: Some(pb::RememberedIdsState { hashes: vec![u64::MAX, 2], minutes: vec![3, 4], contents: vec![5, u32::MAX] }),
            months: vec![day(600)],
            appeared_ms: 1,
        };
        let mut symbols = Symbols::new();
        let payload = state.encode_to_vec();
        let read = read_customer("c", &payload, &mut symbols).expect("a customer");
        assert_eq!((read.names.id(), read.names.first_event_id(), via_of(&payload)), ("c", "e", Ok(Some(("s", "李")))));
        let place = &read.first;
        assert_eq!((place.time_ms, read.first_kind, place.region), (9, EventKind::Share, 110_101));
        assert_eq!([place.campaign, place.sku, place.channel].map(|symbol| symbols.text(symbol)), ["c", "k", "w"]);
        assert_eq!(read.last, LastTimes { event_ms: 5, scan_ms: 4, purchase_ms: 3, share_ms: 2 });
        assert_eq!(read.appeared_ms, 1);
        let known = read_sums(&sums.encode_to_vec()).expect("sums");
        assert_eq!((known.get(Measure::Scans), known.get(Measure::Refunded), known.get(Measure::Active)), (3, 1 << 40, 2));
        assert_eq!(read.history.days().collect::<Vec<_>>(), [(7, known), (9, known)]);
        assert_eq!(read.history.folded().collect::<Vec<_>>(), [(0, known), (600, known)]);
        let ids: Vec<RememberedId> = read.inline_ids.iter().collect();
        let id = |hash, minute, content| RememberedId { hash, minute, content };
        assert_eq!(ids, [id(u64::MAX, 3, 5), id(2, 4, u32::MAX)]);
        for length in 0..payload.len() {
            // Cut short it may still be a message, of fewer fields: what matters is that nothing panics.
            let prefix = payload.get(..length).expect("a prefix");
            _ = (read_customer("c", prefix, &mut symbols).is_ok(), via_of(prefix));
        }
    }
}
