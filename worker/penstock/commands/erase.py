"""A tenant asks to be forgotten: ``penstock erase``."""

import json
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from penstock.commands.app import UPKEEP, app
from penstock.commands.process import load_settings
from penstock.core.documents import TENANT
from penstock.core.errors import Misconfigured
from penstock.observe.live import steps


@app.command(
    "erase",
    rich_help_panel=UPKEEP,
    epilog="Examples: `penstock erase --tenant acme --dry-run` · `penstock erase --tenant acme --yes` · "
    "`penstock erase --tenant acme --tombstones --wait --yes --report erased.json`",
)
def erase_tenant(
    tenant: Annotated[str, typer.Option(help="Whose documents.")],
    tombstones: Annotated[
        bool, typer.Option("--tombstones", help="Also send a null for each of its keys that the topic holds.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until the index workers have passed these nulls.")] = False,
    wait_s: Annotated[float, typer.Option(min=1, help="Longest wait for that.")] = 3600.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is of it, and change nothing.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write the JSON object to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Remove a tenant's documents from the collection, count what is left, and say what remains in the topics.

    During a migration they go from both collections. Tombstones of deleted documents stay until they are purged: they
    hold no text. What the topics hold is only read and told, with partitions and offsets: the documents would come back
    if the topic were read again. With --tombstones each key gets a null in its partition, so that compaction removes
    its records, and workers write deletes; this needs Write on the topic. The report is for whoever has to answer a
    request for erasure.
    """
    if not TENANT.fullmatch(tenant):
        raise Misconfigured(
            f"--tenant {tenant!r}: letters, digits and . _ - only, 1 to 128; without tenants there is nobody to erase, "
            "and with none all documents would go"
        )
    if wait and not tombstones:
        raise Misconfigured("--wait is for the nulls of --tombstones")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise Misconfigured("there is nobody to ask: say --yes, or --dry-run")
    _check(report)
    settings = load_settings()
    from penstock.assembly import erase  # noqa: PLC0415  # slow: first what can fail at once

    progress = steps(Console(stderr=True))
    with erase.erasing(settings, tenant, progress, threading.Event().wait) as erasure:
        found = erasure.look()
        if dry_run:
            done = erasure.told(0, {}, asked=False, dry_run=True).as_json()
        else:
            sent = f", and {len(found.nulls)} nulls go to the topic" if tombstones else ""
            _confirm(f"{found.points.texts} points of {tenant} go from {erasure.collections}{sent}. Go on?", yes=yes)
            done = erase.carry_out(erasure, tombstones=tombstones, wait_s=wait_s if wait else None).as_json()
    _tell(done, as_json=as_json)
    if report is not None:
        _write(report, f"{json.dumps(done, indent=2, ensure_ascii=False)}\n", "w")


def _check(report: Path | None) -> None:
    """What cannot be written is told before anything is erased."""
    if report is not None:
        there = report.exists()
        _write(report, "", "a")
        if not there:
            report.unlink()


def _write(report: Path, text: str, mode: str) -> None:
    try:
        with report.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Misconfigured(f"--report {report} cannot be written: {error.strerror}") from None


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and not typer.confirm(question, err=True):
        raise Misconfigured("nothing was changed")


def _tell(done: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(done, ensure_ascii=False))
        return
    before, after = done["before"], done["after"]
    if not any(before.values()):
        typer.echo(f"{done['collection']} has no point of tenant {done['tenant']}")
    else:
        typer.echo(
            f"{done['collection']}: {done['points_erased']} of {before['texts']} points with text are gone, "
            f"{after['texts']} are left; {after['tombstones']} tombstones"
        )
    for topic in done["topics"]:
        for part in topic["partitions"]:
            place = f"{topic['topic']}/{part['partition']}"
            typer.echo(f"{place}: {part['records']} records, offsets {part['first_offset']} to {part['last_offset']}")
    if done["nulls"]["sent"]:
        typer.echo(f"{done['nulls']['sent']} nulls sent")
    for line in done["to_do"]:
        typer.echo(f"- {line}")
