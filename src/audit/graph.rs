//! Who brings whom and what passes on what, as SQL over the customers' own events.
//!
//! Levels are climbed by a recursive query that adds up at each step: what a node has below it on level n is what its children have on
//! level n - 1. So a step holds one row a node and month, never a pair of node and ancestor.
//!
//! Once `v_referrals` has been found right nothing is climbed: level n + 1 is recomputed from what readers see on level n. When that finds no difference on
//! any level, level 1 is right, and so is each above a right one; when it finds one, the table is recomputed by climbing, for the values that it should have.
//!
//! Around conflicts it errs towards leaving out. Uncertain are customers with conflicting events and those whom these name: either's
//! first event may or may not count as brought by somebody. Their possible edges are kept, marked as left out, and the mark climbs along.

use super::Scope;
use super::events::{among, month, own_events, own_events_of_part, share_events};
use super::part::in_part;
use super::tables::ORDER_OF_EVENTS;

/// Everybody who was named as a sharer: `brand`, `customer_id`, `time` of the first such event, `left_out` if an event of conflicting
/// customers named them.
fn named(scope: &Scope) -> String {
    format!(
        "SELECT event.brand AS brand, event.via_sharer AS customer_id, min(event.event_time) AS time, max(event.left_out) AS left_out \
         FROM ({}) AS event WHERE event.via_sharer != '' AND {} GROUP BY event.brand, event.via_sharer",
        own_events(&["brand", "event_time", "via_sharer", "left_out"], scope),
        in_part(scope, "event.brand", "event.via_sharer")
    )
}

/// Everybody with an own event, with these columns:
///
/// | column | is |
/// |---|---|
/// | `brand`, `customer_id` | who |
/// | `time`, `first` | of the first own event; `first` is a tuple of the `kept` columns |
/// | `parent_id`, `share_id` | through whom and what the first event came |
/// | `is_brought` | 1 if it counts: nobody had named the customer before, or at the same moment |
/// | `is_conflicting`, `left_out` | 1 if the customer has conflicting events; 1 if that or named by somebody who has |
pub(super) fn newcomers(kept: &[&str], scope: &Scope) -> String {
    let columns = ["brand", "customer_id", "event_time", "event_id", "rank", "via_sharer", "via_share", "left_out"];
    let own = own_events_of_part(&[columns.as_slice(), kept].concat(), scope);
    let first: Vec<String> = kept.iter().map(|column| format!("event.{column}")).collect();
    format!(
        "SELECT newcomer.brand AS brand, newcomer.customer_id AS customer_id, newcomer.time AS time, newcomer.first AS first, \
         newcomer.via.1 AS parent_id, newcomer.via.2 AS share_id, newcomer.left_out AS is_conflicting, \
         toUInt8(newcomer.via.1 != '' AND (named.customer_id = '' OR named.time > newcomer.time)) AS is_brought, \
         greatest(newcomer.left_out, named.left_out) AS left_out FROM (\
           SELECT event.brand AS brand, event.customer_id AS customer_id, min(event.event_time) AS time, \
           argMin(tuple({first}), {ORDER_OF_EVENTS}) AS first, argMin((event.via_sharer, event.via_share), {ORDER_OF_EVENTS}) AS via, \
           max(event.left_out) AS left_out FROM ({own}) AS event GROUP BY event.brand, event.customer_id) AS newcomer \
         LEFT JOIN ({named}) AS named ON named.brand = newcomer.brand AND named.customer_id = newcomer.customer_id",
        first = first.join(", "),
        named = named(scope)
    )
}

pub(super) fn referrals(scope: &Scope) -> String {
    format!(
        "SELECT newcomer.brand AS brand, newcomer.customer_id AS child_id, if(newcomer.is_brought, newcomer.parent_id, '') AS parent_id, \
         if(newcomer.is_brought, newcomer.share_id, '') AS share_id, \
         if(newcomer.is_brought, newcomer.time, toDateTime64(0, 3, 'UTC')) AS time, newcomer.left_out AS left_out \
         FROM ({}) AS newcomer",
        newcomers(&["rank"], scope)
    )
}

