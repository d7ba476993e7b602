"""The models without the search: ``/v1/embeddings`` as in OpenAI's API, ``/v1/rerank`` as in Cohere's."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import uuid4

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from penstock.core.errors import InvalidEvent, Unavailable
from penstock.core.operands import not_endless
from penstock.core.vectors import truncate
from penstock.events.validation import few_fields, parse
from penstock.query.http.errors import Rejected
from penstock.query.microbatch import MicroBatcher
from penstock.query.ranking import probability
from penstock.query.requests import ModelBody, check_text
from penstock.query.search import Search, TooLate

Count = Annotated[StrictInt, Field(ge=1)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _told(cls, value: Any) -> Any:
        """Without what is null: clients send so what they leave to the server."""
        few = few_fields(value)
        return {name: part for name, part in few.items() if part is not None} if isinstance(few, dict) else few


def _texts(value: Any) -> Any:
    """The value; raises ValueError for token ids, which are another tokenizer's."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int | list) and not isinstance(first, bool):
        raise ValueError(  # noqa: TRY004  # which pydantic tells
            "token ids mean something to the model's own tokenizer only: send texts "
            "(in LangChain: check_embedding_ctx_length=False)"
        )
    return value


class EmbeddingsBody(_Body):
    """Texts to embed. Beside OpenAI's fields: ``input_type`` query puts the ``instruction`` before each text."""

    input: Annotated[
        StrictStr | Annotated[tuple[StrictStr, ...], Field(min_length=1)],
        BeforeValidator(_texts), BeforeValidator(not_endless),
    ]  # fmt: skip
    model: StrictStr | None = None
    dimensions: Count | None = None
    encoding_format: Literal["float", "base64"] = "float"
    input_type: Literal["document", "query"] = "document"
    instruction: StrictStr | None = None


class RerankBody(_Body):
    """Documents to be judged. Beside Cohere's fields: ``instruction``, the task.

    Of a document that is an object title and text are judged, or the ``rank_fields`` in their order.
    """

    query: Annotated[StrictStr, Field(min_length=1)]
    documents: Annotated[
        tuple[StrictStr | dict[str, JsonValue], ...], Field(min_length=1), BeforeValidator(not_endless)
    ]
    rank_fields: tuple[StrictStr, ...] = ()
    model: StrictStr | None = None
    top_n: Count | None = None
    return_documents: StrictBool = False
    instruction: StrictStr | None = None

    @property
    def texts(self) -> list[str]:
        """The documents, however they were given."""
        return [
            document if isinstance(document, str) else self._judged(number, document)
            for number, document in enumerate(self.documents)
        ]

    def _judged(self, number: int, document: Mapping[str, JsonValue]) -> str:
        named = self.rank_fields or ("text",)
        title = () if self.rank_fields or not isinstance(document.get("title"), str) else ("title",)
        parts = [document[name] for name in (*title, *named) if document.get(name) not in (None, "")]
        if not parts or not all(isinstance(part, str) for part in parts):
            raise InvalidEvent(f"documents.{number}: has no {' or '.join(named)} that is a text")
        return "\n".join(map(str, parts))


