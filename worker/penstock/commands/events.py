"""What others' records become: ``penstock events check``."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from penstock.commands.app import OPERATION, app
from penstock.commands.process import load_settings
from penstock.core.documents import EPOCH_SHIFT
from penstock.core.records import Record
from penstock.settings import Settings

events = typer.Typer(help="Look at records before they are indexed.", no_args_is_help=True)
app.add_typer(events, name="events", rich_help_panel=OPERATION)


@events.command(
    "check",
    epilog="Examples: `penstock events check events.jsonl` · `penstock events check articles --limit 50` · "
    "`PENSTOCK_INDEX__ENVELOPE=debezium penstock events check articles --json`",
)
def check_events(
    source: Annotated[str, typer.Argument(metavar="FILE|TOPIC", help="JSON lines (- is standard input), or a topic.")],
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many: a file's first, a topic's newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per record.")] = False,
) -> None:
    """Say of each record what it would become: an indexed document, a delete, or a dead letter and why.

    Reads as `penstock index` would with these settings, and changes nothing: nothing is written, embedded or committed.
    """
    settings = load_settings()
    from penstock.assembly.index import open_registry, rules_for  # noqa: PLC0415  # slow: first what can fail at once
    from penstock.events.check import check  # noqa: PLC0415

    several = len(settings.kafka.topics) != 1
    in_file = source == "-" or Path(source).exists()
    rules = rules_for(settings.index, settings.index.epoch << EPOCH_SHIFT, keyed=not in_file, several=several)
    rules = rules.asking(open_registry(settings.registry))
    found: Counter[str] = Counter()
    for record in _records(settings, source, limit, in_file=in_file):
        told = check(record, rules)
        found[told.became] += 1
        if as_json:
            typer.echo(json.dumps(told.as_json(), ensure_ascii=False))
            continue
        key = "" if told.key is None else f"  key {told.key}"
        typer.secho(f"{told.record}{key}", bold=True)
        name = f" {told.document}" if told.document else ""
        typer.echo(f"  {told.became}{name}: {told.said}")
    if not as_json:
        counted = ", ".join(f"{count} {became}" for became, count in found.most_common())
        typer.echo(f"{found.total()} records: {counted}" if found else "no records")


def _records(settings: Settings, source: str, limit: int, *, in_file: bool) -> list[Record]:
    if in_file:
        from penstock.adapters.files import first  # noqa: PLC0415

        return first(source, limit)
    from penstock.adapters.kafka.peek import newest  # noqa: PLC0415

    return newest(settings.kafka.model_copy(update={"topic": source}), limit)
