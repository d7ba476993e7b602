"""Whether the collection holds what the topic says: ``penstock audit``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from penstock.commands.app import EXIT_DAMAGED, UPKEEP, app
from penstock.commands.process import load_settings
from penstock.core.errors import Misconfigured
from penstock.observe.live import steps
from penstock.operate.letters import printable


@app.command(
    "audit",
    rich_help_panel=UPKEEP,
    epilog="Examples: `penstock audit` · `penstock audit --sample 100 --json` · "
    "`penstock audit --textfile penstock_audit.prom` · `penstock audit --repair --dry-run` · `penstock audit --repair`",
)
def audit_collection(
    repair: Annotated[
        bool, typer.Option("--repair", help="Write what is missing, stale or broken; remove what should not be there.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: only say what it would do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    examples: Annotated[int, typer.Option(min=0, max=10_000, help="Documents that are named of each kind.")] = 5,
    sample: Annotated[int, typer.Option(min=0, max=100_000, help="Chunks to embed anew, to compare vectors.")] = 0,
    textfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write metrics there, for Prometheus' node exporter.")
    ] = None,
    pushgateway: Annotated[str, typer.Option(metavar="URL", help="Push metrics to a Prometheus Pushgateway.")] = "",
    parts: Annotated[int, typer.Option(min=1, max=64, help="Parts of the collection that are read at once.")] = 4,
    per_s: Annotated[float, typer.Option(min=0.1, help="With --repair: most documents in a second.")] = 100.0,
) -> None:
    """Compare what the topic says should be in the collection with what is there, beside workers that go on.

    Reads the topic up to what the group has committed, then the collection; what looks wrong is looked at twice more.
    Kinds of damage: missing, stale, undead (deleted in the topic), orphan (of no record), half_written, left_over (of
    older versions), wrong_model, ahead (of the topic), foreign; and buried (erased, or purged early) and expired, which
    are no damage. Nothing is changed without --repair: that writes documents anew from their records, as a worker
    would, and removes left-overs; orphans only where the topic is compacted and has lost nothing.

    Exit code 4: something is damaged, with --repair: still. For cron, with --textfile or --pushgateway.
    """
    if dry_run and not repair:
        raise Misconfigured("--dry-run goes with --repair: without that nothing is changed")
    if textfile is not None and not textfile.absolute().parent.is_dir():
        raise Misconfigured(f"--textfile {textfile}: there is no folder {textfile.parent}; make it")
    settings = load_settings()
    from penstock.assembly.audit import AuditOptions, run_audit, tell  # noqa: PLC0415  # slow: first what fails at once

    options = AuditOptions(repair=repair, dry_run=dry_run, examples=examples, sample=sample, parts=parts, per_s=per_s)
    report = run_audit(settings, options, steps(Console(stderr=True)))
    if as_json:
        typer.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        for line in report.lines():
            typer.echo(printable(line))
    tell(report, textfile, pushgateway)
    if report.left:
        raise typer.Exit(EXIT_DAMAGED)
