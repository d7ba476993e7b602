"""A retriever for LlamaIndex. The only importer of llama_index; the extra is ``llama-index``."""

import asyncio
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
from pydantic import SecretStr

from penstock.clients.remote import OURS, RemoteSearch, name_of, told
from penstock.query.replies import HitBody


class PenstockRetriever(BaseRetriever):  # type: ignore[misc]  # Any, to mypy
    """Passages from a query worker, best first: ``PenstockRetriever("http://...", top_k=5).retrieve("...")``.

    A node's metadata is that of its document, with ``document``, ``chunk``, ``title``, ``timestamp``, ``score``,
    ``rerank_score`` and ``retrieval_score``. Where the document has one of these itself, that is in
    ``metadata.score`` and so on, as in filters. Of these, models read the title and the timestamp only.

    Raises pydantic's ValidationError for a fault in a field, and when it asks penstock.core.errors.Misconfigured with
    what the worker refuses, Unavailable when it is away or busy.
    """

    def __init__(  # noqa: PLR0913  # each is a field of RemoteSearch
        self,
        url: str,
        *,
        api_key: str | SecretStr = "",
        tenant: str | None = None,
        top_k: int | None = None,
        candidates: int | None = None,
        mode: str | None = None,
        rerank: bool | None = None,
        filter: dict[str, Any] | None = None,  # noqa: A002
        instruction: str | None = None,
        chunks_per_document: int | None = None,
        timeout_s: float | None = None,
        allow_insecure: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self._search = RemoteSearch(
            url=url, api_key=api_key, tenant=tenant, top_k=top_k, candidates=candidates, mode=mode, rerank=rerank,
            filter=filter, instruction=instruction, chunks_per_document=chunks_per_document, timeout_s=timeout_s,
            allow_insecure=allow_insecure,
        )  # fmt: skip
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=_node(hit), score=hit.score) for hit in self._search.hits(query_bundle.query_str)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(hit: HitBody) -> TextNode:
    metadata = told(hit)
    unread = [name for name in sorted(OURS) if name not in {"title", "timestamp"} or not metadata[name]]
    return TextNode(
        id_=name_of(hit),
        text=hit.text,
        metadata=metadata,
        excluded_llm_metadata_keys=unread,
        excluded_embed_metadata_keys=unread,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=hit.document)},
    )
