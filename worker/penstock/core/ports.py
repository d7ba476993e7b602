"""What the workers need of the world outside.

Each Protocol is a contract; ``tests/contracts`` holds every implementation, shipped fakes included, to it.

Any method may raise Unavailable: nothing has happened, or what has happened may safely happen again, so the
caller repeats the call. Methods of a Source are called by one thread only; all others by several at once.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from penstock.core.documents import ChunkKey, DocumentKey, Point, Stored
from penstock.core.identity import CollectionState, Origin, TopicIdentity
from penstock.core.inventory import Held, Sought
from penstock.core.queries import FacetCounts, Hit, Lookup
from penstock.core.records import Batch, Letter, Message, Partition, Place, Position, Record
from penstock.core.vectors import Vector


class Source(Protocol):
    """Where records come from, in order per partition."""

    def poll(self, timeout_s: float, *, hold: bool = False) -> Batch | None:
        """The next records, or None when none came within the time.

        With ``hold`` no record is returned: the call only keeps the membership, at once. Its positions are
        those right after this poll, with the generation of each partition's assignment.
        """

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """Remember that everything before these positions is done. Never waits.

        A position of an earlier generation is dropped; one that a rebalance or an outage delays is kept and
        sent with a later poll.
        """

    def touch(self, record: Record) -> bool:
        """Remember, before a record that goes alone is touched, that it is; False where that must wait for a poll.

        Every position that was to be committed is by then.
        """

    def excuse(self) -> None:
        """Should the process end now, no record is to blame: it waits for a service, or ends for a good reason.

        May be called by any thread.
        """

    def remaining(self) -> int | None:
        """Records still to come until the end that this source stops at; 0 when all are committed.

        None where the stream has no end.
        """

    def close(self, timeout_s: float) -> None:
        """Send what is still to be committed, leave the group. Later calls do nothing."""


class Upstream(Protocol):
    """The stream behind a Source, as it is now."""

    def identity(self) -> TopicIdentity | None:
        """The topic's; None where there is none of that name."""

    def committed(self) -> Mapping[Partition, int]:
        """The next offset to be read, of each partition for which the group has committed one."""


