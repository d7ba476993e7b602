"""Files that people write: text in UTF-8, with a byte order mark or without; anything else is said for what it is."""

import json
from collections.abc import Iterator
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.core.formats import LOOKED_AT_IN_TEXT, NOT_UTF8, decoded, refuse_foreign, without_bom


def read(path: Path) -> str:
    """What stands in a file, with plain line ends; raises Misconfigured that names the file and a line that is no text.

    Reads it whole: see ``lines`` for what may be large.
    """
    try:
        return decoded(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise Misconfigured(f"{path}: {error}") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1, without their ends, one at a time; raises as ``read`` does."""
    try:
        with path.open("rb") as file:
            refuse_foreign(file.read(LOOKED_AT_IN_TEXT))
            file.seek(0)
            for number, line in enumerate(file, 1):
                if (text := _line(line, number)).strip():
                    yield number, text
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise Misconfigured(f"{path}: {error}") from None


def _line(line: bytes, number: int) -> str:
    line = without_bom(line) if number == 1 else line
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"line {number}: {NOT_UTF8.format(line[error.start])}") from None


def text_of(line: str | bytes) -> str:
    """The text of a line {"text": "…"}; raises ValueError that says what the line is instead."""
    try:
        value = json.loads(line)
    except ValueError as error:  # bytes that are not UTF-8 are one, too
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise ValueError('not {"text": "…"}')  # noqa: TRY004  # told like the others
    text: str = value["text"]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character") from None
    return text
