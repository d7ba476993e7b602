"""Files of JSON lines as a source of records and as a place for dead letters."""

import base64
import contextlib
import errno
import json
import os
import queue
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import FileIO
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.formats import compression, foreign
from penstock.core.ports import DeadLetters, Source
from penstock.core.records import Batch, Letter, Partition, Position, Record

POLL_RECORDS = 1000
POLL_BYTES = 4_000_000
BLOCK_BYTES = 1 << 16
STDIN = 0
IDLE_S = 0.05
LONGEST_LINE = 64 << 20
QUEUED_LINES = 100
LOOK_S = 0.2


class Readable(Protocol):
    """A stream of bytes: at most so many at a time, none at its end."""

    def read(self, size: int, /) -> bytes | None:
        """What there is."""


class FileSource(Source):
    """Reads a record per line, without keys; a record's offset is its line, counted from 0.

    A thread of its own reads, so that a silent pipe does not keep anyone from stopping.
    """

    def __init__(self, stream: Readable, name: str, lines: int | None = None) -> None:
        """``lines`` is the number of lines, where that is known before reading."""
        self._stream = stream
        self._partition = Partition(name, 0)
        self._lines = lines
        self._committed = 0
        self._read = 0
        self._ended = False
        self._failure: OSError | None = None
        self._queue: queue.Queue[bytes | None] = queue.Queue(maxsize=QUEUED_LINES)
        threading.Thread(target=self._pump, name="file-reader", daemon=True).start()

    @override
    def poll(self, timeout_s: float, *, hold: bool = False) -> Batch | None:
        """Blank lines are passed over."""
        if hold:
            return None
        if self._ended:
            time.sleep(timeout_s)  # as the port says; a loop that spun here would keep the stages from their work
            return None
        records: list[Record] = []
        size = 0
        for line in self._take(time.monotonic() + timeout_s):
            if stripped := line.strip():
                records.append(Record(self._partition, self._read, None, stripped))
                size += len(stripped)
            self._read += 1
            if len(records) == POLL_RECORDS or size > POLL_BYTES:
                break
        if not records and not self._ended:
            return None
        return Batch(tuple(records), {self._partition: Position(self._read, 0)})

    @override
    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """Remember how far everything is done; only ``remaining`` tells."""
        self._committed = max(self._committed, positions[self._partition].offset)

    @override
    def touch(self, record: Record) -> bool:
        return True

    @override
    def excuse(self) -> None:
        """A run that ends is run again by whoever reads its end."""

    @override
    def remaining(self) -> int | None:
        """In lines."""
        if self._ended:
            return self._read - self._committed
        return None if self._lines is None else max(1, self._lines - self._committed)

    @override
    def close(self, timeout_s: float) -> None:  # the port's signature
        """Nothing to hand back: the reader's thread ends with the process."""

    @property
    def ended(self) -> bool:
        """Whether all lines have been given."""
        return self._ended

    def _take(self, deadline: float) -> Iterable[bytes]:
        """Lines that are there, waiting for the first of them until the deadline."""
        wait = max(0.0, deadline - time.monotonic())
        while True:
            try:
                line = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            except queue.Empty:
                return
            if line is None:
                self._ended = True
                if self._failure is not None:
                    raise Misconfigured(f"cannot read {self._partition.topic}: {self._failure}")
                return
            yield line
            wait = 0.0

    def _pump(self) -> None:
        try:
            for line in _lines(self._stream):
                self._queue.put(line)
        except OSError as error:
            self._failure = error
        self._queue.put(None)


def open_source(path: str) -> FileSource:
    """The lines of a file, or of standard input for ``-``; raises Misconfigured."""
    try:
        if path == "-":
            return FileSource(_unbuffered(STDIN), "stdin")
        return FileSource(_unbuffered(path), Path(path).name, _count_lines(Path(path)))
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error


def portions(path: str) -> Iterator[tuple[Record, ...]]:
    """The records of a file to its end, or of standard input for ``-``, as they come; raises Misconfigured."""
    source = open_source(path)
    while not source.ended:
        if batch := source.poll(LOOK_S):
            yield batch.records


def first(path: str, most: int) -> list[Record]:
    """At most so many records of a file, or of standard input for ``-``; raises Misconfigured."""
    return list(islice(chain.from_iterable(portions(path)), most))


def _count_lines(path: Path) -> int | None:
    """None for a pipe, which can be read only once."""
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    with path.open("rb") as counted:
        return sum(1 for _ in counted)


def _unbuffered(file: str | int) -> FileIO:
    """Closed with the process. A thread that waits in a buffered read could not be left behind at its end."""
    return FileIO(file, "rb", closefd=not isinstance(file, int))


def _lines(stream: Readable) -> Iterator[bytes]:
    """Without their ends; the last one counts without one, too. Of a line too long for any event, its beginning."""
    line, begun = bytearray(), False
    while (block := stream.read(BLOCK_BYTES)) != b"":
        if block is None:  # a stream that does not wait
            time.sleep(IDLE_S)
            continue
        if not begun and (told := foreign(block)):
            hint = " into `penstock index --from -`, as with gunzip -c" if compression(block) else ""
            raise OSError(f"it is {told}{hint}")
        begun = True
        first, *others = block.split(b"\n")
        line += first[: max(0, LONGEST_LINE - len(line))]
        for other in others:
            yield bytes(line)
            line = bytearray(other)
    if line:
        yield bytes(line)


class FileDeadLetters(DeadLetters):
    """Appends a JSON line per dead letter, synced to disk; the file is made with the first one."""

    def __init__(self, path: Path) -> None:
        """``path`` is appended to."""
        self.path = path

    @override
    def put(self, letters: Sequence[Letter]) -> None:
        if not letters:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(self._line(letter), ensure_ascii=False) + "\n" for letter in letters)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = f"cannot write dead letters to {self.path}: {error.strerror}"
            raise (Unavailable if error.errno == errno.ENOSPC else Misconfigured)(reason) from error

    @override
    def close(self, timeout_s: float) -> None:
        """Nothing is open between calls."""

    @staticmethod
    def _line(letter: Letter) -> dict[str, object]:
        record = letter.record
        line: dict[str, object] = {
            "topic": record.partition.topic,
            "partition": record.partition.number,
            "offset": record.offset,
            "stage": letter.stage,
            "exception": type(letter.error).__name__,
            "message": str(letter.error),
        }
        for name, data in (("key", record.key), ("value", record.value)):
            if data is not None:
                with contextlib.suppress(UnicodeDecodeError):
                    line[name] = data.decode("utf-8")
                    continue
                line[f"{name}_base64"] = base64.b64encode(data).decode("ascii")
        return line