class Ledger(Protocol):
    """What a collection says of itself, and how far it holds the stream.

    How far is a sequence (epoch and offset, see ``core.documents.epoch_base``): everything before it was written. It
    lies in the collection itself, so that it goes back when the collection is set back.
    """

    def state(self) -> CollectionState | None:
        """As it is now; None where the name leads to no collection."""

    def follow(self, origin: Origin) -> None:
        """Remember the stream; durable on return."""

    def read(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """How far each is held; those of which nothing is known are left out."""

    def advance(self, sequences: Mapping[Partition, int]) -> None:
        """Remember how far; never back. Durable on return."""


class Membership(Protocol):
    """What a stage asks around its work.

    All raise Misconfigured with what to do, OwnershipLost where workers of a higher epoch have taken over, Unavailable,
    and Stopped.
    """

    def verify(self, batch: Batch) -> None:
        """Before a batch is written."""

    def verify_collection(self) -> None:
        """When the store says that there is none."""

    def advance(self, batch: Batch) -> None:
        """When all of a batch is written, before its offsets are committed."""


class Unframed(NamedTuple):
    """What lay in a schema registry's frame, as JSON has it; ``form`` is how it was written."""

    form: Literal["avro", "json", "protobuf"]
    value: Any


class Registry(Protocol):
    """Schemas by their ids: reads keys and values in Confluent's frame."""

    def read(self, framed: bytes) -> Unframed:
        """The value, read by the schema that it was written with.

        Raises InvalidEvent where the registry knows no such schema, or the bytes are not of it.
        """

    def close(self) -> None:
        """Let go of the connection."""


class DeadLetters(Protocol):
    """Where records go that can never be indexed."""

    def put(self, letters: Sequence[Letter]) -> None:
        """Store these for good; returns when they are durable. Put twice, they may be there twice.

        Raises Unavailable, or Misconfigured for what waiting will not mend.
        """

    def close(self, timeout_s: float) -> None:
        """Release the connection."""


class Tokenizer(Protocol):
    """Text to token ids, and text to pieces of so many tokens."""

    @property
    def special_tokens(self) -> int:
        """How many ids ``encode`` adds to those of the text itself."""

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[tuple[int, ...]]:
        """The ids of each text, special ones included; at most ``limit`` of them, cut before the closing ones."""

    def split(self, texts: Sequence[str], capacity: int, overlap: int) -> list[list[tuple[int, str]]]:
        """Pieces of at most ``capacity`` tokens (special ones not counted), each with its first character's index."""


class Embedder(Protocol):
    """Token ids to vectors."""

    dimension: int
    """Length of the vectors."""

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        """``[len(texts), dimension]`` float32, each row of length 1 and the same in any company; raises NotFinite."""


class VectorStore(Protocol):
    """Where points live. Every write is guarded by the order of what is there, see ``Stored.older``."""

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        """What is stored of these points; those that are not there are left out.

        A refusal is about no document: Misconfigured.
        """

    def upsert(self, points: Sequence[Point]) -> None:
        """Write each point that is new or whose stored form is older. Durable on return.

        Raises Refused when the request itself is wrong; then some of the points may be written.
        """

    def patch(self, points: Sequence[Point]) -> None:
        """Renew order and payload of each stored point that is older and holds the same hash; its vector stays.

        Durable on return; raises Refused like ``upsert``.
        """

    def retract(self, points: Sequence[Point]) -> None:
        """Remove each point that is of the same order and recipe: its document is given up.

        A refusal is about no document: Misconfigured.
        """

    def sweep(self, anchors: Mapping[DocumentKey, Stored]) -> None:
        """Remove every point of these documents that is older than the anchor given.

        A refusal is about no document: Misconfigured.
        """

    def probe(self) -> None:
        """Write something that the store must take, and remove it: raises Refused where it takes nothing."""


class Searcher(Protocol):
    """The reading side of the store."""

    @property
    def has_terms(self) -> bool:
        """Whether points can be found by their words; if not, lookups may be by vectors only."""

    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        """For each, the best points, the best first: of its tenant, no tombstone, not expired.

        By vectors and words: up to ``limit`` of each, all with both scores, in the order of the vectors. Points of
        other versions of their document than that of its anchor may be among them. Raises Refused when a request is
        wrong.
        """

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        """As in VectorStore."""

    def documents(self, tenant: str, now: datetime) -> int:
        """About how many a tenant has at that moment."""

    def facet(self, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
        """Of ``most`` values of a field (metadata.<name>, of keywords, integers or truth values), how many have them.

        Raises Refused for a field without an index, where the store needs one.
        """


class Inventory(Protocol):
    """The store as a heap of points, for whoever looks after it beside workers that go on writing."""

    def scan(self, sought: Sought, part: int = 0, parts: int = 1) -> Iterator[Held]:
        """Every point that is there all the while, once, in no order; one that comes or goes meanwhile, or not.

        ``parts`` scans, numbered from 0, share them, where the store can tell points apart so; else the first has all.
        """

    def count(self, sought: Sought) -> int:
        """How many there are, exactly."""

    def remove(self, found: Sequence[Held]) -> None:
        """Remove each that is still of the order and recipe that it was found with. Durable on return."""

    def bury(self, anchors: Sequence[Held]) -> None:
        """Make a tombstone of each, of the same order and recipe, where it still is of these. Durable on return.

        One that has gone meanwhile may come back as a tombstone.
        """


class PairEncoder(Protocol):
    """A query and documents to the token ids that a reranker judges."""

    takes_task: bool
    """Whether an instruction means anything to the reranker."""

    def encode(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[tuple[int, ...]]:
        """The ids of each pair; too long a document is cut.

        Raises InvalidEvent where the query leaves no room, and for an instruction that the reranker does not take.
        """


class Reranker(Protocol):
    """Pairs to how well the document answers the query."""

    def logits(self, pairs: Sequence[Sequence[int]]) -> Vector:
        """``[len(pairs)]`` float32: log-odds, the same for a pair in any company; raises NotFinite."""


class Progress(Protocol):
    """How far a stream has been indexed."""

    def searchable(self, places: Sequence[Place]) -> list[bool]:
        """For each record, whether it is done: indexed, or given up for a reason that waiting will not change.

        Raises InvalidEvent for a place that is not in the stream, Unavailable, and Misconfigured where nobody may know.
        """


class Replies(Protocol):
    """Where answers go that were asked for over a topic."""

    def put(self, messages: Sequence[Message]) -> None:
        """Send these; returns when they are durable. Raises Refused for one that its topic does not take."""

    def close(self, timeout_s: float) -> None:
        """Release the connection."""
