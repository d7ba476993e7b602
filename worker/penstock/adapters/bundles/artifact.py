"""A bundle in a registry: an artifact with a layer per file, as ORAS pushes it, or the layers of an image."""

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from typing_extensions import override

from penstock.adapters.bundles.oci import DIGEST, Blob, Registry
from penstock.adapters.bundles.source import BLOCK_BYTES, Report, Source, too_large, write
from penstock.core.errors import Misconfigured

TITLE, UNPACK = "org.opencontainers.image.title", "io.deis.oras.content.unpack"
"""Annotations of ORAS: the name of a file, or of a folder that is packed."""

ARCHIVE = re.compile(r".*[.+]tar(?:[.+]gzip)?")
"""Kinds of layers that are a tar, with gzip or without."""


class Layer(NamedTuple):
    """``file`` is its path where it is one file; else it is an archive of some, or, of another ``kind``, nothing."""

    blob: Blob
    kind: str
    file: PurePosixPath | None

    @property
    def is_archive(self) -> bool:
        """Whether files are to be found in it."""
        return self.file is None and ARCHIVE.fullmatch(self.kind) is not None


class ArtifactSource(Source):
    """The bundle is where its first file of the name ``first`` is, at the top or in a folder."""

    def __init__(self, registry: Registry, first: str) -> None:
        """Does not reach out yet."""
        self._registry, self._first = registry, first
        self._top: PurePosixPath | None = None
        self._verified: set[Path] = set()

    @override
    def fetch(self, sizes: Mapping[str, int], folder: Path, report: Report) -> None:
        if (top := self._find(folder)) is None:
            return
        wanted = {top / name: name for name in sizes}
        for layer in self._layers:
            if layer.file in wanted:
                name = wanted[layer.file]
                if layer.blob.size > sizes[name]:
                    raise too_large(name, sizes[name])
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                blob = self._blob(layer, folder, report)
                blob.replace(folder / name)
                self._verified.discard(blob)
            elif layer.is_archive:
                with self._members(layer, folder) as members:
                    for path, content, size in members:
                        if (found := wanted.get(path)) is not None:
                            if size > sizes[found]:
                                raise too_large(found, sizes[found])
                            write(folder / found, iter(partial(content.read, BLOCK_BYTES), b""), size, report)

    @cached_property
    def _layers(self) -> list[Layer]:
        """Of the artifact, or of the first image of several, which all hold the same bundle."""
        manifest = self._registry.manifest()
        if "layers" not in manifest:
            images = [one for one in manifest.get("manifests", []) if _system(one) != "unknown"]  # as attestations are
            if not images:
                raise Misconfigured("the manifest lists neither layers nor images")
            manifest = self._registry.manifest(_blob(images[0]).digest)
        return [_layer(described) for described in manifest.get("layers", [])]

    def _find(self, folder: Path) -> PurePosixPath | None:
        """Where the bundle begins."""
        if self._top is None:
            self._top = next((path.parent for path in self._paths(folder) if path.name == self._first), None)
        return self._top

    def _paths(self, folder: Path) -> Iterator[PurePosixPath]:
        yield from (layer.file for layer in self._layers if layer.file is not None)
        for layer in self._layers:
            if layer.is_archive:
                with self._members(layer, folder) as members:
                    yield from (path for path, _, _ in members)

    @contextmanager
    def _members(self, layer: Layer, folder: Path) -> Iterator[Iterator[tuple[PurePosixPath, Any, int]]]:
        """Path, content and size of each plain file; nothing is unpacked by the names in an archive."""
        path = self._blob(layer, folder, lambda _: None)
        try:
            with tarfile.open(path) as archive:
                yield (
                    (PurePosixPath(member.name), archive.extractfile(member), member.size)
                    for member in archive
                    if member.isreg()
                )
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise Misconfigured(f"layer {layer.blob.digest} is no archive, or a damaged one") from error

    def _blob(self, layer: Layer, folder: Path, report: Report) -> Path:
        path = folder / f".{layer.blob.digest.removeprefix('sha256:')}"
        if path not in self._verified:
            self._registry.download(layer.blob, path, report)
        self._verified.add(path)
        return path


def _layer(described: Any) -> Layer:
    blob, notes = _blob(described), described.get("annotations") or {}
    title = None if notes.get(UNPACK) == "true" else notes.get(TITLE)
    return Layer(blob, str(described.get("mediaType", "")), None if title is None else PurePosixPath(title))


def _blob(described: Any) -> Blob:
    """Raises Misconfigured for a description that is none."""
    digest, size = (described.get(key) if isinstance(described, dict) else None for key in ("digest", "size"))
    if not isinstance(digest, str) or not re.fullmatch(DIGEST, digest) or not isinstance(size, int) or size < 0:
        raise Misconfigured(f"the manifest has a layer without a sha256 and a size: {digest!r}")
    return Blob(digest, size)


def _system(described: Any) -> str:
    return str((described.get("platform") or {}).get("os", "")) if isinstance(described, dict) else "unknown"
