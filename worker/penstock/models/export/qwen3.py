"""Qwen3-Embedding and Qwen3-Reranker: from a checkpoint to a bundle, without torch."""

from functools import partial
from math import prod
from pathlib import Path

from onnx import ModelProto

from penstock.core.errors import Misconfigured
from penstock.models.bundle import TOKENIZER, Bundle, Manifest, TokenCost, fingerprints, load, new_bundle, write
from penstock.models.export import card, coarse, decoder, head
from penstock.models.export.balance import Balanced
from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.config import Config
from penstock.models.export.decoder_in_numpy import DecoderInNumpy, probes_of
from penstock.models.export.dialects import DIALECTS
from penstock.models.export.gate import Progress
from penstock.models.export.graphs import Family, Prepared, write_graphs
from penstock.models.export.locate import Located
from penstock.models.export.options import Options, judge, plan
from penstock.models.export.samples import SAMPLES
from penstock.models.export.weights import IN_BYTES, Weights
from penstock.models.tokenizer import HubTokenizer

POOLING = "last_token"
LONGEST = 32768
"""Tokens that the models were made for, whatever their positions would allow."""

LEAST_DIMENSION = 32


def export_bundle(located: Located, folder: Path, options: Options, progress: Progress) -> Manifest:
    """Write the bundle; raises Misconfigured, and then nothing is left behind."""
    graphs = plan({name: dialect.precisions for name, dialect in DIALECTS.items()}, options)
    gate = judge(options, graphs, progress)
    checkpoint = Checkpoint(located.folder)
    checkpoint.require(decoder.tensors(checkpoint.config))
    _refuse_unknown(checkpoint)
    with new_bundle(folder) as made:
        end_of_text = card.write_tokenizer(located.folder, made, checkpoint.config.vocab_size).end_of_text
        labels = head.labels(checkpoint)
        task = options.task or card.task(located.folder, located.source, end_of_text, labels)
        embedding = task == "embedding"
        if embedding and labels:
            raise Misconfigured(f"{checkpoint.folder}: {head.DROPPED.format(head.READY)}")
        width = _dimension(checkpoint, options.dimension, end_of_text) if embedding else 1
        ending = width if embedding else head.answer(checkpoint, made)
        listed = write_graphs(_family(checkpoint, ending, made, progress), made, graphs, progress)
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
            graphs=listed,
            work=_work(checkpoint.config),
            files=fingerprints(made),
        )
        write(Bundle(made, gate.decide(Bundle(made, manifest)) if gate else manifest))
    return load(folder).manifest


def _family(checkpoint: Checkpoint, ending: Array | int, made: Path, progress: Progress) -> Family[Checkpoint]:
    """``ending`` is what the graph ends with, see ``decoder.build``."""

    def build(source: Checkpoint, weights: Weights, dialect: str, precision: str) -> ModelProto:
        return decoder.build(source, weights, dialect, precision, ending)

    parameters = sum(prod(shape) for shape in decoder.tensors(checkpoint.config).values())
    return Family(parameters, partial(_prepare, checkpoint, made, progress), build)


def _prepare(checkpoint: Checkpoint, made: Path, progress: Progress, precision: str) -> Prepared[Checkpoint]:
    if precision not in IN_BYTES:
        return Prepared(checkpoint)
    balanced = Balanced(checkpoint.folder)
    samples = HubTokenizer(made / TOKENIZER).encode(SAMPLES[::3], checkpoint.config.max_position_embeddings)
    with progress(f"what {precision} spoils", 0):
        model, probes = DecoderInNumpy.of(balanced, precision), probes_of(balanced, samples)
        exact, worst = coarse.coarse(model, probes)
    return Prepared(balanced, tuple(exact), round(worst, 5))


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
