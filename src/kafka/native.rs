//! The one audited module with `unsafe`: a thin, safe consumer over librdkafka's C interface.
//!
//! Why not the wrapper crate's consumer: it hands out one message a call, hides the offset and the topic of "end of partition",
//! and knows neither topic ids nor the fetch of a whole batch. Everything else of Kafka (producing, administration) goes
//! through the wrapper crate.
//!
//! What makes it sound: [`Consumer`] and [`Batch`] share the handle, which is closed when the last of them goes, so that no
//! message outlives it; the consumer is polled by one thread at a time (`&mut self`); every pointer that librdkafka hands out
//! is used while its owner lives and freed once; the callbacks only touch `Shared`, which lives in a box beside the handle.
//! Panics in callbacks abort.
#![expect(unsafe_code, reason = "librdkafka's C interface; audited, see above")]

mod batch;
#[cfg(leader_guard)]
mod leader_guard;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka_sys as sys;
use sys::rd_kafka_resp_err_t as Code;

pub use batch::{Batch, Fetched, Message, MessageKind, Run};

use super::log_as;
use crate::model::{Offset, TopicPartition};

const ERROR_TEXT_BYTES: usize = 512;

/// What librdkafka says when it does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({name})")]
pub struct NativeError {
    /// Code.
    pub code: sys::RDKafkaErrorCode,
    /// Its name, such as `ILLEGAL_GENERATION`.
    pub name: String,
    /// For a person.
    pub text: String,
}

impl NativeError {
    fn new(code: Code) -> Self {
        // SAFETY: both functions return pointers to static, NUL-terminated text.
        let (name, text) = unsafe { (text_of(sys::rd_kafka_err2name(code)), text_of(sys::rd_kafka_err2str(code))) };
        NativeError { code: code.into(), name, text }
    }

    fn other(text: String) -> Self {
        NativeError { text, ..NativeError::new(Code::RD_KAFKA_RESP_ERR__FAIL) }
    }

    fn check(code: Code) -> Result<(), Self> {
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(Self::new(code)) }
    }
}

/// What happened to the membership since the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// These partitions are ours; they are paused.
    Assigned(Vec<TopicPartition>),
    /// No partition is ours any more.
    Revoked,
    /// Something that librdkafka deals with itself.
    Error(String),
    /// The consumer cannot go on.
    Fatal(NativeError),
}

/// What the callbacks write to.
#[derive(Debug, Default)]
struct Shared {
    events: Mutex<Vec<GroupEvent>>,
}

impl Shared {
    fn push(&self, event: GroupEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// librdkafka's handle and the queue that is polled, closed together.
#[derive(Debug)]
struct Client {
    handle: *mut sys::rd_kafka_t,
    queue: *mut sys::rd_kafka_queue_t,
    shared: Box<Shared>,
}

// SAFETY: librdkafka's handles and queues may be used from any thread, and `Shared` is behind a lock.
unsafe impl Send for Client {}
// SAFETY: as above; what must not run twice at once (polling) is behind `&mut Consumer`.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the queue is released before its handle; closing runs the last callbacks while `shared` still lives; the handle
        // is not used afterwards.
        unsafe {
            sys::rd_kafka_queue_destroy(self.queue);
            sys::rd_kafka_consumer_close(self.handle);
            sys::rd_kafka_destroy(self.handle);
        }
    }
}

/// A member of a consumer group.
#[derive(Debug)]
pub struct Consumer {
    client: Arc<Client>,
}

/// An entry of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// Log.
    pub tp: TopicPartition,
    /// Next offset to read; `None` when nothing is committed.
    pub offset: Option<Offset>,
    /// Metadata.
    pub metadata: Option<String>,
}

