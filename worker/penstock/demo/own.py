"""The demo with one's own documents: a file of events, or a folder of text and Markdown files."""

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from penstock.assembly.models import Models
from penstock.core import texts
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.demo import tables
from penstock.demo.backend import Options
from penstock.demo.in_process import InProcess
from penstock.query.replies import ReplyBody
from penstock.query.requests import QueryBody

SUFFIXES = (".txt", ".md", ".markdown", ".rst")
HEADING = re.compile(r"^#\s+(.+?)\s*#*$", re.MULTILINE)
LONGEST_TITLE = 200
TOP, CANDIDATES = 5, 50
PROMPT = "\nsearch> "


class Documents(NamedTuple):
    """Events, a JSON line each, and which files were left out, each with its reason."""

    lines: list[bytes]
    left_out: list[str]


def documents(path: Path) -> Documents:
    """Of a folder, each text file as a document; else the lines of the file. Raises Misconfigured."""
    if path.is_dir():
        return _of_folder(path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror or error}") from None
    kept = [line for line in lines if line.strip()]
    if not kept:
        raise Misconfigured(f"{path}: no documents in it; a line of JSON for each, see `penstock schema document.v1`")
    return Documents(kept, [])


def _of_folder(folder: Path) -> Documents:
    lines, left_out = [], []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in name.parts):
            continue
        try:
            text = texts.read(file)
        except Misconfigured as error:
            left_out.append(str(error))
            continue
        if text.strip():
            lines.append(json.dumps({"id": name.as_posix(), "title": _title(file, text), "text": text}).encode())
        else:
            left_out.append(f"{file}: empty")
    if not lines:
        told = f"; left out: {left_out[0]}" if left_out else ""
        raise Misconfigured(f"{folder}: no documents in it, which are files that end in {', '.join(SUFFIXES)}{told}")
    return Documents(lines, left_out)


def _title(file: Path, text: str) -> str:
    """A Markdown file's first heading, else the file's name."""
    heading = HEADING.search(text) if file.suffix.lower() in (".md", ".markdown") else None
    return (heading[1] if heading else file.stem)[:LONGEST_TITLE]


def points_of(path: Path) -> str:
    """The name of the folder that keeps the points of these documents."""
    return f"own-{path.resolve().name}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


def run_own(
    options: Options, path: Path, points: Path, models: Models, stop: threading.Event, console: Console
) -> None:
    """Index the documents, forget those that have gone since the last run, and answer queries. Raises Misconfigured."""
    given = documents(path)
    with closing(InProcess(models, points, stop, console, name=path.resolve().name)) as backend:
        started = time.monotonic()
        gone = _gone(backend, given.lines)
        backend.send([*given.lines, *gone])
        if stop.is_set():
            return
        outcomes = backend.finish()
        chunks, _ = backend.stored()
        found = {
            "documents": len({hit.key.document for hit in chunks}),
            "chunks": len(chunks),
            "seconds": round(time.monotonic() - started, 2),
        }
        _tell(console, found, outcomes, given.left_out, backend.letters)
        if options.bundle is None:
            console.print(tables.STAND_IN, style="dim", highlight=False)
        if not chunks:
            raise Misconfigured(f"{path}: nothing in it could be indexed; {backend.letters} says why")
        if options.port is not None:
            backend.serve(options.port)
        elif options.as_json:
            answers = [_answer(backend, query) for query in _queries(stop)]
            report = {**found, "outcomes": outcomes, "left_out": given.left_out, "queries": answers}
            print(json.dumps(report))  # noqa: T201  # the command's output
        else:
            for query in _queries(stop):
                _show(console, backend, query)


def _gone(backend: InProcess, lines: Sequence[bytes]) -> list[bytes]:
    """Deletes of what is stored and not among the documents any more."""
    now = set()
    for line in lines:
        try:
            now.add(json.loads(line)["id"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # it becomes a dead letter
    stored = sorted({hit.key.document for hit in backend.stored()[0]})
    return [json.dumps({"id": name, "op": "delete"}).encode() for name in stored if name not in now]


def _queries(stop: threading.Event) -> Iterator[str]:
    """Typed by hand, or lines of standard input; an empty line by hand ends them."""
    by_hand = sys.stdin.isatty()
    while not stop.is_set():
        if by_hand:
            sys.stderr.write(PROMPT)
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line or (by_hand and not line.strip()):
            return
        if line.strip():
            yield line.strip()


def _asked(backend: InProcess, query: str) -> ReplyBody:
    return backend.ask(QueryBody(query=query, top_k=TOP, candidates=CANDIDATES))


def _answer(backend: InProcess, query: str) -> dict[str, object]:
    try:
        return {"query": query, "hits": [hit.model_dump() for hit in _asked(backend, query).hits]}
    except InvalidEvent as error:
        return {"query": query, "error": str(error)}


def _show(console: Console, backend: InProcess, query: str) -> None:
    console.print(f"\n  {query}", style="bold", highlight=False, markup=False)
    try:
        tables.hits(console, _asked(backend, query).hits)
    except InvalidEvent as error:
        console.print(str(error), style="bold", markup=False)


def _tell(
    console: Console, found: Mapping[str, float], outcomes: Mapping[str, int], left_out: Sequence[str], letters: Path
) -> None:
    size = f"{found['documents']:,} documents in {found['chunks']:,} chunks after {found['seconds']:.1f} s"
    console.print(f"{size}: {tables.counted(outcomes)}.", highlight=False)
    for told in left_out:
        console.print(f"left out: {told}", style="bold", highlight=False, markup=False)
    if outcomes.get("dead_lettered"):
        console.print(f"What could not be indexed, and why: {letters}", style="bold", highlight=False, markup=False)
