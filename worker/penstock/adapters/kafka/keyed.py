"""Where a key's records lie, by the partitioner that Kafka's own clients have."""

from kafka.partitioner.default import murmur2

POSITIVE = 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that a producer with the default partitioner sends it to; others, like librdkafka's, may differ."""
    return int(murmur2(key) & POSITIVE) % partitions
