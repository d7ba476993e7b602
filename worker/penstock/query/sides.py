"""What a search works with: the embedding side, the reranking side, and how candidates are found."""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.core.errors import InvalidEvent
from penstock.core.ports import Embedder, PairEncoder, Reranker, Tokenizer
from penstock.core.queries import NO_MODEL, EmbeddedBy, Mode, Query


@dataclass(frozen=True, slots=True)
class QueryEncoder:
    """The embedding side.

    ``prompt`` is what goes before a query for a task, None for the usual one; it raises InvalidEvent where the model
    takes no task. ``limit`` is the most tokens of a text, ``budget`` what the model works on at once. ``by`` is what
    answers say of it; ``document_prompt`` is what goes before a document.
    """

    tokenizer: Tokenizer
    embedder: Embedder
    prompt: Callable[[str | None], str]
    takes_task: bool
    limit: int
    budget: int
    by: EmbeddedBy = NO_MODEL
    document_prompt: str = ""

    def query(self, query: Query, *, judged: bool) -> tuple[int, ...]:
        """The ids of a query with its instruction; raises InvalidEvent when there are too many.

        A task that this model does not take is left to a reranker that does, where the query is ``judged`` by one.
        """
        task = query.instruction if self.takes_task or not judged else None
        (ids,) = self.tokenizer.encode([self.prompt(task) + query.text])
        if len(ids) > self.limit:
            raise InvalidEvent(
                f"query: has {len(ids)} tokens with its instruction; at most {self.limit} are allowed here"
            )
        return ids


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How candidates are found where a query does not say.

    ``terms_weight`` is how much words count beside vectors: see ``ranking.fused``.
    """

    mode: Mode = Mode.HYBRID
    terms_weight: float = 3.0


BY_BOTH = Retrieval()


@dataclass(frozen=True, slots=True)
class PairScorer:
    """The reranking side. ``instruction`` is used where a query has none; None means the model's own.

    ``weight`` is how much the reranker says in the order of an answer, from 0 to 1: see ``ranking.blend``.
    """

    pairs: PairEncoder
    reranker: Reranker
    budget: int
    instruction: str | None = None
    weight: float = 1.0

    def task(self, asked: str | None) -> str | None:
        """The instruction of a query that asks for this one; None where the reranker takes none."""
        return (asked or self.instruction) if self.pairs.takes_task else None
