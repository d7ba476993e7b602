"""What a Qwen3 checkpoint is for, by the files beside its weights: its task, its prompts, its tokenizer."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from penstock.core.errors import Misconfigured
from penstock.models import prompts
from penstock.models.bundle import TOKENIZER
from penstock.models.export.config import CONFIG, read_json
from penstock.models.tokenizer import HubTokenizer

MODULES = "modules.json"
OURS = {"Transformer", "Pooling", "Normalize", "LogitScore"}
"""Modules of sentence-transformers that our graphs compute."""

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names under which models keep what goes before a document, in the order in which sentence-transformers looks."""

POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""What older versions of sentence-transformers set to true, and what newer ones write for it."""

PUBLISHED = re.compile(r"(Qwen/)?Qwen3-Reranker-[0-9.]+B")
"""Rerankers whose older revisions have nothing beside the weights that tells."""

Task = Literal["embedding", "reranker"]
TASKS: Mapping[str, Task] = {"embedding": "embedding", "reranker": "reranker"}


def fits(folder: Path) -> bool:
    """Whether this is a Qwen3 checkpoint that our graphs compute: one that pools the last token, if it pools."""
    if not (folder / CONFIG).is_file() or read_json(folder / CONFIG).get("model_type") != "qwen3":
        return False
    return {module["type"] for module in modules(folder)} <= OURS and pooling(folder) in ("", "lasttoken")


def pooling(folder: Path) -> str:
    """How states become one vector, by the names of sentence-transformers, several joined by +; "" if nothing says."""
    listed = modules(folder)
    places = [module["path"] for module in listed if module["type"] == "Pooling"] or ([] if listed else ["1_Pooling"])
    modes: list[str] = []
    for written in (read_json(folder / place / CONFIG) for place in places if (folder / place / CONFIG).is_file()):
        mode = written.get("pooling_mode") or [name for key, name in POOLINGS.items() if written.get(key)]
        modes += [mode] if isinstance(mode, str) else mode
        if written.get("include_prompt") is False and modes != ["lasttoken"]:
            modes.append("without the prompt")
    return "+".join(modes)


def task(folder: Path, source: str, end_of_text: str, labels: int) -> Task:
    """What the modules of sentence-transformers say, the head with its ``labels``, or a tokenizer that ends every text.

    The weights of Qwen3-Reranker do not tell: they are those of any language model. Raises Misconfigured where nothing
    does; a folder's name does not, except that of the published models.
    """
    types = {module["type"] for module in modules(folder)}
    if "LogitScore" in types or (labels and "Pooling" not in types):
        return "reranker"
    if "Pooling" in types:
        return "embedding"
    if end_of_text:
        return "embedding"
    if PUBLISHED.fullmatch(source):
        return "reranker"
    raise Misconfigured(f"{source}: say --task embedding or --task reranker; nothing beside the weights tells")


def templates(chosen: Task, folder: Path, separator: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The bundle's prompts. A checkpoint's own query prompt counts: as a task, or as it is if it has another form.

    ``given`` are those of the command line, by side; they count more. Raises Misconfigured for a reranker's.
    """
    written = _own_prompts(folder)
    if chosen == "reranker":
        if given:
            raise Misconfigured("--prompt is for embedding models; a reranker has its template, and an instruction")
        parts = {"prefix": prompts.PREFIX, "pair": prompts.PAIR, "suffix": prompts.SUFFIX, "separator": separator}
        own = written.get(str(_written(folder).get("default_prompt_name")))
        return parts | {"instruction": own or prompts.INSTRUCTION}
    known = sides(written) | dict(given or {})
    query, document = (known.get(side, "") for side in prompts.SIDES)
    before, after = prompts.QUERY.split("{instruction}")
    if "query" not in known or prompts.takes_instruction(query):
        return {"query": query or prompts.QUERY, "document": document, "instruction": prompts.INSTRUCTION}
    if query.startswith(before) and query.endswith(after):
        return {"query": prompts.QUERY, "document": document, "instruction": query[len(before) : -len(after)]}
    return {"query": query, "document": document}


