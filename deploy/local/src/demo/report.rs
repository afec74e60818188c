//! What the demo shows at its end: tables that ClickHouse draws from the v_ views, and where to look further.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::interrupt::Interrupt;
use super::screen::Screen;
use super::stack::{DATABASE, Stack};

/// Title and query. One for each thing worth a look.
const SECTIONS: [(&str, &str); 10] = [
    (
        "Best customers by net value",
        "SELECT customer_id, orders, refunds, toDecimalString((paid - refunded) / 100, 2) AS net, scans, draws, active_days \
         FROM v_customers ORDER BY paid - refunded DESC, customer_id LIMIT 5",
    ),
    (
        "Tiers by net value of a year",
        "SELECT tier, count() AS customers, countIf(member) AS members, toDecimalString(sum(net_365d) / 100, 2) AS net, \
         countIf(lifecycle IN ('new', 'active')) AS new_or_active, countIf(churn_band = 'high') AS leaving FROM customer_segments \
         GROUP BY tier ORDER BY indexOf(['diamond', 'platinum', 'gold', 'silver', 'none'], tier)",
    ),
    (
        "Top word-of-mouth customers: what they brought x how busy they are",
        "SELECT wom_rank AS rank, customer_id, round(wom_value) AS word_of_mouth, round(influence, 1) AS influence, interaction_frequency AS interactions, \
         tier, lifecycle, toDecimalString(ltv_referral / 100, 2) AS referred_net FROM v_segment_high_word_of_mouth ORDER BY wom_rank LIMIT 5",
    ),
    (
        "Campaigns",
        "SELECT if(campaign = '', '(none)', campaign) AS campaign, sum(c.scans) AS scans, sum(c.new_customers) AS new_customers, \
         sum(c.orders) AS orders, toDecimalString((sum(c.paid) - sum(c.refunded)) / 100, 2) AS net FROM v_activity_day AS c \
         GROUP BY campaign ORDER BY sum(c.paid) - sum(c.refunded) DESC, campaign LIMIT 5",
    ),
    (
        "Channels",
        "SELECT if(channel = '', '(none)', channel) AS channel, sum(c.scans) AS scans, sum(c.new_customers) AS new_customers, \
         sum(c.orders) AS orders, toDecimalString((sum(c.paid) - sum(c.refunded)) / 100, 2) AS net FROM v_activity_day AS c \
         GROUP BY channel ORDER BY scans DESC, channel LIMIT 5",
    ),
    (
        "Riskiest codes: copies of one label, journeys that nobody can make, wrong check digits",
        "SELECT code, risk_score AS risk, verdict, arrayStringConcat(risk_reasons, ', ') AS reasons, customers, regions, scans FROM v_codes \
         WHERE verdict != 'genuine' ORDER BY risk_score DESC, has(risk_reasons, 'impossible_travel') DESC, customers DESC, code LIMIT 5",
    ),
    (
        "Growth: how many of the new customers were brought by customers",
        "SELECT day, sum(d.new_customers) AS new_customers, sum(d.referred_customers) AS brought, \
         toDecimalString(sum(d.referred_customers) / greatest(sum(d.new_customers), 1), 3) AS referred_new_share \
         FROM v_activity_day AS d GROUP BY day ORDER BY day DESC LIMIT 3",
    ),
    (
        "From link to order",
        "SELECT count() AS shares, sum(s.visits) AS visits, sum(s.visitors) AS visitors, sum(s.new_customers) AS new_customers, \
         sum(s.orders) AS orders, toDecimalString(sum(s.paid - s.refunded) / 100, 2) AS net, sum(s.reshares) AS passed_on FROM v_shares AS s",
    ),
    (
        "Top sharers by what they brought",
        "SELECT customer_id, referred_direct, referred_total, shares, share_visits, share_visitors, share_orders, \
         toDecimalString((share_paid - share_refunded) / 100, 2) AS share_net, reshares \
         FROM v_customers WHERE share_visits > 0 ORDER BY referred_direct DESC, share_paid - share_refunded DESC, customer_id LIMIT 5",
    ),
    ("Active customers by day", "SELECT day, active, scanners, buyers, sharers FROM v_active_customers_day ORDER BY day DESC LIMIT 3"),
];

const FORMAT: &str = "FORMAT PrettyCompactNoEscapes SETTINGS output_format_pretty_row_numbers = 0";

/// The root of the largest referral tree.
const BIGGEST_TREE: &str =
    "SELECT customer_id FROM v_customers WHERE referrer_id = '' ORDER BY referred_total DESC, customer_id LIMIT 1 FORMAT TSVRaw";

/// Shows every section, and the biggest tree.
pub(super) fn show(stack: &Stack, interrupt: &Interrupt, screen: &mut Screen) -> Result<()> {
    for refresh in ["SYSTEM REFRESH VIEW customer_segments", "SYSTEM WAIT VIEW customer_segments"] {
        stack.clickhouse.query_in(DATABASE, refresh).context("cannot measure the customers")?;
    }
    for (title, sql) in SECTIONS {
        let table = stack.clickhouse.query_in(DATABASE, &format!("{sql} {FORMAT}"));
        screen.heading(title)?;
        screen.line(table.with_context(|| format!("cannot show: {title}"))?.trim_end())?;
    }
    screen.heading("The biggest tree of customers who brought customers")?;
    let root = stack.clickhouse.query_in(DATABASE, BIGGEST_TREE)?;
    let tree = ["tree", root.trim_end(), "--depth", "6", "--children", "2", "--lines", "8"];
    ensure!(stack.run(&tree, interrupt)?, "`onecode tree` failed");
    Ok(())
}

/// Says how to look further while everything runs. `onecode` is the program.
pub(super) fn show_next_steps(stack: &Stack, onecode: &Path, screen: &mut Screen) -> Result<()> {
    let best =
        stack.clickhouse.query_in(DATABASE, "SELECT customer_id FROM v_customers ORDER BY paid - refunded DESC, customer_id LIMIT 1")?;
    let root = stack.clickhouse.query_in(DATABASE, BIGGEST_TREE)?;
    let (url, http, config, onecode) = (stack.clickhouse.url(), stack.http_url(), stack.config.display(), onecode.display());
    let until = if screen.is_terminal() { "" } else { " (on a terminal everything stays up; --keep-data keeps what is there)" };
    screen.heading(&format!("Look further{until}"))?;
    for sql in [
        "SELECT * FROM v_customers ORDER BY paid DESC LIMIT 3 FORMAT Vertical",
        "SELECT minute, sum(scans), sum(orders) FROM v_activity_minute GROUP BY minute ORDER BY minute FORMAT PrettyCompact",
    ] {
        screen.line(&format!("  curl '{url}/?database={DATABASE}' --data-binary '{sql}'"))?;
    }
    screen.line(&format!("  curl {http}/status"))?;
    screen.line(&format!("  curl {http}/metrics"))?;
    screen.line(&format!("  {onecode} customer {} --config {config}", best.trim_end()))?;
    screen.line(&format!("  {onecode} tree {} --config {config}", root.trim_end()))?;
    screen.line(&format!("  {onecode} dead-letter list --limit 10 --config {config}"))?;
    screen.line("  docker compose -f deploy/compose.yaml up --build     # the same with Prometheus and Grafana's dashboards")?;
    Ok(())
}
