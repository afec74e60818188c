//! What a poll fetched, as librdkafka's own messages: read where they lie, and given back once.

use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;

use super::{Client, Code, NativeError, bytes_of, sys};
use crate::model::Offset;
use crate::task::{Headers, Record, TimestampKind};

/// Room for fetched records, used again and again.
#[derive(Debug)]
pub struct Batch {
    pub(super) messages: Vec<*mut sys::rd_kafka_message_t>,
    /// The first so many pointers are set, and ours.
    pub(super) filled: usize,
    /// Messages belong to the client: it must not go before them.
    pub(super) _client: Arc<Client>,
}

impl Batch {
    /// Gives what was fetched back to librdkafka.
    pub(super) fn clear(&mut self) {
        for message in &mut self.messages[..self.filled] {
            // SAFETY: the first `filled` pointers were set by the last poll and not destroyed since.
            unsafe { sys::rd_kafka_message_destroy(*message) };
            *message = ptr::null_mut();
        }
        self.filled = 0;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Records of one poll. They are given back to librdkafka when it goes out of scope.
#[derive(Debug)]
pub struct Fetched<'a> {
    pub(super) batch: &'a mut Batch,
}

impl Fetched<'_> {
    /// Number of records and ends.
    pub fn len(&self) -> usize {
        self.batch.filled
    }

    /// Whether nothing was fetched.
    pub fn is_empty(&self) -> bool {
        self.batch.filled == 0
    }

    /// The records, ends and errors in order, in runs of one log of at most so many.
    pub fn runs(&self, most: usize) -> impl Iterator<Item = Run<'_>> {
        // SAFETY: the first `filled` pointers are valid messages until `clear`, which needs `&mut`.
        let log = |message: &*mut sys::rd_kafka_message_t| unsafe { ((**message).rkt, (**message).partition) };
        let messages = &self.batch.messages[..self.batch.filled];
        messages.chunk_by(move |a, b| log(a) == log(b)).flat_map(move |run| run.chunks(most)).map(|messages| Run { messages })
    }
}

impl Drop for Fetched<'_> {
    fn drop(&mut self) {
        self.batch.clear();
    }
}

/// Entries of a batch that are of one log.
pub struct Run<'a> {
    messages: &'a [*mut sys::rd_kafka_message_t],
}

impl<'a> Run<'a> {
    /// The first of them.
    pub fn first(&self) -> Option<Message<'a>> {
        self.iter().next()
    }

    /// The records, ends and errors in order.
    pub fn iter(&self) -> impl Iterator<Item = Message<'a>> {
        // SAFETY: the pointers are valid messages as long as the batch is not cleared, which it is not while it is borrowed.
        self.messages.iter().map(|message| Message { native: unsafe { &**message } })
    }
}

/// One entry of a batch.
pub struct Message<'a> {
    native: &'a sys::rd_kafka_message_t,
}

/// What an entry of a batch is.
pub enum MessageKind<'a> {
    /// A record.
    Record(Record<'a>),
    /// The end of the log was reached at this offset.
    End(Offset),
    /// The log cannot be fetched at present.
    Error(NativeError),
}

impl<'a> Message<'a> {
    /// An address that is the same for messages of one topic handle: a cheap key for a cache of one's own.
    pub fn topic_key(&self) -> usize {
        self.native.rkt as usize
    }

    /// Topic; empty for errors without one.
    pub fn topic(&self) -> &str {
        if self.native.rkt.is_null() {
            return "";
        }
        // SAFETY: the topic handle lives as long as the message, and its name as long as the handle.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.native.rkt)) }.to_str().unwrap_or("")
    }

    /// Partition.
    pub fn partition(&self) -> i32 {
        self.native.partition
    }

    /// A record's value.
    pub fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: the payload is valid for its length as long as the message is.
        let value = unsafe { bytes_of(self.native.payload, self.native.len) };
        value.filter(|_| self.native.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR)
    }

    /// What it is.
    pub fn kind(&self) -> MessageKind<'_> {
        match self.native.err {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => MessageKind::Record(self.record()),
            Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => MessageKind::End(self.native.offset),
            code => MessageKind::Error(NativeError::new(code)),
        }
    }

    fn record(&self) -> Record<'_> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid, and `kind` is written before the call returns.
        let timestamp_ms = unsafe { sys::rd_kafka_message_timestamp(self.native, &raw mut kind) };
        let timestamp_kind = match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampKind::LogAppend,
            _ => TimestampKind::Create,
        };
        // SAFETY: the key is valid for its length as long as the message is.
        let key = unsafe { bytes_of(self.native.key, self.native.key_len) };
        Record { offset: self.native.offset, timestamp_ms, timestamp_kind, key, value: self.value(), headers: self }
    }
}

impl Headers for Message<'_> {
    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers belong to the message; names and values live as long as it does.
        unsafe {
            if sys::rd_kafka_message_headers(self.native, &raw mut headers) != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            for index in 0.. {
                let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
                let found = sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length);
                if found != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return;
                }
                each(&CStr::from_ptr(name).to_string_lossy(), bytes_of(value.cast_mut(), length));
            }
        }
    }
}
