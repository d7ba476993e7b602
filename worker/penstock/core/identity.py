"""What a collection remembers: the model that made its vectors, and the stream that it follows."""

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What decides the meaning of a vector. Collections of different identities must never mix."""

    source: str
    revision: str
    pooling: str
    end_of_text: str
    document_prompt: str
    dimension: int

    @property
    def digest(self) -> str:
        """Short fingerprint, part of the collection's name."""
        return blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=4).hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """The stream whose offsets order a collection's events."""

    topic: str
    topic_id: str
    partitions: int
    epoch: int
