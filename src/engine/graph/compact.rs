//! The graph's part of giving memory back: everything that has a number gets a lower one, and whoever holds the number the new one.
//!
//! Promises that what the graph knows and says is the same afterwards. Never does so while anything waits: lists of what waits hold numbers.

use super::Graph;
use crate::engine::Engine;
use crate::engine::slab::{Density, Moved};

impl Graph {
    fn density(&self) -> Density {
        let pairs = [
            self.outbound_visits.density(),
            self.outbound_referrals.density(),
            self.inbound_visits.density(),
            self.inbound_referrals.density(),
            self.child_shares.density(),
        ];
        let others = [self.sharers.density(), self.shares.density(), self.texts.density(), self.links.density()];
        pairs.into_iter().chain(others).fold(Density::default(), Density::and)
    }

    /// The memory of lists that are empty.
    fn forget_lists(&mut self) {
        debug_assert!(self.dirty_rows() + self.dirty_state() + self.dirty_contributions() == 0, "a graph that waits for something");
        (self.shares_to_be_served, self.cascades_to_be_served, self.shares_to_be_cut) = (Vec::new(), Vec::new(), Vec::new());
        self.passed_on = super::PassedOn::default();
    }
}

impl Engine {
    /// Gives the memory of customers and of their graph back if much of it is free. Where the customers went.
    pub(in crate::engine) fn compact_customers_if_sparse(&mut self) -> Option<Moved> {
        if !self.customers.density().and(self.graph.density()).is_sparse() {
            return None;
        }
        let Engine { customers, graph, .. } = self;
        let texts = graph.texts.compact();
        let nodes = graph.shares.compact();
        let links = graph.links.compact(&texts, &nodes);
        let sharers = graph.sharers.compact();
        let moved = customers.compact(|customer| {
            customer.link = customer.link.renamed(&links);
            customer.sharer = sharers.new_place(customer.sharer);
        });
        graph.outbound_visits.compact(&moved, &links);
        graph.outbound_referrals.compact(&moved, &texts);
        graph.inbound_visits.compact(&links, &texts);
        graph.inbound_referrals.compact(&moved, &texts);
        let children = graph.child_shares.compact(&links, &links);
        for node in 0..graph.shares.slots() {
            graph.shares[node].rename(&links, &texts, &children);
        }
        graph.forget_lists();
        Some(moved)
    }
}
