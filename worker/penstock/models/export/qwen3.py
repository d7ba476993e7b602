"""Qwen3-Embedding and Qwen3-Reranker: from a checkpoint to a bundle, without torch."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import NamedTuple

from onnx import ModelProto, checker, shape_inference

from penstock.core.errors import Misconfigured
from penstock.models import prompts
from penstock.models.bundle import TOKENIZER, Bundle, Graph, Manifest, TokenCost, fingerprints, load, new_bundle, write
from penstock.models.export import card, coarse, decoder, head
from penstock.models.export.balance import Balanced
from penstock.models.export.card import Task
from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.config import Config
from penstock.models.export.dialects import DIALECTS
from penstock.models.export.gate import Gate, Progress
from penstock.models.export.locate import Located
from penstock.models.export.own_texts import OwnTexts
from penstock.models.export.samples import SAMPLES
from penstock.models.export.weights import IN_BYTES, Weights
from penstock.models.tokenizer import HubTokenizer

POOLING = "last_token"
LONGEST = 32768
"""Tokens that the models were made for, whatever their positions would allow."""

LEAST_DIMENSION = 32


@dataclass(frozen=True, slots=True)
class Options:
    """What to make. ``dimension`` is the largest asked for; ``separator`` is that of the reranker's template.

    ``prompts`` go before queries and documents, by side, instead of the checkpoint's own.
    """

    dialects: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ()
    dimension: int | None = None
    task: Task | None = None
    separator: str = prompts.SEPARATORS["blank-line"]
    prompts: Mapping[str, str] = field(default_factory=dict)
    labelled_set: Path | None = None
    texts: Path | None = None


def plan(dialects: Sequence[str], precisions: Sequence[str], *, gated: bool) -> list[tuple[str, str]]:
    """Which graphs to make: of each dialect the precisions asked for that it knows, else its default.

    The first of a dialect is what workers prefer. Reduced precision on processors is the default only where the
    quality gate decides; then fp32 stays beside it.
    """
    known = {precision for dialect in DIALECTS.values() for precision in dialect.precisions}
    for option, given, choices in (("--dialect", dialects, set(DIALECTS)), ("--precision", precisions, known)):
        if wrong := set(given) - choices:
            raise Misconfigured(f"{option} {', '.join(sorted(wrong))}: choose of {', '.join(sorted(choices))}")
    made: list[tuple[str, str]] = []
    for name in dict.fromkeys(dialects):
        known_here = DIALECTS[name].precisions
        default = ["int8", "fp32"] if gated and name == "cpu" else [known_here[0]]
        chosen = [precision for precision in dict.fromkeys(precisions) if precision in known_here] or default
        if gated and IN_BYTES.keys() & chosen and "fp32" not in chosen:
            chosen.append("fp32")
        made += [(name, precision) for precision in chosen]
    if not made:
        raise Misconfigured(f"--dialect: choose of {', '.join(sorted(DIALECTS))}")
    if gated and sum(precision in IN_BYTES for _, precision in made) != 1:
        raise Misconfigured(
            "--quality and --texts decide about int8 or int7: add --dialect cpu, and --precision with one of them"
        )
    return made


def export_bundle(located: Located, folder: Path, options: Options, progress: Progress) -> Manifest:
    """Write the bundle; raises Misconfigured, and then nothing is left behind."""
    graphs = plan(options.dialects, options.precisions, gated=(options.labelled_set or options.texts) is not None)
    gate = _gate(options, graphs, progress)
    checkpoint = Checkpoint(located.folder)
    checkpoint.require(decoder.tensors(checkpoint.config))
    _refuse_unknown(checkpoint)
    with new_bundle(folder) as made:
        end_of_text = card.write_tokenizer(located.folder, made, checkpoint.config).end_of_text
        labels = head.labels(checkpoint)
        task = options.task or card.task(located.folder, located.source, end_of_text, labels)
        embedding = task == "embedding"
        if embedding and labels:
            raise Misconfigured(f"{checkpoint.folder}: {head.DROPPED}")
        width = _dimension(checkpoint, options.dimension, end_of_text) if embedding else 1
        ending = width if embedding else head.answer(checkpoint, made)
        listed = _graphs(checkpoint, made, graphs, ending, progress)
        manifest = Manifest(
            source=located.source,
            revision=located.revision,
            task=task,
            dimension=width,
            dimensions=(width,),
            least_dimension=min(LEAST_DIMENSION, width) if embedding else 0,
            pooling=POOLING,
            max_tokens=min(LONGEST, checkpoint.config.max_position_embeddings, card.longest(located.folder) or LONGEST),
            end_of_text=end_of_text if embedding else "",
            prompts=card.templates(task, located.folder, options.separator, options.prompts),
            graphs=tuple(listed),
            work=_work(checkpoint.config),
            files=fingerprints(made),
        )
        write(Bundle(made, gate.decide(Bundle(made, manifest)) if gate else manifest))
    return load(folder).manifest


def _gate(options: Options, graphs: Sequence[tuple[str, str]], progress: Progress) -> Gate | OwnTexts | None:
    """What decides about reduced precision, if anything does."""
    if options.labelled_set is not None and options.texts is not None:
        raise Misconfigured("--quality and --texts decide the same thing: leave one out")
    reduced = next((precision for _, precision in graphs if precision in IN_BYTES), "")
    if options.labelled_set is not None:
        return Gate(options.labelled_set, reduced, progress)
    return None if options.texts is None else OwnTexts(options.texts, reduced, progress)


def _graphs(
    checkpoint: Checkpoint, made: Path, graphs: Sequence[tuple[str, str]], ending: Array | int, progress: Progress
) -> list[Graph]:
    """One file per graph, and one of weights for those that multiply with the same matrices."""
    listed = []
    files: dict[str, Weights] = {}
    prepared: dict[str, _Prepared] = {}
    parameters = sum(prod(shape) for shape in decoder.tensors(checkpoint.config).values())
    with ExitStack() as opened:
        for dialect, precision in graphs:
            label = f"cpu-{precision}" if dialect == "cpu" else f"gpu-{precision}"
            if label not in prepared:
                prepared[label] = _prepare(checkpoint, made, precision, progress)
            ready = prepared[label]
            with progress(f"{dialect} {precision}", 0 if label in files else parameters) as advance:
                if label not in files:
                    weights = Weights(ready.checkpoint, made / f"{label}.weights", precision, advance, ready.exact)
                    files[label] = opened.enter_context(closing(weights))
                model = decoder.build(files[label].checkpoint, files[label], dialect, precision, ending)
            name = f"{dialect}-{precision}.onnx"
            listed.append(
                Graph(
                    dialect=dialect,
                    precision=precision,
                    file=name,
                    output=model.graph.output[0].name,
                    exact=ready.exact,
                    worst_probe=ready.worst_probe,
                )
            )
            (made / name).write_bytes(_checked(model, dialect).SerializeToString())
    for graph in listed:
        if graph.dialect != "cuda":  # ONNX does not know all of its operators; ONNX Runtime checks them when it loads
            checker.check_model(str(made / graph.file))
    return listed


class _Prepared(NamedTuple):
    """What a precision is made of, which of its matrices stay in fp32, and the worst cosine that is left."""

    checkpoint: Checkpoint
    exact: tuple[str, ...] = ()
    worst_probe: float | None = None


def _prepare(checkpoint: Checkpoint, made: Path, precision: str, progress: Progress) -> _Prepared:
    if precision not in IN_BYTES:
        return _Prepared(checkpoint)
    balanced = Balanced(checkpoint.folder)
    samples = HubTokenizer(made / TOKENIZER).encode(SAMPLES[::3], checkpoint.config.max_position_embeddings)
    with progress(f"what {precision} spoils", 0):
        exact, worst = coarse.coarse(balanced, precision, samples)
    return _Prepared(balanced, tuple(exact), round(worst, 5))


def _checked(model: ModelProto, dialect: str) -> ModelProto:
    """With every shape inferred where TensorRT reads it: a value without one would split the engine."""
    if dialect != "tensorrt":
        return model
    return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def _work(config: Config) -> TokenCost:
    matrices = [shape for name, shape in decoder.tensors(config).items() if name.endswith("_proj.weight")]
    return TokenCost(
        matrix_parameters=sum(map(prod, matrices)), query_width=config.query_width * config.num_hidden_layers
    )


def _dimension(checkpoint: Checkpoint, wanted: int | None, end_of_text: str) -> int:
    """The width of the output."""
    if not end_of_text:
        raise Misconfigured(
            f"{checkpoint.folder}: the tokenizer puts no token at the end of a text, but the model was trained to pool "
            "there; fetch the current revision of the checkpoint"
        )
    native = checkpoint.config.hidden_size
    least = min(LEAST_DIMENSION, native)
    if wanted is not None and not least <= wanted <= native:
        raise Misconfigured(f"--dimensions {wanted}: the model supports {least} to {native}")
    return wanted or native


def _refuse_unknown(checkpoint: Checkpoint) -> None:
    """A tensor that we would leave out is a part of the model that we do not know."""
    unknown = checkpoint.names - set(decoder.tensors(checkpoint.config)) - {head.WHOLE, head.READY}
    unknown = {name for name in unknown if not name.endswith("rotary_emb.inv_freq")}
    if unknown:
        raise Misconfigured(f"{checkpoint.folder}: unknown tensors, such as {min(unknown)}: this is no plain Qwen3")
