"""Bundles that somebody uploaded to a hub of models. The importer of the hub's client here."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from penstock.adapters.bundles.source import Report, Source, too_large
from penstock.core.errors import Misconfigured, Unavailable

ADDRESS = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


class HubSource(Source):
    """A repository, at a branch, tag or commit. The client reads variables of its own, HF_TOKEN and HF_ENDPOINT."""

    def __init__(self, address: str) -> None:
        """Does not reach out yet; raises Misconfigured."""
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise Misconfigured(f"{address}: no repository; like hf://someone/qwen3-bundle, or with @revision")
        try:
            import huggingface_hub  # noqa: PLC0415  # an extra
            from huggingface_hub import errors  # noqa: PLC0415
        except ImportError as error:
            raise Misconfigured(f"{address} needs the extra fetch ({error.name} is missing)") from None
        self._address, self._name, self._revision = address, found["name"], found["revision"] or "main"
        self._hub: Any = huggingface_hub
        self._hub.logging.set_verbosity_error()  # of its many tries the last one tells
        self._hub.utils.disable_progress_bars()
        self._errors: Any = errors

    @override
    def fetch(self, sizes: Mapping[str, int], folder: Path, report: Report) -> None:
        for name, most in sizes.items():
            try:
                url = self._hub.hf_hub_url(self._name, name, revision=self._revision)
                described = self._hub.get_hf_file_metadata(url)
                if described.size is None or described.size > most:
                    raise too_large(name, most)
                # one commit for all that follows, even where somebody pushes meanwhile
                self._revision = described.commit_hash or self._revision
                self._hub.hf_hub_download(self._name, name, revision=self._revision, local_dir=folder)
                report(described.size)
            except Misconfigured:
                raise
            except self._errors.LocalEntryNotFoundError as error:  # an EntryNotFoundError, said of a hub that is away
                raise Unavailable(f"{self._address}: {name}: {_line(error)}") from error
            except self._errors.EntryNotFoundError:
                continue
            except (self._errors.RepositoryNotFoundError, self._errors.RevisionNotFoundError) as error:
                raise Misconfigured(
                    f"{self._address}: the hub has no such repository or revision, or it is private: then set the "
                    "variable HF_TOKEN"
                ) from error
            except Exception as error:  # of the hub, of either of the client's HTTP libraries and of the disk
                raise Unavailable(f"{self._address}: {name}: {_line(error)}") from error


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
