"""Markdown and HTML through the whole of it: what is indexed is found by its section, and says under which headings."""

import json
from pathlib import Path
from typing import Any

from tests.integration.test_cli import SHIPPED, ended
from tests.workers import penstock

GUIDE = """# Guide

How to run a pump.

## Install

### Linux

Use apt to install the controller of the pump on Debian.

### Windows

Run the setup program as administrator.

## Maintenance

Oil the bearings every year, and look for leaks.
"""
PAGE = """<html><head><title>Weirs - a site</title></head><body><nav>Home, blog</nav><h1>Weirs</h1>
<p>A weir raises the level of a river.</p><h2>Fish</h2><p>Salmon climb past it by a ladder.</p></body></html>"""
MODELS = {"MODEL__BUNDLE": SHIPPED, "RERANK__ENABLED": "false"}


def test_a_section_is_found_and_says_where_it_is(tmp_path: Path) -> None:
    events = [{"id": "guide", "text": GUIDE}, {"id": "weirs", "text": PAGE, "format": "html"}]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    settings = MODELS | {"INDEX__FORMAT": "markdown"}
    done = penstock(tmp_path, "index", "--from", "events.jsonl", variables=settings)
    assert ended(done)["indexed"] == 2

    def best(question: str) -> dict[str, Any]:
        found = penstock(tmp_path, "search", question, "--json", variables=MODELS)
        hit: dict[str, Any] = json.loads(found.stdout)["hits"][0]
        return hit

    windows = best("set up on windows")
    assert (windows["document"], windows["title"], windows["headings"]) == ("guide", "Guide", ["Install", "Windows"])
    assert windows["text"] == "Windows\n\nRun the setup program as administrator."
    salmon = best("salmon")
    assert (salmon["title"], salmon["headings"]) == ("Weirs", ["Fish"])
    shown = penstock(tmp_path, "search", "salmon", variables=MODELS | {}).stdout.decode()
    assert "Fish" in shown

    moved = GUIDE.replace("## Install", "## Setting up")
    (tmp_path / "events.jsonl").write_text(json.dumps({"id": "guide", "text": moved}))
    again = penstock(tmp_path, "index", "--from", "events.jsonl", variables=settings)
    assert ended(again)["indexed"] == 1
    assert best("set up on windows")["headings"] == ["Setting up", "Windows"]
