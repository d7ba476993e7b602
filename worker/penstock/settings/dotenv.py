"""The file ``.env``: read whole or not at all, since a line that is passed over is a setting that is not there."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from penstock.core import texts
from penstock.core.errors import Misconfigured

FILE = ".env"
ENCODING = "utf-8-sig"
"""With a byte order mark or without."""


def read(prefix: str) -> dict[str, str]:
    """The variables in ``.env``, none where there is no such file; raises Misconfigured that names the line.

    Never shows what stands in it: that may be a secret. A variable of ``prefix`` must have a value, be it empty.
    """
    path = Path(FILE)
    try:
        there = path.is_file()
    except OSError as error:  # a working directory of somebody else's
        raise Misconfigured(f"cannot read {FILE}: {error.strerror}") from None
    text = texts.read(path) if there else ""
    if faults := list(_faults(text, prefix)):
        raise Misconfigured("; ".join(faults))
    return {name: value or "" for name, value in dotenv_values(stream=io.StringIO(text)).items()}


def _faults(text: str, prefix: str) -> Iterator[str]:
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.value is None and (binding.key or "").upper().startswith(prefix)):
            yield f"{FILE}, line {_line(binding)}: write NAME=value{_about(binding, prefix)}"


def _line(binding: Binding) -> int:
    """Blank lines before it belong to a binding, too."""
    string = binding.original.string
    return binding.original.line + string[: len(string) - len(string.lstrip())].count("\n")


def _about(binding: Binding, prefix: str) -> str:
    name = re.match(rf"\s*(?:export\s+)?({prefix}\w+)", binding.original.string, re.IGNORECASE)
    return f" (for {name[1]})" if name else ""
