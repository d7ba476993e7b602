"""Rows by a key of 128 bits, many millions of them, in little more memory than they take themselves. Pure.

Rows lie in 256 parts, by the first byte of their keys. What comes waits beside its part until it is a quarter of it;
then both are sorted into one, and rows that belong together become one. So the rows take at most five quarters of their
bytes, and a sort needs room for a 256th of them.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.documents import DocumentKey

Rows = NDArray[np.void]
KEY = "S16"
PARTS = 256
AT_ONCE = 1 << 15
"""Rows that are gathered before they are shared out."""

LEAST = 1 << 10
"""Rows that wait beside a part, however small it is."""


def key_of(document: DocumentKey) -> bytes:
    """Of a document: no two of them have the same, but for a chance of one in 2^64 among billions."""
    tenant, name = document.tenant.encode(), document.document.encode("utf-8", "surrogatepass")
    return blake2b(b"%d:%b%b" % (len(tenant), tenant, name), digest_size=16).digest()


def groups(keys: NDArray[Any]) -> NDArray[np.intp]:
    """Where each run of equal keys begins, in keys that are sorted."""
    if not len(keys):
        return np.empty(0, np.intp)
    return np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))


class Table:
    """Rows that ``together`` makes one of: given any, in the order in which they came, it returns them sorted."""

    def __init__(self, fields: list[tuple[str, str]], together: Callable[[Rows], Rows]) -> None:
        """The first of the ``fields`` is ``key``."""
        self._kind = np.dtype([("key", KEY), *fields])
        self._together = together
        self._come: list[tuple[Any, ...]] = []
        self._sorted = [np.empty(0, self._kind) for _ in range(PARTS)]
        self._waiting: list[list[Rows]] = [[] for _ in range(PARTS)]

    @property
    def row_bytes(self) -> int:
        """What a row takes."""
        return self._kind.itemsize

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Each as its key and fields."""
        self._come.extend(rows)
        if len(self._come) >= AT_ONCE:
            self._share()

    def part(self, number: int) -> Rows:
        """One of ``PARTS``, sorted; all rows of a key are in the same one."""
        self._share()
        self._settle(number)
        return self._sorted[number]

    def __iter__(self) -> Iterator[Rows]:
        return map(self.part, range(PARTS))

    def __len__(self) -> int:
        return sum(map(len, self))

    def find(self, key: bytes) -> Rows:
        """The rows of a key."""
        part = self.part(key[0])
        begin, end = (int(np.searchsorted(part["key"], np.array(key, KEY), side)) for side in ("left", "right"))
        return part[begin:end]

    def _share(self) -> None:
        if not self._come:
            return
        rows = np.array(self._come, self._kind)
        self._come = []
        first = np.ascontiguousarray(rows["key"]).view(np.uint8)[::16]
        order = np.argsort(first, kind="stable")
        bounds = np.searchsorted(first[order], np.arange(PARTS + 1))
        for number in range(PARTS):
            begin, end = bounds[number], bounds[number + 1]
            if begin < end:
                self._waiting[number].append(rows[order[begin:end]])
                if sum(map(len, self._waiting[number])) >= max(LEAST, len(self._sorted[number]) // 4):
                    self._settle(number)

    def _settle(self, number: int) -> None:
        if self._waiting[number]:
            self._sorted[number] = self._together(np.concatenate([self._sorted[number], *self._waiting[number]]))
            self._waiting[number] = []
