"""What query workers do with requests."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from penstock.core.documents import TENANT
from penstock.core.errors import Misconfigured
from penstock.core.hosts import is_local, is_origin
from penstock.core.queries import Mode
from penstock.settings.group import Count, Group, Seconds, Topic, check_dead_letters

NAME = re.compile(r"[a-z0-9._:-]+")
KEY = re.compile(r"[!-~][ -~]{14,}[!-~]")


class QuerySettings(Group):
    """How queries are read and answered."""

    topic: Topic = ""
    """The topic that queries are read from; empty: none, HTTP only."""
    reply_topic: Topic = "replies"
    """Where the answers go, unless a query's reply_to header names another."""
    reply_topics: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*(,[A-Za-z0-9._-]+)*$")
    """Comma-separated: the topics, beside reply_topic, that a reply_to header may name."""
    dead_letter_topic: Topic = ""
    """Where queries go that can never be answered; empty means <topic>.dlq."""
    group: str = "penstock-query"
    """The consumer group of the query workers."""
    max_poll_records: Count = 64
    """Most queries taken in one poll, hence in one batch."""
    tenant_from: Literal["body", "header", "fixed"] = "body"
    """Where the tenant of a query on the topic comes from. Over HTTP: from the API key, else from the body."""
    tenant: str = ""
    """The tenant, with tenant_from = fixed."""
    tenant_header: str = "tenant"
    """The header's name, with tenant_from = header."""
    follow: bool = False
    """Let queries wait until a record is searchable (after), by what kafka.group has committed on kafka.topic."""
    top_k: Count = 10
    """Documents in an answer, unless the query says how many."""
    candidates: Count = 100
    """Chunks that are retrieved and reranked, unless the query says how many."""
    mode: Mode = Mode.HYBRID
    """What candidates are found by, unless the query says: dense (vectors), sparse (words, by BM25) or hybrid (both). A
    collection without words is searched by vectors."""
    terms_weight: Annotated[float, Field(ge=0, le=100)] = 3.0
    """In a hybrid search: how many deviations of the candidates' similarities it is worth to have all words."""
    timeout_s: Seconds = 10.0
    """Longest time for an answer, unless the query asks for another."""
    max_top_k: Count = 100
    """Most documents that a query may ask for."""
    max_candidates: Count = 500
    """Most candidates that a query may ask for."""
    max_timeout_s: Seconds = 60.0
    """Longest time that a query may ask for."""
    max_query_chars: Count = 8192
    """Longest text of a query, and of an instruction."""
    max_query_tokens: Count = 2048
    """Most tokens of a query with its instruction, and of a text for /v1/embeddings: one text is one pass."""
    max_filter_conditions: Count = 64
    """Most conditions in a filter."""
    max_filter_values: Count = 1000
    """Most values of any_of in a filter."""
    examples: tuple[str, ...] = ()
    """Queries that the search page offers to begin with, like ["how does a turbine work"]."""
    drain_timeout_s: Seconds = 25.0
    """On SIGTERM: longest time to answer what is in hand."""

    @property
    def dead_letters(self) -> str:
        """The dead letter topic's name."""
        return self.dead_letter_topic or f"{self.topic}.dlq"

    @property
    def replies(self) -> tuple[str, ...]:
        """The topics that answers may go to, the usual one first."""
        return (self.reply_topic, *(name for name in self.reply_topics.split(",") if name))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_k > self.max_top_k or self.candidates > self.max_candidates:
            raise ValueError("top_k and candidates may not be above max_top_k and max_candidates")
        if self.max_top_k > self.max_candidates:
            raise ValueError("max_top_k may not be above max_candidates: documents come from the candidates")
        if self.timeout_s > self.max_timeout_s:
            raise ValueError("timeout_s may not be above max_timeout_s")
        if self.tenant and not TENANT.fullmatch(self.tenant):
            raise ValueError("tenant: letters, digits and . _ - only, at most 128")
        if (self.tenant_from == "fixed") != bool(self.tenant):
            raise ValueError("tenant and tenant_from = fixed go together")
        if self.topic:
            check_dead_letters(self.topic, self.dead_letters)
        if self.topic and not self.reply_topic:
            raise ValueError("queries on a topic need a reply_topic")
        if {self.topic, self.dead_letters} & set(self.replies) and self.topic:
            raise ValueError(
                "reply_topic, reply_topics: answers may not go to the topic of the queries, nor to its dead letters"
            )
        return self


