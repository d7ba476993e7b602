"""What the demo runs on: the workers' parts in one process, or workers of their own through Kafka."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from penstock.core.queries import Hit
from penstock.core.vectors import Vector
from penstock.query.replies import ReplyBody
from penstock.query.requests import QueryBody


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    bootstrap_servers: str | None = None
    folder: Path | None = None
    bundle: Path | None = None
    reranker: Path | None = None
    port: int | None = None
    as_json: bool = False
    own: Path | None = None


class Backend(Protocol):
    """An index worker and a query worker."""

    def send(self, lines: Sequence[bytes]) -> None:
        """Send events; returns when they are searchable, or when the demo is stopped."""

    def change(self, line: bytes, body: QueryBody) -> ReplyBody:
        """Send one event, and search as soon as it is searchable."""

    def ask(self, body: QueryBody) -> ReplyBody:
        """Search."""

    def stored(self) -> tuple[list[Hit], Vector]:
        """All chunks that can be found, and their vectors, in the same order."""

    def finish(self) -> Mapping[str, int]:
        """What became of the records, by outcome; after it no more is sent."""

    def serve(self, port: int) -> None:
        """The page, until the demo is stopped."""

    def close(self) -> None:
        """Release everything; a second time does nothing."""
