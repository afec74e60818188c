//! Records to Kafka, each to the partition that it names.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::Sink;
use crate::commands::sending::Sender;
use crate::generate::GeneratedRecord;

pub(super) struct KafkaSink {
    sender: Sender,
    topics: [String; 3],
    partitions: [u32; 3],
}

impl KafkaSink {
    /// Connects, and asks the topics for their partitions.
    pub fn connect(options: &BTreeMap<String, String>, topics: [String; 3]) -> anyhow::Result<Self> {
        let sender = Sender::new(options)?;
        let mut partitions = [0; 3];
        for (count, topic) in partitions.iter_mut().zip(&topics) {
            *count = sender.partitions_of(topic)?;
        }
        Ok(KafkaSink { sender, topics, partitions })
    }

    /// Partitions of the topics of scans, purchases and shares.
    pub fn partitions(&self) -> [u32; 3] {
        self.partitions
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, record: &GeneratedRecord) -> anyhow::Result<()> {
        let topic = &self.topics[record.kind as usize];
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(record.partition as i32);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        if !record.headers.is_empty() {
            let none = OwnedHeaders::new_with_capacity(record.headers.len());
            let add = |headers: OwnedHeaders, (name, value): &(&str, &str)| headers.insert(Header { key: name, value: Some(*value) });
            message.headers = Some(record.headers.iter().fold(none, add));
        }
        self.sender.send(message)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.sender.finish()
    }
}
