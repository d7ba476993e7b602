"""Bundles in object stores: S3 and what speaks like it, Google's, Azure's, or plain https. The importer of obstore."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from penstock.adapters.bundles.source import BLOCK_BYTES, Report, Source, write
from penstock.adapters.certificates import certificates
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.hosts import leaks
from penstock.settings import FetchSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig

SCHEMES = ("s3://", "gs://", "az://", "https://", "http://")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
"""Variables that name another server than the cloud's own."""

LONGEST = "7days"
"""The library's limit is for a whole file; ours is for the next bytes of it."""


class ObjectSource(Source):
    """Files under a prefix. Credentials are those that the clouds' own tools find: variables, identities of a pod."""

    def __init__(self, address: str, settings: FetchSettings) -> None:
        """Does not reach out yet; raises Misconfigured."""
        try:
            import obstore  # noqa: PLC0415  # an extra
            from obstore import exceptions, store  # noqa: PLC0415
        except ImportError as error:
            raise Misconfigured(f"{address} needs the extra fetch ({error.name} is missing)") from None
        self._address, self._obstore, self._failures = address, obstore, exceptions
        options: ClientConfig = {
            "timeout": LONGEST,
            "read_timeout": f"{round(settings.timeout_s * 1000)}ms",
            "allow_http": _plain(address, settings),
        }
        if settings.ca_file is not None:
            options["root_certificate"] = certificates("PENSTOCK_FETCH__CA_FILE", settings.ca_file)
        try:
            self._store: Any = store.from_url(address.rstrip("/"), client_options=options)
        except (exceptions.BaseError, ValueError) as error:
            raise Misconfigured(f"{address}: {_line(error)}") from None

    @override
    def fetch(self, sizes: Mapping[str, int], folder: Path, report: Report) -> None:
        for name, most in sizes.items():
            try:
                found = self._obstore.get(self._store, name)
                write(folder / name, self._blocks(found), most, report)
            except FileNotFoundError:
                continue
            except (self._failures.PermissionDeniedError, self._failures.UnauthenticatedError) as error:
                raise Misconfigured(f"{self._address}: {name}: the store refuses: {_line(error)}") from None
            except self._failures.BaseError as error:
                raise Unavailable(f"{self._address}: {name}: {_line(error)}") from None

    def _blocks(self, found: Any) -> Iterator[bytes]:
        for block in found.stream(min_chunk_size=BLOCK_BYTES):
            yield bytes(block)


def _plain(address: str, settings: FetchSettings) -> bool:
    """Whether http is meant; raises Misconfigured for http to another machine, unless that is allowed."""
    named = [address, *(os.environ.get(name, "") for name in ENDPOINTS)]
    plain = [url for url in named if url.startswith("http://")]
    if exposed := [url for url in plain if leaks(url) and not settings.allow_insecure]:
        raise Misconfigured(
            f"{exposed[0]}: over http anyone on the way may read and change what is sent: use https, or set "
            "PENSTOCK_FETCH__ALLOW_INSECURE=true"
        )
    return bool(plain)


def _line(error: Exception) -> str:
    """The library's errors go on with how they look to its programmers."""
    return " ".join(str(error).split("\n\nDebug source")[0].split())[:300]