/// Whether levels are recomputed one from the other instead of climbed.
pub(super) fn by_levels(scope: &Scope) -> bool {
    scope.referrals_are_right && !scope.climbs && scope.conflicts.is_empty()
}

/// Edges of the forest, with those that conflicts make possible: `brand`, `child_id`, `parent_id`, `share_id`, `left_out`; with their `time` when they come
/// from the table. Of a part of the customers, those to its parents.
///
/// The server asks for them anew on every level that it climbs: out of the archive that was nearly all of an audit's time. So they come from the
/// table when that has just been compared with the archive, row by row.
fn edges(scope: &Scope) -> String {
    if scope.referrals_are_right && scope.conflicts.is_empty() {
        return format!(
            "SELECT toString(referral.brand) AS brand, referral.child_id AS child_id, referral.parent_id AS parent_id, referral.share_id AS share_id, \
             referral.time AS time, toUInt8(0) AS left_out FROM v_referrals AS referral WHERE referral.parent_id != '' AND {}{}",
            in_part(scope, "referral.brand", "referral.parent_id"),
            among(scope, "referral")
        );
    }
    let certain = format!(
        "SELECT newcomer.brand AS brand, newcomer.customer_id AS child_id, newcomer.parent_id AS parent_id, newcomer.share_id AS share_id, \
         newcomer.left_out AS left_out FROM ({}) AS newcomer WHERE newcomer.is_brought OR (newcomer.left_out AND newcomer.parent_id != '')",
        newcomers(&["rank"], scope)
    );
    if scope.conflicts.is_empty() {
        return certain;
    }
    let possible = own_events(&["brand", "customer_id", "via_sharer", "via_share", "left_out"], scope);
    format!(
        "SELECT edge.brand AS brand, edge.child_id AS child_id, edge.parent_id AS parent_id, edge.share_id AS share_id, \
         max(edge.left_out) AS left_out FROM ({certain} UNION ALL \
           SELECT event.brand AS brand, event.customer_id AS child_id, event.via_sharer AS parent_id, event.via_share AS share_id, \
           event.left_out AS left_out FROM ({possible}) AS event WHERE event.left_out AND event.via_sharer != ''\
         ) AS edge GROUP BY edge.brand, edge.child_id, edge.parent_id, edge.share_id"
    )
}

/// What customers are worth themselves, by month: `brand`, `customer_id`, `month`, [`WORTH`], `left_out`.
fn worth(scope: &Scope) -> String {
    let own = own_events(&["brand", "customer_id", "month", "orders", "refunds", "paid", "refunded", "left_out"], scope);
    format!(
        "SELECT part.brand AS brand, part.customer_id AS customer_id, part.month AS month, {sums}, max(part.left_out) AS left_out FROM (\
           SELECT event.brand AS brand, event.customer_id AS customer_id, event.month AS month, toUInt64(0) AS customers, \
           event.orders AS orders, event.paid AS paid, event.refunded AS refunded, event.left_out AS left_out FROM ({own}) AS event \
           WHERE event.orders + event.refunds > 0 OR event.left_out UNION ALL \
           SELECT newcomer.brand AS brand, newcomer.customer_id AS customer_id, newcomer.first.1 AS month, toUInt64(1) AS customers, \
           toUInt64(0) AS orders, toInt64(0) AS paid, toInt64(0) AS refunded, newcomer.is_conflicting AS left_out FROM ({newcomers}) AS newcomer\
         ) AS part GROUP BY part.brand, part.customer_id, part.month",
        sums = sums("part", &WORTH),
        newcomers = newcomers(&["month"], scope),
    )
}

const WORTH: [&str; 4] = ["customers", "orders", "paid", "refunded"];

