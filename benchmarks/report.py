"""What every benchmark says about itself, and how it writes it down."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def about(docstring: str) -> str:
    """What a benchmark's docstring says behind its first paragraph, in one line."""
    return " ".join(" ".join(docstring.split("\n\n")[1:]).split())


def machine() -> str:
    """What ran where."""
    commit, changes = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for command in (("git", "rev-parse", "--short", "HEAD"), ("git", "status", "--porcelain", "worker"))
    )
    processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    cores = f"{os.cpu_count()} cores of {processor.split(':')[1].strip()}"
    state = f"commit {commit}{' with changes' if changes else ''}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {state}, {cores}, Python {platform.python_version()}"


def write(name: str, text: str) -> None:
    """Into benchmarks/results/."""
    (ROOT / "benchmarks" / "results" / f"{name}.md").write_text(text)
