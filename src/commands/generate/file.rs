//! Records in a file: JSON lines, or length-delimited messages `onecode.v1.Record`.

use std::io::Write;

use anyhow::Context;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::Sink;
use crate::generate::{GeneratedRecord, WireFormat};
use crate::pb;

pub(super) struct FileSink<W> {
    out: W,
    format: WireFormat,
    topics: [String; 3],
}

impl<W: Write> FileSink<W> {
    pub fn new(out: W, format: WireFormat, topics: [String; 3]) -> Self {
        FileSink { out, format, topics }
    }
}

impl<W: Write> Sink for FileSink<W> {
    fn send(&mut self, record: &GeneratedRecord) -> anyhow::Result<()> {
        let topic = &self.topics[record.kind as usize];
        let mut bytes = match self.format {
            WireFormat::Json => json_line(record, topic).into_bytes(),
            WireFormat::Protobuf | WireFormat::Mixed => message(record, topic).encode_length_delimited_to_vec(),
        };
        if self.format == WireFormat::Json {
            bytes.push(b'\n');
        }
        self.out.write_all(&bytes).context("cannot write to the file")
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.out.flush().context("cannot write to the file")
    }
}

fn message(record: &GeneratedRecord, topic: &str) -> pb::Record {
    let header = |(name, value): &(&str, &str)| pb::RecordHeader { name: (*name).to_owned(), value: value.as_bytes().to_vec() };
    pb::Record {
        topic: topic.to_owned(),
        partition: record.partition,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(header).collect(),
        due_ms: record.due_ms,
    }
}

/// The value as JSON where it is some, else its bytes in `value_hex`.
fn json_line(record: &GeneratedRecord, topic: &str) -> String {
    let mut line = Map::new();
    line.insert("topic".to_owned(), json!(topic));
    line.insert("partition".to_owned(), json!(record.partition));
    line.insert("key".to_owned(), json!(record.key.as_deref().map(String::from_utf8_lossy)));
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        line.insert("headers".to_owned(), Value::Object(headers));
    }
    let (name, value) = match record.value.as_deref() {
        None => ("value", Value::Null),
        Some(bytes) => match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => ("value", value),
            Err(_) => ("value_hex", json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())),
        },
    };
    line.insert(name.to_owned(), value);
    Value::Object(line).to_string()
}
