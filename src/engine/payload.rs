//! Payloads of state rows: from the state to protobuf and back.
//!
//! What comes back is judged like any input: a payload that no cut can have written is an error, never a panic.

use prost::Message;

use super::customer::{Customer, LastTimes, Names, Place};
use super::history::History;
use super::ids::{CHUNK, RememberedId};
use super::symbols::Symbols;
use super::wire::Writer;
use crate::model::{Day, EventKind, Measure, Sums};
use crate::pb;

/// The payload of a cell.
pub(super) fn encode_sums(sums: &Sums, out: &mut Vec<u8>) {
    write_sums(&mut Writer(out), sums);
}

/// A cell.
pub(super) fn decode_sums(payload: &[u8]) -> Result<Sums, prost::DecodeError> {
    Ok(sums_from_state(&pb::SumsState::decode(payload)?))
}

/// The payload of a chunk.
pub(super) fn encode_ids(ids: &[RememberedId], out: &mut Vec<u8>) {
    write_ids(&mut Writer(out), ids);
}

/// A chunk; `None` where the arrays do not fit together.
pub(super) fn decode_ids(payload: &[u8]) -> Result<Option<Vec<RememberedId>>, prost::DecodeError> {
    Ok(ids_from_state(&pb::RememberedIdsState::decode(payload)?).filter(|ids| ids.len() <= CHUNK))
}

/// The payload of a customer; `via` is the first event's: share and sharer.
pub(super) fn encode_customer(customer: &Customer, via: Option<(&str, &str)>, symbols: &Symbols, out: &mut Vec<u8>) {
    let mut state = Writer(out);
    if customer.first.is_known() {
        state.message(1, |first| write_first(first, customer, via, symbols));
    }
    let last = &customer.last;
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
    state.signed(1, first.time_ms).text(2, customer.names.first_event_id()).number(3, first.kind as u32);
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
pub(super) struct StoredCustomer {
    pub(super) names: Names,
    pub(super) first: Place,
    pub(super) last: LastTimes,
    pub(super) history: History,
    pub(super) inline_ids: Vec<RememberedId>,
    /// Of the first event: share and sharer.
    pub(super) via: Option<pb::Via>,
    pub(super) appeared_ms: i64,
}

/// A customer; the text says what is impossible in it.
pub(super) fn decode_customer(
    id: &str,
    payload: &[u8],
    symbols: &mut Symbols,
) -> Result<Result<StoredCustomer, &'static str>, prost::DecodeError> {
    let state = pb::CustomerState::decode(payload)?;
    Ok(read_customer(id, state, symbols))
}

fn read_customer(id: &str, state: pb::CustomerState, symbols: &mut Symbols) -> Result<StoredCustomer, &'static str> {
    let (names, first) = match &state.first {
        None => (Names::new(id, ""), Place::NONE),
        Some(first) => read_first(id, first, symbols)?,
    };
    let days = read_days(&state.days)?;
    let before = state.before.as_ref().map(|sums| (0, sums_from_state(sums)));
    let folded = before.into_iter().chain(read_days(&state.months)?);
    let inline_ids = ids_from_state(&state.ids.unwrap_or_default()).ok_or("remembered ids of unequal lengths")?;
    let last = LastTimes {
        event_ms: state.last_event_ms,
        scan_ms: state.last_scan_ms,
        purchase_ms: state.last_purchase_ms,
        share_ms: state.last_share_ms,
    };
    let history = History::restore(folded, days.into_iter());
    let via = state.first.and_then(|known| known.via);
    Ok(StoredCustomer { names, first, last, history, inline_ids, via, appeared_ms: state.appeared_ms })
}

fn read_days(states: &[pb::DayState]) -> Result<Vec<(Day, Sums)>, &'static str> {
    let mut days = Vec::with_capacity(states.len());
    for state in states {
        let day = Day::try_from(state.day).map_err(|_| "a day out of range")?;
        days.push((day, sums_from_state(state.sums.as_ref().unwrap_or(&pb::SumsState::default()))));
    }
    if !days.is_sorted_by(|(earlier, _), (later, _)| earlier < later) {
        return Err("days that do not ascend");
    }
    Ok(days)
}

fn read_first(id: &str, first: &pb::FirstEventState, symbols: &mut Symbols) -> Result<(Names, Place), &'static str> {
    let kind = EventKind::ALL.into_iter().find(|kind| *kind as u32 == first.kind).ok_or("an unknown kind of first event")?;
    if first.time_ms <= 0 {
        return Err("a first event without a time");
    }
    let place = Place {
        time_ms: first.time_ms,
        campaign: symbols.intern(&first.campaign),
        sku: symbols.intern(&first.sku),
        channel: symbols.intern(&first.channel),
        region: first.region,
        kind,
    };
    Ok((Names::new(id, &first.event_id), place))
}

fn ids_from_state(state: &pb::RememberedIdsState) -> Option<Vec<RememberedId>> {
    if state.minutes.len() != state.hashes.len() || state.contents.len() != state.hashes.len() {
        return None;
    }
    let rest = state.minutes.iter().zip(&state.contents);
    Some(
        state
            .hashes
            .iter()
            .zip(rest)
            .map(|(hash, (minute, content))| RememberedId { hash: *hash, minute: *minute, content: *content })
            .collect(),
    )
}

fn sums_from_state(state: &pb::SumsState) -> Sums {
    let mut sums = Sums::default();
    for (measure, amount) in [
        (Measure::Scans, state.scans),
        (Measure::Verifies, state.verifies),
        (Measure::Draws, state.draws),
        (Measure::Joins, state.joins),
        (Measure::Visits, state.visits),
        (Measure::Shares, state.shares),
        (Measure::Orders, state.orders),
        (Measure::Refunds, state.refunds),
        (Measure::Paid, state.paid),
        (Measure::Refunded, state.refunded),
        (Measure::NewCustomers, state.new_customers),
        (Measure::ReferredCustomers, state.referred_customers),
        (Measure::Active, state.active),
    ] {
        sums.set(measure, amount);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_survives_a_payload() {
        let mut sums = Sums::default();
        for (index, sum) in sums.0.iter_mut().enumerate() {
            *sum = index as u64 + 1;
        }
        let mut payload = Vec::new();
        encode_sums(&sums, &mut payload);
        assert_eq!(decode_sums(&payload), Ok(sums));
    }

    #[test]
    fn impossible_customers_are_refused() {
        let mut symbols = Symbols::new();
        let mut judge = |state: pb::CustomerState| decode_customer("c", &state.encode_to_vec(), &mut symbols).expect("protobuf").err();
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
}
