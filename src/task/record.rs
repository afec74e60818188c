//! A record of Kafka as the pure code sees it: borrowed bytes with coordinates.

/// Who set a record's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampKind {
    /// The producer (CreateTime), or nobody.
    Create,
    /// The broker (LogAppendTime).
    LogAppend,
}

/// Headers of a record, read only when somebody asks.
pub trait Headers {
    /// Calls `each` with every header in order.
    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>));

    /// Calls `found` with the value of the last header of this name (ASCII case is ignored), if there is one.
    fn find(&self, name: &str, found: &mut dyn FnMut(&[u8])) {
        self.visit(&mut |header, value| {
            if let Some(bytes) = value
                && header.eq_ignore_ascii_case(name)
            {
                found(bytes);
            }
        });
    }
}

/// No headers at all.
#[derive(Clone, Copy, Debug)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn visit(&self, _each: &mut dyn FnMut(&str, Option<&[u8]>)) {}
}

impl Headers for Vec<(String, Option<Vec<u8>>)> {
    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
        for (name, value) in self {
            each(name, value.as_deref());
        }
    }
}

/// One record of an assigned log.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Offset in its log.
    pub offset: i64,
    /// Unix milliseconds; -1 when the record has none.
    pub timestamp_ms: i64,
    /// Who set the timestamp.
    pub timestamp_kind: TimestampKind,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a dyn Headers,
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("offset", &self.offset).field("timestamp_ms", &self.timestamp_ms).finish_non_exhaustive()
    }
}
