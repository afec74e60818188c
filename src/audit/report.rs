//! What an audit found, for a person and for a program.

use std::fmt;

use serde_json::{Value, json};

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were audited.
    pub tables: Vec<TableReport>,
    /// Customers that were left out, because of conflicts.
    pub left_out_customers: usize,
    /// Every identity that the archive has with several contents.
    pub conflicts: Vec<Conflict>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// Name.
    pub table: &'static str,
    /// Rows that were compared: expected, seen, or both.
    pub rows: u64,
    /// Rows that were not compared, because of conflicts.
    pub left_out: u64,
    /// How many of the compared ones differ.
    pub differences: u64,
    /// The first of them by key.
    pub listed: Vec<RowDifference>,
}

/// Column names and values of a row's key, in the table's order.
pub type Key = Vec<(String, String)>;

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowDifference {
    /// The archive asks for a row that is not there.
    Missing {
        /// Which.
        key: Key,
    },
    /// A row is there that the archive does not ask for.
    Unexpected {
        /// Which.
        key: Key,
    },
    /// A row has other values.
    Wrong {
        /// Which.
        key: Key,
        /// What differs.
        columns: Vec<ColumnDifference>,
    },
    /// A view shows one key more than once.
    Repeated {
        /// Which.
        key: Key,
        /// How often.
        rows: u64,
    },
}

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDifference {
    /// Name.
    pub column: String,
    /// By the archive.
    pub expected: String,
    /// By the view.
    pub seen: String,
}

/// An identity with several contents in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Brand.
    pub brand: String,
    /// Customer.
    pub customer_id: String,
    /// `scan`, `purchase` or `share`.
    pub kind: &'static str,
    /// Event id.
    pub event_id: String,
    /// How many contents.
    pub contents: u64,
}

impl Report {
    /// Rows that differ, in all tables.
    pub fn differences(&self) -> u64 {
        self.tables.iter().map(|table| table.differences).sum()
    }

    /// Rows that were compared, in all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// The whole report as one JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "differences": self.differences(),
            "rows": self.rows(),
            "tables": self.tables.iter().map(TableReport::to_json).collect::<Vec<_>>(),
            "left_out_customers": self.left_out_customers,
            "conflicts": self.conflicts.iter().map(Conflict::to_json).collect::<Vec<_>>(),
        })
    }

    /// The last line.
    pub fn verdict(&self) -> String {
        format!("audit: {} differences in {} rows of {} tables", self.differences(), self.rows(), self.tables.len())
    }
}

impl TableReport {
    fn to_json(&self) -> Value {
        json!({
            "table": self.table,
            "rows": self.rows,
            "left_out": self.left_out,
            "differences": self.differences,
            "listed": self.listed.iter().map(RowDifference::to_json).collect::<Vec<_>>(),
        })
    }
}

/// One line for the table, and one for each listed difference.
impl fmt::Display for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} differences in {} rows", self.table, self.differences, self.rows)?;
        if self.left_out > 0 {
            write!(f, ", {} more were left out", self.left_out)?;
        }
        writeln!(f)?;
        for difference in &self.listed {
            writeln!(f, "  {difference}")?;
        }
        match self.differences - self.listed.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

impl RowDifference {
    /// Of the row.
    pub fn key(&self) -> &Key {
        let (RowDifference::Missing { key }
        | RowDifference::Unexpected { key }
        | RowDifference::Wrong { key, .. }
        | RowDifference::Repeated { key, .. }) = self;
        key
    }

    fn to_json(&self) -> Value {
        let object = |key: &Key| Value::Object(key.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect());
        match self {
            RowDifference::Missing { key } => json!({"key": object(key), "difference": "missing"}),
            RowDifference::Unexpected { key } => json!({"key": object(key), "difference": "unexpected"}),
            RowDifference::Repeated { key, rows } => json!({"key": object(key), "difference": "repeated", "rows": rows}),
            RowDifference::Wrong { key, columns } => {
                let columns: serde_json::Map<String, Value> = columns
                    .iter()
                    .map(|column| (column.column.clone(), json!({"expected": column.expected, "seen": column.seen})))
                    .collect();
                json!({"key": object(key), "difference": "wrong", "columns": columns})
            }
        }
    }
}

impl fmt::Display for RowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |key: &Key| key.iter().map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>().join(" ");
        match self {
            RowDifference::Missing { key } => write!(f, "missing: {}", shown(key)),
            RowDifference::Unexpected { key } => write!(f, "unexpected: {}", shown(key)),
            RowDifference::Repeated { key, rows } => write!(f, "seen {rows} times: {}", shown(key)),
            RowDifference::Wrong { key, columns } => {
                write!(f, "wrong: {}:", shown(key))?;
                for ColumnDifference { column, expected, seen } in columns {
                    write!(f, " {column} is {seen:?} and must be {expected:?};")?;
                }
                Ok(())
            }
        }
    }
}

impl Conflict {
    fn to_json(&self) -> Value {
        json!({
            "brand": self.brand,
            "customer_id": self.customer_id,
            "kind": self.kind,
            "event_id": self.event_id,
            "contents": self.contents,
        })
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { brand, customer_id, kind, event_id, contents } = self;
        write!(f, "conflict: {kind} {event_id:?} of customer {customer_id:?} of {brand:?} is in the archive with {contents} contents")
    }
}
