"""What nobody needs any more is removed: ``penstock purge``."""

import json
from typing import Annotated

import typer
from rich.console import Console

from penstock.commands.app import UPKEEP, app
from penstock.commands.process import load_settings
from penstock.core.errors import Misconfigured
from penstock.core.inventory import Kind
from penstock.core.retention import CENTURY_S
from penstock.observe.live import steps

NAMES = {
    Kind.EXPIRED: "expired",
    Kind.TOMBSTONE: "tombstones",
    Kind.LEFT_OVER: "left over",
    Kind.ORPHAN: "orphans",
}


@app.command(
    "purge",
    rich_help_panel=UPKEEP,
    epilog="Examples: `penstock purge --dry-run` · `penstock purge` · `penstock purge --older-than-s 5184000 --json`",
)
def purge_collection(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and remove nothing.")] = False,
    older_than_s: Annotated[
        float | None,
        typer.Option(help="How old tombstones must be, instead of PENSTOCK_PURGE__TOMBSTONES_S."),
    ] = None,
    trust_retention: Annotated[
        bool, typer.Option("--trust-retention", help="Do not ask Kafka how long the topics keep their records.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Remove what the collection holds that nobody needs any more, beside workers that go on writing.

    That is: the text of documents that have expired; tombstones of deleted documents that are old enough; chunks of
    earlier versions that a worker left behind when it ended; chunks of documents that were never finished. Broken off,
    it is run again. At most PENSTOCK_PURGE__POINTS_PER_S points a second go.

    Tombstones keep older events from bringing a document back, so it refuses to remove them sooner than the topic and
    its dead letter topic forget those; for that it needs DescribeConfigs on both. Workers do the same by themselves
    with PENSTOCK_PURGE__EVERY_S.
    """
    if older_than_s is not None and not 0 <= older_than_s <= CENTURY_S:
        raise Misconfigured(f"--older-than-s {older_than_s:g}: 0 to {CENTURY_S:.0f}, which is a hundred years")
    settings = load_settings()
    from penstock.assembly.purge import Purging, run_purge  # noqa: PLC0415  # slow: first what can fail at once

    asked = Purging(older_than_s, trust_retention, dry_run)
    done = run_purge(settings, asked, steps(Console(stderr=True)))
    counts = {name.replace(" ", "_"): done.removed[kind] for kind, name in NAMES.items()}
    if as_json:
        told = {"collection": done.collection, **counts, "tombstones_kept": done.kept, "dry_run": dry_run}
        typer.echo(json.dumps(told))
        return
    said = ", ".join(f"{done.removed[kind]} {name}" for kind, name in NAMES.items())
    typer.echo(f"{done.collection}: {said}: {done.removed.total()} points {'would go' if dry_run else 'are gone'}")
    if done.kept:
        typer.echo(f"No tombstone: {done.kept}.")
