//! What `onecode customer` prints for people.

use std::io::Write;

use serde_json::{Map, Value};

use super::super::table::{plain, write_table};
use super::{ArchivedEvent, Customer, DayFacts, Facts, ShareFacts};

pub(super) fn write_customer(out: &mut impl Write, customer: &Customer) -> anyhow::Result<()> {
    let facts = &customer.facts;
    writeln!(out, "customer {} of brand {}", plain(&facts.customer_id), facts.brand)?;
    write_table(out, ["", ""], &moments(facts))?;
    write_counts(out, facts)?;
    match &customer.measures {
        Some(measures) => write_measures(out, measures)?,
        None => writeln!(out, "\nno measures: customer_segments was not refreshed since the first event, or there is none")?,
    }
    write_sharing(out, customer)?;
    if !customer.days.is_empty() {
        writeln!(out, "\nthe newest {} of {} active days", customer.days.len(), facts.active_days)?;
        let rows: Vec<_> = customer.days.iter().map(day_row).collect();
        write_table(out, ["day", "scans", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded"], &rows)?;
    }
    if !customer.events.is_empty() {
        writeln!(out, "\nthe newest {} events", customer.events.len())?;
        let rows: Vec<_> = customer.events.iter().map(event_row).collect();
        write_table(out, ["time", "kind", "subject", "amount", "detail", "campaign", "region", "channel", "came by", "event id"], &rows)?;
    }
    writeln!(out)?;
    Ok(())
}

fn moments(facts: &Facts) -> Vec<[String; 2]> {
    let moment = |time: &Option<String>| time.clone().unwrap_or_else(|| "never".to_owned());
    let first = match &facts.first_event_time {
        Some(time) => format!("{time} ({})", facts.first_event_id),
        None => "never: only named as a sharer".to_owned(),
    };
    let referrer = match facts.referrer_id.as_str() {
        "" => "nobody".to_owned(),
        referrer => format!("{referrer} by share {}", facts.referral_share_id),
    };
    let rows = [
        ("first event", first),
        ("last event", moment(&facts.last_event_time)),
        ("last scan", moment(&facts.last_scan_time)),
        ("last purchase", moment(&facts.last_purchase_time)),
        ("last share", moment(&facts.last_share_time)),
        ("brought by", referrer),
    ];
    rows.map(|(name, value)| [name.to_owned(), value]).to_vec()
}

fn write_counts(out: &mut impl Write, facts: &Facts) -> anyhow::Result<()> {
    let did = [
        ("scans", facts.scans.to_string()),
        ("verifies", facts.verifies.to_string()),
        ("draws", facts.draws.to_string()),
        ("joins", facts.joins.to_string()),
        ("visits", facts.visits.to_string()),
        ("shares", facts.shares.to_string()),
        ("orders", facts.orders.to_string()),
        ("refunds", facts.refunds.to_string()),
        ("paid", facts.paid.to_string()),
        ("refunded", facts.refunded.to_string()),
        ("active days", facts.active_days.to_string()),
    ];
    writeln!(out, "\ndid")?;
    write_table(out, did.each_ref().map(|(name, _)| *name), &[did.each_ref().map(|(_, value)| value.clone())])?;
    let brought = [
        ("customers", facts.referred_direct.to_string()),
        ("in all", facts.referred_total.to_string()),
        ("visits", facts.share_visits.to_string()),
        ("visitors", facts.share_visitors.to_string()),
        ("orders", facts.share_orders.to_string()),
        ("paid", facts.share_paid.to_string()),
        ("refunded", facts.share_refunded.to_string()),
        ("reshares", facts.reshares.to_string()),
    ];
    if brought.iter().any(|(_, value)| value != "0") {
        writeln!(out, "\nbrought by sharing")?;
        write_table(out, brought.each_ref().map(|(name, _)| *name), &[brought.each_ref().map(|(_, value)| value.clone())])?;
    }
    Ok(())
}

/// The measures in groups; a column that is not named here is in the JSON alone.
const MEASURES: [(&str, &[&str]); 6] = [
    ("value", &["tier", "next_tier", "gap_to_next_tier", "net_365d", "net_90d", "net_30d", "orders_365d"]),
    ("lifetime value", &["ltv_history", "ltv_present", "ltv_potential", "ltv_referral", "ltv_method"]),
    ("RFM", &["rfm_segment", "recency_days", "frequency_days", "rfm_r", "rfm_f", "rfm_m"]),
    ("life", &["lifecycle", "inactive_days", "activity_interval_days", "p_alive", "spend_drop", "churn_band"]),
    ("word of mouth", &["wom_value", "influence", "interaction_frequency", "wom_rank", "wom_top", "manual_pick", "layer", "quadrant"]),
    ("lists", &["flags", "reasons"]),
];

fn write_measures(out: &mut impl Write, measures: &Map<String, Value>) -> anyhow::Result<()> {
    writeln!(out, "\nmeasures as of {}", measures.get("as_of").map_or_else(|| "an unknown moment".to_owned(), shown))?;
    let rows = MEASURES.map(|(group, names)| {
        let values = names.iter().filter_map(|name| measures.get(*name).map(|value| format!("{name} {}", shown(value))));
        [group.to_owned(), values.collect::<Vec<_>>().join(", ")]
    });
    Ok(write_table(out, ["", ""], &rows)?)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or_default()),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

/// The tree by level, the best customers brought, the most visited shares.
fn write_sharing(out: &mut impl Write, customer: &Customer) -> anyhow::Result<()> {
    if !customer.tree.is_empty() {
        writeln!(out, "\nbelow in the referral tree")?;
        let rows: Vec<_> = customer
            .tree
            .iter()
            .map(|level| {
                [level.level.to_string(), level.customers.to_string(), level.orders.to_string(), (level.paid - level.refunded).to_string()]
            })
            .collect();
        write_table(out, ["level", "customers", "orders", "net"], &rows)?;
    }
    if !customer.brought.is_empty() {
        writeln!(out, "\nthe best {} of {} customers brought", customer.brought.len(), customer.facts.referred_direct)?;
        let rows: Vec<_> = customer
            .brought
            .iter()
            .map(|child| {
                let net = (child.paid - child.refunded).to_string();
                [
                    child.customer_id.clone(),
                    child.first_event_time.clone(),
                    child.share_id.clone(),
                    child.orders.to_string(),
                    net,
                    child.referred_total.to_string(),
                ]
            })
            .collect();
        write_table(out, ["customer", "first event", "by share", "orders", "net", "brought in all"], &rows)?;
    }
    if !customer.shares.is_empty() {
        writeln!(out, "\nthe most visited {} shares", customer.shares.len())?;
        let rows: Vec<_> = customer.shares.iter().map(share_row).collect();
        write_table(
            out,
            ["share", "time", "campaign", "channel", "visits", "visitors", "new customers", "orders", "net", "reshares"],
            &rows,
        )?;
    }
    Ok(())
}

fn share_row(share: &ShareFacts) -> [String; 10] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        share.share_id.clone(),
        share.time.clone().unwrap_or_else(|| "never seen".to_owned()),
        or_dash(&share.campaign),
        or_dash(&share.channel),
        share.visits.to_string(),
        share.visitors.to_string(),
        share.new_customers.to_string(),
        share.orders.to_string(),
        (share.paid - share.refunded).to_string(),
        share.reshares.to_string(),
    ]
}

fn day_row(day: &DayFacts) -> [String; 10] {
    [
        day.day.clone(),
        day.scans.to_string(),
        day.draws.to_string(),
        day.joins.to_string(),
        day.visits.to_string(),
        day.shares.to_string(),
        day.orders.to_string(),
        day.refunds.to_string(),
        day.paid.to_string(),
        day.refunded.to_string(),
    ]
}

fn event_row(event: &ArchivedEvent) -> [String; 10] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let came_by = match event.via_sharer_id.as_str() {
        "" => "-".to_owned(),
        sharer => format!("{sharer}/{}", event.via_share_id),
    };
    [
        event.event_time.clone(),
        event.kind.clone(),
        event.subject.clone(),
        if matches!(event.kind.as_str(), "payment" | "refund") { event.amount.to_string() } else { "-".to_owned() },
        or_dash(&event.detail),
        or_dash(&event.campaign),
        if event.region == 0 { "-".to_owned() } else { event.region.to_string() },
        or_dash(&event.channel),
        came_by,
        event.event_id.clone(),
    ]
}
