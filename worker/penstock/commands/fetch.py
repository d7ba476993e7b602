"""``penstock fetch``: from where bundles are kept to where a worker reads them."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from penstock.commands.app import MODELS, app
from penstock.commands.process import load_settings
from penstock.core.errors import Misconfigured
from penstock.observe.live import steps as progress_steps

DIGEST = re.compile("sha256:[0-9a-f]{64}")


@app.command(
    "fetch",
    rich_help_panel=MODELS,
    epilog="Examples: `penstock fetch oci://registry.example/models/qwen3:1 /models/qwen3` · "
    "`penstock fetch s3://bucket/models/qwen3 /models/qwen3` · "
    "`penstock fetch hf://someone/qwen3-bundle models/qwen3` · `penstock fetch bundles/qwen3 copies/qwen3 --json`",
)
def fetch_bundle(
    source: Annotated[str, typer.Argument(help="oci://, s3://, gs://, az://, https://, hf://, or a folder.")],
    destination: Annotated[Path, typer.Argument(help="The folder that shall hold the bundle.")],
    digest: Annotated[str, typer.Option(help="sha256:… that its bundle.json must have.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Another bundle there, or a damaged one, goes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fetch a model bundle and verify every file of it; a folder that holds it already is verified and left.

    Run again after it was interrupted, it goes on with what has come. Logins to registries, and authorities of one's
    own, are settings of the group fetch; object stores and hubs read the variables of their own tools.
    """
    if digest and not DIGEST.fullmatch(digest):
        raise Misconfigured(f"--digest {digest}: sha256: and 64 hexadecimal digits, please")
    settings = load_settings().fetch
    from penstock.adapters.bundles.address import source_of  # noqa: PLC0415  # slow: first what can fail at once
    from penstock.models.bundle import MANIFEST  # noqa: PLC0415
    from penstock.operate.fetch import fetch  # noqa: PLC0415

    progress = progress_steps(Console(stderr=True))
    place = source_of(source, settings, MANIFEST)
    done = fetch(source, place, destination, progress, sha256=digest, replace=replace)
    known = {"folder": str(done.folder), "digest": done.sha256, "new": done.new}
    of_model = {"source": done.manifest.source, "revision": done.manifest.revision, "task": done.manifest.task}
    if as_json:
        typer.echo(json.dumps(known | of_model))
        return
    typer.echo(f"{destination}: {done.manifest.source}, {done.manifest.task}, {'new' if done.new else 'there already'}")
    typer.echo(f"{MANIFEST} {done.sha256}")
