//! Keeps librdkafka from reading and writing wild memory when partitions have no leader.
//!
//! A broker that no longer leads a partition says in its answer to a fetch who does. librdkafka (issue 5280, open in its newest release; at
//! least 2.6 to 2.12) makes room for all partitions named there, fills in those that have a leader at present, and then reads all: what
//! that memory held before is taken for the number of a partition. A negative one is an index before an array that is read and written, so
//! the process dies, or worse. It takes a broker that starts again while others of its partitions still have no leader.
//!
//! Here the room is filled with a number that no topic has, which librdkafka takes note of ("not found in cache") and leaves alone. `link.rs`
//! beside this file has the linker lead librdkafka's call here. Once a release has the mend, both files go.

use std::ffi::{c_char, c_int, c_void};

use rdkafka_sys as sys;

/// No topic has a partition of this number.
const NO_PARTITION: i32 = i32::MAX;

/// `rd_kafka_Uuid_t`, which is passed by value: 16 bytes, and room for their text.
#[repr(C)]
struct Uuid {
    bits: [i64; 2],
    text: [c_char; 23],
}

unsafe extern "C" {
    fn __real_rd_kafkap_leader_discovery_set_topic(
        room: *mut c_void,
        metadata: *mut sys::rd_kafka_metadata_t,
        topic: c_int,
        id: Uuid,
        name: *mut c_char,
        partitions: c_int,
    );
}

/// Makes room for the partitions of the `topic`-th topic of `metadata`, as librdkafka does, and fills it with partitions that do not exist.
///
/// # Safety
/// As of the function of librdkafka: `metadata` begins librdkafka's own, larger structure, and has room for more than `topic` topics.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rd_kafkap_leader_discovery_set_topic(
    room: *mut c_void,
    metadata: *mut sys::rd_kafka_metadata_t,
    topic: c_int,
    id: Uuid,
    name: *mut c_char,
    partitions: c_int,
) {
    // SAFETY: the arguments are handed on as they came. Afterwards the topic is in place, with room for `partitions` partitions, and nobody
    // else knows of it yet.
    unsafe {
        __real_rd_kafkap_leader_discovery_set_topic(room, metadata, topic, id, name, partitions);
        let (Ok(topic), Ok(partitions)) = (usize::try_from(topic), usize::try_from(partitions)) else { return };
        let first = (*(*metadata).topics.add(topic)).partitions;
        for partition in 0..partitions {
            (&raw mut (*first.add(partition)).id).write(NO_PARTITION);
        }
    }
}

/// Keeps the linker from leaving the guard out, as nothing in Rust calls it.
pub(super) fn link() {
    std::hint::black_box(__wrap_rd_kafkap_leader_discovery_set_topic as *const c_void);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::CStr;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::super::{Consumer, GroupEvent};
    use super::*;

    const TOPIC: &CStr = c"without-leader";
    const DEADLINE: Duration = Duration::from_secs(60);

    static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    unsafe extern "C" fn log(_handle: *const sys::rd_kafka_t, _level: c_int, _facility: *const c_char, text: *const c_char) {
        // SAFETY: the text is valid during the callback.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        LOGGED.lock().expect("no test panicked").push(text);
    }

    /// librdkafka's own test broker: node 1 says in one answer that it leads neither partition any more, that node 2 leads the first, and
    /// that nobody leads the second.
    #[test]
    fn a_partition_without_leader_is_no_partition_at_all() {
        let options = [
            ("test.mock.num.brokers", "2"),
            ("bootstrap.servers", "replaced-by-the-test-broker"),
            ("group.id", "guard"),
            ("fetch.wait.max.ms", "50"),
            ("auto.offset.reset", "earliest"),
        ];
        let options = BTreeMap::from(options.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut consumer = Consumer::new(&options).expect("a consumer");
        let handle = consumer.client.handle;
        // SAFETY: the consumer lives until the end, and its test broker with it.
        let broker = unsafe {
            sys::rd_kafka_set_logger(handle, Some(log));
            let broker = sys::rd_kafka_handle_mock_cluster(handle);
            sys::rd_kafka_mock_topic_create(broker, TOPIC.as_ptr(), 2, 1);
            for partition in 0..2 {
                sys::rd_kafka_mock_partition_set_leader(broker, TOPIC.as_ptr(), partition, 1);
            }
            broker
        };
        consumer.subscribe(&[TOPIC.to_str().expect("ASCII").to_owned()]).expect("joined");
        let mut batch = consumer.batch(1);
        let started = Instant::now();
        let mut fetching = false;
        let is_guarded = |line: &String| line.contains(&format!("[{NO_PARTITION}]: not found in cache"));
        while !LOGGED.lock().expect("no test panicked").iter().any(is_guarded) {
            assert!(started.elapsed() < DEADLINE, "{:#?}", LOGGED.lock());
            consumer.poll(&mut batch, 1, 50);
            for event in consumer.take_events() {
                let GroupEvent::Assigned(partitions) = event else { continue };
                let starts: Vec<_> = partitions.iter().map(|tp| (tp.clone(), 0)).collect();
                consumer.seek(&starts, 10_000).expect("sought");
                consumer.resume(&partitions).expect("resumed");
                fetching = true;
            }
            let known = (0..2).all(|partition| {
                let tp = crate::model::TopicPartition { topic: TOPIC.to_str().expect("ASCII").into(), partition };
                consumer.last_seen_end(&tp).is_some()
            });
            if fetching && known {
                // SAFETY: as above.
                unsafe {
                    sys::rd_kafka_mock_partition_push_leader_response(broker, TOPIC.as_ptr(), 1, -1, 7);
                    sys::rd_kafka_mock_partition_set_leader(broker, TOPIC.as_ptr(), 1, 2);
                    sys::rd_kafka_mock_partition_set_leader(broker, TOPIC.as_ptr(), 0, 2);
                }
                fetching = false;
            }
        }
    }
}
