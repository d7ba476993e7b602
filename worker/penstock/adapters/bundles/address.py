"""From what a user types to the place that is meant."""

from pathlib import Path

from penstock.adapters.bundles import oci
from penstock.adapters.bundles.artifact import ArtifactSource
from penstock.adapters.bundles.hub import HubSource
from penstock.adapters.bundles.objects import SCHEMES, ObjectSource
from penstock.adapters.bundles.source import FolderSource, Source
from penstock.core.errors import Misconfigured
from penstock.settings import FetchSettings

KINDS = "oci://, hf://, " + ", ".join(SCHEMES[:-1])


def source_of(address: str, settings: FetchSettings, first: str) -> Source:
    """The place; raises Misconfigured for what is none. ``first`` is the file that every bundle has at its top."""
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise Misconfigured("SOURCE is no place for a user or a password: docs/deploying-models.md says what is")
    if address.startswith(("oci://", "oci+http://")):
        return ArtifactSource(oci.Registry(oci.reference(address), settings), first)
    if address.startswith("hf://"):
        return HubSource(address)
    if address.startswith(SCHEMES):
        return ObjectSource(address, settings)
    if "://" in address:
        raise Misconfigured(f"{address}: SOURCE begins with {KINDS}, or is a folder")
    return FolderSource(Path(address).expanduser())
