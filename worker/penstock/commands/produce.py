"""Documents of a file onto the topic: ``penstock produce``."""

import json
from typing import Annotated, get_args

import typer
from rich.console import Console

from penstock.commands.app import OPERATION, app
from penstock.commands.listed import choice
from penstock.commands.process import load_settings
from penstock.core.documents import TENANT
from penstock.core.errors import Misconfigured
from penstock.core.records import Compression
from penstock.observe.live import steps

COMPRESSIONS: dict[str, Compression] = {name: name for name in get_args(Compression)}


@app.command(
    "produce",
    rich_help_panel=OPERATION,
    epilog="Examples: `penstock produce events.jsonl` · `penstock produce - --topic wiki < events.jsonl` · "
    "`penstock produce events.jsonl --dry-run`",
)
def produce_events(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, an event each; - is standard input.")],
    topic: Annotated[str | None, typer.Option(help="The topic [default: PENSTOCK_KAFKA__TOPIC].")] = None,
    tenant: Annotated[str, typer.Option(help="Whose documents, with index.tenant_from = key or header.")] = "",
    compression: Annotated[str, typer.Option(help="none, gzip, snappy, lz4 or zstd.")] = "lz4",
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Name what cannot be read, and go on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line, and send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send the events of a file to the topic, each with its id as key.

    A line that would become a dead letter is not sent: it ends the command, which says how many events were sent
    before it, unless --skip-invalid. Sent again, they are the same documents once more.
    """
    settings = load_settings()
    kind = choice("--compression", compression, COMPRESSIONS)
    if settings.index.tenant_from in ("key", "header") and not tenant:
        raise Misconfigured(f"--tenant is needed, since index.tenant_from = {settings.index.tenant_from}")
    if tenant and not TENANT.fullmatch(tenant):
        raise Misconfigured(f"--tenant {tenant!r}: letters, digits and . _ - only, at most 128")
    from penstock.assembly.produce import Sending  # noqa: PLC0415  # slow: first what can fail at once

    wrong: list[str] = []
    target = topic or settings.kafka.topic
    if topic is None and len(settings.kafka.topics) != 1:
        raise Misconfigured(f"--topic is needed, since PENSTOCK_KAFKA__TOPIC is {target}")
    sending = Sending(settings, file, target, tenant, wrong.append if skip_invalid else None)
    with steps(Console(stderr=True))("checking" if dry_run else "sending", 0) as advance:
        sent = sending.run(None if dry_run else kind, advance)
    for line in wrong:
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps({"topic": target, "events": sent, "left_out": len(wrong), "dry_run": dry_run}))
        return
    left = f"; {len(wrong)} lines left out" if wrong else ""
    typer.echo(f"{sent} events {'would be ' if dry_run else ''}sent to topic {target}{left}")
