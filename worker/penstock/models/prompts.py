"""What is put around a text before a model sees it. Pure; the templates themselves are in the bundle.

The templates of Qwen3 are those of the model cards: Qwen/Qwen3-Embedding-0.6B and Qwen/Qwen3-Reranker-0.6B.
"""

import re
from collections.abc import Mapping

SIDES = ("query", "document")
"""Of a search: each may have something before its texts."""

QUERY = "Instruct: {instruction}\nQuery:"
"""Before a query, for Qwen3-Embedding. Documents have nothing before them."""

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
PAIR = "<Instruct>: {instruction}{separator}<Query>: {query}{separator}<Document>: {document}"
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""Before, in and after a pair, for Qwen3-Reranker."""

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
"""The task that both were trained with most; a better one is worth 1 to 5 %."""

SEPARATORS = {"blank-line": "\n\n", "newline": "\n"}
"""Between the parts of a pair. The authors' evaluation code has a blank line, their transformers example none."""


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each ``{name}`` replaced once: braces in a value stay what they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def harmless(text: str) -> str:
    """A text that does not name the parts of a pair: ``<Query>:`` becomes ``<Query> :``."""
    return re.sub(r"<(Instruct|Query|Document)>:", r"<\1> :", text)


def takes_instruction(template: str) -> bool:
    """Whether a task can be put into it."""
    return "{instruction}" in template
