"""``penstock export``: from a checkpoint to a bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from penstock.commands.app import MODELS, app
from penstock.commands.listed import choice, names, numbers
from penstock.core.errors import Misconfigured
from penstock.models.prompts import SIDES
from penstock.observe.live import steps as progress_steps
from penstock.observe.log import set_up

if TYPE_CHECKING:
    from penstock.models.bundle import Manifest
    from penstock.models.bundle import Quality as Measured


Dialects = Annotated[str, typer.Option(help="Graphs to make, not of models through optimum: cuda, cpu, tensorrt.")]
Precisions = Annotated[
    str, typer.Option(help="bf16, fp16, fp32, int8, int7; a dialect takes those that it knows [default: its first].")
]
Dimensions = Annotated[
    str, typer.Option(help="Shorter dimensions: of Qwen3 the largest wanted; else those the model was trained for.")
]
Quality = Annotated[
    Path | None, typer.Option(help="Labelled set that decides whether int8 (or int7) is good enough, else fp32.")
]
Texts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help='Without labels: texts of your own, {"text": "…"} per line, on which int8 (or int7) must be like fp32.',
    ),
]
Task = Annotated[str | None, typer.Option(help="embedding or reranker [default: what the checkpoint says].")]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SIDE=TEXT",
        help="What goes before a text: query=… or document=…, \\n for a line end [default: what the checkpoint says].",
    ),
]
Engines = Annotated[Path | None, typer.Option(help="Build TensorRT's engines into this folder, too.")]


@app.command(
    "export",
    rich_help_panel=MODELS,
    epilog="Examples: `penstock export Qwen/Qwen3-Embedding-0.6B -o bundles/qwen3 --dialect cuda,cpu` · "
    "`penstock export ./Qwen3-Reranker-0.6B -o bundles/reranker-int8 --dialect cpu --precision int8` · "
    "`penstock export sentence-transformers/all-MiniLM-L6-v2 -o bundles/minilm`",
)
def export_bundle(
    model: Annotated[str, typer.Argument(help="A hub id, or a local folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder for the bundle.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    dialect: Dialects = "cpu",
    precision: Precisions = "",
    dimensions: Dimensions = "",
    quality: Quality = None,
    texts: Texts = None,
    task: Task = None,
    prompt: Prompts = None,
    separator: Annotated[str, typer.Option(help="Of a reranker's template: blank-line or newline.")] = "blank-line",
    build_engines: Engines = None,
    source: Annotated[str | None, typer.Option(help="The name that collections remember.")] = None,
) -> None:
    """Make a model bundle: of Qwen3, BERT, RoBERTa and XLM-RoBERTa with graphs of our own, of others through optimum.

    Needs the extra `export`; models of other families need the extra `optimum`, too. Folders of a labelled set hold
    corpus.jsonl, queries.jsonl and qrels.tsv.
    """
    from penstock.models.export import card, route  # noqa: PLC0415  # needs an extra
    from penstock.models.export.options import Options  # noqa: PLC0415
    from penstock.models.prompts import SEPARATORS  # noqa: PLC0415

    set_up("warning", "auto")
    options = Options(
        dialects=tuple(names(dialect)),
        precisions=tuple(names(precision)),
        dimension=max(numbers("--dimensions", dimensions), default=None),
        task=None if task is None else choice("--task", task, card.TASKS),
        separator=choice("--separator", separator, SEPARATORS),
        prompts=_prompts(prompt or []),
        labelled_set=quality,
        texts=texts,
    )
    steps = progress_steps(Console(stderr=True))
    manifest = route.export_bundle(model, output, revision, numbers("--dimensions", dimensions), source, options, steps)
    _show_manifest(manifest, output)
    if build_engines is not None:
        _build_engines(output, build_engines)


def _build_engines(bundle: Path, cache: Path) -> None:
    from penstock.assembly.models import build_engines  # noqa: PLC0415  # needs ONNX Runtime

    with progress_steps(Console(stderr=True))("building engines", 0):
        build_engines(bundle, cache)


def _show_manifest(manifest: "Manifest", output: Path) -> None:
    made = ", ".join(f"{graph.dialect} {graph.precision}" for graph in manifest.graphs)
    typer.echo(f"{output}: {manifest.source}, {manifest.task}, {manifest.dimension} wide: {made}", err=True)
    for graph in manifest.graphs:
        if graph.worst_probe is not None:
            figures = f"{len(graph.exact)} matrices in fp32, worst cosine to fp32 on probes {graph.worst_probe:.4f}"
            typer.echo(f"{graph.dialect} {graph.precision}: {figures}", err=True)
    if manifest.check is not None:
        typer.echo(f"worst cosine to the original: {manifest.check.worst_cosine:.7f}", err=True)
    if (quality := manifest.quality) is not None:
        verdict = "kept" if quality.kept else "too much lost, left out"
        typer.echo(f"{_figures(quality)}: {verdict}", err=True)
    if (compared := manifest.compared) is not None:
        verdict = "kept" if compared.kept else "too far, left out"
        figures = f"worst cosine {compared.worst_cosine:.4f}, mean {compared.mean_cosine:.4f}"
        typer.echo(f"{compared.precision} and fp32 on {compared.texts} texts: {figures}: {verdict}", err=True)


def _figures(quality: "Measured") -> str:
    figures = f"nDCG@10 fp32 {quality.ndcg_fp32:.4f}, {quality.precision} {quality.ndcg:.4f}"
    if quality.tau is None:
        return figures
    return f"{figures}, Kendall's tau {quality.tau:.3f}, logits off by at most {quality.largest_logit_difference:.3f}"


def _prompts(given: Sequence[str]) -> dict[str, str]:
    """By side; raises Misconfigured."""
    pairs = [one.partition("=") for one in given]
    if wrong := [side + mark + text for side, mark, text in pairs if side not in SIDES or not mark]:
        raise Misconfigured(f"--prompt {wrong[0]!r}: query=TEXT or document=TEXT, please")
    if len({side for side, _, _ in pairs}) < len(pairs):
        raise Misconfigured("--prompt: one for query and one for document, not more")
    return {side: text.replace("\\n", "\n") for side, _, text in pairs}
