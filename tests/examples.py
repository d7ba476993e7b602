"""The examples of ``--help``, README and docs, as a shell takes them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from penstock.commands import main as _every_command  # noqa: F401
from penstock.commands.app import app

BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+)`")
OURS = re.compile(r"(?:[A-Z_]+=\S+ )*(?:zcat \S+ \| )?penstock [a-z]+ ?.*")
"""A command of ours, with variables before it or a pipe into it."""

PLACEHOLDER = re.compile(r"…|\[|\b[A-Z]{3,}\b(?!=)(?!__)")
BEHIND = re.compile(r" &(\s+#.*)?$")


class Example(NamedTuple):
    """A command as it is written, and where."""

    place: str
    text: str


def of_help() -> Iterator[Example]:
    """The examples that ``--help`` ends with."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        for one in (command, *getattr(command, "commands", {}).values()):
            for text in QUOTED.findall(one.epilog or ""):
                yield Example(f"{name} --help", text)


def of_blocks(page: Path) -> Iterator[Example]:
    """Every command in a page's blocks of shell; one may go on over several lines."""
    for block in BLOCK.findall(page.read_text()):
        begun = ""
        for line in block.splitlines():
            begun = f"{begun}\n{line}" if begun else line
            if begun.strip() and _whole(begun):
                yield Example(page.name, BEHIND.sub("", begun))
                begun = ""


def of_sentences(page: Path) -> Iterator[Example]:
    """Commands of ours between backticks that say more than a command's name, and that anyone could type."""
    for text in QUOTED.findall(FENCED.sub("", page.read_text())):
        if OURS.fullmatch(text) and " " in text.removeprefix("penstock ") and not PLACEHOLDER.search(text):
            yield Example(page.name, text)


def _whole(lines: str) -> bool:
    try:
        shlex.split(lines, comments=True)
    except ValueError:
        return False
    return not lines.endswith("\\")
