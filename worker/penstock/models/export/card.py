"""What a Qwen3 checkpoint is for, by the files beside its weights: its task, its prompts, its tokenizer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from penstock.core.errors import Misconfigured
from penstock.models import prompts
from penstock.models.bundle import TOKENIZER
from penstock.models.export.config import CONFIG, Config, read_json
from penstock.models.tokenizer import HubTokenizer

MODULES = "modules.json"
OURS = {"Transformer", "Pooling", "Normalize"}
"""Modules of sentence-transformers that our graphs compute."""

Task = Literal["embedding", "reranker"]
TASKS: Mapping[str, Task] = {"embedding": "embedding", "reranker": "reranker"}


def fits(folder: Path) -> bool:
    """Whether this is a Qwen3 checkpoint that our graphs compute: one that pools the last token, if it pools."""
    if not (folder / CONFIG).is_file() or read_json(folder / CONFIG).get("model_type") != "qwen3":
        return False
    pooling = folder / "1_Pooling" / CONFIG
    if not pooling.is_file():
        return True
    mode = read_json(pooling)
    return _types(folder) <= OURS and (
        bool(mode.get("pooling_mode_lasttoken")) or mode.get("pooling_mode") in ("lasttoken", ["lasttoken"])
    )


def task(folder: Path, source: str, end_of_text: str) -> Task:
    """An embedding model pools, or its tokenizer ends every text; a reranker has its task in its name.

    Its weights do not tell: they are those of any language model. Raises Misconfigured where nothing does.
    """
    if "Pooling" in _types(folder):
        return "embedding"
    if "rerank" in source.lower():
        return "reranker"
    if end_of_text:
        return "embedding"
    raise Misconfigured(f"{source}: say --task embedding or --task reranker; nothing beside the weights tells")


def templates(chosen: Task, folder: Path, separator: str) -> dict[str, str]:
    """The bundle's prompts. A checkpoint's own query prompt counts: as a task, or as it is if it has another form."""
    if chosen == "reranker":
        parts = {"prefix": prompts.PREFIX, "pair": prompts.PAIR, "suffix": prompts.SUFFIX, "separator": separator}
        return parts | {"instruction": prompts.INSTRUCTION}
    path = folder / "config_sentence_transformers.json"
    written = (read_json(path).get("prompts") if path.is_file() else None) or {}
    query, document = (written.get(side) or "" for side in ("query", "document"))
    before, after = prompts.QUERY.split("{instruction}")
    if not query:
        return {"query": prompts.QUERY, "document": document, "instruction": prompts.INSTRUCTION}
    if query.startswith(before) and query.endswith(after):
        return {"query": prompts.QUERY, "document": document, "instruction": query[len(before) : -len(after)]}
    return {"query": query, "document": document}


def write_tokenizer(folder: Path, made: Path, config: Config) -> HubTokenizer:
    """Copy the tokenizer with all its added tokens marked special, so that none of them is recognized in a text.

    Some, such as ``<think>``, are not marked by the authors, and not every checkpoint has a row for the last of them.
    """
    source = folder / TOKENIZER
    if not source.is_file():
        raise Misconfigured(f"{source} is missing")
    HubTokenizer(source)
    description = read_json(source)
    for token in description.get("added_tokens") or []:
        token["special"] = True
    (made / TOKENIZER).write_text(json.dumps(description, ensure_ascii=False))
    tokenizer = HubTokenizer(made / TOKENIZER)
    last = max(tokenizer.highest_id, *tokenizer.control(tokenizer.end_of_text), 0)
    if last >= config.vocab_size:
        raise Misconfigured(f"{source} has a token {last}, the model only {config.vocab_size} rows")
    return tokenizer


def word(folder: Path, text: str) -> int:
    """The id of a word that is one token; raises Misconfigured."""
    vocabulary: Mapping[str, int] = read_json(folder / TOKENIZER).get("model", {}).get("vocab", {})
    if text not in vocabulary:
        raise Misconfigured(
            f"{folder / TOKENIZER}: the vocabulary has no token {text!r}, which a reranker is asked or answers with"
        )
    return vocabulary[text]


def configs(folder: Path) -> list[Path]:
    """The ``config.json`` of the transformer, wherever a sentence-transformers model keeps it."""
    places = [module["path"] for module in modules(folder) if module["type"] == "Transformer"]
    paths = [folder / place / CONFIG for place in dict.fromkeys(["", *places])]
    return [path for path in paths if path.is_file()]


def modules(folder: Path) -> list[dict[str, str]]:
    """The ``type`` (the class's bare name) and ``path`` of each module of a sentence-transformers model, if it is one.

    Raises Misconfigured.
    """
    path = folder / MODULES
    if not path.is_file():
        return []
    try:
        listed = json.loads(path.read_bytes())
        return [{"type": str(one["type"]).rsplit(".", 1)[-1], "path": str(one.get("path") or "")} for one in listed]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Misconfigured(f"{path} is no list of modules") from None


def _types(folder: Path) -> set[str]:
    return {module["type"] for module in modules(folder)}
