"""The models without the search, in the words of OpenAI's API, of Cohere's, and of text-embeddings-inference's."""

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from pydantic import JsonValue

from penstock.core.errors import InvalidEvent, Unavailable
from penstock.core.queries import EmbeddedBy
from penstock.core.vectors import truncate
from penstock.events.validation import parse
from penstock.query.http.errors import Rejected
from penstock.query.http.model_bodies import EmbedBody, EmbeddingsBody, InputType, RerankBody, listed
from penstock.query.microbatch import MicroBatcher
from penstock.query.ranking import probability
from penstock.query.requests import check_text
from penstock.query.search import Search, TooLate
from penstock.query.sides import QueryEncoder


class Asked(NamedTuple):
    """Texts to embed, from that field of a body."""

    field: str
    texts: list[str]
    kind: InputType
    instruction: str | None
    dimensions: int | None


@dataclass(frozen=True, slots=True)
class ModelApi:
    """Answers both kinds of requests with the batches that the searches share, by the model that is served.

    ``dimension`` checks one that is asked of that model, and raises InvalidEvent for one that it does not support.
    Whatever is asked raises InvalidEvent, Rejected, Unavailable, TooLate.
    """

    search: Search
    reranker: str | None
    dimension: Callable[[EmbeddedBy, int], int]
    max_inputs: int
    max_characters: int
    timeout_s: float

    async def embeddings(self, value: bytes, tenant: str) -> bytes:
        """The response to an EmbeddingsBody, as JSON."""
        body = parse(EmbeddingsBody, value)
        asked = Asked("input", listed(body.input), body.input_type, body.instruction, body.dimensions)
        encoder, rows, tokens = await self._embedded(asked, tenant)
        written: bytes = await self._in_thread(_written, encoder.by.model, rows, body.encoding_format, tokens)
        return written

    async def embed(self, value: bytes, tenant: str) -> bytes:
        """The response to an EmbedBody, as JSON."""
        body = parse(EmbedBody, value)
        asked = Asked("inputs", listed(body.inputs), body.prompt_name, None, body.dimensions)
        _, rows, _ = await self._embedded(asked, tenant)
        written: bytes = await self._in_thread(lambda: _compact(rows.tolist()))
        return written

    async def _embedded(self, asked: Asked, tenant: str) -> tuple[QueryEncoder, Any, int]:
        """By whom, a vector for each text, and how many tokens they have."""
        self._check(asked.field, len(asked.texts), instruction=asked.instruction)
        for number, text in enumerate(asked.texts):
            if not text:
                raise InvalidEvent(f"{asked.field}.{number}: is empty")
        served = await self.search.serving()
        encoder = served.encoder
        prompt = encoder.prompt(asked.instruction) if asked.kind == "query" else encoder.document_prompt
        ids = await self._in_thread(encoder.tokenizer.encode, [prompt + text for text in asked.texts])
        for number, tokens in enumerate(ids):
            if len(tokens) > encoder.limit:
                raise InvalidEvent(
                    f"{asked.field}.{number}: has {len(tokens)} tokens; at most {encoder.limit} are allowed here"
                )
        self._foresee(served.embed, ids, tenant, "texts")
        width = self.dimension(encoder.by, asked.dimensions) if asked.dimensions else encoder.by.dimension
        rows = await self._in_time(served.embed.submit(ids, tenant=tenant, later=True))
        return encoder, await self._in_thread(lambda: truncate(np.stack(rows), width)), sum(map(len, ids))

    def models(self) -> dict[str, Any]:
        """What there is, as OpenAI's API lists it."""
        names = [self.search.served.encoder.by.model, *([self.reranker] if self.reranker else [])]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "penstock"} for name in names]
        return {"object": "list", "data": data}

    async def rerank(self, value: bytes, tenant: str) -> dict[str, Any] | list[dict[str, Any]]:
        """The response to a RerankBody."""
        body = parse(RerankBody, value)
        judged = body.judged
        field = "texts" if body.texts else "documents"
        self._check(field, len(judged), query=body.query, instruction=body.instruction)
        scorer, step = self.search.scorer, self.search.rank
        if scorer is None or step is None:
            raise InvalidEvent("this worker has no reranker: rerank.enabled is false")
        pairs = await self._in_thread(scorer.pairs.encode, body.query, judged, body.instruction or scorer.task(None))
        self._foresee(step, pairs, tenant, field)
        logits = await self._in_time(step.submit(pairs, tenant=tenant, later=True))
        if body.texts:
            return _scores(body, logits)
        usage = {"total_tokens": sum(map(len, pairs))}
        return {"id": str(uuid4()), "model": self.reranker, "results": _results(body, logits), "usage": usage}

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


def _results(body: RerankBody, logits: Sequence[float]) -> list[dict[str, Any]]:
    """As in Cohere's API, the best first."""
    results: list[dict[str, Any]] = [
        {"index": i, "relevance_score": probability(logits[i])} for i in _order(logits)[: body.top_n]
    ]
    if body.return_documents:
        for result in results:
            given = body.documents[result["index"]]
            result["document"] = {"text": given} if isinstance(given, str) else _finite(given, result["index"])
    return results


def _finite(document: dict[str, JsonValue], number: int) -> dict[str, JsonValue]:
    try:
        json.dumps(document, allow_nan=False)
    except ValueError:
        raise InvalidEvent(f"documents.{number}: holds a number that JSON cannot") from None
    return document


def _scores(body: RerankBody, logits: Sequence[float]) -> list[dict[str, Any]]:
    """As in the API of text-embeddings-inference, the best first."""
    shown = float if body.raw_scores else probability
    ranks: list[dict[str, Any]] = [{"index": i, "score": shown(logits[i])} for i in _order(logits)[: body.top_n]]
    if body.return_text:
        for rank in ranks:
            rank["text"] = body.texts[rank["index"]]
    return ranks


def _order(logits: Sequence[float]) -> list[int]:
    return sorted(range(len(logits)), key=lambda i: -logits[i])


def _written(model: str, vectors: Any, form: str, tokens: int) -> bytes:
    """Megabytes, at times: too much for the event loop."""
    data = [{"object": "embedding", "index": i, "embedding": _numbers(row, form)} for i, row in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _compact({"object": "list", "model": model, "data": data, "usage": usage})


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
