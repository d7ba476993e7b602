"""Another model without downtime: ``penstock migrate``."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from penstock.commands.app import UPKEEP, app
from penstock.commands.process import load_settings, stop_on_signals
from penstock.core.errors import Misconfigured
from penstock.observe.live import steps as progress_steps
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.assembly.compare import Comparison
    from penstock.operate.migrate import Status

RATE_OVER_S = 3.0


ToOption = Annotated[
    str | None, typer.Option("--to", metavar="BUNDLE", help="The model to go to [default: PENSTOCK_MIGRATION__BUNDLE].")
]
DimensionOption = Annotated[int | None, typer.Option(min=1, help="Length of its vectors [default: its own].")]
OnceOption = Annotated[bool, typer.Option("--once", help="End when all that the topic holds now is indexed.")]
CopyOption = Annotated[
    bool | None,
    typer.Option(
        "--copy/--no-copy",
        help="Take from the old collection what the topic holds no more [default: unless the topic is compacted].",
    ),
]
AgainOption = Annotated[bool, typer.Option("--again", help="To the same model once more, as for other chunks.")]
StatusOption = Annotated[bool, typer.Option("--status", help="Tell how far it is, and how long it will take.")]
CompareOption = Annotated[
    Path | None, typer.Option(metavar="QUERIES", help="Ask these queries of both collections, and tell.")
]
SwitchOption = Annotated[bool, typer.Option("--switch", help="Send readers to the new collection.")]
RollbackOption = Annotated[bool, typer.Option("--rollback", help="Send readers back to the old collection.")]
BehindOption = Annotated[bool, typer.Option("--behind", help="Even if that lacks records.")]
WaitOption = Annotated[float, typer.Option(min=0, help="How long to wait until it lacks none.")]
DropOption = Annotated[bool, typer.Option("--drop", help="Remove the collection that readers do not get.")]
YesOption = Annotated[bool, typer.Option("--yes", help="With --drop: do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(
    "migrate",
    rich_help_panel=UPKEEP,
    epilog="Examples: `penstock migrate --to bundles/new --once` · `penstock migrate --status` · "
    "`penstock migrate --compare queries.txt` · `penstock migrate --switch` · "
    "`penstock migrate --rollback` · `penstock migrate --drop --yes`",
)
def migrate(
    to: ToOption = None,
    dimension: DimensionOption = None,
    once: OnceOption = False,
    copy: CopyOption = None,  # an option, by name
    again: AgainOption = False,
    status: StatusOption = False,
    compare: CompareOption = None,
    tenant: Annotated[str, typer.Option(help="Whose documents, with --compare.")] = "",
    switch: SwitchOption = False,
    rollback: RollbackOption = False,
    behind: BehindOption = False,
    wait_s: WaitOption = 60.0,
    drop: DropOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a collection another model, dimension, chunks or quantization while it is searched and written.

    --to makes a collection beside the one that readers get and works like `penstock index` into it, with a consumer
    group of its own, from the topic's beginning: until SIGTERM, or with --once until the topic's present end. Workers
    of the present model go on as they are, and both collections get every event, deletes included. --status tells how
    far the new one is; --switch sends readers there in one call, once it has all that the old one has, and --rollback
    back, as long as workers of the old one run. Query workers need both models meanwhile: PENSTOCK_MIGRATION__BUNDLE.
    --drop, when the workers of the other one are stopped, ends it.
    """
    _one_of({"--status": status, "--compare": compare, "--switch": switch, "--rollback": rollback, "--drop": drop})
    settings = load_settings(_overrides(to, dimension))
    if status:
        _status(settings, as_json=as_json)
    elif compare is not None:
        _compare(settings, compare, tenant, as_json=as_json)
    elif switch or rollback:
        _send(settings, wait_s, back=rollback, behind=behind, dry_run=dry_run, as_json=as_json)
    elif drop:
        _drop(settings, yes=yes, dry_run=dry_run, as_json=as_json)
    elif dry_run:
        _plan(settings, copy=copy, again=again, as_json=as_json)
    else:
        from penstock.assembly.migrate import fill  # noqa: PLC0415  # slow: first what can fail at once

        fill(settings, stop_on_signals(), copy=copy, again=again, once=once, bar=sys.stderr.isatty())