/// Everything below a customer: `level`, `brand`, `customer_id`, `month`, [`WORTH`], `left_out`.
fn subtrees(scope: &Scope) -> String {
    let step = |level: &str, below: &str, condition: &str| {
        format!(
            "SELECT {level} AS level, edge.brand AS brand, edge.parent_id AS customer_id, below.month AS month, {}, \
             max(greatest(below.left_out, edge.left_out)) AS left_out FROM {below} AS below \
             INNER JOIN ({}) AS edge ON edge.brand = below.brand AND edge.child_id = below.customer_id {condition} \
             GROUP BY level, edge.brand, edge.parent_id, below.month",
            sums("below", &WORTH),
            edges(scope)
        )
    };
    format!(
        "WITH RECURSIVE layers AS ({} UNION ALL {}) SELECT * FROM layers",
        step("toUInt8(1)", &format!("({})", worth(scope)), ""),
        step("toUInt8(below.level + 1)", "layers", &format!("WHERE below.level < {}", scope.levels)),
    )
}

/// The same as [`subtrees`], each level from what readers see on the one below. Needs [`by_levels`].
fn levels_of_subtrees(scope: &Scope) -> String {
    let zeros = "toUInt64(0) AS orders, toInt64(0) AS paid, toInt64(0) AS refunded";
    format!(
        "SELECT part.level AS level, part.brand AS brand, part.customer_id AS customer_id, part.month AS month, {sums}, toUInt8(0) AS left_out FROM (\
           SELECT toUInt8(1) AS level, edge.brand AS brand, edge.parent_id AS customer_id, {month} AS month, toUInt64(1) AS customers, {zeros} \
           FROM ({edges}) AS edge UNION ALL \
           SELECT toUInt8(1) AS level, edge.brand AS brand, edge.parent_id AS customer_id, event.month AS month, toUInt64(0) AS customers, \
           event.orders AS orders, event.paid AS paid, event.refunded AS refunded FROM ({own}) AS event \
           INNER JOIN ({edges}) AS edge ON edge.brand = event.brand AND edge.child_id = event.customer_id \
           WHERE event.orders + event.refunds > 0 UNION ALL \
           SELECT toUInt8(below.level + 1) AS level, edge.brand AS brand, edge.parent_id AS customer_id, below.month AS month, \
           below.customers AS customers, below.orders AS orders, below.paid AS paid, below.refunded AS refunded FROM ({seen}) AS below \
           INNER JOIN ({edges}) AS edge ON edge.brand = below.brand AND edge.child_id = below.customer_id WHERE below.level < {levels}\
         ) AS part GROUP BY part.level, part.brand, part.customer_id, part.month",
        sums = sums("part", &WORTH),
        month = month(scope, "edge.brand", "edge.time"),
        edges = edges(scope),
        own = own_events(&["brand", "customer_id", "month", "orders", "refunds", "paid", "refunded"], scope),
        seen = seen_subtrees(scope),
        levels = scope.levels,
    )
}

/// What readers see below customers, in the columns of [`subtrees`].
fn seen_subtrees(scope: &Scope) -> String {
    format!(
        "SELECT subtree.level AS level, toString(subtree.brand) AS brand, subtree.customer_id AS customer_id, subtree.month AS month, \
         subtree.customers AS customers, subtree.orders AS orders, subtree.paid AS paid, subtree.refunded AS refunded, toUInt8(0) AS left_out \
         FROM v_customer_subtrees AS subtree WHERE 1{}",
        among(scope, "subtree")
    )
}

pub(super) fn customer_subtrees(scope: &Scope) -> String {
    format!(
        "SELECT layer.* FROM ({}) AS layer WHERE layer.left_out OR {}",
        if by_levels(scope) { levels_of_subtrees(scope) } else { subtrees(scope) },
        is_not_zero("layer.customers, layer.orders, layer.paid, layer.refunded")
    )
}

