//! Customers that leave memory take what they hold of the graph with them.
//!
//! Owns which pairs and shares are whose, and which names are still held afterwards. Promises that what leaves is the rows of the
//! last cut, word for word, so that taking them back is what restoring is.

use super::texts::TextId;
use super::{Graph, Link};
use crate::engine::Engine;
use crate::engine::cold::Leaving;
use crate::engine::cut::RowBytes;
use crate::engine::kind::StateKind;
use crate::engine::slab::Slot;

impl Graph {
    /// Whose customer's pairs and shares hang on a link: that of the one who made it.
    fn owner_of(&self, link: Link, leaving: &Leaving) -> Option<u32> {
        let key = self.links.key(link);
        leaving.by_name.get(&(key.brand, key.sharer.0)).copied()
    }

    fn outbound_of(&self, leaving: &Leaving) -> [Vec<(Slot, u32)>; 2] {
        let number = |left: Slot| leaving.by_slot.get(&left).copied();
        let visits = self.outbound_visits.occupied().filter_map(|(slot, pair)| Some((slot, number(pair.left)?))).collect();
        let referrals = self.outbound_referrals.occupied().filter_map(|(slot, pair)| Some((slot, number(pair.left)?))).collect();
        [visits, referrals]
    }

    fn inbound_of(&self, leaving: &Leaving) -> [Vec<(Slot, u32)>; 3] {
        let number = |left: Slot| leaving.by_slot.get(&left).copied();
        let visits =
            self.inbound_visits.occupied().filter_map(|(slot, pair)| Some((slot, self.owner_of(Link(pair.left), leaving)?))).collect();
        let referrals = self.inbound_referrals.occupied().filter_map(|(slot, pair)| Some((slot, number(pair.left)?))).collect();
        let children =
            self.child_shares.occupied().filter_map(|(slot, pair)| Some((slot, self.owner_of(Link(pair.left), leaving)?))).collect();
        [visits, referrals, children]
    }

    fn shares_of(&self, leaving: &Leaving) -> Vec<(Slot, u32)> {
        self.occupied_shares().filter_map(|(node, share)| Some((node, self.owner_of(share.link, leaving)?))).collect()
    }
}

impl Engine {
    /// The number of a customer's id among the graph's texts, if anybody named it.
    pub(in crate::engine) fn name_number(&self, id: &str) -> Option<Slot> {
        self.graph.texts.find(id).map(|text| text.0)
    }

    /// How many rows of the graph each leaving customer has.
    pub(in crate::engine) fn count_graph_rows(&self, leaving: &Leaving, rows: &mut [usize]) {
        let [visits, _] = self.graph.outbound_of(leaving);
        let [inbound_visits, referrals, children] = self.graph.inbound_of(leaving);
        for (_, number) in visits.iter().chain(&inbound_visits).chain(&referrals).chain(&children) {
            if let Some(count) = rows.get_mut(*number as usize) {
                *count += 1;
            }
        }
    }

    /// Takes what leaving customers hold of the graph out of memory, with their rows.
    pub(in crate::engine) fn take_out_of_graph(&mut self, leaving: &mut Leaving) {
        let Engine { brands, customers, graph, .. } = self;
        let [visits, referrals] = graph.outbound_of(leaving);
        let [inbound_visits, inbound_referrals, children] = graph.inbound_of(leaving);
        let mut row = RowBytes::default();
        for (slot, number) in visits {
            if let Some(stored) = graph.outbound_visits.get(slot).stored {
                graph.write_outbound_visit(slot, customers, brands, &mut row);
                leaving.row(number, StateKind::OutboundVisit, &row, stored);
            }
            graph.outbound_visits.remove(slot);
        }
        for (slot, _) in referrals {
            graph.outbound_referrals.remove(slot);
        }
        for (slot, number) in inbound_visits {
            if let Some(stored) = graph.inbound_visits.get(slot).stored {
                graph.write_inbound_visit(slot, brands, &mut row);
                leaving.row(number, StateKind::InboundVisit, &row, stored);
            }
            graph.inbound_visits.remove(slot);
        }
        for (slot, number) in inbound_referrals {
            if let Some(stored) = graph.inbound_referrals.get(slot).stored {
                graph.write_inbound_referral(slot, customers, brands, &mut row);
                leaving.row(number, StateKind::InboundReferral, &row, stored);
            }
            graph.inbound_referrals.remove(slot);
        }
        for (slot, number) in children {
            if let Some(stored) = graph.child_shares.get(slot).stored {
                graph.write_child_share(slot, brands, &mut row);
                leaving.row(number, StateKind::ChildShare, &row, stored);
            }
            graph.child_shares.remove(slot);
        }
        for (node, number) in graph.shares_of(leaving) {
            if let Some(stored) = graph.shares[node].stored
                && graph.write_share_row(node, brands, &mut row)
            {
                leaving.row(number, StateKind::Share, &row, stored);
            }
            graph.remove_share(node);
        }
    }

    /// Takes the part of a customer that only sharers have out of memory.
    pub(in crate::engine) fn take_out_sharer(&mut self, sharer: Slot) {
        let gone = self.graph.sharers.remove(sharer, super::Sharer::default());
        self.graph.layer_bytes -= gone.below.bytes();
    }

    /// Drops the names that nothing in memory holds any more.
    pub(in crate::engine) fn drop_unheld_names(&mut self) {
        let graph = &mut self.graph;
        let (mut links, mut texts) = (graph.links.vacancies(), graph.texts.vacancies());
        let hold = |held: &mut Vec<bool>, slot: Slot| {
            if let Some(mark) = held.get_mut(slot as usize) {
                *mark = true;
            }
        };
        for (_, customer) in self.customers.occupied() {
            hold(&mut links, customer.link.0);
        }
        for (_, pair) in graph.outbound_visits.occupied() {
            hold(&mut links, pair.right);
        }
        for (_, pair) in graph.outbound_referrals.occupied() {
            hold(&mut texts, pair.right);
        }
        for (_, pair) in graph.inbound_visits.occupied() {
            hold(&mut links, pair.left);
            hold(&mut texts, pair.right);
        }
        for (_, pair) in graph.inbound_referrals.occupied() {
            hold(&mut texts, pair.right);
        }
        for (_, pair) in graph.child_shares.occupied() {
            hold(&mut links, pair.left);
            hold(&mut links, pair.right);
        }
        for (_, share) in graph.occupied_shares() {
            hold(&mut links, share.link.0);
            if let Some(own) = &share.own {
                hold(&mut links, own.parent.0);
                for TextId(text) in [own.campaign, own.sku, own.channel] {
                    hold(&mut texts, text);
                }
            }
        }
        graph.links.keep_only(&links);
        for key in graph.links.keys() {
            hold(&mut texts, key.share.0);
            hold(&mut texts, key.sharer.0);
        }
        graph.texts.keep_only(&texts);
    }
}

impl Graph {
    /// Bytes of places that are free.
    pub(in crate::engine) fn vacant_bytes(&self) -> usize {
        let pairs = self.outbound_visits.vacant_bytes()
            + self.outbound_referrals.vacant_bytes()
            + self.inbound_visits.vacant_bytes()
            + self.inbound_referrals.vacant_bytes()
            + self.child_shares.vacant_bytes();
        pairs + self.sharers.vacant_bytes() + self.shares.vacant_bytes() + self.texts.vacant_bytes() + self.links.vacant_bytes()
    }
}