impl Consumer {
    /// Creates a consumer from librdkafka's own option names.
    pub fn new(options: &BTreeMap<String, String>) -> Result<Self, NativeError> {
        #[cfg(leader_guard)]
        leader_guard::link();
        let shared = Box::<Shared>::default();
        let mut error = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: the configuration is ours until `rd_kafka_new` takes it (on success) or we destroy it; `shared` outlives the
        // handle because it is dropped after `Drop::drop` has destroyed it; `error` is as long as we say.
        unsafe {
            let configuration = sys::rd_kafka_conf_new();
            for (name, value) in options {
                let (Ok(c_name), Ok(c_value)) = (CString::new(name.as_str()), CString::new(value.as_str())) else {
                    sys::rd_kafka_conf_destroy(configuration);
                    return Err(NativeError::other(format!("option `{name}` contains a NUL")));
                };
                let set = sys::rd_kafka_conf_set(configuration, c_name.as_ptr(), c_value.as_ptr(), error.as_mut_ptr(), error.len());
                if set != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                    sys::rd_kafka_conf_destroy(configuration);
                    return Err(NativeError::other(text_of(error.as_ptr())));
                }
            }
            sys::rd_kafka_conf_set_opaque(configuration, ptr::from_ref::<Shared>(&shared).cast_mut().cast());
            sys::rd_kafka_conf_set_rebalance_cb(configuration, Some(on_rebalance));
            sys::rd_kafka_conf_set_error_cb(configuration, Some(on_error));
            sys::rd_kafka_conf_set_log_cb(configuration, Some(on_log));
            let handle = sys::rd_kafka_new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, configuration, error.as_mut_ptr(), error.len());
            if handle.is_null() {
                sys::rd_kafka_conf_destroy(configuration);
                return Err(NativeError::other(text_of(error.as_ptr())));
            }
            sys::rd_kafka_poll_set_consumer(handle);
            let queue = sys::rd_kafka_queue_get_consumer(handle);
            Ok(Consumer { client: Arc::new(Client { handle, queue, shared }) })
        }
    }

    /// Joins the group with these topics.
    pub fn subscribe(&mut self, topics: &[String]) -> Result<(), NativeError> {
        let mut list = List::new(topics.len());
        for topic in topics {
            list.add(topic, -1, None, None)?;
        }
        // SAFETY: handle and list are valid; librdkafka copies the list.
        NativeError::check(unsafe { sys::rd_kafka_subscribe(self.client.handle, list.0) })
    }

    /// Fetches up to `most` records, and no more than `batch` has room for, waiting no longer than `timeout_ms`; runs the group's callbacks.
    pub fn poll<'a>(&mut self, batch: &'a mut Batch, most: usize, timeout_ms: i32) -> Fetched<'a> {
        batch.clear();
        let most = batch.messages.len().min(most.max(1));
        // SAFETY: the array has room for at least as many pointers as we say; each of the first `count` is set, and owned by us until
        // `rd_kafka_message_destroy`; the batch keeps the client alive until then.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(self.client.queue, timeout_ms, batch.messages.as_mut_ptr(), most) };
        batch.filled = usize::try_from(count).unwrap_or(0);
        Fetched { batch }
    }

    /// Room for up to `records` records of a poll.
    pub fn batch(&self, records: usize) -> Batch {
        Batch { messages: vec![ptr::null_mut(); records.max(1)], filled: 0, _client: self.client.clone() }
    }

    /// What happened to the membership, in order; a fatal error comes last, and again at each call.
    pub fn take_events(&mut self) -> Vec<GroupEvent> {
        let mut events = std::mem::take(&mut *self.client.shared.events.lock().unwrap_or_else(PoisonError::into_inner));
        // librdkafka reports a consumer's fatal error as a message without text, and never to the error callback: so it is asked.
        events.extend(self.fatal_error().map(GroupEvent::Fatal));
        events
    }

    fn fatal_error(&self) -> Option<NativeError> {
        let mut text = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: the handle is valid, and `text` is as long as we say.
        let code = unsafe { sys::rd_kafka_fatal_error(self.client.handle, text.as_mut_ptr(), text.len()) };
        // SAFETY: the text is NUL-terminated once there is an error.
        (code != Code::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| NativeError { text: unsafe { text_of(text.as_ptr()) }, ..NativeError::new(code) })
    }

    /// Commits offsets and waits for the coordinator's answer.
    pub fn commit(&mut self, offsets: &[OffsetAndMetadata]) -> Result<(), NativeError> {
        let mut list = List::new(offsets.len());
        for entry in offsets {
            list.add(&entry.tp.topic, entry.tp.partition, entry.offset, entry.metadata.as_deref())?;
        }
        // SAFETY: handle and list are valid for the synchronous call.
        NativeError::check(unsafe { sys::rd_kafka_commit(self.client.handle, list.0, 0) })?;
        list.first_error()
    }

    /// Reads the group's committed offsets and metadata.
    pub fn committed(&mut self, partitions: &[TopicPartition], timeout_ms: i32) -> Result<Vec<OffsetAndMetadata>, NativeError> {
        let list = List::of(partitions, None)?;
        // SAFETY: handle and list are valid for the synchronous call, which fills the list in.
        NativeError::check(unsafe { sys::rd_kafka_committed(self.client.handle, list.0, timeout_ms) })?;
        list.first_error()?;
        Ok(list.entries())
    }

    /// The end of a log as the last fetch saw it; `None` before the first.
    pub fn last_seen_end(&self, tp: &TopicPartition) -> Option<Offset> {
        let topic = CString::new(&*tp.topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: handle and topic are valid, and the two numbers are written before the call returns.
        let code =
            unsafe { sys::rd_kafka_get_watermark_offsets(self.client.handle, topic.as_ptr(), tp.partition, &raw mut low, &raw mut high) };
        (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    /// Sets the next offsets to fetch; what was fetched before is discarded.
    pub fn seek(&mut self, starts: &[(TopicPartition, Offset)], timeout_ms: i32) -> Result<(), NativeError> {
        let mut list = List::new(starts.len());
        for (tp, offset) in starts {
            list.add(&tp.topic, tp.partition, Some(*offset), None)?;
        }
        // SAFETY: handle and list are valid for the synchronous call; a returned error is ours to destroy.
        let code = unsafe {
            let error = sys::rd_kafka_seek_partitions(self.client.handle, list.0, timeout_ms);
            if error.is_null() {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR
            } else {
                let code = sys::rd_kafka_error_code(error);
                sys::rd_kafka_error_destroy(error);
                code
            }
        };
        NativeError::check(code)?;
        list.first_error()
    }

    /// Stops fetching these logs; polling goes on.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), NativeError> {
        let list = List::of(partitions, None)?;
        // SAFETY: handle and list are valid for the call.
        NativeError::check(unsafe { sys::rd_kafka_pause_partitions(self.client.handle, list.0) })
    }

    /// Fetches these logs again.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), NativeError> {
        let list = List::of(partitions, None)?;
        // SAFETY: handle and list are valid for the call.
        NativeError::check(unsafe { sys::rd_kafka_resume_partitions(self.client.handle, list.0) })
    }

    /// Kafka's id of the cluster; `None` when it does not answer in time.
    pub fn cluster_id(&mut self, timeout_ms: i32) -> Option<String> {
        // SAFETY: the returned text is ours, and freed after it was copied.
        unsafe {
            let id = sys::rd_kafka_clusterid(self.client.handle, timeout_ms);
            if id.is_null() {
                return None;
            }
            let copied = text_of(id);
            sys::rd_kafka_mem_free(self.client.handle, id.cast());
            Some(copied)
        }
    }

    /// Kafka's ids of topics, by name; brokers before 2.8 have none, and a topic that does not exist is left out.
    pub fn topic_ids(&mut self, topics: &[String], timeout_ms: i32) -> Result<BTreeMap<String, String>, NativeError> {
        let names = topics.iter().map(|topic| c_string(topic)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let mut ids = BTreeMap::new();
        // SAFETY: the collection copies the names; queue, collection and event are ours and destroyed below; the descriptions
        // live as long as the event.
        unsafe {
            let queue = sys::rd_kafka_queue_new(self.client.handle);
            let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(self.client.handle, collection, ptr::null(), queue);
            let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
            let mut outcome = Err(NativeError::new(Code::RD_KAFKA_RESP_ERR__TIMED_OUT));
            if !event.is_null() {
                outcome = NativeError::check(sys::rd_kafka_event_error(event));
                let result = sys::rd_kafka_event_DescribeTopics_result(event);
                if outcome.is_ok() && !result.is_null() {
                    let mut count = 0;
                    let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                    for description in (0..count).map(|index| *descriptions.add(index)) {
                        let error = sys::rd_kafka_TopicDescription_error(description);
                        if error.is_null() || sys::rd_kafka_error_code(error) == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                            let id = text_of(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(description)));
                            ids.insert(text_of(sys::rd_kafka_TopicDescription_name(description)), id);
                        }
                    }
                }
                sys::rd_kafka_event_destroy(event);
            }
            sys::rd_kafka_TopicCollection_destroy(collection);
            sys::rd_kafka_queue_destroy(queue);
            outcome.map(|()| ids)
        }
    }
}

