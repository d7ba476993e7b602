"""What index workers do with records."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from penstock.core.documents import LARGEST_EPOCH, TENANT
from penstock.events.envelope import EmptyData, Envelope, VersionFrom
from penstock.events.keys import KeyFormat, TenantFrom
from penstock.events.mapping import MappingSpec
from penstock.events.rules import BodyFormat, KeyIs, OrderBy, UnknownFields
from penstock.settings.group import Count, Group, Seconds, Topic


class TopicSettings(Group):
    """What may be another for one of several topics: as in the settings for all, which hold where nothing is said."""

    tenant_from: TenantFrom = "none"
    tenant: str = ""
    key: KeyIs = "id"
    key_format: KeyFormat = "text"
    envelope: Envelope = "auto"
    version_from: VersionFrom = ""
    empty_data: EmptyData = "refuse"
    mapping: MappingSpec | None = None
    headers: tuple[str, ...] = ()
    record_timestamp: bool = False
    format: BodyFormat = "text"


class IndexSettings(Group):
    """How documents are read and cut."""

    tenant_from: TenantFrom = "none"
    """Where a document's tenant comes from: the key (tenant/id), a header, tenant below for all, or nowhere."""
    tenant: str = ""
    """The tenant, with tenant_from = fixed."""
    tenant_header: str = "tenant"
    """The header's name, with tenant_from = header."""
    order: OrderBy = "offset"
    """What makes an event newer: its offset (one topic per collection), or the version that it carries."""
    key: KeyIs = "id"
    """What a record's key is: the id of its document, so that all events of one share a partition; or something else,
    to be ignored, which with order = offset only a topic of one partition allows."""
    key_format: KeyFormat = "text"
    """How keys are written: text (also an object of one field, with an envelope or a mapping), json, or the bytes of a
    long or an integer."""
    envelope: Envelope = "auto"
    """What a document may lie in: debezium (flattened, too), connect (schema and payload), cloudevents, or any of them
    by its fields (auto); none. Whole numbers are ids then, and keys may be structs of one field."""
    version_from: VersionFrom = ""
    """With Debezium and order = event: what the version is, ts_ms or lsn of a change. Empty: the row's own version."""
    empty_data: EmptyData = "refuse"
    """A CloudEvent without data: refuse makes it a dead letter, delete removes the document that its key names."""
    mapping: MappingSpec | None = None
    """Where the fields of a document stand in records of other fields: docs/events.md tells all of it."""
    topics: Mapping[str, TopicSettings] = {}
    """What is another for one of several topics, by its name: envelope, mapping, and what else it may differ in."""
    headers: tuple[str, ...] = ()
    """Record headers that become metadata of the same name, where the document has none of it."""
    record_timestamp: bool = False
    """A document without a timestamp takes its record's, which is when it was produced."""
    format: BodyFormat = "text"
    """How texts are written that do not say so themselves by format: text, markdown or html."""
    backfill: Topic = ""
    """Another topic to be indexed into the same collection, behind the live one: by what its documents leave of the
    worker's time, and never over a newer event. Its group is <kafka.group>-backfill, its dead letters <topic>.dlq; what
    is particular about its records goes to topics."""
    heading_path: bool = True
    """Put the headings above a chunk of markdown or html, like Guide > Install, before its text when embedding."""
    unknown_fields: UnknownFields = "refuse_similar"
    """Fields that nobody reads are passed over, and named once in the log; those that resemble one that is read, or
    sound like a delete, make the event a dead letter, unless they are to be ignored, too."""
    epoch: Annotated[int, Field(ge=1, le=LARGEST_EPOCH)] = 1
    """Raise by one when the topic is made anew or repartitioned, since offsets start again then."""
    on_gap: Literal["continue", "stop"] = "continue"
    """When the topic's retention has removed records before they were read: count them and go on, or end."""
    stop_after_invalid: Annotated[int, Field(ge=0)] = 1000
    """End when so many records of a topic in a row cannot be decoded: a bad deploy. 0: never."""
    stop_at_invalid_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """End when that share of the latest 1,000 records of a topic cannot be decoded. 0: never."""
    batch_bytes: Count = 2_000_000
    """A poll is cut into batches of at most about so many bytes, and of as many seconds of work as drain_timeout_s has
    room for, by the measured speed of the model."""
    max_event_bytes: Count = 4_000_000
    """Larger values become dead letters."""
    max_metadata_bytes: Count = 65_536
    """Documents of larger metadata become dead letters: every chunk of a document repeats it."""
    max_chunks: Count = 500
    """Documents of more chunks become dead letters."""
    chunk_tokens: Annotated[int, Field(ge=16)] = 512
    """Most tokens in a chunk; never more than the model takes."""
    chunk_overlap: Annotated[int, Field(ge=0)] = 64
    """Tokens that neighbouring chunks of a document share."""
    title: bool = True
    """Put the title before each chunk's text when embedding."""
    drain_timeout_s: Seconds = 25.0
    """On SIGTERM: longest time to finish what is in hand, to commit and to leave."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("", *self.topics):
            _check_reading(self.of_topic(name), f"topics.{name}: " if name else "")
        if self.chunk_overlap * 2 > self.chunk_tokens:
            raise ValueError("chunk_overlap may be at most half of chunk_tokens")
        return self

    def needs(self, topic: str) -> "Needs":
        """What a topic may not be by the settings for it."""
        compacted = split = ""
        if self.order == "event":
            compacted = (
                "which keeps the last event of a document; with index.order = event another may be the newest: set its "
                "cleanup.policy = delete, or PENSTOCK_INDEX__ORDER=offset"
            )
        if self.of_topic(topic).key == "ignore":
            compacted = compacted or (
                "which keeps the last event of each key, and with index.key = ignore a key is no document: set its "
                "cleanup.policy = delete"
            )
            if self.order == "offset":
                split = (
                    "and with index.key = ignore a document's events may lie in several, whose offsets cannot be "
                    "compared: set PENSTOCK_INDEX__ORDER=event, with a version in every event"
                )
        return Needs(compacted, split)

    def of_topic(self, name: str) -> "IndexSettings":
        """The settings as they are for one topic."""
        own = self.topics.get(name)
        return (
            self
            if own is None
            else self.model_copy(update={field: getattr(own, field) for field in own.model_fields_set})
        )


class Needs(NamedTuple):
    """What a topic may not be, each with why and what to do; empty where it may."""

    compacted: str = ""
    split: str = ""
    """Into several partitions."""


def _check_reading(settings: IndexSettings, where: str) -> None:
    """Raises ValueError for what cannot be together in the settings of a topic."""
    if settings.tenant and not TENANT.fullmatch(settings.tenant):
        raise ValueError(f"{where}tenant: letters, digits and . _ - only, at most 128")
    if (settings.tenant_from == "fixed") != bool(settings.tenant):
        raise ValueError(f"{where}tenant and tenant_from = fixed go together")
    if settings.tenant_from == "field" and settings.mapping is None:
        raise ValueError(f"{where}tenant_from = field: mapping.tenant says which one, so there must be a mapping")
    if settings.tenant_from == "key" and settings.key_format in ("long", "integer"):
        raise ValueError(f"{where}tenant_from = key, and key_format = {settings.key_format}: a number holds no tenant")
    if settings.key == "ignore" and settings.tenant_from == "key":
        raise ValueError(f"{where}key = ignore, and tenant_from = key: the key cannot be both")
