"""Qwen3-Embedding and Qwen3-Reranker: from a checkpoint to a bundle, without torch."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
from onnx import ModelProto, checker, shape_inference

from worker.errors import Misconfigured
from worker.models import prompts
from worker.models.bundle import TOKENIZER, Bundle, Graph, Manifest, Work, fingerprints, write
from worker.models.export import decoder
from worker.models.export.checkpoint import CONFIG, Array, Checkpoint, Config, read_json
from worker.models.export.dialects import DIALECTS
from worker.models.export.gate import Gate, Progress
from worker.models.export.locate import Located
from worker.models.export.weights import Weights
from worker.models.tokenizer import HubTokenizer

POOLING = "last_token"
LONGEST = 32768
"""Tokens that the models were made for, whatever their positions would allow."""

LEAST_DIMENSION = 32
MODULES = "modules.json"
WHOLE_HEAD, READY_HEAD = "lm_head.weight", "score.weight"

Task = Literal["embedding", "reranker"]
TASKS: Mapping[str, Task] = {"embedding": "embedding", "reranker": "reranker"}


@dataclass(frozen=True, slots=True)
class Options:
    """What to make. ``dimension`` is the largest asked for; ``separator`` is that of the reranker's template."""

    dialects: Sequence[str] = ("cpu",)
    precisions: Sequence[str] = ()
    dimension: int | None = None
    task: Task | None = None
    separator: str = prompts.SEPARATORS["blank-line"]
    labelled_set: Path | None = None


def fits(folder: Path) -> bool:
    """Whether this is a Qwen3 checkpoint that our graphs compute: one that pools the last token, if it pools."""
    if not (folder / CONFIG).is_file() or read_json(folder / CONFIG).get("model_type") != "qwen3":
        return False
    pooling = folder / "1_Pooling" / CONFIG
    return not pooling.is_file() or bool(read_json(pooling).get("pooling_mode_lasttoken"))


def task_named(name: str | None) -> Task | None:
    """A task by its name on the command line; raises Misconfigured."""
    if name is None or name in TASKS:
        return TASKS[name] if name else None
    raise Misconfigured(f"--task {name}: choose of {', '.join(TASKS)}")


def plan(dialects: Sequence[str], precisions: Sequence[str], *, gated: bool) -> list[tuple[str, str]]:
    """Which graphs to make: of each dialect the precisions asked for that it knows, else its default.

    The first of a dialect is what workers prefer. Reduced precision on processors is the default only where the
    quality gate decides; then fp32 stays beside it.
    """
    made = []
    for name in dialects:
        if name not in DIALECTS:
            raise Misconfigured(f"--dialect {name}: choose of {', '.join(DIALECTS)}")
        known = DIALECTS[name].precisions
        if unknown := set(precisions) - {p for dialect in DIALECTS.values() for p in dialect.precisions}:
            raise Misconfigured(f"--precision {', '.join(sorted(unknown))}: choose of bf16, fp16, fp32, int8")
        default = ["int8", "fp32"] if gated and name == "cpu" else [known[0]]
        chosen = [precision for precision in precisions if precision in known] or default
        if gated and "int8" in chosen and "fp32" not in chosen:
            chosen.append("fp32")
        made += [(name, precision) for precision in chosen]
    return made


