"""Files that people write: text in UTF-8, with a byte order mark or without; anything else is said for what it is."""

import json
from collections.abc import Iterator
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.core.formats import decoded


def read(path: Path) -> str:
    """What stands in a file; raises Misconfigured that names the file and, for bytes that are no text, the line."""
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise Misconfigured(f"{path}: {error}") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1, without what is around them; raises as ``read`` does."""
    for number, line in enumerate(read(path).split("\n"), 1):
        if stripped := line.strip():
            yield number, stripped


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
