"""Points of one document with what they hold, for whoever asks why it is as it is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.core.inventory import Held


class StoredPoint(NamedTuple):
    """A point: as an inventory has it, its text, and where that lies in the document's. A tombstone has no text."""

    held: Held
    text: str = ""
    title: str = ""
    start: int = 0
    end: int = 0
    language: str | None = None
    timestamp: str | None = None
    metadata: Mapping[str, Any] = {}

    @property
    def fields(self) -> dict[str, Any]:
        """What the filters of queries look at."""
        told = {"language": self.language, "timestamp": self.timestamp, "metadata": self.metadata}
        return {"document": self.held.key.document} | told
