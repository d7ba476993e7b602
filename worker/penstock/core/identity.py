"""What a topic and a collection are, so that another of the same name is told from them."""

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import NamedTuple


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


class TopicIdentity(NamedTuple):
    """What tells a topic from one of the same name made later."""

    id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The stream whose offsets order a collection's events.

    ``order`` says what does: offset, or event, for the versions that events carry. Then any number of partitions will
    do, and ``partitions`` is 0.
    """

    topic: str
    topic_id: str
    partitions: int
    epoch: int
    order: str = "offset"

    @classmethod
    def of(cls, topic: str, identity: TopicIdentity, epoch: int, order: str) -> "Origin":
        """As it is now."""
        return cls(topic, identity.id, identity.partitions if order == "offset" else 0, epoch, order)


class Recipe(NamedTuple):
    """The rules by which documents are cut, and the number that a collection gave to them."""

    number: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CollectionState:
    """What a collection says of itself at the moment.

    ``name`` is its own, which the alias points to; ``birth`` differs for one that was made anew under that name;
    ``model`` is the digest of the model that made its vectors.
    """

    name: str
    birth: str
    model: str
    origin: Origin | None = None
    recipe: Recipe | None = None
