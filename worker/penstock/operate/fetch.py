"""``penstock fetch``: a bundle from where it is kept into a folder, whole and verified, or not at all."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from penstock.adapters.bundles.source import Report, Source, remove
from penstock.core.errors import Misconfigured
from penstock.models.bundle import MANIFEST, File, Manifest, fingerprint, load, read

MANIFEST_BYTES = 1 << 20
"""Far more than any manifest has."""

Progress = Callable[[str, int], AbstractContextManager[Report]]


class Fetched(NamedTuple):
    """A bundle that is there now; ``sha256`` is that of its manifest, ``new`` whether it was not there before."""

    folder: Path
    sha256: str
    manifest: Manifest
    new: bool


def fetch(
    name: str, source: Source, destination: Path, progress: Progress, *, sha256: str = "", replace: bool
) -> Fetched:
    """Make the folder hold the bundle of that ``name``; another that is there gives way only to ``replace``.

    ``sha256`` is the one that the manifest must have; where the folder holds it already, the source is not asked.
    Raises Misconfigured, or Unavailable; what has come by then is beside the folder, hidden, for the next call.
    """
    place = _Place(destination)
    with place.alone():
        if sha256 and (held := place.holds(sha256, replace=replace)):
            return Fetched(destination, sha256, held, new=False)
        partial = place.partial()
        remove(partial / MANIFEST)  # an earlier call's may be that of another bundle
        source.fetch({MANIFEST: MANIFEST_BYTES}, partial, lambda _: None)
        if not (partial / MANIFEST).is_file():
            raise Misconfigured(f"{name} holds no {MANIFEST}: is it a bundle, made by penstock export?")
        found = _sha256(partial / MANIFEST)
        if sha256 and found != sha256:
            raise Misconfigured(f"{name}: the sha256 of its {MANIFEST} is {found}, not {sha256}")
        if held := place.holds(found, replace=replace):
            return Fetched(destination, found, held, new=False)
        place.require_free(replace=replace)
        manifest = _manifest(name, partial)
        _complete(name, source, manifest.files, partial, progress)
        load(partial)
        place.put(partial)
    return Fetched(destination, found, manifest, new=True)


def _manifest(name: str, partial: Path) -> Manifest:
    try:
        return read(partial)
    except Misconfigured as error:
        raise Misconfigured(str(error).replace(str(partial), name)) from error


def _complete(name: str, source: Source, files: Mapping[str, File], partial: Path, progress: Progress) -> None:
    """Get what is not there yet, and leave nothing else."""
    missing = {file: expected.size for file, expected in files.items() if not _is(partial / file, expected)}
    needed, free = sum(missing.values()), shutil.disk_usage(partial).free
    if needed > free:
        raise Misconfigured(f"{partial.parent}: {needed} bytes are to come, {free} are free")
    with progress("fetching", needed) as report:
        source.fetch(missing, partial, report)
    for file in missing:
        if not (partial / file).is_file():
            raise Misconfigured(f"{name} has no {file}, which its {MANIFEST} lists")
        if not _is(partial / file, files[file]):
            remove(partial / file)
            raise Misconfigured(f"{name}: {file} is not what its {MANIFEST} lists (sha256 or size differ)")
    kept = {partial / file for file in (MANIFEST, *files)}
    kept |= {folder for file in kept for folder in file.parents}
    for path in sorted(partial.rglob("*")):
        if path not in kept:
            remove(path)


class _Place:
    """The folder where a bundle shall be; beside it, hidden, what is under way, a lock, and what was replaced."""

    def __init__(self, destination: Path) -> None:
        """Raises Misconfigured for what cannot be such a folder."""
        self._folder = Path(os.path.abspath(destination))  # noqa: PTH100  # a link as the last part is none of ours
        if self._folder.is_symlink() or (self._folder.exists() and not self._folder.is_dir()):
            raise Misconfigured(f"{destination} is no folder")
        if self._folder.is_mount():
            raise Misconfigured(f"{destination}: a volume is mounted there; name a folder in it: {destination}/bundle")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Of several processes that fetch into the same folder one works, the others wait and find what it made."""
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            with self._beside("lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                remove(self._beside("replaced"))
                yield
        except OSError as error:
            raise Misconfigured(f"{error.filename or self._folder}: {error.strerror}") from error

    def holds(self, sha256: str, *, replace: bool) -> Manifest | None:
        """The bundle whose manifest has that sha256, verified; None where there is none.

        Raises Misconfigured for a damaged one, unless it may be replaced.
        """
        path = self._folder / MANIFEST
        if not path.is_file() or _sha256(path) != sha256:
            return None
        try:
            manifest = load(self._folder).manifest
        except Misconfigured as error:
            if replace:
                return None
            raise Misconfigured(f"{error}, or fetch it with --replace") from error
        remove(self._beside("partial"))
        return manifest

    def partial(self) -> Path:
        """The folder of what is under way, with what an earlier call has left there."""
        path = self._beside("partial")
        path.mkdir(exist_ok=True)
        return path

    def require_free(self, *, replace: bool) -> None:
        """Raises Misconfigured where something else is, which may not be replaced."""
        if not self._folder.exists() or not any(self._folder.iterdir()):
            return
        if not (self._folder / MANIFEST).is_file():
            raise Misconfigured(f"{self._folder} is not empty, and no bundle: name a new folder")
        if not replace:
            raise Misconfigured(f"{self._folder} holds another bundle: name a new folder, or add --replace")

    def put(self, partial: Path) -> None:
        """In one step; a bundle that is replaced is away for the moment between two."""
        if self._folder.exists():
            self._folder.rename(self._beside("replaced"))
        partial.rename(self._folder)
        remove(self._beside("replaced"))

    def _beside(self, what: str) -> Path:
        return self._folder.with_name(f".{self._folder.name}.{what}")


def _is(path: Path, expected: File) -> bool:
    return path.is_file() and path.stat().st_size == expected.size and fingerprint(path) == expected


def _sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