@dataclass(frozen=True, slots=True)
class ModelApi:
    """Answers both kinds of requests with the batches that the searches share.

    ``dimension`` checks one that is asked for, and raises InvalidEvent for one that the model does not support.
    """

    search: Search
    model: ModelBody
    dimension: Callable[[int], int]
    document_prompt: str
    max_inputs: int
    max_characters: int
    timeout_s: float

    async def embeddings(self, value: bytes, tenant: str) -> bytes:
        """The response to an EmbeddingsBody, as JSON; raises InvalidEvent, Rejected, Unavailable, TooLate."""
        body = parse(EmbeddingsBody, value)
        texts = [body.input] if isinstance(body.input, str) else list(body.input)
        self._check("input", len(texts), instruction=body.instruction)
        for number, text in enumerate(texts):
            if not text:
                raise InvalidEvent(f"input.{number}: is empty")
        encoder = self.search.encoder
        prompt = encoder.prompt(body.instruction) if body.input_type == "query" else self.document_prompt
        ids = await self._in_thread(encoder.tokenizer.encode, [prompt + text for text in texts])
        for number, tokens in enumerate(ids):
            if len(tokens) > encoder.limit:
                raise InvalidEvent(
                    f"input.{number}: has {len(tokens)} tokens; at most {encoder.limit} are allowed here"
                )
        self._foresee(self.search.embed, ids, tenant, "texts")
        width = self.dimension(body.dimensions) if body.dimensions else self.model.dimension
        rows = await self._in_time(self.search.embed.submit(ids, tenant=tenant, later=True))
        tokens = sum(map(len, ids))
        written: bytes = await self._in_thread(self._written, rows, width, body.encoding_format, tokens)
        return written

    def _written(self, rows: Sequence[Any], width: int, form: str, tokens: int) -> bytes:
        """Megabytes, at times: too much for the event loop."""
        vectors = truncate(np.stack(rows), width)
        answer = {
            "object": "list",
            "model": self.model.embedding,
            "data": [
                {"object": "embedding", "index": i, "embedding": _numbers(row, form)} for i, row in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return json.dumps(answer, separators=(",", ":")).encode()

    def models(self) -> dict[str, Any]:
        """What there is, as OpenAI's API lists it."""
        names = [self.model.embedding, *([self.model.reranker] if self.model.reranker else [])]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "penstock"} for name in names]
        return {"object": "list", "data": data}

    async def rerank(self, value: bytes, tenant: str) -> dict[str, Any]:
        """The response to a RerankBody; raises as ``embeddings``."""
        body = parse(RerankBody, value)
        self._check("documents", len(body.documents), query=body.query, instruction=body.instruction)
        scorer, step = self.search.scorer, self.search.rank
        if scorer is None or step is None:
            raise InvalidEvent("this worker has no reranker: rerank.enabled is false")
        instruction, texts = body.instruction or scorer.task(None), body.texts
        pairs = await self._in_thread(scorer.pairs.encode, body.query, texts, instruction)
        self._foresee(step, pairs, tenant, "documents")
        logits = await self._in_time(step.submit(pairs, tenant=tenant, later=True))
        order = sorted(range(len(logits)), key=lambda i: -logits[i])[: body.top_n]
        results: list[dict[str, Any]] = [{"index": i, "relevance_score": probability(logits[i])} for i in order]
        if body.return_documents:
            for result in results:
                given = body.documents[result["index"]]
                result["document"] = {"text": given} if isinstance(given, str) else given
        usage = {"total_tokens": sum(map(len, pairs))}
        return {"id": str(uuid4()), "model": self.model.reranker, "results": results, "usage": usage}

    def _check(self, name: str, count: int, **repeated: str | None) -> None:
        """``repeated`` are put before every text."""
        if count > self.max_inputs:
            raise InvalidEvent(f"{name}: {count} texts; at most {self.max_inputs} are allowed here")
        for field, text in repeated.items():
            if text is not None:
                check_text(field, text, self.max_characters)

    def _foresee(self, step: MicroBatcher[Any, Any], ids: Sequence[Sequence[int]], tenant: str, what: str) -> None:
        """Raises Rejected for what cannot be done in time even alone, Unavailable for what could be, later."""
        tokens = sum(map(len, ids))
        if (alone := step.alone_s(tokens)) > self.timeout_s:
            fit = int(len(ids) * self.timeout_s / alone)
            raise Rejected(
                "too_large",
                f"{len(ids)} {what} of {tokens} tokens take {alone:.1f} s, longer than {self.timeout_s:g} s: "
                f"send about {max(1, fit)} at a time",
            )
        if step.expected_s(tokens, tenant=tenant, later=True) > self.timeout_s:
            raise Unavailable(f"{len(ids)} {what} would take longer than {self.timeout_s:g} s now")

    async def _in_thread(self, work: Callable[..., Any], *given: Any) -> Any:
        return await self._in_time(self.search.in_thread(work, *given, later=True))

    async def _in_time(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await work
        except TimeoutError:
            raise TooLate(f"no answer within {self.timeout_s:g} s") from None


def _numbers(vector: Any, form: str) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
