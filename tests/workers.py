"""Penstock's command as a process: run to its end, or started as a worker that a test talks to and stops."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ROOT, running

SECONDS = 60
PENSTOCK = (sys.executable, "-m", "penstock")
LOG_BYTES = 1 << 20
"""Room for a log that nobody reads before the end: a worker whose pipe is full waits for ever."""


def environment(folder: Path | None = None, /, **variables: object) -> dict[str, str]:
    """This process's, with settings; the store is in a folder, unless there is none."""
    store = {} if folder is None else {"PENSTOCK_QDRANT__PATH": str(folder / "qdrant")}
    code = {"PYTHONPATH": f"{ROOT / 'worker'}{os.pathsep}{ROOT}"}
    return os.environ | store | code | {f"PENSTOCK_{name}": str(value) for name, value in variables.items()}


def penstock(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    variables: Mapping[str, object] | None = None,
    seconds: float = SECONDS,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, in a folder of its own, over a store in there."""
    env = environment(folder, **(variables or {}))
    command = [*PENSTOCK, *arguments]
    return subprocess.run(command, env=env, cwd=folder, input=stdin, capture_output=True, timeout=seconds, check=False)


class Worker:
    """A process that logs JSON lines on stderr; they are read when they are asked for."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        assert process.stderr is not None
        self._stderr = process.stderr
        fcntl.fcntl(self._stderr, fcntl.F_SETPIPE_SZ, LOG_BYTES)

    def until(self, event: str) -> dict[str, Any]:
        """The next log line of that name."""
        for line in self._stderr:
            if not line.startswith(b"{"):
                raise AssertionError(f"no log line: {(line + self._stderr.read()).decode()}")
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"ended before {event}: {self.lines}")

    @contextmanager
    def client(self, event: str) -> Iterator[httpx.Client]:
        """Of the port that the log line of that name tells."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.until(event)['port']}", timeout=SECONDS) as client:
            yield client

    def stop(self, seconds: float = SECONDS) -> int:
        """Ask it to end, and see it end."""
        self.process.send_signal(signal.SIGTERM)
        return self.end(seconds)

    def end(self, seconds: float = SECONDS) -> int:
        """Read what it has still to say until it ends by itself, and return its code; one that hangs is killed: -9.

        Whoever has said that it ended is not to be asked to: a signal may meet an interpreter that answers no more.
        """
        late = threading.Timer(seconds, self.process.kill)
        late.start()
        try:
            self.lines += [json.loads(line) for line in self._stderr]
            return self.process.wait()
        finally:
            late.cancel()


@contextmanager
def worker(
    *arguments: str, env: Mapping[str, str], cwd: Path = ROOT, command: Sequence[str] = PENSTOCK, **options: Any
) -> Iterator[Worker]:
    """A worker that does not outlive its test; ``command`` is what stands before its arguments."""
    with running([*command, *arguments], env=env, cwd=cwd, stderr=subprocess.PIPE, **options) as process:
        yield Worker(process)
