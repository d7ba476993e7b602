"""A worker's search as both retrievers ask it: their fields, the call, and what is told of a hit."""

from math import ceil
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, model_validator
from pydantic_core import to_json

from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.hosts import leaks
from penstock.core.queries import Mode
from penstock.events.validation import parse
from penstock.query.http.client import QueryClient
from penstock.query.replies import HitBody
from penstock.query.requests import Limits, QueryBody

OURS = {"document", "chunk", "title", "timestamp", "score", "rerank_score", "retrieval_score"}
"""What a hit's metadata says beside the document's own."""


class RemoteSearch(BaseModel):
    """Which worker is asked, and what for; what is None is as that worker usually does it.

    A fault in these fields is a ValidationError when they are given.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)  # else faults would show the key

    url: Annotated[str, Field(pattern="^https?://[^/]")]
    """Where the query worker is."""

    api_key: SecretStr = SecretStr("")
    """Goes over https, or within this machine, unless ``allow_insecure``."""

    tenant: str | None = None
    """Whose documents, where there are no API keys."""

    top_k: int | None = None
    """How many documents are wanted."""

    candidates: int | None = None
    """How many chunks the reranker sees."""

    mode: Mode | None = None
    """dense, sparse or hybrid: find by vectors, by words, or by both."""

    rerank: bool | None = None
    """Whether the reranker has a say in the order."""

    filter: dict[str, Any] | None = None
    """Conditions on the documents, as in {"field": "metadata.section", "equals": "energy"}."""

    instruction: str | None = None
    """The task, instead of the usual one."""

    chunks_per_document: int | None = None
    """Up to so many passages of one document."""

    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """What the worker may take."""

    allow_insecure: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        key = self.api_key.get_secret_value()
        if key != key.strip() or not (key.isascii() and key.isprintable()):  # it would be a fault of the request
            raise ValueError("api_key: printable ASCII characters, no spaces around")
        if key and leaks(self.url) and not self.allow_insecure:
            raise ValueError("the API key over http is readable on its way: use https, or say allow_insecure=True")
        try:
            self._body("")
        except InvalidEvent as error:
            raise ValueError(str(error)) from None
        return self

    def hits(self, query: str) -> tuple[HitBody, ...]:
        """Best first; raises Misconfigured with what the worker refuses, Unavailable when it is away or busy."""
        try:
            body = self._body(query)
        except InvalidEvent as error:
            raise Misconfigured(str(error)) from None
        client = QueryClient(self.url, self.api_key.get_secret_value(), self.allow_insecure)
        return client.ask(body, self.timeout_s or Limits().longest_timeout_s).hits

    def _body(self, query: str) -> QueryBody:
        """By way of JSON, as the worker reads it: a filter means here what it means there."""
        wanted = self.model_dump(include=RemoteSearch.model_fields.keys() & QueryBody.model_fields.keys())
        limit = self.timeout_s and ceil(self.timeout_s * 1000)
        return parse(QueryBody, to_json({**wanted, "query": query, "timeout_ms": limit}))


def name_of(hit: HitBody) -> str:
    """Of the chunk, among all that one tenant has."""
    return f"{hit.document}#{hit.chunk}"


def told(hit: HitBody) -> dict[str, JsonValue]:
    """The document's metadata, with what the search says. ``metadata.score`` is a score of the document's own."""
    theirs = {f"metadata.{name}" if name in OURS else name: value for name, value in hit.metadata.items()}
    return theirs | hit.model_dump(include=OURS)
