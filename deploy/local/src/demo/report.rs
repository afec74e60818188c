//! What the demo shows at its end: tables that ClickHouse draws from the v_ views, and where to look further.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::screen::Screen;
use super::stack::{DATABASE, Stack};

/// Title and query. One for each thing worth a look: the referral tree and the top sharers take their places here.
const SECTIONS: [(&str, &str); 5] = [
    (
        "Best customers by net value",
        "SELECT customer_id, orders, refunds, toDecimalString((paid - refunded) / 100, 2) AS net, scans, draws, active_days \
         FROM v_customers ORDER BY paid - refunded DESC, customer_id LIMIT 5",
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
        "Codes that too many customers hold: copies of one label",
        "SELECT code, customers, scans, regions, devices, first_customer FROM v_codes ORDER BY customers DESC, code LIMIT 3",
    ),
    ("Active customers by day", "SELECT day, active, scanners, buyers, sharers FROM v_active_customers_day ORDER BY day DESC LIMIT 3"),
];

const FORMAT: &str = "FORMAT PrettyCompactNoEscapes SETTINGS output_format_pretty_row_numbers = 0";

/// Shows every section.
pub(super) fn show(stack: &Stack, screen: &mut Screen) -> Result<()> {
    for (title, sql) in SECTIONS {
        let table = stack.clickhouse.query_in(DATABASE, &format!("{sql} {FORMAT}"));
        screen.heading(title)?;
        screen.line(table.with_context(|| format!("cannot show: {title}"))?.trim_end())?;
    }
    Ok(())
}

/// Says how to look further while everything runs. `onecode` is the program.
pub(super) fn show_next_steps(stack: &Stack, onecode: &Path, screen: &mut Screen) -> Result<()> {
    let best =
        stack.clickhouse.query_in(DATABASE, "SELECT customer_id FROM v_customers ORDER BY paid - refunded DESC, customer_id LIMIT 1")?;
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
    screen.line(&format!("  {onecode} dead-letter list --limit 10 --config {config}"))?;
    screen.line("  docker compose -f deploy/compose.yaml up --build     # the same with Prometheus and Grafana's dashboards")?;
    Ok(())
}