/// A list of partitions that is destroyed with its owner.
struct List(*mut sys::rd_kafka_topic_partition_list_t);

impl List {
    fn new(capacity: usize) -> Self {
        // SAFETY: returns a fresh list that is ours.
        List(unsafe { sys::rd_kafka_topic_partition_list_new(c_int::try_from(capacity).unwrap_or(0)) })
    }

    fn of(partitions: &[TopicPartition], offset: Option<Offset>) -> Result<Self, NativeError> {
        let mut list = List::new(partitions.len());
        for tp in partitions {
            list.add(&tp.topic, tp.partition, offset, None)?;
        }
        Ok(list)
    }

    fn add(&mut self, topic: &str, partition: i32, offset: Option<Offset>, metadata: Option<&str>) -> Result<(), NativeError> {
        let topic = c_string(topic)?;
        // SAFETY: the list copies the topic; the new entry is valid until the next change of the list; metadata is allocated by
        // librdkafka's own allocator (the C library's), as it frees it with the list.
        unsafe {
            let entry = sys::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition);
            if let Some(offset) = offset {
                (*entry).offset = offset;
            }
            if let Some(metadata) = metadata {
                let copy = sys::rd_kafka_mem_malloc(ptr::null_mut(), metadata.len());
                ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast::<u8>(), metadata.len());
                (*entry).metadata = copy;
                (*entry).metadata_size = metadata.len();
            }
        }
        Ok(())
    }

    fn native(&self) -> &[sys::rd_kafka_topic_partition_t] {
        // SAFETY: the list is valid, and `elems` holds `cnt` entries.
        unsafe { entries_of(self.0) }
    }

    fn first_error(&self) -> Result<(), NativeError> {
        self.native().iter().try_for_each(|entry| {
            // SAFETY: the topic is valid as long as the list.
            NativeError::check(entry.err)
                .map_err(|error| NativeError { text: format!("{}: {}", unsafe { tp_of(entry) }, error.text), ..error })
        })
    }

    fn entries(&self) -> Vec<OffsetAndMetadata> {
        let entry_of = |entry: &sys::rd_kafka_topic_partition_t| {
            // SAFETY: topic and metadata are valid as long as the list.
            let (tp, metadata) = unsafe { (tp_of(entry), bytes_of(entry.metadata, entry.metadata_size)) };
            let metadata = metadata.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            OffsetAndMetadata { tp, offset: (entry.offset >= 0).then_some(entry.offset), metadata }
        };
        self.native().iter().map(entry_of).collect()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is ours and not used afterwards.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

fn c_string(text: &str) -> Result<CString, NativeError> {
    CString::new(text).map_err(|_| NativeError::other(format!("`{text}` contains a NUL")))
}

/// # Safety
/// `text` is null or NUL-terminated and valid during the call.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// # Safety
/// `start` is null or valid for `length` bytes during `'a`.
unsafe fn bytes_of<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// # Safety
/// `list` is a valid list during `'a`.
unsafe fn entries_of<'a>(list: *mut sys::rd_kafka_topic_partition_list_t) -> &'a [sys::rd_kafka_topic_partition_t] {
    // SAFETY: as the caller promises.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        if count == 0 { &[] } else { slice::from_raw_parts((*list).elems, count) }
    }
}

