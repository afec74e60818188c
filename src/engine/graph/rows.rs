//! Rows of the graph's tables, and the graph's columns of a customer.

use super::Graph;
use crate::engine::customer::Customer;
use crate::engine::slab::Slot;
use crate::engine::{Engine, FORESEEN};
use crate::model::Version;
use crate::rows::ServingRows;
use crate::rows::serving::{CustomerGraph, LevelRow, ShareRow};

impl Engine {
    /// The graph's columns of a customer's row.
    pub(in crate::engine) fn graph_columns<'a>(&'a self, customer: &Customer, referrer: Option<(&'a str, &'a str)>) -> CustomerGraph<'a> {
        let (referral_share_id, referrer_id) = referrer.unwrap_or(("", ""));
        let mut columns = CustomerGraph { referrer_id, referral_share_id, ..CustomerGraph::default() };
        if customer.sharer == Customer::NO_SHARER {
            return columns;
        }
        let sharer = &self.graph.sharers[customer.sharer];
        for (layer, [customers, ..]) in sharer.below.layers() {
            columns.referred_total = columns.referred_total.saturating_add(customers);
            if layer.level == 1 {
                columns.referred_direct = columns.referred_direct.saturating_add(customers);
            }
        }
        let [visits, _, orders, paid, refunded, reshares] = sharer.brought.clamped();
        (columns.share_visits, columns.share_visitors, columns.reshares) = (visits, sharer.brought.visitors, reshares);
        (columns.share_orders, columns.share_paid, columns.share_refunded) = (orders, money(paid), money(refunded));
        columns
    }

    /// Rows of `referrals`, `customer_subtrees`, `shares` and `share_cascades`.
    pub(in crate::engine) fn drain_graph(&mut self, version: Version, out: &mut ServingRows) {
        for slots in self.customers.take_marked(Customer::REFERRAL_TO_BE_SERVED).chunks(FORESEEN) {
            self.foresee_names(slots.iter().map(|slot| (*slot, self.customers.get(*slot).link)));
            for slot in slots {
                let customer = self.customers.get(*slot);
                let brand = self.brands.name(customer.brand);
                let parent = self.edge(*slot).and_then(|edge| self.graph.names(edge));
                out.push_referral(brand, customer.names.id(), parent.map(|names| (names, customer.first.time_ms)), version);
            }
        }
        for slots in self.customers.take_marked(Customer::SUBTREE_TO_BE_SERVED).chunks(FORESEEN) {
            self.foresee_sharers(slots);
            slots.iter().for_each(|slot| self.drain_subtree(*slot, version, out));
        }
        self.drain_shares(version, out);
        self.graph.dirty_layers = 0;
    }

    fn drain_subtree(&mut self, slot: Slot, version: Version, out: &mut ServingRows) {
        let customer = self.customers.get(slot);
        if customer.sharer == Customer::NO_SHARER {
            return;
        }
        let brand = self.brands.name(customer.brand);
        self.graph.sharers[customer.sharer].below.drain_dirty(|layer, amounts| {
            out.push_subtree(brand, customer.names.id(), layer.level, layer.month, amounts, version);
        });
    }

    fn drain_shares(&mut self, version: Version, out: &mut ServingRows) {
        for nodes in self.graph.take_shares_to_be_served().chunks(FORESEEN) {
            self.graph.prefetch_shares(nodes);
            nodes.iter().for_each(|node| self.drain_share(*node, version, out));
        }
        let Engine { graph, brands, .. } = self;
        for nodes in graph.take_cascades_to_be_served().chunks(FORESEEN) {
            graph.prefetch_cascades(nodes);
            for node in nodes {
                let Graph { shares, links, texts, .. } = &mut *graph;
                let share = &mut shares[*node];
                let (share_id, sharer_id) = links.names(share.link, texts);
                let brand = brands.name(links.key(share.link).brand);
                share.below.drain_dirty(|layer, amounts| {
                    out.push_cascade(&LevelRow { brand, sharer_id, share_id, level: layer.level }, amounts, version);
                });
            }
        }
    }

    fn drain_share(&self, node: Slot, version: Version, out: &mut ServingRows) {
        let Engine { graph, brands, .. } = self;
        let share = &graph.shares[node];
        let (share_id, sharer_id) = graph.links.names(share.link, &graph.texts);
        let own = share.own.as_deref();
        let text = |id: Option<super::texts::TextId>| id.map_or("", |known| graph.texts.text(known));
        let row = ShareRow {
            brand: brands.name(graph.links.key(share.link).brand),
            sharer_id,
            share_id,
            parent: own.and_then(|known| graph.names(known.parent)).unwrap_or(("", "")),
            time_ms: own.map_or(0, |known| known.time_ms),
            campaign: text(own.map(|known| known.campaign)),
            sku: text(own.map(|known| known.sku)),
            channel: text(own.map(|known| known.channel)),
            region: own.map_or(0, |known| known.region),
            rewarded: own.is_some_and(|known| known.rewarded),
            visitors: share.brought.visitors,
            brought: share.brought.clamped(),
        };
        out.push_share(&row, version);
        let level = LevelRow { brand: row.brand, sharer_id, share_id, level: 0 };
        out.push_cascade(&level, graph.cascade_itself(node), version);
    }

    /// Makes every row of the graph wait to be served.
    pub(in crate::engine) fn mark_graph_for_serving(&mut self) {
        let customers: Vec<_> = self.customers.occupied().map(|(slot, known)| (slot, known.sharer, known.first.is_known())).collect();
        for (slot, sharer, has_own_event) in customers {
            if has_own_event {
                self.customers.mark(slot, Customer::REFERRAL_TO_BE_SERVED);
            }
            if sharer != Customer::NO_SHARER {
                let change = self.graph.sharers[sharer].below.mark_all();
                self.graph.note_change(change);
                self.customers.mark(slot, Customer::SUBTREE_TO_BE_SERVED);
            }
        }
        let shares: Vec<_> = self.graph.occupied_shares().map(|(node, _)| node).collect();
        for node in shares {
            self.graph.mark_share_for_serving(node);
            let change = self.graph.shares[node].below.mark_all();
            self.graph.mark_cascade_for_serving(node, change);
        }
    }
}

fn money(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
