"""Kafka, Qdrant and a schema registry, and what penstock setup makes there."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from penstock.core.filters import FieldType
from penstock.core.paths import HOW, is_path
from penstock.core.retention import CENTURY_S
from penstock.settings.group import LETTERS, Count, Group, PathAtHome, Seconds, Topic, Topics, check_dead_letters
from penstock.settings.index import Needs


class KafkaSettings(Group):
    """The broker, the topic and the consumer group."""

    bootstrap_servers: str = "localhost:9092"
    """Comma-separated host:port of the brokers to ask first."""
    topic: Topics = "documents"
    """The topic that document events are read from. Several with commas, or a regular expression that begins with ^ and
    fits whole names, need index.order = event; what differs between them is in index.topics."""
    dead_letter_topic: Topic = ""
    """Where records go that can never be indexed; empty means <topic>.dlq."""
    group: str = "penstock-index"
    """The consumer group; workers of one group share the topic's partitions."""
    client_id: str = "penstock"
    """Name shown in the broker's logs and metrics."""
    max_poll_records: Count = 1000
    """Most records taken in one poll, hence in one batch."""
    session_timeout_s: Seconds = 45.0
    """A worker silent for so long loses its partitions."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = "PLAINTEXT"
    """SASL_PLAINTEXT sends the password unencrypted and needs allow_insecure."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    """How to log in, with SASL_SSL and SASL_PLAINTEXT."""
    sasl_username: str = ""
    """User name for SASL."""
    sasl_password: SecretStr = SecretStr("")
    """Password for SASL."""
    sasl_token_file: PathAtHome | None = None
    """File that holds the token for OAUTHBEARER; read anew at each login, so that whoever renews it is followed."""
    sasl_provider: Literal["file", "msk"] = "file"
    """Who gives the token for OAUTHBEARER: sasl_token_file; or, for Amazon MSK and with the extra msk, a signature
    with the IAM credentials of this pod or machine, which are found as AWS's own tools find them."""
    sasl_region: Annotated[str, Field(pattern="^[a-z0-9-]*$")] = ""
    """The AWS region of the cluster, with sasl_provider = msk."""
    ssl_ca_file: PathAtHome | None = None
    """PEM file of the authorities to trust; the system's when empty."""
    ssl_certificate_file: PathAtHome | None = None
    """PEM file of this client's certificate, for mutual TLS."""
    ssl_key_file: PathAtHome | None = None
    """PEM file of this client's key."""
    ssl_key_password: SecretStr = SecretStr("")
    """Password of the key file."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must be for its name; false needs allow_insecure."""
    allow_insecure: bool = False
    """Permit a password to travel unencrypted, or to whoever has some certificate."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are named; none where a pattern says which."""
        return () if self.topic.startswith("^") else tuple(self.topic.split(","))

    @property
    def pattern(self) -> str | None:
        """A regular expression for the names of topics, those of dead letters and Kafka's own left out."""
        if self.topics:
            return None
        letters = rf"__.*|.*{re.escape(LETTERS)}|{re.escape(self.dead_letter_topic)}"
        return rf"(?!(?:{letters})$)(?:{self.topic[1:]})$"

    def follows(self, topic: str) -> bool:
        """Whether it is one of them."""
        return topic in self.topics if self.pattern is None else re.match(self.pattern, topic) is not None

    @property
    def dead_letters(self) -> str:
        """Where those of the one topic go."""
        return self.dead_letters_of(self.topic)

    def dead_letters_of(self, topic: str) -> str:
        """Where the dead letters of a topic go."""
        return self.dead_letter_topic or f"{topic}{LETTERS}"

    def behind(self, topic: str) -> "KafkaSettings":
        """The same for a backfill: its topic, and the group that reads it."""
        return self.model_copy(update={"topic": topic, "group": f"{self.group}-backfill", "dead_letter_topic": ""})

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if not self.topic:
            raise ValueError("topic: is empty")
        if "/" in self.bootstrap_servers:
            raise ValueError("bootstrap_servers: host:port, comma-separated; how to talk to them is security_protocol")
        for topic in self.topics:
            check_dead_letters(topic, self.dead_letters_of(topic))
        if among := [topic for topic in self.topics if self.dead_letters_of(topic) in self.topics]:
            raise ValueError(f"topic: the dead letters of {among[0]!r} would be read as documents")
        return self

    @model_validator(mode="after")
    def _safe(self) -> Self:
        sasl = self.security_protocol.startswith("SASL")
        if self.sasl_provider == "msk":
            self._signed()
        elif sasl and self.sasl_mechanism == "OAUTHBEARER":
            if self.sasl_token_file is None:
                raise ValueError("sasl_mechanism = OAUTHBEARER needs sasl_token_file, or sasl_provider = msk")
        elif sasl and not (self.sasl_username and self.sasl_password.get_secret_value()):
            raise ValueError(f"security_protocol = {self.security_protocol} needs sasl_username and sasl_password")
        if self.security_protocol == "SASL_PLAINTEXT" and not self.allow_insecure:
            raise ValueError("SASL_PLAINTEXT sends the password in the clear: use SASL_SSL, or set allow_insecure")
        if not self.ssl_check_hostname and not self.allow_insecure:
            raise ValueError(
                "without ssl_check_hostname anyone may pose as the broker: leave it, or set allow_insecure"
            )
        return self

    def _signed(self) -> None:
        if self.security_protocol != "SASL_SSL" or self.sasl_mechanism != "OAUTHBEARER":
            raise ValueError("sasl_provider = msk needs security_protocol = SASL_SSL and sasl_mechanism = OAUTHBEARER")
        if not self.sasl_region:
            raise ValueError("sasl_provider = msk needs sasl_region, like eu-central-1")
        if self.sasl_token_file is not None:
            raise ValueError("sasl_provider = msk: sasl_token_file would not be read; leave one of them away")


