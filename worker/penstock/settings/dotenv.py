"""The file ``.env``: read whole or not at all, since a line that is passed over is a setting that is not there."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from penstock.core.errors import Misconfigured
from penstock.core.formats import foreign

FILE = ".env"
ENCODING = "utf-8-sig"
"""With a byte order mark or without."""


def read(prefix: str) -> dict[str, str]:
    """The variables in ``.env``, none where there is no such file; raises Misconfigured that names the line.

    Never shows what stands in it: that may be a secret. A variable of ``prefix`` must have a value, be it empty.
    """
    path = Path(FILE)
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise Misconfigured(f"cannot read {FILE}: {error.strerror}") from None
    if told := foreign(data):
        raise Misconfigured(f"{FILE} is {told}")
    try:
        text = data.decode(ENCODING)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Misconfigured(
            f"{FILE}, line {line}: not UTF-8 (byte {data[error.start]:#04x}); Latin-1 or Windows-1252? Save it as UTF-8"
        ) from None
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
