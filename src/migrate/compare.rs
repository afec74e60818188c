//! Whether the tables on the server are the ones that this release writes and reads.

use std::collections::BTreeMap;
use std::fmt;

use clickhouse::Row;
use serde::Deserialize;

use super::schema::{Column, TableSchema, tables};
use crate::store::{Admin, AdminError};

/// One way in which the server's schema is not ours. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A table is not there.
    MissingTable {
        /// Name.
        table: String,
    },
    /// A table lacks a column.
    MissingColumn {
        /// Name.
        table: String,
        /// What it lacks.
        column: Column,
    },
    /// A column has another type.
    WrongType {
        /// Name.
        table: String,
        /// As it should be.
        expected: Column,
        /// Type on the server.
        found: String,
    },
    /// Rows would be merged or found by other rules.
    WrongLayout {
        /// Name.
        table: String,
        /// `engine`, `ORDER BY` or `PARTITION BY`.
        part: &'static str,
        /// As it should be.
        expected: String,
        /// As it is.
        found: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOVE_AWAY: &str = "rename the table, run `onecode migrate`, and copy its rows back";
        match self {
            Difference::MissingTable { table } => write!(f, "table `{table}` does not exist; run `onecode migrate`"),
            Difference::MissingColumn { table, column } => {
                write!(f, "table `{table}` has no column `{}` {}; run `onecode migrate`, or add the column", column.name, column.kind)
            }
            Difference::WrongType { table, expected, found } => {
                let Column { name, kind } = expected;
                write!(
                    f,
                    "column `{name}` of table `{table}` is {found} and must be {kind}; run `ALTER TABLE {table} MODIFY COLUMN {name} {kind}`, or {MOVE_AWAY}"
                )
            }
            Difference::WrongLayout { table, part, expected, found } => {
                write!(f, "the {part} of table `{table}` is `{found}` and must be `{expected}`; {MOVE_AWAY}")
            }
        }
    }
}

#[derive(Row, Deserialize)]
struct ServerTable {
    name: String,
    engine_full: String,
    partition_key: String,
    sorting_key: String,
}

#[derive(Row, Deserialize)]
struct ServerColumn {
    table: String,
    name: String,
    kind: String,
}

/// Compares every table that this release needs with the server's. Columns beyond ours are left alone.
///
/// # Errors
/// [`AdminError`] when the server cannot be asked, or the database does not exist.
pub async fn compare(admin: &Admin) -> Result<Vec<Difference>, AdminError> {
    let found = server_tables(admin).await?;
    Ok(tables().values().flat_map(|expected| differences(expected, found.get(&expected.name))).collect())
}

/// The tables of the current database as the server describes them, by name.
pub(super) async fn server_tables(admin: &Admin) -> Result<BTreeMap<String, TableSchema>, AdminError> {
    let tables: Vec<ServerTable> = admin
        .rows("SELECT name, engine_full, partition_key, sorting_key FROM system.tables WHERE database = currentDatabase() AND engine NOT LIKE '%View'")
        .await?;
    let columns: Vec<ServerColumn> = admin
        .rows("SELECT table, name, type AS kind FROM system.columns WHERE database = currentDatabase() ORDER BY table, position")
        .await?;
    let mut found: BTreeMap<String, TableSchema> = tables
        .into_iter()
        .map(|table| {
            let ServerTable { name, engine_full: engine, partition_key, sorting_key } = table;
            (name.clone(), TableSchema { name, columns: Vec::new(), engine, partition_key, sorting_key })
        })
        .collect();
    for ServerColumn { table, name, kind } in columns {
        if let Some(table) = found.get_mut(&table) {
            table.columns.push(Column { name, kind });
        }
    }
    Ok(found)
}

