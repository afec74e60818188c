//! Payloads of state rows: from the state to protobuf and back.
//!
//! What comes back is judged like any input: a payload that no cut can have written is an error, never a panic.

use prost::Message;

use super::customer::{Customer, LastTimes, Names, Place};
use super::history::History;
use super::ids::{CHUNK, RememberedId};
use super::symbols::Symbols;
use crate::model::{Day, EventKind, Measure, Sums};
use crate::pb;

/// The payload of a cell.
pub(super) fn encode_sums(sums: &Sums) -> Vec<u8> {
    sums_to_state(sums).encode_to_vec()
}

/// A cell.
pub(super) fn decode_sums(payload: &[u8]) -> Result<Sums, prost::DecodeError> {
    Ok(sums_from_state(&pb::SumsState::decode(payload)?))
}

/// The payload of a chunk.
pub(super) fn encode_ids(ids: &[RememberedId]) -> Vec<u8> {
    ids_to_state(ids).encode_to_vec()
}

/// A chunk; `None` where the arrays do not fit together.
pub(super) fn decode_ids(payload: &[u8]) -> Result<Option<Vec<RememberedId>>, prost::DecodeError> {
    Ok(ids_from_state(&pb::RememberedIdsState::decode(payload)?).filter(|ids| ids.len() <= CHUNK))
}

/// The payload of a customer; `via` is the first event's: share and sharer.
pub(super) fn encode_customer(customer: &Customer, via: Option<(&str, &str)>, symbols: &Symbols) -> Vec<u8> {
    let first = &customer.first;
    let first_event = first.is_known().then(|| pb::FirstEventState {
        time_ms: first.time_ms,
        event_id: customer.names.first_event_id().to_owned(),
        kind: first.kind as u32,
        via: via.map(|(share, sharer)| pb::Via { share_id: share.to_owned(), sharer_id: sharer.to_owned() }),
        campaign: symbols.text(first.campaign).to_owned(),
        sku: symbols.text(first.sku).to_owned(),
        channel: symbols.text(first.channel).to_owned(),
        region: first.region,
    });
    let inline_ids = customer.ids.inline();
    let state = pb::CustomerState {
        first: first_event,
        last_event_ms: customer.last.event_ms,
        last_scan_ms: customer.last.scan_ms,
        last_purchase_ms: customer.last.purchase_ms,
        last_share_ms: customer.last.share_ms,
        before: customer.history.folded().find(|(month, _)| *month == 0).map(|(_, sums)| sums_to_state(&sums)),
        months: customer.history.folded().filter(|(month, _)| *month > 0).map(|(month, sums)| day_to_state(month, &sums)).collect(),
        days: customer.history.days().map(|(day, sums)| day_to_state(day, &sums)).collect(),
        ids: (!inline_ids.is_empty()).then(|| ids_to_state(inline_ids)),
        appeared_ms: customer.appeared_ms,
    };
    state.encode_to_vec()
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

fn day_to_state(day: Day, sums: &Sums) -> pb::DayState {
    pb::DayState { day: day.into(), sums: Some(sums_to_state(sums)) }
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

fn ids_to_state(ids: &[RememberedId]) -> pb::RememberedIdsState {
    pb::RememberedIdsState {
        hashes: ids.iter().map(|id| id.hash).collect(),
        minutes: ids.iter().map(|id| id.minute).collect(),
        contents: ids.iter().map(|id| id.content).collect(),
    }
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

fn sums_to_state(sums: &Sums) -> pb::SumsState {
    pb::SumsState {
        scans: sums.get(Measure::Scans),
        verifies: sums.get(Measure::Verifies),
        draws: sums.get(Measure::Draws),
        joins: sums.get(Measure::Joins),
        visits: sums.get(Measure::Visits),
        shares: sums.get(Measure::Shares),
        orders: sums.get(Measure::Orders),
        refunds: sums.get(Measure::Refunds),
        paid: sums.get(Measure::Paid),
        refunded: sums.get(Measure::Refunded),
        new_customers: sums.get(Measure::NewCustomers),
        referred_customers: sums.get(Measure::ReferredCustomers),
        active: sums.get(Measure::Active),
    }
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
        assert_eq!(decode_sums(&encode_sums(&sums)), Ok(sums));
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
