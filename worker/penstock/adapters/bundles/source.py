"""What a place that keeps a bundle does, and the plainest of them: a folder."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from penstock.core.errors import Misconfigured

BLOCK_BYTES = 1 << 20

Report = Callable[[int], None]
"""Hears of bytes that have come, whenever some have."""


class Source(Protocol):
    """A bundle somewhere."""

    def fetch(self, sizes: Mapping[str, int], folder: Path, report: Report) -> None:
        """Write those of the files that it has into the folder, each of at most so many bytes.

        Nothing else is written there but hidden files, which a later call may go on with. Raises Misconfigured for
        what is wrong or too large, Unavailable when the place is away.
        """


class FolderSource(Source):
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        """Raises Misconfigured where there is none."""
        self._folder = folder
        if not folder.is_dir():
            raise Misconfigured(f"{folder}: there is no such folder")

    @override
    def fetch(self, sizes: Mapping[str, int], folder: Path, report: Report) -> None:
        for name, most in sizes.items():
            if (path := self._folder / name).is_file():
                write(folder / name, _blocks(path), most, report)


def write(path: Path, blocks: Iterable[bytes], most: int, report: Report) -> None:
    """A new file of at most so many bytes; raises Misconfigured for more, and for what the disk refuses."""
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            for block in blocks:
                written += len(block)
                if written > most:
                    raise too_large(path.name, most)
                file.write(block)
                report(len(block))
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error


def too_large(name: str, most: int) -> Misconfigured:
    """Said of a file before more of it is taken."""
    return Misconfigured(f"{name} is larger than the {most} bytes that it may have")


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