/// # Safety
/// The entry's topic is valid during the call.
unsafe fn tp_of(entry: &sys::rd_kafka_topic_partition_t) -> TopicPartition {
    // SAFETY: as the caller promises.
    TopicPartition { topic: Arc::from(unsafe { text_of(entry.topic) }), partition: entry.partition }
}

/// Runs inside `poll`, on the consumer's own thread, before librdkafka goes on with the rebalance.
unsafe extern "C" fn on_rebalance(
    handle: *mut sys::rd_kafka_t,
    code: Code,
    partitions: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the `Shared` set at creation; handle and list are valid during the callback.
    unsafe {
        let shared = &*opaque.cast::<Shared>();
        if code == Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // An explicit offset, so that nothing is asked of the broker and no reset policy applies. The partitions are paused at
            // once; each is set to its own position by `seek` when its task runs, which discards whatever was fetched before.
            let count = usize::try_from((*partitions).cnt).unwrap_or(0);
            for index in 0..count {
                (*(*partitions).elems.add(index)).offset = 0;
            }
            let assigned = sys::rd_kafka_assign(handle, partitions);
            let paused = sys::rd_kafka_pause_partitions(handle, partitions);
            for outcome in [assigned, paused] {
                if let Err(error) = NativeError::check(outcome) {
                    shared.push(GroupEvent::Error(format!("assignment: {error}")));
                }
            }
            shared.push(GroupEvent::Assigned(entries_of(partitions).iter().map(|entry| tp_of(entry)).collect()));
        } else {
            shared.push(GroupEvent::Revoked);
            sys::rd_kafka_assign(handle, ptr::null());
        }
    }
}

unsafe extern "C" fn on_error(_handle: *mut sys::rd_kafka_t, _code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Shared` set at creation; the reason is valid during the callback.
    unsafe { (*opaque.cast::<Shared>()).push(GroupEvent::Error(text_of(reason))) };
}

unsafe extern "C" fn on_log(_handle: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, text: *const c_char) {
    // SAFETY: both texts are valid during the callback.
    let (facility, text) = unsafe { (text_of(facility), text_of(text)) };
    log_as(level, &facility, &text);
}
