//! Reads the RowBinary that the pipeline writes, and keeps the rows as ReplacingMergeTree would.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;

use onecode::rows::{RowBuffer, ServingRows, Table};

use crate::oracle::{Tables, Value};

/// Types of the columns in order: `s` text, `1` UInt8, `2` UInt16 and Date, `4` UInt32 and DateTime, `8` UInt64, `i` Int64 and DateTime64,
/// `a`, `b`, `c` arrays of `s`, `4`, `i`; and how many of them are the key. A serving table ends with the version.
pub fn shape(table: Table) -> (&'static str, usize) {
    match table {
        Table::Customers => ("ssisiiiiss88888888ii488888ii88", 2),
        Table::CustomerDays => ("ss24444444ii8", 3),
        Table::ActivityMinute => ("s4ss4s8888888ii888", 6),
        Table::ActivityDay => ("s2sss4s8888888ii888", 7),
        Table::ActiveCustomersDay => ("s2s88888", 3),
        Table::Scans => ("ssisssssssss4ssss", 5),
        Table::Purchases => ("ssisssisabcsss4ss", 4),
        Table::ShareEvents => ("ssissssss4s1", 4),
        Table::Referrals => ("ssssi8", 2),
        Table::CustomerSubtrees => ("ss1288ii8", 4),
        Table::Shares => ("sssssisss418888ii88", 3),
        Table::ShareCascades => ("sss18888ii8", 4),
    }
}

/// Takes columns off the front of encoded rows.
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
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

    /// A `String` of any bytes.
    pub fn blob(&mut self) -> Vec<u8> {
        let length = self.length();
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head.to_vec()
    }

    pub fn value(&mut self, column: char) -> Value {
        Value::Number(match column {
            'a' => return self.array('s'),
            'b' => return self.array('4'),
            'c' => return self.array('i'),
            's' => return Value::Text(String::from_utf8(self.blob()).expect("UTF-8")),
            '1' => u8::from_le_bytes(self.bytes()).into(),
            '2' => u16::from_le_bytes(self.bytes()).into(),
            '4' => u32::from_le_bytes(self.bytes()).into(),
            '8' => u64::from_le_bytes(self.bytes()).into(),
            'i' => i64::from_le_bytes(self.bytes()).into(),
            _ => panic!("no such column type: {column}"),
        })
    }

    /// An array as a text: `[1, 2]`.
    fn array(&mut self, element: char) -> Value {
        let elements: Vec<String> = (0..self.length())
            .map(|_| match self.value(element) {
                Value::Text(text) => text,
                Value::Number(number) => number.to_string(),
            })
            .collect();
        Value::Text(format!("[{}]", elements.join(", ")))
    }

    /// Takes a column off without looking at it.
    pub fn skip(&mut self, column: char) {
        let bytes = match column {
            '1' => 1,
            '2' => 2,
            '4' => 4,
            '8' | 'i' => 8,
            's' => self.length(),
            'a' | 'b' | 'c' => {
                let element = match column {
                    'a' => 's',
                    'b' => '4',
                    _ => 'i',
                };
                for _ in 0..self.length() {
                    self.skip(element);
                }
                0
            }
            _ => panic!("no such column type: {column}"),
        };
        self.0 = self.0.split_at(bytes).1;
    }
}

/// One row, undecoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRow {
    pub key: Vec<u8>,
    pub values: Vec<u8>,
    /// 0 in an archive.
    pub version: u64,
}

/// The rows of a buffer, undecoded.
pub fn raw_rows(table: Table, buffer: &RowBuffer) -> Vec<RawRow> {
    let (columns, key_columns) = shape(table);
    assert_eq!(columns.len(), table.columns().len(), "{table:?}");
    let bytes = buffer.row_binary();
    let mut reader = Reader(&bytes);
    let mut take = |columns: &str| {
        let before = reader.0;
        columns.chars().for_each(|column| reader.skip(column));
        before[..before.len() - reader.0.len()].to_vec()
    };
    let (key, values) = columns.split_at(key_columns);
    (0..buffer.rows())
        .map(|_| {
            let (key, mut values) = (take(key), take(values));
            let version_at = if table.is_archive() { values.len() } else { values.len() - 8 };
            let version = values.split_off(version_at);
            RawRow { key, values, version: version.try_into().map_or(0, u64::from_le_bytes) }
        })
        .collect()
}

/// A row's columns without its version.
pub fn decoded(table: Table, key: &[u8], values: &[u8]) -> (Vec<Value>, Vec<Value>) {
    let (columns, key_columns) = shape(table);
    let (key_types, value_types) = columns.split_at(key_columns);
    let value_types = if table.is_archive() { value_types } else { &value_types[..value_types.len() - 1] };
    let read = |bytes, types: &str| {
        let mut reader = Reader(bytes);
        types.chars().map(|column| reader.value(column)).collect()
    };
    (read(key, key_types), read(values, value_types))
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
        let bytes = buffer.row_binary();
        let mut reader = Reader(&bytes);
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
