"""How far consumer groups are, and setting them to go on elsewhere: ``penstock offsets show | reset``."""

import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from penstock.commands.app import UPKEEP, app
from penstock.commands.process import load_settings
from penstock.core.offsets import Standing
from penstock.core.records import Partition
from penstock.observe.live import steps
from penstock.operate.offsets import Move, Pace, Plan, name, spoken

if TYPE_CHECKING:
    from penstock.assembly.offsets import Seen

offsets = typer.Typer(help="See how far workers are, and let them go on elsewhere.", no_args_is_help=True)
app.add_typer(offsets, name="offsets", rich_help_panel=UPKEEP)

Queries = Annotated[bool, typer.Option("--queries", help="The query workers' group and topic, instead of the index's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@offsets.command("show", epilog="Examples: `penstock offsets show` · `penstock offsets show --over-s 0 --json`")
def show_offsets(
    queries: Queries = False,
    over_s: Annotated[
        float,
        typer.Option(min=0, max=600, help="How long to watch the group, to say how fast it reads; 0: not at all."),
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Show a consumer group: where each partition begins and ends, what is committed, what is left, and who reads.

    How long the rest takes is said by what the group reads and what comes meanwhile, where somebody reads and something
    is left. Counted are offsets: as many records, or fewer, where the topic is compacted or written in transactions.
    """
    settings = load_settings()
    from penstock.assembly.offsets import look  # noqa: PLC0415  # slow: first what can fail at once

    seen = look(settings, queries=queries, over_s=over_s, step=steps(Console(stderr=True)))
    typer.echo(json.dumps(_shown(seen)) if as_json else "\n".join(_lines(seen)))


@offsets.command(
    "reset",
    epilog="Examples: `penstock offsets reset --to beginning --dry-run` · `penstock offsets reset --to 2h` · "
    "`penstock offsets reset --to 0 --partition 0` · `penstock offsets reset --to end --skip`",
)
def reset_offsets(
    to: Annotated[
        str,
        typer.Option(
            metavar="beginning|end|OFFSET|TIME",
            help="Where to go on: TIME is a moment like 2026-11-27T12:00:00Z, or an age like 30m, 2h or 3d.",
        ),
    ],
    partition: Annotated[list[int] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only this one of several.")] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out also what was never read.")] = False,
    queries: Queries = False,
    rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Records/s that the workers read, to say how long it takes.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would mean, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a consumer group go on elsewhere: back, to read records again, or forward, to leave some out.

    Only while none of its workers runs. Reading again is harmless: what is indexed already stays as it is. With the
    offsets go the collection's own notes of how far it is, so workers join it as before; and whatever was remembered of
    records that killed workers is forgotten. Where it is interrupted, the same command once more does the rest.
    """
    settings = load_settings()
    from penstock.assembly.offsets import Asked, reset  # noqa: PLC0415  # slow: first what can fail at once

    asked = Asked(to, topic, tuple(partition or ()), skip, queries)
    plan = reset(settings, asked, datetime.now(UTC), dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(_planned(plan, rate, dry_run=dry_run)))
        return
    for line in _moved(plan, rate, dry_run=dry_run):
        typer.echo(line)


def _lines(seen: "Seen") -> Iterable[str]:
    group = seen.group
    readers = {owned: f"{reader.client} {reader.host}" for reader in group.readers for owned in reader.partitions}
    yield f"group {group.group}: {group.state}, {len(group.readers)} members"
    rows = [("", "begin", "committed", "end", "lag", "read by", "")]
    for owned, at in group.partitions.items():
        committed = "none" if at.committed is None else f"{at.committed}"
        rows.append(
            (name(owned), f"{at.begin}", committed, f"{at.end}", f"{at.lag}", readers.get(owned, "nobody"), _notes(at))
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *numbers, reader, notes in rows:
        cells = [first.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:-2], strict=True))]
        yield "  ".join((*cells, reader.ljust(widths[-2]), notes)).rstrip()
    yield f"{group.lag} records are behind; {_left(seen)}"


def _left(seen: "Seen") -> str:
    """How long the lag takes, and how that is known."""
    if seen.pace is None:
        return f"how long that takes is not known: {seen.why_none}"
    over_s, read, produced = seen.pace
    speed = f"in {over_s:.1f} s {read:.1f}/s were read and {produced:.1f}/s came"
    if not seen.pace.read_per_s:
        return f"how long that takes is not known: {speed}"
    took_s = seen.pace.catch_up_s(seen.group.lag)
    return f"{speed}: {'it never ends like this' if math.isinf(took_s) else f'{spoken(took_s)} are left'}"


def _notes(at: Standing) -> str:
    notes = [f"{at.missed} removed before they were read"] if at.missed else []
    if at.committed is not None and at.committed > at.end:
        notes.append("committed beyond its end: another topic of that name?")
    if at.mark.attempts > 1:
        notes.append(f"{at.mark.attempts} workers began here and came no further")
    if at.committed is not None and at.mark.alone_until > at.committed:
        notes.append("records go one by one: some killed workers")
    return "; ".join(notes)


def _shown(seen: "Seen") -> dict[str, Any]:
    group, lag = seen.group, seen.group.lag
    return {
        "group": group.group,
        "state": group.state,
        "members": [
            {"client": one.client, "host": one.host, "partitions": [_place(owned) for owned in one.partitions]}
            for one in group.readers
        ],
        "partitions": [
            _place(owned)
            | {"begin": at.begin, "committed": at.committed, "end": at.end, "lag": at.lag, "missed": at.missed}
            for owned, at in group.partitions.items()
        ],
        "lag": lag,
        "pace": None if seen.pace is None else _paced(seen.pace, lag),
        "why_no_pace": seen.why_none or None,
    }


def _paced(pace: Pace, lag: int) -> dict[str, float | None]:
    took_s = pace.catch_up_s(lag)
    return pace._asdict() | {"seconds_left": None if math.isinf(took_s) else took_s}


def _place(owned: Partition) -> dict[str, Any]:
    return {"topic": owned.topic, "partition": owned.number}


def _moved(plan: Plan, rate: float | None, *, dry_run: bool) -> Iterable[str]:
    would = "would go" if dry_run else "goes"
    yield f"group {plan.group.group} {would} on at:"
    width = max(len(name(move.partition)) for move in plan.moves)
    for move in plan.moves:
        since = "the beginning" if move.at.committed is None else str(move.at.committed)
        meaning = _meaning(move, indexed=bool(plan.collection))
        yield f"  {name(move.partition).ljust(width)}  {move.to}, instead of {since}: {meaning}"
    yield f"{plan.to_read} records to read; {_takes(plan.to_read, rate)}"
    yield from (f"not yet: {reason}" for reason in plan.against)


def _meaning(move: Move, *, indexed: bool) -> str:
    parts: Sequence[tuple[int, str]] = (
        (move.again, "read again"),
        (move.left_out, "left out"),
        (move.skipped, "skipped that are not in the collection" if indexed else "skipped unanswered"),
        (move.gone, "gone from the topic before they were read"),
    )
    return ", ".join(f"{count} {what}" for count, what in parts if count) or "nothing changes"


def _takes(records: int, rate: float | None) -> str:
    if rate is None:
        return "for how long that takes, give --rate, as penstock offsets show measures it while workers run"
    return f"about {spoken(records / rate)} at {rate:g}/s"


def _planned(plan: Plan, rate: float | None, *, dry_run: bool) -> dict[str, Any]:
    return {
        "group": plan.group.group,
        "collection": plan.collection or None,
        "dry_run": dry_run,
        "partitions": [
            _place(move.partition)
            | {"from": move.at.committed, "to": move.to, "again": move.again, "left_out": move.left_out}
            | {"skipped": move.skipped, "gone": move.gone, "to_read": move.to_read}
            for move in plan.moves
        ],
        "skipped": plan.skipped,
        "to_read": plan.to_read,
        "seconds": None if rate is None else plan.to_read / rate,
        "against": list(plan.against),
    }
