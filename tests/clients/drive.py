"""What clients of other people's, and our own for their frameworks, make of a worker: python drive.py URL KEY

Runs in an environment of its own, see requirements/clients.txt, with our package in PYTHONPATH. Prints one JSON object.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

TEXTS = ["water drives the turbine", "roses are red", "wind turns the blades"]
QUERY = "a turbine driven by water"
ENERGY = {"field": "metadata.section", "equals": "energy"}
FIELDS: dict[str, Any] = {
    "url": "http://search.example", "api_key": "**********", "tenant": "acme", "top_k": 3, "candidates": 30,
    "mode": "dense", "rerank": False, "filter": ENERGY, "instruction": "Find it", "chunks_per_document": 2,
    "timeout_s": 1.5, "allow_insecure": True,
}  # fmt: skip
"""All that a retriever can be given; the key as it is shown."""


def by_openai(url: str, key: str) -> dict[str, Any]:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    made = client.embeddings.create(model="any", input=TEXTS)  # in base64, as this library asks by itself
    single = client.embeddings.create(model="any", input=TEXTS[0], encoding_format="float", dimensions=64)
    many = client.embeddings.create(model="any", input=["a word"] * 2048, dimensions=64)
    refused = {}
    for wrong in ([""], [[1, 2, 3]]):
        try:
            client.embeddings.create(model="any", input=wrong)  # type: ignore[arg-type]
        except openai.BadRequestError as error:
            refused[error.param] = [error.code, bool(error.request_id), error.message]
    try:
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong" * 4, max_retries=0).models.list()
    except openai.AuthenticationError as error:
        unknown = error.code
    return {
        "models": [model.id for model in client.models.list()],
        "vectors": [len(one.embedding) for one in made.data],
        "short": len(single.data[0].embedding),
        "many": len(many.data),
        "refused": refused,
        "unknown": unknown,
    }


def by_cohere(url: str, key: str) -> dict[str, Any]:
    import cohere

    documents = [{"title": "", "text": text} for text in TEXTS]
    first = cohere.Client(key, base_url=url)
    asked: dict[str, Any] = {"model": "any", "query": QUERY}
    return {
        "first": [one.index for one in first.rerank(documents=TEXTS, top_n=2, **asked).results],
        "objects": [
            one.document.text
            for one in first.rerank(
                documents=documents, rank_fields=["title", "text"], return_documents=True, **asked
            ).results
        ],
        "second": [one.index for one in cohere.ClientV2(key, base_url=url).rerank(documents=TEXTS, **asked).results],
    }


def by_langchain(url: str, key: str) -> dict[str, Any]:
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document
    from langchain_openai import OpenAIEmbeddings
    from pydantic import SecretStr

    embeddings = OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key=SecretStr(key), model="any", check_embedding_ctx_length=False
    )
    reranker = CohereRerank(model="any", cohere_api_key=SecretStr(key), base_url=url, top_n=1)
    documents = [Document(page_content=text) for text in TEXTS]
    return {
        "vector": len(embeddings.embed_query(QUERY)),
        "first": [one.page_content for one in reranker.compress_documents(documents, QUERY)],
    }


def by_llama_index(url: str, key: str) -> dict[str, Any]:
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    embedding = OpenAILikeEmbedding(model_name="any", api_base=f"{url}/v1", api_key=key)
    reranker = CohereRerank(api_key=key, model="any", base_url=url, top_n=1)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]
    return {
        "vector": len(embedding.get_text_embedding(QUERY)),
        "first": [node.node.get_content() for node in reranker.postprocess_nodes(nodes, query_str=QUERY)],
    }


def by_langchain_retriever(url: str, key: str) -> dict[str, Any]:
    from langchain_core.runnables import RunnableLambda

    from penstock.clients.langchain import PenstockRetriever

    retriever = PenstockRetriever(url=url, api_key=key)
    chain = retriever | RunnableLambda(lambda documents: [one.page_content for one in documents])
    return {
        "found": [[one.id, one.page_content, one.metadata] for one in retriever.invoke(QUERY)],
        "chained": chain.invoke(QUERY),
        "awaited": asyncio.run(chain.ainvoke(QUERY)),
        "filtered": [one.id for one in PenstockRetriever(url=url, api_key=key, filter=ENERGY).invoke(QUERY)],
        "words": [one.id for one in PenstockRetriever(url=url, api_key=key, mode="sparse", top_k=1).invoke("roses")],
        "faults": faults(url, key, lambda **fields: PenstockRetriever(**fields).invoke(QUERY)),
        "fields": PenstockRetriever(**FIELDS).model_dump(mode="json", include=set(FIELDS)),
        "shown": repr(retriever),
    }


def by_llama_index_retriever(url: str, key: str) -> dict[str, Any]:
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.schema import MetadataMode
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    from penstock.clients.llama_index import PenstockRetriever

    retriever = PenstockRetriever(url, api_key=key)
    reranker = CohereRerank(api_key=key, model="any", base_url=url, top_n=1)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[reranker])
    found = retriever.retrieve(QUERY)
    return {
        "found": [[one.node.node_id, one.node.text, one.node.metadata] for one in found],
        "scores": [one.score for one in found],
        "sources": [one.node.ref_doc_id for one in found],
        "read": {one.node.ref_doc_id: one.node.get_content(MetadataMode.LLM) for one in found},
        "chained": [one.node.text for one in engine.query(QUERY).source_nodes],
        "awaited": [one.node.text for one in asyncio.run(retriever.aretrieve(QUERY))],
        "filtered": [one.node.node_id for one in PenstockRetriever(url, api_key=key, filter=ENERGY).retrieve(QUERY)],
        "words": [
            one.node.node_id for one in PenstockRetriever(url, api_key=key, mode="sparse", top_k=1).retrieve("roses")
        ],
        "faults": faults(url, key, lambda **fields: PenstockRetriever(**fields).retrieve(QUERY)),
        "fields": PenstockRetriever(**FIELDS)._search.model_dump(mode="json"),
        "shown": repr(retriever),
    }


def by_mcp(url: str, key: str) -> dict[str, Any]:
    """By the newest way of talking, and by the handshake of older clients."""
    return {mode: asyncio.run(as_an_agent(url, key, mode)) for mode in ("auto", "legacy")}


async def as_an_agent(url: str, key: str, mode: str) -> dict[str, Any]:
    import httpx2
    from mcp.client.client import Client
    from mcp.client.streamable_http import streamable_http_client

    refused = {}
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as agent,
    ):
        (tool,) = (await agent.list_tools()).tools
        found = await agent.call_tool("search", {"query": QUERY, "filter": ENERGY})
        for name, wrong in {
            "search": {"query": ""},
            "more": {"query": "a", "tenant": "acme"},
            "other": {"query": "a", "colour": "red"},
        }.items():
            told = await agent.call_tool("search", wrong)
            refused[name] = [told.is_error, told.content[0].text]
    return {
        "tool": [tool.name, sorted(tool.input_schema["properties"]), tool.annotations.read_only_hint],
        "found": found.structured_content["hits"],
        "text": found.content[0].text,
        "refused": refused,
    }


def faults(url: str, key: str, ask: Callable[..., object]) -> dict[str, list[str]]:
    """What is raised for each kind of wrong field."""
    wrong: dict[str, dict[str, Any]] = {
        "key": {"api_key": "wrong" * 4},
        "key with a line end": {"api_key": f"{key}\n"},
        "key over http": {"url": "http://elsewhere.example"},
        "url": {"url": "localhost:8080"},
        "mode": {"mode": "fuzzy"},
        "top_k": {"top_k": 1000},
        "filter": {"filter": {"field": "metadata.section", "equal": "energy"}},
        "name": {"topk": 3},
        "nobody": {"url": "http://127.0.0.1:1"},
    }
    told = {}
    for name, fields in wrong.items():
        try:
            ask(**{"url": url, "api_key": key, **fields})
        except Exception as error:  # noqa: BLE001  # which one it is, is asked here
            told[name] = [type(error).__name__, str(error)]
    return told


def main() -> None:
    url, key = sys.argv[1:]
    os.environ["CO_API_URL"] = url
    ways = (
        by_openai,
        by_cohere,
        by_langchain,
        by_llama_index,
        by_langchain_retriever,
        by_llama_index_retriever,
        by_mcp,
    )
    print(json.dumps({way.__name__.removeprefix("by_"): way(url, key) for way in ways}))


if __name__ == "__main__":
    main()
