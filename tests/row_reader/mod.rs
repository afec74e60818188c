//! Reads the RowBinary that the pipeline writes, and keeps the rows as ReplacingMergeTree would.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;

use onecode::rows::{RowBuffer, ServingRows, Table};

use crate::oracle::{Tables, Value};

/// Types of the columns in order: `s` text, `1` UInt8, `2` UInt16 and Date, `4` UInt32 and DateTime, `8` UInt64, `i` Int64 and DateTime64;
/// and how many of them are the key.
fn shape(table: Table) -> (&'static str, usize) {
    match table {
        Table::Customers => ("ssisiiiiss88888888ii488888ii88", 2),
        Table::CustomerDays => ("ss24444444ii8", 3),
        Table::ActivityMinute => ("s4ss4s8888888ii888", 6),
        Table::ActivityDay => ("s2sss4s8888888ii888", 7),
        Table::ActiveCustomersDay => ("s2s88888", 3),
        Table::Scans | Table::Purchases | Table::ShareEvents => panic!("{table:?} is an archive"),
    }
}

/// Takes columns off the front of encoded rows.
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("a whole column");
        self.0 = rest;
        *head
    }

    pub fn length(&mut self) -> usize {
        let (mut length, mut shift) = (0, 0);
        loop {
            let [byte] = self.bytes();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return length;
            }
        }
    }

    pub fn value(&mut self, column: char) -> Value {
        Value::Number(match column {
            's' => {
                let length = self.length();
                let (head, rest) = self.0.split_at(length);
                self.0 = rest;
                return Value::Text(String::from_utf8(head.to_vec()).expect("UTF-8"));
            }
            '1' => u8::from_le_bytes(self.bytes()).into(),
            '2' => u16::from_le_bytes(self.bytes()).into(),
            '4' => u32::from_le_bytes(self.bytes()).into(),
            '8' => u64::from_le_bytes(self.bytes()).into(),
            'i' => i64::from_le_bytes(self.bytes()).into(),
            _ => panic!("no such column type: {column}"),
        })
    }
}

/// The newest row of each key.
#[derive(Clone, Debug, Default)]
pub struct Served {
    rows: BTreeMap<(Table, Vec<Value>), (Value, Vec<Value>)>,
}

impl Served {
    /// Inserts rows: the higher version wins; equal versions must agree.
    pub fn insert(&mut self, rows: &ServingRows) {
        for (table, buffer) in rows.tables() {
            self.insert_table(table, buffer);
        }
    }

    fn insert_table(&mut self, table: Table, buffer: &RowBuffer) {
        let (columns, key_columns) = shape(table);
        assert_eq!(columns.len(), table.columns().len(), "{table:?}");
        let mut reader = Reader(buffer.bytes());
        for _ in 0..buffer.rows() {
            let mut key: Vec<Value> = columns.chars().map(|column| reader.value(column)).collect();
            let mut values = key.split_off(key_columns);
            let version = values.pop().expect("a version");
            match self.rows.get(&(table, key.clone())) {
                Some((known, _)) if *known > version => continue,
                Some((known, old)) if *known == version => assert_eq!(*old, values, "{table:?} {key:?} says two things with one version"),
                _ => {}
            }
            self.rows.insert((table, key), (version, values));
        }
        assert!(reader.0.is_empty(), "bytes after the last row of {table:?}");
    }

    /// What a reader sees under FINAL.
    pub fn tables(&self) -> Tables {
        self.rows.iter().map(|(key, (_, values))| (key.clone(), values.clone())).collect()
    }
}