/// Shares whose own event is known and fulfils a condition: `brand`, `sharer_id`, `share_id`, `left_out`, and `own`, a tuple of [`OWN`].
fn made_shares(scope: &Scope, condition: &str) -> String {
    let columns = [&["brand", "customer_id", "made_share", "left_out"], OWN.as_slice()].concat();
    let own: Vec<String> = OWN.iter().map(|column| format!("event.{column}")).collect();
    format!(
        "SELECT event.brand AS brand, event.customer_id AS sharer_id, event.made_share AS share_id, \
         argMin(({own}), (event.event_time, event.event_id)) AS own, max(event.left_out) AS left_out \
         FROM ({events}) AS event WHERE {condition} GROUP BY event.brand, event.customer_id, event.made_share",
        own = own.join(", "),
        events = share_events(&columns, scope)
    )
}

const OWN: [&str; 9] = ["event_time", "event_id", "via_share", "via_sharer", "campaign", "sku", "channel", "region", "rewarded"];
const BROUGHT: [&str; 7] = ["visits", "visitors", "new_customers", "orders", "paid", "refunded", "reshares"];

/// What came through each share but new customers: `brand`, `sharer_id`, `share_id`, [`BROUGHT`], `left_out`.
fn brought(scope: &Scope) -> String {
    let columns = ["brand", "customer_id", "via_sharer", "via_share", "visits", "orders", "paid", "refunded", "shares", "left_out"];
    format!(
        "SELECT event.brand AS brand, event.via_sharer AS sharer_id, event.via_share AS share_id, sum(event.visits) AS visits, \
         uniqExact(event.customer_id) AS visitors, toUInt64(0) AS new_customers, sum(event.orders) AS orders, sum(event.paid) AS paid, \
         sum(event.refunded) AS refunded, sum(event.shares) AS reshares, max(event.left_out) AS left_out \
         FROM ({}) AS event WHERE event.via_sharer != '' AND {} GROUP BY event.brand, event.via_sharer, event.via_share",
        own_events(&columns, scope),
        in_part(scope, "event.brand", "event.via_sharer")
    )
}

/// The columns of the table `shares`, and `is_made`, 1 if the share's own event is known.
pub(super) fn shares(scope: &Scope) -> String {
    const NOTHING_OWN: &str = "(toDateTime64(0, 3, 'UTC'), '', '', '', '', '', '', toUInt32(0), false)";
    const NOTHING_BROUGHT: &str = "toUInt64(0) AS visits, toUInt64(0) AS visitors, toUInt64(0) AS new_customers, toUInt64(0) AS orders, \
                                   toInt64(0) AS paid, toInt64(0) AS refunded, toUInt64(0) AS reshares";
    let key = "part.brand AS brand, part.sharer_id AS sharer_id, part.share_id AS share_id";
    format!(
        "SELECT {key}, max(part.own) AS known, max(part.is_made) AS is_made, known.3 AS parent_share_id, known.4 AS parent_sharer_id, \
         known.1 AS time, known.5 AS campaign, known.6 AS sku, known.7 AS channel, known.8 AS region, known.9 AS rewarded, {sums}, \
         max(part.left_out) AS left_out FROM (\
           SELECT {key}, part.own AS own, toUInt64(1) AS is_made, {NOTHING_BROUGHT}, part.left_out AS left_out FROM ({made}) AS part \
           UNION ALL \
           SELECT {key}, {NOTHING_OWN} AS own, toUInt64(0) AS is_made, part.visits, part.visitors, part.new_customers, part.orders, \
           part.paid, part.refunded, part.reshares, part.left_out AS left_out FROM ({brought}) AS part \
           UNION ALL \
           SELECT edge.brand AS brand, edge.parent_id AS sharer_id, edge.share_id AS share_id, {NOTHING_OWN} AS own, toUInt64(0) AS is_made, \
           toUInt64(0) AS visits, toUInt64(0) AS visitors, toUInt64(1) AS new_customers, toUInt64(0) AS orders, toInt64(0) AS paid, \
           toInt64(0) AS refunded, toUInt64(0) AS reshares, edge.left_out AS left_out FROM ({edges}) AS edge\
         ) AS part GROUP BY part.brand, part.sharer_id, part.share_id",
        sums = sums("part", &BROUGHT),
        made = made_shares(scope, &in_part(scope, "event.brand", "event.customer_id")),
        brought = brought(scope),
        edges = edges(scope),
    )
}