def export(located: Located, folder: Path, options: Options, progress: Progress) -> Manifest:
    """Write the bundle; raises Misconfigured, and then nothing is left behind."""
    checkpoint = Checkpoint(located.folder)
    checkpoint.require(decoder.tensors(checkpoint.config))
    _refuse_unknown(checkpoint)
    source = located.folder / TOKENIZER
    if not source.is_file():
        raise Misconfigured(f"{source} is missing")
    tokenizer = HubTokenizer(source)
    if tokenizer.size > checkpoint.config.vocab_size:
        raise Misconfigured(f"{source} has {tokenizer.size} tokens, the model only {checkpoint.config.vocab_size}")
    end_of_text = tokenizer.end_of_text
    task = options.task or _task(located.folder, end_of_text)
    embedding = task == "embedding"
    width = _dimension(checkpoint, options.dimension, end_of_text) if embedding else 1
    head = width if embedding else _answer(checkpoint, source)
    graphs = plan(options.dialects, options.precisions, gated=options.labelled_set is not None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
        made = Path(temporary) / "bundle"
        made.mkdir()
        shutil.copyfile(source, made / TOKENIZER)
        listed = _graphs(checkpoint, made, graphs, head, progress)
        manifest = Manifest(
            source=located.source,
            revision=located.revision,
            task=task,
            dimension=width,
            dimensions=(width,),
            least_dimension=min(LEAST_DIMENSION, width) if embedding else 0,
            pooling=POOLING,
            max_tokens=min(LONGEST, checkpoint.config.max_position_embeddings),
            end_of_text=end_of_text if embedding else "",
            prompts=_prompts(task, located.folder, options.separator),
            graphs=tuple(listed),
            work=_work(checkpoint.config),
            files=fingerprints(made),
        )
        if options.labelled_set is not None:
            manifest = Gate(options.labelled_set, progress).decide(Bundle(made, manifest))
        write(Bundle(made, manifest))
        shutil.move(made, folder)
    return manifest


def _graphs(
    checkpoint: Checkpoint, made: Path, graphs: Sequence[tuple[str, str]], head: Array | int, progress: Progress
) -> list[Graph]:
    """One file per graph, and one of weights for those that multiply with the same matrices."""
    listed = []
    files: dict[str, Weights] = {}
    parameters = sum(prod(shape) for shape in decoder.tensors(checkpoint.config).values())
    with ExitStack() as opened:
        for dialect, precision in graphs:
            label = f"cpu-{precision}" if dialect == "cpu" else f"gpu-{precision}"
            with progress(f"{dialect} {precision}", 0 if label in files else parameters) as advance:
                if label not in files:
                    weights = Weights(checkpoint, made / f"{label}.weights", precision, advance)
                    files[label] = opened.enter_context(closing(weights))
                model = decoder.build(checkpoint, files[label], dialect, precision, head)
            name = f"{dialect}-{precision}.onnx"
            listed.append(Graph(dialect=dialect, precision=precision, file=name, output=model.graph.output[0].name))
            (made / name).write_bytes(_checked(model, dialect).SerializeToString())
    for graph in listed:
        if graph.dialect != "cuda":  # ONNX does not know all of its operators; ONNX Runtime checks them when it loads
            checker.check_model(str(made / graph.file))
    return listed


def _checked(model: ModelProto, dialect: str) -> ModelProto:
    """With every shape inferred where TensorRT reads it: a value without one would split the engine."""
    if dialect != "tensorrt":
        return model
    return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def _work(config: Config) -> Work:
    matrices = [shape for name, shape in decoder.tensors(config).items() if name.endswith("_proj.weight")]
    return Work(matrix_parameters=sum(map(prod, matrices)), query_width=config.query_width * config.num_hidden_layers)


def _prompts(task: Task, folder: Path, separator: str) -> dict[str, str]:
    texts = {"query": prompts.QUERY, "document": ""}
    if task == "reranker":
        texts = {"prefix": prompts.PREFIX, "pair": prompts.PAIR, "suffix": prompts.SUFFIX, "separator": separator}
    return texts | {"instruction": _instruction(folder)}


def _task(folder: Path, end_of_text: str) -> Task:
    """An embedding model pools, or its tokenizer ends every text; a reranker answers yes or no instead."""
    modules = folder / MODULES
    pools = modules.is_file() and "Pooling" in modules.read_text()
    return "embedding" if pools or end_of_text else "reranker"


def _dimension(checkpoint: Checkpoint, wanted: int | None, end_of_text: str) -> int:
    """The width of the output."""
    if not end_of_text:
        raise Misconfigured(
            f"{checkpoint.folder / TOKENIZER} puts no token at the end of a text, but the model was trained to pool "
            "there; fetch the current revision of the checkpoint"
        )
    native = checkpoint.config.hidden_size
    least = min(LEAST_DIMENSION, native)
    if wanted is not None and not least <= wanted <= native:
        raise Misconfigured(f"--dimensions {wanted}: the model supports {least} to {native}")
    return wanted or native


def _answer(checkpoint: Checkpoint, tokenizer: Path) -> Array:
    """The logit of "yes" minus that of "no" is the product with one vector, instead of with the whole vocabulary."""
    config = checkpoint.config
    if READY_HEAD in checkpoint:
        checkpoint.require({READY_HEAD: (1, config.hidden_size)})
        return checkpoint.row(READY_HEAD, 0).astype(np.float32)
    table = "embed_tokens.weight" if config.tie_word_embeddings else WHOLE_HEAD
    checkpoint.require({table: (config.vocab_size, config.hidden_size)})
    yes, no = (checkpoint.row(table, _word(tokenizer, word)).astype(np.float32) for word in ("yes", "no"))
    return np.asarray(yes - no)


def _word(tokenizer: Path, word: str) -> int:
    vocabulary: Mapping[str, int] = read_json(tokenizer).get("model", {}).get("vocab", {})
    if word not in vocabulary:
        raise Misconfigured(f"{tokenizer}: the vocabulary has no token {word!r}, which a reranker answers with")
    return vocabulary[word]


def _instruction(folder: Path) -> str:
    """The task that the checkpoint's own query prompt names, else the one of the model card."""
    path = folder / "config_sentence_transformers.json"
    written = (read_json(path).get("prompts") or {}).get("query", "") if path.is_file() else ""
    before, after = prompts.QUERY.split("{instruction}")
    fitting = written.startswith(before) and written.endswith(after)
    return written[len(before) : -len(after)] if fitting else prompts.INSTRUCTION


def _refuse_unknown(checkpoint: Checkpoint) -> None:
    """A tensor that we would leave out is a part of the model that we do not know."""
    unknown = checkpoint.names - set(decoder.tensors(checkpoint.config)) - {WHOLE_HEAD, READY_HEAD}
    unknown = {name for name in unknown if not name.endswith("rotary_emb.inv_freq")}
    if unknown:
        raise Misconfigured(f"{checkpoint.folder}: unknown tensors, such as {min(unknown)}: this is no plain Qwen3")
