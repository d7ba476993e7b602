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