/// Shares passed on, with those that conflicts make possible: `brand`, `child_sharer`, `child_share`, `parent_sharer`, `parent_share`,
/// `left_out`. Of a part of the customers, those whose parent is its.
fn passed_on(scope: &Scope) -> String {
    let of_part = in_part(scope, "event.brand", "event.via_sharer");
    // All events of a share that may have been passed on from this part: the first of them decides.
    let children = format!(
        "(event.brand, event.customer_id, event.made_share) IN (SELECT event.brand, event.customer_id, event.made_share FROM ({}) AS event WHERE {of_part})",
        share_events(&["brand", "customer_id", "made_share", "via_sharer"], scope)
    );
    let certain = format!(
        "SELECT child.brand AS brand, child.sharer_id AS child_sharer, child.share_id AS child_share, parent.sharer_id AS parent_sharer, \
         parent.share_id AS parent_share, greatest(child.left_out, parent.left_out) AS left_out FROM ({children}) AS child \
         INNER JOIN ({parents}) AS parent ON parent.brand = child.brand AND parent.sharer_id = child.own.4 AND parent.share_id = child.own.3 \
         WHERE left_out OR (parent.own.1, parent.own.2) < (child.own.1, child.own.2)",
        children = made_shares(scope, if scope.part.is_some() { &children } else { "1" }),
        parents = made_shares(scope, &in_part(scope, "event.brand", "event.customer_id"))
    );
    if scope.conflicts.is_empty() {
        return certain;
    }
    let possible = share_events(&["brand", "customer_id", "made_share", "via_sharer", "via_share", "left_out"], scope);
    format!(
        "SELECT link.brand AS brand, link.child_sharer AS child_sharer, link.child_share AS child_share, link.parent_sharer AS parent_sharer, \
         link.parent_share AS parent_share, max(link.left_out) AS left_out FROM ({certain} UNION ALL \
           SELECT event.brand AS brand, event.customer_id AS child_sharer, event.made_share AS child_share, event.via_sharer AS parent_sharer, \
           event.via_share AS parent_share, event.left_out AS left_out FROM ({possible}) AS event WHERE event.left_out AND event.via_sharer != ''\
         ) AS link GROUP BY link.brand, link.child_sharer, link.child_share, link.parent_sharer, link.parent_share"
    )
}

const CASCADE: [&str; 6] = ["shares", "visits", "new_customers", "orders", "paid", "refunded"];

pub(super) fn share_cascades(scope: &Scope) -> String {
    let own = format!(
        "SELECT toUInt8(0) AS level, share.brand AS brand, share.sharer_id AS sharer_id, share.share_id AS share_id, \
         share.is_made AS shares, share.visits AS visits, share.new_customers AS new_customers, share.orders AS orders, \
         share.paid AS paid, share.refunded AS refunded, share.left_out AS left_out FROM ({}) AS share",
        shares(scope)
    );
    let step = |below: &str| {
        format!(
            "SELECT toUInt8(below.level + 1) AS level, link.brand AS brand, link.parent_sharer AS sharer_id, link.parent_share AS share_id, \
             {sums}, max(greatest(below.left_out, link.left_out)) AS left_out FROM {below} AS below \
             INNER JOIN ({links}) AS link ON link.brand = below.brand AND link.child_sharer = below.sharer_id AND link.child_share = below.share_id \
             WHERE below.level < {levels} GROUP BY level, link.brand, link.parent_sharer, link.parent_share",
            sums = sums("below", &CASCADE),
            links = passed_on(scope),
            levels = scope.levels,
        )
    };
    let layers = if by_levels(scope) {
        // Each level from what readers see on the one below.
        let seen = format!(
            "(SELECT cascade.level AS level, toString(cascade.brand) AS brand, cascade.sharer_id AS sharer_id, cascade.share_id AS share_id, \
             {columns}, toUInt8(0) AS left_out FROM v_share_cascades AS cascade WHERE 1{among})",
            columns = CASCADE.map(|column| format!("cascade.{column} AS {column}")).join(", "),
            among = among(scope, "cascade")
        );
        format!("{own} UNION ALL {}", step(&seen))
    } else {
        format!("WITH RECURSIVE layers AS ({own} UNION ALL {}) SELECT * FROM layers", step("layers"))
    };
    format!(
        "SELECT layer.* FROM ({layers}) AS layer WHERE layer.left_out OR {is_not_zero}",
        is_not_zero = is_not_zero("layer.shares, layer.visits, layer.new_customers, layer.orders, layer.paid, layer.refunded"),
    )
}

