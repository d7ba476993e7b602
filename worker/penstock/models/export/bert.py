"""Encoders of BERT's family, for embedding and as cross-encoders: from a checkpoint to a bundle, without torch."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from onnx import ModelProto

from penstock.core.errors import Misconfigured
from penstock.models.bundle import Bundle, Manifest, TokenCost, fingerprints, load, new_bundle, write
from penstock.models.export import card, coarse, encoder, head
from penstock.models.export.card import Task
from penstock.models.export.config import CONFIG, read_json
from penstock.models.export.dialects.encoder import ENCODER_DIALECTS
from penstock.models.export.encoder import Ending
from penstock.models.export.encoder_balance import BalancedEncoder
from penstock.models.export.encoder_checkpoint import EncoderCheckpoint, tensors
from penstock.models.export.encoder_config import PREFIXES, EncoderConfig
from penstock.models.export.encoder_in_numpy import LENGTH, EncoderInNumpy, probes_of
from penstock.models.export.gate import Progress
from penstock.models.export.graphs import Family, Prepared, write_graphs
from penstock.models.export.locate import Located
from penstock.models.export.options import Options, judge, plan
from penstock.models.export.samples import SAMPLES
from penstock.models.export.weights import IN_BYTES, Weights
from penstock.models.reranker import CrossPairs
from penstock.models.tokenizer import HubTokenizer

POOLINGS = (encoder.MEAN, encoder.FIRST, encoder.LAST)
MODULES = {"Transformer", "Pooling", "Normalize"}
"""Of sentence-transformers, what our graphs compute."""


def fits(folder: Path) -> bool:
    """Whether this is an encoder whose pooling, if it has any, is one of ours."""
    configs = card.configs(folder)
    if not configs or read_json(configs[0]).get("model_type") not in PREFIXES:
        return False
    types = {module["type"] for module in card.modules(folder)}
    return types <= MODULES and ("Pooling" not in types or card.pooling(folder) in POOLINGS)


def export_bundle(
    located: Located, folder: Path, dimensions: Sequence[int], options: Options, progress: Progress
) -> Manifest:
    """Write the bundle; raises Misconfigured, and then nothing is left behind.

    ``dimensions`` are shorter ones that the model was trained for, beside its own.
    """
    graphs = plan({name: dialect.precisions for name, dialect in ENCODER_DIALECTS.items()}, options)
    gate = judge(options, graphs, progress)
    checkpoint = EncoderCheckpoint(card.configs(located.folder)[0].parent)
    checkpoint.require_sound()
    config, task = checkpoint.config, _task(checkpoint, located, options)
    supported = _dimensions(config, dimensions) if task == "embedding" else (1,)
    with new_bundle(folder) as made:
        tokenizer = card.write_tokenizer(checkpoint.folder, made, config.vocab_size)
        ending = _ending(checkpoint, located.folder, task, tokenizer)
        manifest = Manifest(
            source=located.source,
            revision=located.revision,
            task=task,
            dimension=supported[-1],
            dimensions=supported,
            pooling=ending.pooling,
            max_tokens=min([config.longest, *card.limits(located.folder)]),
            end_of_text=tokenizer.end_of_text if task == "embedding" else "",
            prompts=card.plain_prompts(task, located.folder, options.prompts),
            graphs=write_graphs(_family(checkpoint, ending, tokenizer, progress), made, graphs, progress),
            work=_work(config),
            files=fingerprints(made),
        )
        write(Bundle(made, gate.decide(Bundle(made, manifest)) if gate else manifest))
    return load(folder).manifest


def _task(checkpoint: EncoderCheckpoint, located: Located, options: Options) -> Task:
    """What a head says, or the modules of sentence-transformers; raises Misconfigured where that makes no sense."""
    folder, labels = located.folder, checkpoint.labels
    pools = any(module["type"] == "Pooling" for module in card.modules(folder))
    chosen: Task = options.task or ("reranker" if labels and not pools else "embedding")
    if chosen == "reranker" and not labels:
        raise Misconfigured(
            f"{checkpoint.folder}: no tensor {checkpoint.head.out}.weight, so it is no reranker; one has the head of a "
            "classifier of one label, as AutoModelForSequenceClassification saves it"
        )
    if chosen == "embedding" and labels:
        raise Misconfigured(f"{checkpoint.folder}: {head.DROPPED.format(f'{checkpoint.head.out}.weight')}")
    written = read_json(checkpoint.folder / CONFIG).get("architectures") or ["Model"]
    if chosen == "embedding" and not (pools or options.task or written[0].endswith("Model")):
        raise Misconfigured(
            f"{checkpoint.folder / CONFIG}: {written[0]} guesses words, and no {card.MODULES} says that it was trained "
            "to embed; if it was, say --task embedding"
        )
    return chosen


def _ending(checkpoint: EncoderCheckpoint, folder: Path, task: Task, tokenizer: HubTokenizer) -> Ending:
    """How the graph ends. Without a word on it the mean is taken, as sentence-transformers does."""
    if task == "embedding":
        return Ending(card.pooling(folder) or encoder.MEAN)
    between = tokenizer.around_pair[1]
    if not between:
        raise Misconfigured(f"{checkpoint.folder}: the tokenizer puts nothing between the two texts of a pair")
    typed = checkpoint.config.type_vocab_size > 1
    return Ending(encoder.FIRST, scored=True, separator=between[0] if typed else None)


def _family(
    checkpoint: EncoderCheckpoint, ending: Ending, tokenizer: HubTokenizer, progress: Progress
) -> Family[EncoderCheckpoint]:
    def prepare(precision: str) -> Prepared[EncoderCheckpoint]:
        if precision not in IN_BYTES:
            return Prepared(checkpoint)
        balanced = BalancedEncoder(checkpoint.folder)
        limit = min(LENGTH, checkpoint.config.longest)
        if ending.scored:
            texts, around = CrossPairs(tokenizer, limit).encode(SAMPLES[8], SAMPLES[::3]), tokenizer.around_pair
        else:
            texts, around = tokenizer.encode(SAMPLES[::3], limit), tokenizer.around
        with progress(f"what {precision} spoils", 0):
            probes = probes_of(balanced, texts, around, ending.separator)
            exact, worst = coarse.coarse(EncoderInNumpy(balanced, precision, ending), probes)
        return Prepared(balanced, tuple(exact), round(worst, 5))

    def build(source: EncoderCheckpoint, weights: Weights, dialect: str, precision: str) -> ModelProto:
        return encoder.build(source, weights, dialect, precision, ending)

    parameters = sum(prod(shape) for shape in tensors(checkpoint.config).values())
    return Family(parameters, prepare, build)


def _work(config: EncoderConfig) -> TokenCost:
    matrices = [shape for name, shape in tensors(config).items() if name.startswith("encoder.") and len(shape) > 1]
    return TokenCost(
        matrix_parameters=sum(map(prod, matrices)), query_width=config.hidden_size * config.num_hidden_layers
    )


def _dimensions(config: EncoderConfig, shorter: Sequence[int]) -> tuple[int, ...]:
    """Those that a worker may cut the vectors to; the graph's is the last."""
    if wrong := [dimension for dimension in shorter if not 1 <= dimension <= config.hidden_size]:
        raise Misconfigured(f"--dimensions {wrong[0]}: the model has {config.hidden_size}")
    return tuple(sorted({*shorter, config.hidden_size}))