class HttpSettings(Group):
    """The query worker's HTTP server."""

    enabled: bool = True
    """Serve HTTP; false for a worker that only reads the topic."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port to listen on; 0 for any that is free."""
    api_keys: Mapping[str, tuple[SecretStr, ...]] = {}
    """Keys by tenant, like {"acme": "sixteen letters or more"}, or ["the new one", "the old one"]. Once there is one,
    requests need one (Authorization: Bearer <key>) and see that tenant only. Empty: the body names the tenant."""
    allow_insecure: bool = False
    """Permit answers without keys to whoever reaches a host that is not this machine."""
    hosts: tuple[str, ...] = ()
    """Names that the worker answers to (localhost: all addresses of this machine); pages of other names may not ask.
    Empty: any name, but where there are no keys and only this machine can reach it, localhost."""
    cors_origins: tuple[str, ...] = ()
    """Web pages whose scripts may ask, like ["https://intranet.example"]; ["*"] for all, which needs api_keys."""
    mcp: bool = True
    """Serve /mcp, the search as a tool for agents, where the extra mcp is installed."""
    max_body_bytes: Count = 1_000_000
    """Larger requests are refused."""
    max_search_body_bytes: Count = 262_144
    """Larger searches are refused: a query is short, and a filter has that much room for values."""
    max_concurrency: Count = 256
    """Requests under way at once, their bodies read; one more is told to come back later."""
    max_concurrency_per_tenant: Count | None = None
    """Of these, by the keys of one tenant; empty: half of them where there are keys of several, else all."""
    max_connections: Count = 1024
    """Open at once; one more is told to come back later, and closed."""
    max_connections_per_address: Count = 256
    """Of these, from one address; a proxy before the workers is one."""
    max_inputs: Count = 2048
    """Most texts in one request to /v1/embeddings, most documents in one to /v1/rerank."""

    @field_validator("api_keys", mode="before")
    @classmethod
    def _listed(cls, keys: object) -> object:
        if not isinstance(keys, Mapping):
            return keys
        return {tenant: (given,) if isinstance(given, str) else given for tenant, given in keys.items()}

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for tenant, keys in self.api_keys.items():
            if tenant and not TENANT.fullmatch(tenant):
                raise ValueError("api_keys: a tenant has letters, digits and . _ - only, at most 128")
            if not keys or not all(KEY.fullmatch(key.get_secret_value()) for key in keys):
                raise ValueError(
                    'api_keys: {"tenant": "key"}, each key of at least 16 printable ASCII characters, no spaces around'
                )
        every = [key.get_secret_value() for keys in self.api_keys.values() for key in keys]
        if len(set(every)) != len(every):
            raise ValueError("api_keys: two tenants share a key")
        return self

    @model_validator(mode="after")
    def _named(self) -> Self:
        for origin in self.cors_origins:
            if origin != "*" and not is_origin(origin):
                raise ValueError(f"cors_origins: {origin!r} is none: like https://intranet.example[:8443], or *")
        if "*" in self.cors_origins and not (self.api_keys or self.allow_insecure):
            raise ValueError("cors_origins: without api_keys, * lets every web page read: name the pages")
        for name in self.hosts:
            if not NAME.fullmatch(name):
                raise ValueError(f"hosts: {name!r} is no name, in lower case and without anything behind it")
        return self

    def check_closed(self) -> None:
        """Raises Misconfigured where a query worker would answer whoever comes, and nobody has said that it may."""
        if self.enabled and not self.api_keys and not is_local(self.host) and not self.allow_insecure:
            raise Misconfigured(
                f"http.host: whoever reaches {self.host} would read and search every tenant's documents: set "
                "PENSTOCK_HTTP__API_KEYS, listen on PENSTOCK_HTTP__HOST=127.0.0.1, or set "
                "PENSTOCK_HTTP__ALLOW_INSECURE=true"
            )


class SearchSettings(Group):
    """What penstock search asks."""

    url: str = ""
    """A running query worker; empty: the store itself, with the models of these settings."""
    api_key: SecretStr = SecretStr("")
    """API key for that worker."""
    allow_insecure: bool = False
    """Permit the key to travel unencrypted."""
