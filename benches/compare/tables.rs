//! What each table of a database cost ClickHouse: inserts and merges, from its own logs. They cost something themselves, so only on request.

use anyhow::Result;

use super::common::servers::Servers;

/// Elements of the server's configuration that keep the logs which [`print`] reads.
pub const LOGS: &str = "<query_log><database>system</database><table>query_log</table></query_log>\n\
     <part_log><database>system</database><table>part_log</table></part_log>\n";

const CPU_S: &str = "(ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds']) / 1e6";

/// Prints a line for each table: how many inserts and merges, of how many rows, in how many seconds of processor time.
pub fn print(servers: &Servers, database: &str) -> Result<()> {
    servers.clickhouse.query("SYSTEM FLUSH LOGS")?;
    let inserts = format!(
        "SELECT arrayElement(tables, 1) AS name, count() AS times, sum(written_rows) AS rows, sum({CPU_S}) AS cpu_s FROM system.query_log \
         WHERE type = 'QueryFinish' AND query_kind = 'Insert' AND startsWith(name, '{database}.') GROUP BY name"
    );
    let merges = format!(
        "SELECT concat(database, '.', table) AS name, count() AS times, sum(rows) AS rows, sum({CPU_S}) AS cpu_s FROM system.part_log \
         WHERE event_type = 'MergeParts' AND database = '{database}' GROUP BY name"
    );
    let both = format!(
        "SELECT name, i.times, i.rows, round(i.cpu_s, 3), m.times, m.rows, round(m.cpu_s, 3) FROM ({inserts}) AS i FULL JOIN ({merges}) AS m USING (name) \
         ORDER BY i.cpu_s + m.cpu_s DESC FORMAT PrettyCompactMonoBlock"
    );
    println!("{}", servers.clickhouse.query(&both)?);
    Ok(())
}