def plain_prompts(chosen: Task, folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The bundle's prompts of a model that knows no instructions; for ``given`` see ``templates``."""
    if chosen == "reranker" and given:
        raise Misconfigured("--prompt is for embedding models; this reranker judges a query and a document as they are")
    return sides(_own_prompts(folder)) | dict(given) if chosen == "embedding" else {}


def sides(written: Mapping[str, str | None]) -> dict[str, str]:
    """What goes before queries and documents, of the prompts in ``config_sentence_transformers.json`` by their names.

    Sides without one are left out. An empty prompt is none: sentence-transformers adds those of its own accord.
    """
    document = next((written[name] for name in DOCUMENT_PROMPTS if written.get(name)), None)
    return {side: text for side, text in (("query", written.get("query")), ("document", document)) if text}


def longest(folder: Path) -> int | None:
    """The ``max_seq_length`` of sentence-transformers in tokens, if one is set; raises Misconfigured."""
    for place in dict.fromkeys(path.parent for path in configs(folder)):
        path = place / "sentence_bert_config.json"
        limit = read_json(path).get("max_seq_length") if path.is_file() else None
        if limit is not None:
            if not isinstance(limit, int) or limit < 1:
                raise Misconfigured(f"{path}: max_seq_length = {limit!r} is no number of tokens")
            return limit
    return None


def limits(folder: Path) -> list[int]:
    """In tokens, how long a text may be, as far as the files beside the weights say."""
    path = configs(folder)[0].with_name("tokenizer_config.json")
    said = [longest(folder), read_json(path).get("model_max_length") if path.is_file() else None]
    return [limit for limit in said if isinstance(limit, int) and limit > 0]


def _own_prompts(folder: Path) -> dict[str, str]:
    """Those of ``config_sentence_transformers.json``, by their names."""
    return {name: text for name, text in (_written(folder).get("prompts") or {}).items() if isinstance(text, str)}


def _written(folder: Path) -> Mapping[str, Any]:
    path = folder / "config_sentence_transformers.json"
    return read_json(path) if path.is_file() else {}


def write_tokenizer(folder: Path, made: Path, rows: int) -> HubTokenizer:
    """Copy the tokenizer with all its added tokens marked special, so that none of them is recognized in a text.

    Some, such as ``<think>``, are not marked by the authors, and not every checkpoint has a row for the last of them.
    ``rows`` are those of the embedding table.
    """
    source = folder / TOKENIZER
    if not source.is_file():
        raise Misconfigured(f"{source} is missing; transformers' AutoTokenizer writes one with save_pretrained")
    HubTokenizer(source)
    description = read_json(source)
    for token in description.get("added_tokens") or []:
        token["special"] = True
    _silence(description, HubTokenizer(source))
    (made / TOKENIZER).write_text(json.dumps(description, ensure_ascii=False))
    tokenizer = HubTokenizer(made / TOKENIZER)
    last = max(tokenizer.highest_id, *tokenizer.control(tokenizer.end_of_text), 0)
    if last >= rows:
        raise Misconfigured(f"{source} has a token {last}, the model only {rows} rows")
    return tokenizer


def _silence(description: dict[str, Any], tokenizer: HubTokenizer) -> None:
    """Break control tokens up that the vocabulary has as pieces of text, too, such as ``</s>`` of XLM-RoBERTa."""
    unknown = description["model"].get("unk_id"), description["model"].get("unk_token")
    added = [
        token for token in description.get("added_tokens") or [] if not {token["id"], token["content"]} & {*unknown}
    ]
    spoken = [token["content"] for token in added if token["id"] in tokenizer.plain([token["content"]])[0]]
    breaks = [{"type": "Replace", "pattern": {"String": text}, "content": f"{text[:1]} {text[1:]}"} for text in spoken]
    if breaks:
        own = description.get("normalizer")
        description["normalizer"] = {"type": "Sequence", "normalizers": [*([own] if own else []), *breaks]}


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