fn differences(expected: &TableSchema, found: Option<&TableSchema>) -> Vec<Difference> {
    let table = expected.name.clone();
    let Some(found) = found else { return vec![Difference::MissingTable { table }] };
    let mut differences = Vec::new();
    for column in &expected.columns {
        match found.columns.iter().find(|candidate| candidate.name == column.name) {
            None => differences.push(Difference::MissingColumn { table: table.clone(), column: column.clone() }),
            Some(candidate) if candidate.kind != column.kind => {
                differences.push(Difference::WrongType { table: table.clone(), expected: column.clone(), found: candidate.kind.clone() });
            }
            Some(_) => {}
        }
    }
    let layout = [
        ("engine", &expected.engine, engine(&found.engine)),
        ("ORDER BY", &expected.sorting_key, found.sorting_key.clone()),
        ("PARTITION BY", &expected.partition_key, found.partition_key.clone()),
    ];
    for (part, expected, found) in layout {
        if *expected != found {
            differences.push(Difference::WrongLayout { table: table.clone(), part, expected: expected.clone(), found });
        }
    }
    differences
}

/// The engine with its parameters, without what replication adds to them: `ReplicatedReplacingMergeTree('/path', '{replica}', version)`
/// replaces rows as `ReplacingMergeTree(version)` does.
fn engine(engine_full: &str) -> String {
    let head = engine_full.split(" PARTITION BY ").next().unwrap_or_default();
    let head = head.split(" ORDER BY ").next().unwrap_or_default();
    let Some((name, parameters)) = head.split_once('(') else { return head.to_owned() };
    let parameters = parameters.trim_end_matches(')');
    let Some(name) = ["Replicated", "Shared"].iter().find_map(|prefix| name.strip_prefix(prefix)) else { return head.to_owned() };
    let own: Vec<&str> = parameters.split(", ").filter(|parameter| !parameter.starts_with('\'')).collect();
    if own.is_empty() { name.to_owned() } else { format!("{name}({})", own.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customers() -> TableSchema {
        tables().get("customers").cloned().expect("customers")
    }

    #[test]
    fn each_kind_of_difference_is_found_and_says_what_to_do() {
        let expected = customers();
        let message = |change: &dyn Fn(&mut TableSchema)| {
            let mut found = expected.clone();
            change(&mut found);
            let texts: Vec<String> = differences(&expected, Some(&found)).iter().map(ToString::to_string).collect();
            assert_eq!(texts.len(), 1, "{texts:?}");
            texts.concat()
        };
        assert!(
            message(&|table| table.columns.retain(|column| column.name != "paid"))
                .contains("no column `paid` Int64; run `onecode migrate`")
        );
        let wrong_type = message(&|table| table.columns[1].kind = "UInt64".to_owned());
        assert!(wrong_type.contains("`customer_id` of table `customers` is UInt64 and must be String"), "{wrong_type}");
        assert!(message(&|table| table.engine = "MergeTree".to_owned()).contains("must be `ReplacingMergeTree(version)`"));
        assert!(message(&|table| table.sorting_key = "customer_id".to_owned()).contains("ORDER BY"));
        assert!(message(&|table| table.partition_key = "brand".to_owned()).contains("PARTITION BY"));
        let missing = differences(&expected, None);
        assert!(missing[0].to_string().contains("table `customers` does not exist; run `onecode migrate`"), "{missing:?}");
    }

    #[test]
    fn columns_that_others_added_are_left_alone() {
        let mut found = customers();
        found.columns.push(Column { name: "note".to_owned(), kind: "String".to_owned() });
        assert_eq!(differences(&customers(), Some(&found)), []);
    }

    #[test]
    fn replicated_engines_count_as_their_plain_ones() {
        assert_eq!(engine("ReplacingMergeTree(version) ORDER BY a"), "ReplacingMergeTree(version)");
        assert_eq!(engine("ReplicatedReplacingMergeTree('/p/{shard}', '{replica}', version) ORDER BY a"), "ReplacingMergeTree(version)");
        assert_eq!(engine("ReplicatedReplacingMergeTree('/p', '{replica}') PARTITION BY b ORDER BY a"), "ReplacingMergeTree");
        assert_eq!(
            engine("SharedReplacingMergeTree('/p', '{replica}', sequence, is_deleted) ORDER BY a"),
            "ReplacingMergeTree(sequence, is_deleted)"
        );
    }
}
