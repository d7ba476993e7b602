"""Where a consumer group stands in its topics, and who is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.attempts import Mark
from penstock.core.records import Partition


class Standing(NamedTuple):
    """A group in one partition, which has the offsets from ``begin`` to the one before ``end``.

    ``committed`` is the next one to be read, None where there is none; ``mark`` is what workers have left beside it.
    """

    begin: int
    end: int
    committed: int | None = None
    mark: Mark = Mark()

    @property
    def unread(self) -> int:
        """The first offset that is still to be read: there is nothing before ``begin`` any more."""
        return min(max(self.begin, self.committed or 0), self.end)

    @property
    def lag(self) -> int:
        """Offsets that are not committed: about as many records, fewer where the topic is compacted."""
        return self.end - self.unread

    @property
    def missed(self) -> int:
        """Offsets that the topic's retention has removed before they were read."""
        return 0 if self.committed is None else max(0, self.begin - self.committed)


class Reader(NamedTuple):
    """A consumer in a group, and the partitions that it has."""

    client: str
    host: str
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """A group in all partitions of its topics. ``state`` is the broker's word: Stable, Empty, Dead and so on."""

    group: str
    state: str
    readers: tuple[Reader, ...]
    partitions: Mapping[Partition, Standing]

    @property
    def lag(self) -> int:
        """Of all partitions."""
        return sum(at.lag for at in self.partitions.values())