class QdrantSettings(Group):
    """The vector store."""

    url: str = "http://localhost:6333"
    """http(s)://host[:port] of a server; https means TLS for gRPC, too."""
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = 6334
    """The server's gRPC port; all traffic goes there."""
    path: PathAtHome | None = None
    """A folder for an embedded store in this process, instead of a server: for trying things out. Or :memory:."""
    api_key: SecretStr = SecretStr("")
    """API key or token of the server."""
    ca_file: PathAtHome | None = None
    """PEM file of the authorities to trust, with https; those that gRPC comes with when empty."""
    collection: str = Field(default="documents", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """The name that readers use: an alias of the collection that belongs to this model."""
    timeout_s: Seconds = 30.0
    """Longest wait for one answer."""
    filter_fields: Mapping[str, FieldType] = {}
    """Metadata to filter by, like {"section": "keyword", "year": "integer"}; also float, bool, datetime. Named as in
    filters, like author.name, parts[].weight or "file name" in quotes. The index worker makes an index for each, two
    for a dot without [], and queries may name no others. Empty: any field, without an index."""
    points_per_request: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Points in one write request."""
    requests_in_flight: Annotated[int, Field(ge=1, le=64)] = 4
    """Write requests under way at once."""
    quantization: Literal["none", "int8", "binary"] = "none"
    """Smaller copies of the vectors, in memory, to find candidates by: of a collection that is made, not of one that is
    there. Candidates are scored by the vectors themselves."""
    terms: bool = True
    """Let a collection that is made hold the words of each chunk, to be searched by, too. One that is there stays as it
    is: query workers follow what they find."""
    terms_language: Annotated[str, Field(pattern="^[a-z_]*$")] = ""
    """Reduce words to their stems, as in this language (english, german, …; with the extra stem), in a collection that
    is made. Empty: words as they are, in any language."""
    shards: Count | None = None
    """Shards of a collection that is made; the server's default when empty."""
    replication_factor: Count | None = None
    """Copies of each shard of a collection that is made; the server's default when empty."""
    allow_insecure: bool = False
    """Permit the API key to travel unencrypted."""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        for field in self.filter_fields:
            if not is_path(f"metadata.{field}"):
                raise ValueError(f"filter_fields: {field!r} is none: as in filters, what follows metadata. in {HOW}")
        check_server(self.url)
        if self.api_key.get_secret_value() and self.url.startswith("http://") and not self.allow_insecure:
            raise ValueError("an api_key over http is readable by anyone: use https, or set allow_insecure")
        return self


def check_server(url: str) -> None:
    """Raises ValueError, which does not show the URL, unless it is http(s)://host[:port] and no more."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("url must begin with http:// or https://")
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0
    except ValueError:
        named = False
    if not named:
        raise ValueError("url: no host and port, as in http://qdrant:6333")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url is no place for a user or a password: use api_key")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("url ends with host and port: all traffic is gRPC, which knows no path and no query")


class RegistrySettings(Group):
    """A schema registry, with the extra registry: keys and values in Confluent's frame are read by their schemas."""

    url: str = ""
    """Where it answers, like https://registry:8081 or http://registry:8080/apis/ccompat/v7; several with commas. Empty:
    there is none, and records in its frame are dead letters."""
    username: str = ""
    """User name, or API key."""
    password: SecretStr = SecretStr("")
    """Password, or the secret of that key."""
    ca_file: PathAtHome | None = None
    """PEM file of the authorities to trust; the system's when empty."""
    certificate_file: PathAtHome | None = None
    """PEM file of this client's certificate, for mutual TLS."""
    key_file: PathAtHome | None = None
    """PEM file of this client's key."""
    timeout_s: Seconds = 10.0
    """Longest wait for one answer."""
    allow_insecure: bool = False
    """Permit the password to travel unencrypted."""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        for url in filter(None, self.url.split(",")):
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise ValueError("url: like https://registry:8081; a user and a password are settings of their own")
            if self.password.get_secret_value() and parts.scheme == "http" and not self.allow_insecure:
                raise ValueError("a password over http is readable by anyone: use https, or set allow_insecure")
        return self


DAY_S = 24 * 3600.0


class PurgeSettings(Group):
    """What is removed of a collection that nobody needs any more: penstock purge, or workers that do it by the way."""

    every_s: Seconds | None = None
    """How often index workers look for it; never when empty."""
    tombstones_s: Annotated[Seconds, Field(le=CENTURY_S)] = 35 * DAY_S
    """How long a deleted document's tombstone stays. Whatever may still be delivered must be younger than that: what
    the topic keeps of events that were deleted or replaced, and dead letters that may be sent back."""
    orphans_s: Annotated[Seconds, Field(le=CENTURY_S)] = 7 * DAY_S
    """How old a chunk without its document's first one must be. Longer than any outage of Qdrant that is waited out: a
    document's first chunk is written last, and its worker may wait in between."""
    points_per_s: Count = 1000
    """Most points removed in a second; twenty times as many are looked at."""


class SetupSettings(Group):
    """What penstock setup makes where it is not there yet."""

    partitions: Count = 4
    """Partitions of the topics of documents and queries: the most workers that can share one."""
    replication_factor: Annotated[int, Field(ge=-1)] = -1
    """Copies of each partition; -1 leaves it to the broker."""
    cleanup: Literal["", "compact", "delete", "compact,delete"] = ""
    """What the broker may remove of the documents' topic: compact keeps the last event of each document for ever, so
    that another model can index them all; not with index.order = event, where the last one need not be the newest.
    Empty: compact, or delete with index.order = event and with index.key = ignore."""

    letters_s: Seconds = 30 * DAY_S
    """How long the broker keeps a dead letter: the retention.ms of a dead letter topic."""

    def cleanup_for(self, needs: Needs) -> str:
        """The cleanup.policy of a topic."""
        return self.cleanup or ("delete" if needs.compacted else "compact")


class LettersKept(NamedTuple):
    """How long dead letters stay in their topics, in seconds: in one that is made, and at most in one that is there.

    None leaves the one to the broker, and the other unasked.
    """

    made_s: float | None = None
    most_s: float | None = None

    @property
    def config(self) -> Mapping[str, str]:
        """Of a dead letter topic that is made."""
        return {} if self.made_s is None else {
            "cleanup.policy": "delete", "retention.ms": str(int(self.made_s * 1000))
        }  # fmt: skip

    @classmethod
    def of(cls, setup: SetupSettings, purge: PurgeSettings) -> Self:
        """As the settings have it; raises ValueError where a letter could outlive what is remembered of deletes."""
        if setup.letters_s > purge.tombstones_s:
            raise ValueError(
                f"setup.letters_s, purge.tombstones_s: dead letters kept for {setup.letters_s:.0f} s outlive what is "
                f"remembered of deletes, {purge.tombstones_s:.0f} s: one sent back could undo a delete"
            )
        return cls(setup.letters_s, purge.tombstones_s)
