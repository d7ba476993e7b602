"""Record batches that the library cannot decode: a broken checksum, an unknown codec, a header name not in UTF-8.

In kafka-python 3.0.12 such a batch makes one poll raise and the next one spin for ever. Here it becomes one record
that holds the batch's bytes and what was wrong, and reading goes on behind it.
"""

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord, Fetcher


def tolerate(consumer: KafkaConsumer) -> None:
    """Make the consumer hand out damaged batches; must be called before the first poll."""
    consumer._fetcher.PartitionRecords = TolerantRecords  # noqa: SLF001  # pinned exactly, and a test watches it


class _OneBatch:
    """The interface of fetched records, with a single batch in them."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def next_batch(self) -> Any:
        batch, self._batch = self._batch, None
        return batch


class TolerantRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # the library is untyped
    """Unpacks batch by batch, so that a damaged one ends only itself."""

    next_fetch_offset: int
    _within = False

    def drain(self) -> None:
        """Not at the end of each batch, as the library's own unpacking would have it."""
        if not self._within:
            super().drain()

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        batch = records.next_batch()
        while batch is not None:
            unpacked = super()._unpack_records(tp, _OneBatch(batch), *deserializers)
            while True:
                self._within = True
                try:
                    record = next(unpacked)
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001  # whatever a decoder raises is about this batch
                    record = self._damaged(tp, batch, error)
                finally:
                    self._within = False
                yield record
            batch = records.next_batch()
        self.drain()

    def _damaged(self, tp: Any, batch: Any, error: Exception) -> Any:
        """A record in place of the rest of the batch; its checksum field, unused otherwise, says what was wrong."""
        first = max(self.next_fetch_offset, batch.base_offset)
        last = batch.next_offset - 1
        self.next_fetch_offset = batch.next_offset
        said = f"offsets {first} to {last} cannot be decoded: {type(error).__name__}: {error}"
        value = bytes(batch._buffer)  # noqa: SLF001  # there is no public way to the bytes
        return ConsumerRecord(
            tp.topic, tp.partition, self.leader_epoch, first, -1, 0, None, value, [], said, -1, len(value), -1
        )
