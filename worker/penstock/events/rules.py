"""How the records of one source are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from penstock.core.bodies import BodyReader
from penstock.core.documents import EPOCH_SHIFT
from penstock.core.ports import Registry
from penstock.events.envelope import EmptyData, Envelope, VersionFrom
from penstock.events.keys import KeyFormat, TenantFrom
from penstock.events.mapping import MappingSpec

OrderBy = Literal["offset", "event"]
UnknownFields = Literal["refuse_similar", "ignore"]
KeyIs = Literal["id", "ignore"]
BodyFormat = Literal["text", "markdown", "html"]


@dataclass(frozen=True, slots=True)
class DocumentRules:
    """How records of one source are read.

    ``sequence_base`` is added to a record's offset to make its sequence: ``epoch << 48`` for a topic; for a
    file, which has no offsets of its own, the time of the run in ticks of 100 µs, so that a later run wins
    over an earlier one and both lose to any topic. ``scattered`` says that a document's events may
    lie in several partitions, whose offsets cannot be compared. ``own`` are the rules of topics that have some of their
    own.
    """

    tenant_from: TenantFrom = "none"
    tenant: str = ""
    tenant_header: str = "tenant"
    order: OrderBy = "offset"
    sequence_base: int = 1 << EPOCH_SHIFT
    max_bytes: int = 4_000_000
    max_metadata_bytes: int = 65_536
    keyed: bool = True
    key: KeyIs = "id"
    key_format: KeyFormat = "text"
    unknown_fields: UnknownFields = "refuse_similar"
    envelope: Envelope = "auto"
    version_from: VersionFrom = ""
    empty_data: EmptyData = "refuse"
    mapping: MappingSpec | None = None
    registry: Registry | None = None
    headers: tuple[str, ...] = ()
    record_timestamp: bool = False
    format: BodyFormat = "text"
    bodies: Mapping[str, BodyReader] = field(default_factory=dict)
    scattered: bool = False
    own: Mapping[str, "DocumentRules"] = field(default_factory=dict)
    direct: bool = field(init=False)
    """Whether a value is a document event unless its fields tell otherwise."""
    completes: bool = field(init=False)
    """Whether what lies beside a value belongs to the document."""

    def of(self, topic: str) -> "DocumentRules":
        """Those of a topic."""
        return self.own.get(topic, self)

    @property
    def maps(self) -> bool:
        """Whether ids are looked for where somebody said they would be, in any topic."""
        return self.mapping is not None or any(rules.maps for rules in self.own.values())

    def asking(self, registry: Registry | None) -> "DocumentRules":
        """The same, for all topics, with another registry."""
        own = {topic: replace(rules, registry=registry) for topic, rules in self.own.items()}
        return replace(self, registry=registry, own=own)

    def __post_init__(self) -> None:
        direct = self.mapping is None and self.registry is None and self.key == "id" and self.key_format == "text"
        object.__setattr__(self, "direct", direct)
        object.__setattr__(self, "completes", bool(self.headers) or self.record_timestamp)