def _one_of(asked: Mapping[str, object]) -> None:
    said = [name for name, value in asked.items() if value]
    if len(said) > 1:
        raise Misconfigured(f"{' and '.join(said)}: one at a time, please")


def _plan(settings: Settings, *, copy: bool | None, again: bool, as_json: bool) -> None:
    from penstock.assembly.migrate import plan  # noqa: PLC0415

    _print(plan(settings, copy=copy, again=again), as_json=as_json)


def _overrides(to: str | None, dimension: int | None) -> dict[str, dict[str, object]]:
    given = {"bundle": to, "dimension": dimension}
    return {"migration": {name: value for name, value in given.items() if value is not None}}


def _status(settings: Settings, *, as_json: bool) -> None:
    from penstock.assembly.migrate import looked_at  # noqa: PLC0415

    with looked_at(settings) as migration:
        found = migration.status(RATE_OVER_S)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    _show(found)


def _show(found: "Status") -> None:
    table = Table("", "collection", "model", "group", "workers", "records left", "points", box=None)
    for one in found.members:
        member = one.member
        model = f"{member.model.source}, {member.model.dimension}"
        marks = "readers" if member.current else ""
        counts = (one.members, one.left, one.points)
        table.add_row(marks, member.name, model, member.group or "any", *(f"{count:,}" for count in counts))
    console = Console(width=max(100, Console().width))
    console.print(table)
    if len(found.members) == 1:
        typer.echo("no migration is under way: penstock migrate --to BUNDLE begins one")
        return
    if found.eta_s is not None:
        typer.echo(f"{found.records_per_s:,.1f} records/s: about {found.eta_s / 60:,.1f} minutes left")
    typer.echo(f"not ready: {found.unready}" if found.unready else "ready: it has all that readers get now")


def _compare(settings: Settings, file: Path, tenant: str, *, as_json: bool) -> None:
    from penstock.assembly.compare import run_comparison  # noqa: PLC0415

    found = run_comparison(settings, file, tenant, progress_steps(Console(stderr=True)))
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
        return
    _show_comparison(found)


def _show_comparison(found: "Comparison") -> None:
    told = found.as_json()
    table = Table("", "collection", "nDCG@10", "p50 ms", "p95 ms", "points", "vectors", box=None)
    for name in ("current", "other"):
        side = told[name]
        ndcg = "" if side["ndcg@10"] is None else f"{side['ndcg@10']:.3f}"
        sizes = (f"{side['points']:,}", f"{side['vector_bytes'] / 2**20:,.1f} MiB")
        table.add_row(name, side["collection"], ndcg, f"{side['p50_ms']}", f"{side['p95_ms']}", *sizes)
    Console(width=max(100, Console().width)).print(table)
    typer.echo(f"{told['overlap@10']:.0%} of the first ten documents are the same, over {told['queries']} queries")
    for query in told["least_alike"][:3]:
        typer.echo(f"  {found.overlap[query]:.0%}  {query}")


def _send(settings: Settings, wait_s: float, *, back: bool, behind: bool, dry_run: bool, as_json: bool) -> None:
    from penstock.assembly.migrate import looked_at  # noqa: PLC0415

    with looked_at(settings) as migration:
        to, status = migration.switch(back=back, wait_s=wait_s, behind=behind, dry_run=dry_run)
    said = {"alias": status.alias, "collection": to.name, "behind": status.behind, "dry_run": dry_run}
    _print(said, as_json=as_json)


def _drop(settings: Settings, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    from penstock.assembly.migrate import looked_at  # noqa: PLC0415

    with looked_at(settings) as migration:
        gone = migration.droppable()
        if not (yes or dry_run) and not (sys.stdin.isatty() and typer.confirm(f"Remove {gone.name} for good?")):
            raise Misconfigured(f"{gone.name} would be removed for good: say --yes")
        if not dry_run:
            migration.drop(gone)
    _print({"removed": gone.name, "dry_run": dry_run}, as_json=as_json)


def _print(said: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(said))
        return
    typer.echo("  ".join(f"{name} {value}" for name, value in said.items() if value not in (False, None, 0)))
