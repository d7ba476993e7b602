"""How well documents answer a query: one logit per pair."""

from collections.abc import Mapping, Sequence

import numpy as np
from typing_extensions import override

from penstock.core.errors import InvalidEvent
from penstock.core.ports import PairEncoder, Reranker
from penstock.core.vectors import Vector
from penstock.models.forward import Forward
from penstock.models.prompts import fill, harmless
from penstock.models.tokenizer import HubTokenizer


class PairTokenizer(PairEncoder):
    """Puts query and document into the model's template.

    Only the template speaks in control tokens and names the parts: whatever a query or a document contains is text.
    """

    takes_task = True

    def __init__(self, tokenizer: HubTokenizer, prompts: Mapping[str, str], limit: int) -> None:
        """``prompts`` are the bundle's; a pair has at most ``limit`` tokens."""
        self._tokenizer = tokenizer
        self._pair = prompts["pair"]
        self._defaults = {name: prompts[name] for name in ("instruction", "separator")}
        self._prefix, self._suffix = (tokenizer.control(prompts[name]) for name in ("prefix", "suffix"))
        self._room = limit - len(self._prefix) - len(self._suffix)

    @override
    def encode(
        self, query: str, documents: Sequence[str], instruction: str | None = None, separator: str | None = None
    ) -> list[tuple[int, ...]]:
        """Ids of each pair; where one is too long, its document is cut at the end.

        Raises InvalidEvent for a query that leaves no room for a document.
        """
        given = {"instruction": instruction, "separator": separator}
        values = self._defaults | {name: value for name, value in given.items() if value is not None}
        values |= {name: harmless(text) for name, text in {**values, "query": query}.items() if name != "separator"}
        (head,) = self._tokenizer.plain([fill(self._pair, values | {"document": ""})])
        if len(head) >= self._room:
            room = max(0, self._room - 1)
            raise InvalidEvent(f"query and instruction have {len(head)} tokens; there is room for {room}")
        pairs = self._tokenizer.plain([fill(self._pair, values | {"document": harmless(text)}) for text in documents])
        return [(*self._prefix, *ids[: self._room], *self._suffix) for ids in pairs]


class CrossPairs(PairEncoder):
    """Puts query and document into the tokenizer's own template for two texts, as cross-encoders were trained."""

    takes_task = False

    def __init__(self, tokenizer: HubTokenizer, limit: int) -> None:
        """A pair has at most ``limit`` tokens."""
        self._tokenizer = tokenizer
        self._before, self._between, self._after = tokenizer.around_pair
        self._room = limit - sum(map(len, tokenizer.around_pair))

    @override
    def encode(
        self, query: str, documents: Sequence[str], instruction: str | None = None, separator: str | None = None
    ) -> list[tuple[int, ...]]:
        """Ids of each pair; where one is too long, its document is cut at the end.

        Raises InvalidEvent for a query that leaves no room for a document, and for what the template has no place for.
        """
        for name, given in (("instruction", instruction), ("separator", separator)):
            if given is not None:
                raise InvalidEvent(f"this reranker takes no {name}: it judges a query and a document, and nothing else")
        asked, *found = self._tokenizer.plain([query, *documents])
        room = self._room - len(asked)
        if room < 1:
            raise InvalidEvent(f"query has {len(asked)} tokens; there is room for {max(0, self._room - 1)}")
        return [(*self._before, *asked, *self._between, *ids[:room], *self._after) for ids in found]


def pair_encoder(tokenizer: HubTokenizer, prompts: Mapping[str, str], limit: int) -> PairTokenizer | CrossPairs:
    """By the bundle's ``prompts``: without a template there, the tokenizer has one of its own."""
    return PairTokenizer(tokenizer, prompts, limit) if "pair" in prompts else CrossPairs(tokenizer, limit)


class OnnxReranker(Reranker):
    """Logits of pairs: log-odds that the document meets the query. For what their company changes see OnnxEmbedder."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.provider = forward.provider

    @override
    def logits(self, pairs: Sequence[Sequence[int]]) -> Vector:
        """``[len(pairs)]`` float32."""
        return self._forward.run(pairs)[:, 0]


def probability(logits: Vector) -> Vector:
    """The softmax over "no" and "yes" is the sigmoid of their difference."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), dtype=np.float32)
