//! Which customers of a tree are shown when there is no room for all.
//!
//! Pure. Promises that every shown customer's parent is shown, that no customer with a larger subtree is left out for one with a smaller
//! (as far as subtrees shrink with every level), and that what is left out of a parent's children is counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use clickhouse::Row;
use serde::{Deserialize, Serialize};

/// A customer as `v_customers` has it. Money is in minor units.
#[derive(Clone, Debug, Row, Deserialize)]
pub(super) struct Member {
    pub customer_id: String,
    pub referrer_id: String,
    pub referral_share_id: String,
    /// RFC 3339; none = only named as a sharer.
    pub first_event_time: Option<String>,
    pub orders: u64,
    pub paid: i64,
    pub refunded: i64,
    pub referred_direct: u64,
    pub referred_total: u64,
}

/// A shown customer with the shown ones below. Money is in minor units.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub customer_id: String,
    pub level: u32,
    pub referrer_id: String,
    pub referral_share_id: String,
    pub first_event_time: Option<String>,
    pub orders: u64,
    pub paid: i64,
    pub refunded: i64,
    /// Own: paid less refunded.
    pub net: i64,
    pub referred_direct: u64,
    pub referred_total: u64,
    /// Of the customers below: paid less refunded.
    pub subtree_net: i64,
    /// Brought directly and not among `children`.
    pub more_children: u64,
    pub children: Vec<Node>,
}

/// The chosen customers, the root first.
pub(super) struct Picked {
    root: Member,
    /// By the parent's id, in the order in which they are shown.
    children: HashMap<String, Vec<Member>>,
}

/// Larger subtree first, then more money, then by id: the order of siblings, too.
type Rank = (u64, i64, Reverse<String>);

fn rank(member: &Member) -> Rank {
    (member.referred_total, member.paid - member.refunded, Reverse(member.customer_id.clone()))
}

/// The subtree that a customer needs to be among the `most` largest of these; 0 while there is room for more.
pub(super) fn least_shown(found: &[Member], most: usize) -> u64 {
    let mut sizes: Vec<u64> = found.iter().map(|member| member.referred_total).collect();
    sizes.sort_unstable_by_key(|size| Reverse(*size));
    most.checked_sub(1).and_then(|last| sizes.get(last)).copied().unwrap_or_default()
}

/// Chooses at most `most` customers, the root included. `below` has each customer once.
pub(super) fn largest_first(root: Member, below: Vec<Member>, most: usize) -> Picked {
    let mut waiting: HashMap<String, Vec<Member>> = HashMap::new();
    for member in below {
        waiting.entry(member.referrer_id.clone()).or_default().push(member);
    }
    // By rank: ids are distinct, so that ranks are.
    let mut known: BTreeMap<Rank, Member> = BTreeMap::new();
    let mut queue: BinaryHeap<Rank> = BinaryHeap::new();
    let mut open = |parent: &str, queue: &mut BinaryHeap<Rank>, known: &mut BTreeMap<Rank, Member>| {
        for child in waiting.remove(parent).into_iter().flatten() {
            queue.push(rank(&child));
            known.insert(rank(&child), child);
        }
    };
    let mut children: HashMap<String, Vec<Member>> = HashMap::new();
    open(&root.customer_id, &mut queue, &mut known);
    for _ in 1..most {
        let Some(member) = queue.pop().and_then(|largest| known.remove(&largest)) else { break };
        open(&member.customer_id, &mut queue, &mut known);
        children.entry(member.referrer_id.clone()).or_default().push(member);
    }
    Picked { root, children }
}

impl Picked {
    /// Ids of all, in no particular order of levels but always in the same.
    pub fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.children.values().flatten().map(|member| member.customer_id.as_str()).collect();
        ids.push(&self.root.customer_id);
        ids.sort_unstable();
        ids
    }

    /// The tree, with the net of what is below each customer.
    pub fn into_node(mut self, subtree_nets: &HashMap<String, i64>) -> Node {
        node(self.root, 0, &mut self.children, subtree_nets)
    }
}

fn node(member: Member, level: u32, all: &mut HashMap<String, Vec<Member>>, subtree_nets: &HashMap<String, i64>) -> Node {
    let shown = all.remove(&member.customer_id).unwrap_or_default();
    let children: Vec<Node> = shown.into_iter().map(|child| node(child, level + 1, all, subtree_nets)).collect();
    Node {
        level,
        net: member.paid - member.refunded,
        subtree_net: subtree_nets.get(&member.customer_id).copied().unwrap_or_default(),
        more_children: member.referred_direct.saturating_sub(children.len() as u64),
        children,
        customer_id: member.customer_id,
        referrer_id: member.referrer_id,
        referral_share_id: member.referral_share_id,
        first_event_time: member.first_event_time,
        orders: member.orders,
        paid: member.paid,
        refunded: member.refunded,
        referred_direct: member.referred_direct,
        referred_total: member.referred_total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, parent: &str, direct: u64, total: u64) -> Member {
        Member {
            customer_id: id.to_owned(),
            referrer_id: parent.to_owned(),
            referral_share_id: String::new(),
            first_event_time: None,
            orders: 0,
            paid: 0,
            refunded: 0,
            referred_direct: direct,
            referred_total: total,
        }
    }

    /// Ids with levels, from the top down.
    fn shown(node: &Node) -> Vec<String> {
        let mut lines = vec![format!("{}{} +{}", " ".repeat(node.level as usize), node.customer_id, node.more_children)];
        lines.extend(node.children.iter().flat_map(shown));
        lines
    }

    fn tree() -> (Member, Vec<Member>) {
        let below = vec![member("a", "r", 2, 3), member("b", "r", 1, 1), member("c", "r", 0, 0)];
        let deeper = vec![member("aa", "a", 1, 1), member("ab", "a", 0, 0), member("ba", "b", 0, 0), member("aaa", "aa", 0, 0)];
        (member("r", "", 3, 7), [below, deeper].concat())
    }

    #[test]
    fn everybody_is_shown_where_there_is_room() {
        let (root, below) = tree();
        let node = largest_first(root, below, 100).into_node(&HashMap::from([("a".to_owned(), 12)]));
        assert_eq!(shown(&node), ["r +0", " a +0", "  aa +0", "   aaa +0", "  ab +0", " b +0", "  ba +0", " c +0"]);
        assert_eq!(node.children[0].subtree_net, 12);
    }

    #[test]
    fn the_largest_subtrees_come_first_and_what_is_left_out_is_counted() {
        let (root, below) = tree();
        let picked = largest_first(root, below, 4);
        assert_eq!(picked.ids(), ["a", "aa", "b", "r"]);
        assert_eq!(shown(&picked.into_node(&HashMap::new())), ["r +1", " a +1", "  aa +1", " b +1"]);
    }

    #[test]
    fn a_customer_whose_parent_was_not_fetched_is_not_shown() {
        let (root, mut below) = tree();
        below.retain(|member| member.customer_id != "a");
        assert_eq!(shown(&largest_first(root, below, 100).into_node(&HashMap::new())), ["r +1", " b +0", "  ba +0", " c +0"]);
    }

    #[test]
    fn a_subtree_smaller_than_all_that_fill_the_lines_is_not_needed() {
        let (_, below) = tree();
        assert_eq!([1, 2, 3, 8, 9].map(|most| least_shown(&below, most)), [3, 1, 1, 0, 0]);
    }

    #[test]
    fn a_root_alone_is_a_tree() {
        let node = largest_first(member("r", "x", 0, 0), Vec::new(), 1).into_node(&HashMap::new());
        assert_eq!(shown(&node), ["r +0"]);
    }
}
