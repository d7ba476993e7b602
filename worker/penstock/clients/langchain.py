"""A retriever for LangChain. The only importer of langchain_core; the extra is ``langchain``."""

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from penstock.clients.remote import RemoteSearch, name_of, told


class PenstockRetriever(BaseRetriever, RemoteSearch):  # type: ignore[misc]  # Any, to mypy
    """Passages from a query worker, best first: ``PenstockRetriever(url=..., top_k=5).invoke("...")``.

    A passage's metadata is that of its document, with ``document``, ``chunk``, ``title``, ``timestamp``, ``score``,
    ``rerank_score`` and ``retrieval_score``. Where the document has one of these itself, that is in
    ``metadata.score`` and so on, as in filters.

    Raises pydantic's ValidationError for a fault in a field, and when it asks penstock.core.errors.Misconfigured with
    what the worker refuses, Unavailable when it is away or busy.
    """

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # the base's signature
    ) -> list[Document]:
        return [Document(id=name_of(hit), page_content=hit.text, metadata=told(hit)) for hit in self.hits(query)]
