import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams keeping the counters of the table `customers` (times and counts of a customer's own events) in RocksDB, exactly once
 * per record. It reads protobuf by hand, as onecode does. Left out, in its favour: events in a partition that is not their customer's
 * would need a repartition topic, and repeats of an event are counted again.
 *
 * Arguments: brokers, application id, state directory, threads, topics of scans, purchases and shares.
 */
public final class Counters {
    /** Times of the first event, last event, scan, payment, share; then counts. */
    static final int FIRST = 0, LAST = 1, LAST_SCAN = 2, LAST_PURCHASE = 3, LAST_SHARE = 4;
    static final int SCANS = 5, VERIFIES = 6, DRAWS = 7, JOINS = 8, VISITS = 9, SHARES = 10, ORDERS = 11, REFUNDS = 12, PAID = 13, REFUNDED = 14;
    static final int COUNT = 15;

    public static void main(String[] arguments) throws InterruptedException {
        List<String> topics = Arrays.asList(arguments).subList(4, 7);
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("customers"), Serdes.ByteArray(), Serdes.ByteArray())
            .withCachingEnabled());
        builder.stream(topics, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray())).process(() -> new Count(topics), "customers");
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(arguments));
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            ended.countDown();
        }));
        streams.start();
        ended.await();
    }

    static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[3]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
        // The interval at which onecode serves; the default of 100 ms costs more.
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "1000");
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, Long.toString(64L << 20));
        settings.put("auto.offset.reset", "earliest");
        settings.put("compression.type", "lz4");
        return settings;
    }

    static final class Count extends ContextualProcessor<byte[], byte[], Void, Void> {
        private final List<String> topics;

        Count(List<String> topics) {
            this.topics = topics;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            Event event = new Event(record.value());
            KeyValueStore<byte[], byte[]> store = context().getStateStore("customers");
            byte[] key = event.key();
            byte[] known = store.get(key);
            long[] sums = new long[COUNT];
            if (known != null) {
                ByteBuffer.wrap(known).asLongBuffer().get(sums);
            }
            int kind = topics.indexOf(context().recordMetadata().get().topic());
            if (kind == 0 && event.fourteen != 0) {
                return; // scanned by somebody other than a consumer
            }
            add(sums, event, kind);
            ByteBuffer bytes = ByteBuffer.allocate(COUNT * Long.BYTES);
            bytes.asLongBuffer().put(sums);
            store.put(key, bytes.array());
        }

        private static void add(long[] sums, Event event, int kind) {
            sums[FIRST] = sums[FIRST] == 0 ? event.time : Math.min(sums[FIRST], event.time);
            sums[LAST] = Math.max(sums[LAST], event.time);
            if (kind == 0) {
                sums[LAST_SCAN] = Math.max(sums[LAST_SCAN], event.time);
                sums[SCANS]++;
                sums[VERIFIES] += event.thirteen == 1 ? 1 : 0;
                sums[DRAWS] += event.thirteen == 2 ? 1 : 0;
                sums[JOINS] += event.thirteen == 3 || event.thirteen == 4 ? 1 : 0;
                sums[VISITS] += event.isThroughAShare ? 1 : 0;
            } else if (kind == 2) {
                sums[LAST_SHARE] = Math.max(sums[LAST_SHARE], event.time);
                sums[SHARES]++;
            } else if (event.seven == 1) {
                sums[LAST_PURCHASE] = Math.max(sums[LAST_PURCHASE], event.time);
                sums[ORDERS]++;
                sums[PAID] += event.eight;
            } else {
                sums[REFUNDS]++;
                sums[REFUNDED] += event.eight;
            }
        }
    }

    /** The fields that counters need, by their numbers where the kinds differ. */
    static final class Event {
        private final byte[] bytes;
        private int at;
        private int brandStart, brandEnd, customerStart, customerEnd;
        long time, seven, eight, thirteen, fourteen;
        boolean isThroughAShare;

        Event(byte[] bytes) {
            this.bytes = bytes;
            while (at < bytes.length) {
                field();
            }
        }

        private void field() {
            int tag = (int) varint();
            int number = tag >>> 3;
            switch (tag & 7) {
                case 0 -> integer(number, varint());
                case 1 -> at += 8;
                case 2 -> text(number, (int) varint());
                case 5 -> at += 4;
                default -> throw new IllegalArgumentException("wire type " + (tag & 7));
            }
        }

        private void integer(int number, long value) {
            switch (number) {
                case 4 -> time = value;
                case 7 -> seven = value;
                case 8 -> eight = value;
                case 13 -> thirteen = value;
                case 14 -> fourteen = value;
                default -> { }
            }
        }

        private void text(int number, int length) {
            if (number == 2) {
                brandStart = at;
                brandEnd = at + length;
            } else if (number == 3) {
                customerStart = at;
                customerEnd = at + length;
            } else if (number == 5) {
                isThroughAShare = length > 0;
            }
            at += length;
        }

        private long varint() {
            long value = 0;
            for (int shift = 0; ; shift += 7) {
                byte next = bytes[at++];
                value |= (long) (next & 0x7f) << shift;
                if (next >= 0) {
                    return value;
                }
            }
        }

        byte[] key() {
            int brand = brandEnd - brandStart;
            byte[] key = Arrays.copyOf(Arrays.copyOfRange(bytes, brandStart, brandEnd), brand + 1 + customerEnd - customerStart);
            System.arraycopy(bytes, customerStart, key, brand + 1, customerEnd - customerStart);
            return key;
        }
    }
}
