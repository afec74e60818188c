import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams keeping the counters of the table `customers` (times and counts of a customer's own events) in RocksDB. It reads protobuf
 * by hand, as onecode does.
 *
 * As "records" it counts every record once, in whatever partition it came: a customer whose events lie in several partitions has a row in
 * each, and a repeat of an event counts again. As "events" its counters are those of onecode: an event in a partition that is not its
 * customer's goes through a repartition topic (the others do not, in its favour), and identities are remembered for as long as onecode does.
 *
 * Arguments: brokers, application id, state directory, threads, "records" or "events", partitions, topics of scans, purchases and shares.
 * Prints, time and again and at the end: records that were taken to their end, events that were counted, customers.
 */
public final class Counters {
    /** Times of the first event, last event, scan, payment, share; then counts. */
    static final int FIRST = 0, LAST = 1, LAST_SCAN = 2, LAST_PURCHASE = 3, LAST_SHARE = 4;
    static final int SCANS = 5, VERIFIES = 6, DRAWS = 7, JOINS = 8, VISITS = 9, SHARES = 10, ORDERS = 11, REFUNDS = 12, PAID = 13, REFUNDED = 14;
    static final int COUNT = 15;
    /** onecode's `max_lateness_days` and `forget_slack_days`. */
    static final Duration REMEMBERED = Duration.ofDays(35 + 7);
    /** Of a repartitioned record: the topic that it came from, as its number. */
    static final String KIND_HEADER = "kind";
    static final byte[] SEEN = new byte[0];

    static final AtomicLong records = new AtomicLong(), events = new AtomicLong(), customers = new AtomicLong();

    public static void main(String[] arguments) throws InterruptedException {
        KafkaStreams streams = new KafkaStreams(topology(arguments).build(), settings(arguments));
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            ended.countDown();
        }));
        streams.start();
        while (!ended.await(200, TimeUnit.MILLISECONDS)) {
            say();
        }
        say();
    }

    static void say() {
        System.out.println(records.get() + " " + events.get() + " " + customers.get());
    }

    static StreamsBuilder topology(String[] arguments) {
        boolean isExact = arguments[4].equals("events");
        int partitions = Integer.parseInt(arguments[5]);
        List<String> topics = Arrays.asList(arguments).subList(6, 9);
        Serde<byte[]> bytes = Serdes.ByteArray();
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("customers"), bytes, bytes).withCachingEnabled());
        KStream<byte[], byte[]> records = builder.stream(topics, Consumed.with(bytes, bytes));
        if (!isExact) {
            records.process(() -> new Count(topics, false), "customers");
            return builder;
        }
        builder.addStateStore(Stores.windowStoreBuilder(Stores.persistentWindowStore("identities", REMEMBERED, REMEMBERED, false), bytes, bytes));
        var branches = records.process(() -> new Place(topics, partitions))
            .split(Named.as("place-"))
            .branch((key, value) -> key != null, Branched.as("elsewhere"))
            .defaultBranch(Branched.as("here"));
        KStream<byte[], byte[]> relayed = branches.get("place-elsewhere")
            .repartition(Repartitioned.with(bytes, bytes).withName("relayed").withNumberOfPartitions(partitions));
        branches.get("place-here").merge(relayed).process(() -> new Count(topics, true), "customers", "identities");
        return builder;
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

    /** Gives records of another partition's customer that customer as their key, and the others none. */
    static final class Place extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
        private final List<String> topics;
        private final int partitions;

        Place(List<String> topics, int partitions) {
            this.topics = topics;
            this.partitions = partitions;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            byte[] customer = new Event(record.value()).customer();
            var at = context().recordMetadata().get();
            if (Utils.toPositive(Utils.murmur2(customer)) % partitions == at.partition()) {
                context().forward(record.withKey(null));
                return;
            }
            Record<byte[], byte[]> relayed = record.withKey(customer);
            relayed.headers().add(KIND_HEADER, new byte[] {(byte) topics.indexOf(at.topic())});
            context().forward(relayed);
        }
    }

    static final class Count extends ContextualProcessor<byte[], byte[], Void, Void> {
        private final List<String> topics;
        private final boolean isExact;

        Count(List<String> topics, boolean isExact) {
            this.topics = topics;
            this.isExact = isExact;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            records.incrementAndGet();
            Event event = new Event(record.value());
            Header relayed = record.headers().lastHeader(KIND_HEADER);
            int kind = relayed == null ? topics.indexOf(context().recordMetadata().get().topic()) : relayed.value()[0];
            if (kind == 0 && event.fourteen != 0) {
                return; // scanned by somebody other than a consumer
            }
            if (isExact && isRepeat(event, kind)) {
                return;
            }
            KeyValueStore<byte[], byte[]> store = context().getStateStore("customers");
            byte[] key = event.key();
            byte[] known = store.get(key);
            long[] sums = new long[COUNT];
            if (known != null) {
                ByteBuffer.wrap(known).asLongBuffer().get(sums);
            } else {
                customers.incrementAndGet();
            }
            events.incrementAndGet();
            add(sums, event, kind);
            ByteBuffer bytes = ByteBuffer.allocate(COUNT * Long.BYTES);
            bytes.asLongBuffer().put(sums);
            store.put(key, bytes.array());
        }

        private boolean isRepeat(Event event, int kind) {
            WindowStore<byte[], byte[]> store = context().getStateStore("identities");
            byte[] identity = event.identity(kind);
            if (store.fetch(identity, event.time) != null) {
                return true;
            }
            store.put(identity, SEEN, event.time);
            return false;
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
        private int idStart, idEnd, brandStart, brandEnd, customerStart, customerEnd;
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
            if (number == 1) {
                idStart = at;
                idEnd = at + length;
            } else if (number == 2) {
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

        byte[] customer() {
            return Arrays.copyOfRange(bytes, customerStart, customerEnd);
        }

        /** Brand, a zero, customer. */
        byte[] key() {
            return key(0);
        }

        /** Brand, a zero, customer, a zero, the kind, the event's own id. */
        byte[] identity(int kind) {
            int id = idEnd - idStart;
            byte[] identity = key(2 + id);
            identity[identity.length - id - 1] = (byte) kind;
            System.arraycopy(bytes, idStart, identity, identity.length - id, id);
            return identity;
        }

        private byte[] key(int more) {
            int brand = brandEnd - brandStart, customer = customerEnd - customerStart;
            byte[] key = new byte[brand + 1 + customer + more];
            System.arraycopy(bytes, brandStart, key, 0, brand);
            System.arraycopy(bytes, customerStart, key, brand + 1, customer);
            return key;
        }
    }
}
