"""Models by themselves: ``penstock train | embed | rerank | bench``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from penstock import settings
from penstock.commands import texts
from penstock.commands.app import MODELS, app
from penstock.commands.listed import choice, names
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.observe.live import steps as progress_steps
from penstock.observe.log import set_up
from penstock.settings import ModelSettings

if TYPE_CHECKING:
    from penstock.operate.bench import Result

BundleOption = Annotated[Path | None, typer.Option("--bundle", help="The bundle [default: that of the settings].")]
Texts = Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Else JSON lines on standard input.")]
Instruction = Annotated[str | None, typer.Option(help="The task, instead of the bundle's own.")]


@app.command(
    "train",
    rich_help_panel=MODELS,
    epilog="Example: `penstock train plan.toml`, then `penstock export runs/mine/embedding -o bundles/mine`",
)
def train_models(
    plan: Annotated[Path, typer.Argument(help="What is trained, on what, and how long: TOML.")],
) -> None:
    """Train an embedding model and a reranker on pairs of your own, from a checkpoint or from nothing.

    Pairs are JSON lines {"query", "document", "group"?, "instruction"?, "negatives"?}. Interrupted, the same command
    goes on from the last checkpoint. Needs the extra `train`; a GPU is used when PyTorch finds one.
    """
    try:
        from penstock.models.train import run  # noqa: PLC0415  # needs an extra
        from penstock.models.train.plan import load  # noqa: PLC0415

        set_up("warning", "auto")
        for folder in run.run(load(plan), progress_steps(Console(stderr=True))):
            typer.echo(folder)
    except ModuleNotFoundError as error:
        raise Misconfigured(f"penstock train needs the extra train: {error.name} is missing") from error


@app.command(
    rich_help_panel=MODELS,
    epilog='Examples: `penstock embed --bundle bundles/qwen3 "water under pressure"` · '
    "`penstock embed --query --dimension 256 < texts.jsonl`",
)
def embed(
    given: Texts = None,
    bundle: BundleOption = None,
    query: Annotated[bool, typer.Option("--query", help="Put the query's instruction before each text.")] = False,
    instruction: Instruction = None,
    dimension: Annotated[int | None, typer.Option(help="Shorter vectors.")] = None,
) -> None:
    """Print the vector of each text, as a search would make it: {"tokens", "vector"} per line."""
    from penstock.assembly.models import load_model  # noqa: PLC0415  # the models' libraries load slowly

    if instruction is not None and not query:
        raise Misconfigured("--instruction is for queries: add --query")
    model = load_model(_by_hand(bundle, dimension=dimension, instruction=instruction))
    limit = model.bundle.manifest.max_tokens
    before = model.query_prompt if query else model.bundle.prompt("document")
    count = 0
    for portion in texts.portions(given or []):
        ids = model.tokenizer.encode([before + text for text in portion])
        for number, tokens in enumerate(ids, count + 1):
            if len(tokens) > limit:
                typer.echo(f"penstock: text {number}: cut from {len(tokens)} tokens to {limit}", err=True)
        if max(map(len, ids)) > limit:
            ids = model.tokenizer.encode([before + text for text in portion], limit)
        for tokens, vector in zip(ids, model.embedder.embed(ids), strict=True):
            typer.echo(texts.vector_line(len(tokens), vector))
        count += len(portion)


@app.command(
    rich_help_panel=MODELS,
    epilog='Example: `penstock rerank --bundle bundles/reranker --query "what drives a turbine" "Water." "A poem."`',
)
def rerank(
    query: Annotated[str, typer.Option(help="What the texts should answer.")],
    given: Texts = None,
    bundle: BundleOption = None,
    instruction: Instruction = None,
    separator: Annotated[str | None, typer.Option(help="blank-line or newline, instead of the bundle's own.")] = None,
) -> None:
    """Print how well each text answers the query: {"index", "tokens", "logit", "score"} per line, in their order."""
    from penstock.assembly.models import load_reranker  # noqa: PLC0415  # the models' libraries load slowly
    from penstock.models.prompts import SEPARATORS  # noqa: PLC0415
    from penstock.models.reranker import probability  # noqa: PLC0415

    between = None if separator is None else choice("--separator", separator, SEPARATORS)
    loaded = settings.load({"rerank": {"bundle": bundle} if bundle else {}})
    set_up("warning", loaded.log.format)
    model = load_reranker(loaded.rerank if loaded.rerank.bundle or not loaded.model.bundle else loaded.model)
    task = instruction or (loaded.model.instruction if model.pairs.takes_task else "") or None
    index = 0
    for portion in texts.portions(given or []):
        try:
            pairs = model.pairs.encode(query, portion, task, between)
        except InvalidEvent as error:
            raise Misconfigured(str(error)) from None
        logits = model.reranker.logits(pairs)
        for ids, logit, score in zip(pairs, logits.tolist(), probability(logits).tolist(), strict=True):
            typer.echo(json.dumps({"index": index, "tokens": len(ids), "logit": logit, "score": score}))
            index += 1


@app.command(
    rich_help_panel=MODELS,
    epilog="Examples: `penstock bench --bundle bundles/qwen3 --lengths 128,512,mixed` · "
    "`penstock bench --bundle bundles/qwen3 --tune`",
)
def bench(
    bundle: BundleOption = None,
    lengths: Annotated[str, typer.Option(help="Tokens per text, or mixed [default: 32,128,512,mixed].")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens per measurement.")] = 4096,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements, of which the median counts.")] = 3,
    provider: Annotated[str | None, typer.Option(help="tensorrt, cuda or cpu, and no other.")] = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="Padded tokens in one forward pass.")] = None,
    peak_tflops: Annotated[float | None, typer.Option(help="What the hardware can do, for the MFU column.")] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Find the best token budget, store it in the bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the model alone, on random tokens: tokens and texts per second, padding, FLOPs, memory.

    FLOPs of a text of n tokens: 2 per matrix parameter and token, and 2 n² per query channel for causal attention;
    MFU is their rate over --peak-tflops.
    """
    from penstock.assembly.models import load_graph  # noqa: PLC0415  # the models' libraries load slowly
    from penstock.models.bundle import load  # noqa: PLC0415
    from penstock.operate import bench as measuring  # noqa: PLC0415

    update: dict[str, object] = {"token_budget": token_budget} if token_budget else {}
    update |= {"provider": provider, "require_provider": provider} if provider else {}
    chosen = _by_hand(bundle, **update)
    model = load(chosen.bundle)
    measured = measuring.lengths_to_measure(model, names(lengths))
    tuned = None
    if tune:
        with progress_steps(Console(stderr=True))("tuning", len(measuring.BUDGETS)) as advance:
            tuned = measuring.tune(model, load_graph(model, chosen), tokens, advance)
        model = load(chosen.bundle)
    results = list(measuring.measure(model, load_graph(model, chosen), measured, tokens, repeats, peak_tflops))
    memory = measuring.peak_memory()
    if as_json:
        rows = [asdict(result) for result in results]
        typer.echo(json.dumps({"results": rows, "peak_memory_bytes": memory, "tuned": tuned}))
        return
    Console().print(_table(results))
    typer.echo("peak memory: " + ", ".join(f"{name} {size / 2**30:.2f} GiB" for name, size in memory.items()))
    if tuned:
        typer.echo(f"stored in the bundle: token budget {tuned[1]} on {tuned[0]}")


def _table(results: "Sequence[Result]") -> Table:
    table = Table("lengths", "texts", "budget", "tokens/s", "texts/s", "padding", "TFLOP/s", "MFU")
    for result in results:
        rates = f"{result.tokens_per_s:,.0f}", f"{result.texts_per_s:,.1f}", f"{result.padding_share:.1%}"
        tflops, mfu = (f"{result.tflops:.3f}" if result.tflops else "", f"{result.mfu:.1%}" if result.mfu else "")
        table.add_row(result.lengths, str(result.texts), str(result.token_budget), *rates, tflops, mfu)
    return table


def _by_hand(bundle: Path | None, **given: object) -> ModelSettings:
    """The settings, with what the command line says instead."""
    given["bundle"] = bundle
    chosen = settings.load({"model": {name: value for name, value in given.items() if value is not None}})
    set_up("warning", chosen.log.format)
    return chosen.model