/// Columns of `customers` that the graph decides.
pub(super) const CUSTOMER_COLUMNS: [&str; 10] = [
    "referrer_id",
    "referral_share_id",
    "referred_direct",
    "referred_total",
    "share_visits",
    "share_visitors",
    "share_orders",
    "share_paid",
    "share_refunded",
    "reshares",
];

/// `brand`, `customer_id`, [`CUSTOMER_COLUMNS`] and `left_out` for everybody who has an own event or was named.
pub(super) fn customer_columns(scope: &Scope) -> String {
    let nobody = "'' AS referrer_id, '' AS referral_share_id";
    let none_below = "toUInt64(0) AS referred_direct, toUInt64(0) AS referred_total";
    let nothing_brought = "toUInt64(0) AS share_visits, toUInt64(0) AS share_visitors, toUInt64(0) AS share_orders, \
                           toInt64(0) AS share_paid, toInt64(0) AS share_refunded, toUInt64(0) AS reshares";
    let combined: Vec<String> = CUSTOMER_COLUMNS
        .iter()
        .map(|column| format!("{}(part.{column}) AS {column}", if column.ends_with("_id") { "max" } else { "sum" }))
        .collect();
    format!(
        "SELECT part.brand AS brand, part.customer_id AS customer_id, {combined}, max(part.left_out) AS left_out FROM (\
           SELECT child.brand AS brand, child.child_id AS customer_id, child.parent_id AS referrer_id, child.share_id AS referral_share_id, \
           {none_below}, {nothing_brought}, child.left_out AS left_out FROM ({referrals}) AS child \
           UNION ALL \
           SELECT layer.brand AS brand, layer.customer_id AS customer_id, {nobody}, \
           if(layer.level = 1, layer.customers, 0) AS referred_direct, layer.customers AS referred_total, {nothing_brought}, \
           layer.left_out AS left_out FROM ({subtrees}) AS layer WHERE {of_part} \
           UNION ALL \
           SELECT share.brand AS brand, share.sharer_id AS customer_id, {nobody}, {none_below}, share.visits AS share_visits, \
           share.visitors AS share_visitors, share.orders AS share_orders, share.paid AS share_paid, share.refunded AS share_refunded, \
           share.reshares AS reshares, share.left_out AS left_out FROM ({brought}) AS share\
         ) AS part GROUP BY part.brand, part.customer_id",
        combined = combined.join(", "),
        referrals = referrals(scope),
        subtrees = if scope.subtrees_are_right { seen_subtrees(scope) } else { subtrees(scope) },
        of_part = in_part(scope, "layer.brand", "layer.customer_id"),
        brought = brought(scope),
    )
}

/// A row of zeros and no row mean the same in the tables of levels.
pub(super) fn is_not_zero(columns: &str) -> String {
    format!("arrayExists(amount -> amount != 0, [{columns}]::Array(Int128))")
}

fn sums(relation: &str, columns: &[&str]) -> String {
    columns.iter().map(|column| format!("sum({relation}.{column}) AS {column}")).collect::<Vec<_>>().join(", ")
}
