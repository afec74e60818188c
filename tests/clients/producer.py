"""A producer as a Python shop would write it: kafka-python and Google's protobuf, nothing of onecode but events.proto.

Usage: python producer.py BROKERS GENERATED PLAIN|CONFLUENT DEFAULT|CRC32 MESSAGE=TOPIC=FILE...

GENERATED is where protoc has put its modules. A FILE has an event a line, as JSON of the MESSAGE (Scan, Purchase, Share); it is
sent as protobuf, keyed by its customer. DEFAULT is the client's own partitioner, CRC32 one that other clients have.
"""

import sys
import zlib

from google.protobuf import json_format
from kafka import KafkaProducer
from kafka.partitioner.abc import Partitioner


def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def confluent_framing(descriptor):
    """Magic byte, schema id, and the path to the message in its schema: a count and indexes, as zigzag varints."""
    index = list(descriptor.file.message_types_by_name).index(descriptor.name)
    path = b"\0" if index == 0 else varint(2 * 1) + varint(2 * index)
    return b"\0" + (7).to_bytes(4, "big") + path


class Crc32Partitioner(Partitioner):
    def partition(self, topic, key, serialized_key, value, serialized_value, cluster):
        return zlib.crc32(serialized_key) % len(cluster.partitions_for_topic(topic))


def main(brokers, generated, framing, partitioner, *inputs):
    sys.path.insert(0, generated)
    from onecode.v1 import events_pb2

    options = {"partitioner": Crc32Partitioner()} if partitioner == "CRC32" else {}
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all", **options)
    deliveries = []
    for argument in inputs:
        name, topic, path = argument.split("=")
        message_type = getattr(events_pb2, name)
        prefix = confluent_framing(message_type.DESCRIPTOR) if framing == "CONFLUENT" else b""
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                event = json_format.Parse(line, message_type())
                value = prefix + event.SerializeToString()
                deliveries.append(producer.send(topic, key=event.customer_id.encode(), value=value))
    producer.flush()
    for delivery in deliveries:
        delivery.get(timeout=60)
    print(len(deliveries))


main(*sys.argv[1:])
