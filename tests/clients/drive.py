"""What clients of other people's make of a worker, each by its own library: python drive.py URL KEY

Runs in an environment of its own, see requirements/clients.txt. Prints one JSON object.
"""

import json
import os
import sys
from typing import Any

TEXTS = ["water drives the turbine", "roses are red", "wind turns the blades"]
QUERY = "a turbine driven by water"


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


def main() -> None:
    url, key = sys.argv[1:]
    os.environ["CO_API_URL"] = url
    ways = (by_openai, by_cohere, by_langchain, by_llama_index)
    print(json.dumps({way.__name__.removeprefix("by_"): way(url, key) for way in ways}))


if __name__ == "__main__":
    main()
