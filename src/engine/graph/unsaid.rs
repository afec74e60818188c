//! The touch rule switched off, for the tests of the tests: a state that keeps silent where it would say the same again.

use hashbrown::HashMap;
use prost::Message as _;

use super::Graph;
use crate::engine::Engine;
use crate::engine::slab::Slot;
use crate::pb;
use pb::contribution::Value;

/// What every pair last said.
#[derive(Debug, Default)]
pub(super) struct LastSaid(HashMap<Vec<u8>, Vec<u8>, foldhash::quality::FixedState>);

impl LastSaid {
    /// Notes what a pair says; whether it is something new.
    pub(super) fn note(&mut self, said: &[u8]) -> bool {
        let Ok(contribution) = pb::Contribution::decode(said) else { return true };
        let said_before = self.0.insert(pair_of(&contribution), said.to_vec());
        said_before.as_deref() != Some(said)
    }
}

/// Who speaks to whom.
fn pair_of(contribution: &pb::Contribution) -> Vec<u8> {
    let value = contribution.value.as_ref().map(|value| match value {
        Value::Visit(visit) => Value::Visit(pb::VisitContribution {
            share_id: visit.share_id.clone(),
            sharer_id: visit.sharer_id.clone(),
            visitor_id: visit.visitor_id.clone(),
            ..pb::VisitContribution::default()
        }),
        Value::Referral(referral) => Value::Referral(pb::ReferralContribution {
            sharer_id: referral.sharer_id.clone(),
            child_id: referral.child_id.clone(),
            ..pb::ReferralContribution::default()
        }),
        Value::Cascade(cascade) => Value::Cascade(pb::CascadeContribution {
            share_id: cascade.share_id.clone(),
            sharer_id: cascade.sharer_id.clone(),
            parent_share_id: cascade.parent_share_id.clone(),
            parent_sharer_id: cascade.parent_sharer_id.clone(),
            ..pb::CascadeContribution::default()
        }),
    });
    pb::Contribution { brand: contribution.brand.clone(), value }.encode_to_vec()
}

impl Engine {
    /// All rows of a checkpoint are back. At its cut every pair had said what it says now.
    pub fn note_restored(&mut self) {
        if self.graph.last_said.is_some() {
            self.graph.touch_all();
            self.drain_contributions(|_, _| {});
        }
    }
}

impl Graph {
    fn touch_all(&mut self) {
        let visits: Vec<Slot> = self.outbound_visits.occupied().map(|(slot, _)| slot).collect();
        let referrals: Vec<Slot> = self.outbound_referrals.occupied().map(|(slot, _)| slot).collect();
        let shares: Vec<Slot> = self.occupied_shares().map(|(node, _)| node).collect();
        visits.into_iter().for_each(|slot| self.outbound_visits.mark_for_sending(slot));
        referrals.into_iter().for_each(|slot| self.outbound_referrals.mark_for_sending(slot));
        shares.into_iter().for_each(|node| self.touch_parent(node));
    }
}
