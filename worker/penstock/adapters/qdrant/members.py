"""The collections behind one alias: the one that readers get, and those that a migration keeps current beside it.

A migration marks each of them with the alias and with the consumer group that writes it. So a worker finds its own by
its group whatever the alias says at the moment, and goes on with it when the alias is switched, and back.
"""

from collections.abc import Mapping
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.metadata import IDENTITY, MEMBER, describe, resolve
from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.members import PARTS, Member

ALIAS, GROUP, BEGAN, COPIES = "alias", "group", "began", "copies"
"""What the mark of a member holds."""

COPIED, COPY_RULES = "penstock_copied_", "penstock_copy_rules"
"""Beside it, each by itself, since several workers write at the same time: the parts that are copied, and how."""


def members(connection: Connection, alias: str) -> list[Member]:
    """All of them, the current one first, else in the order in which they began; none where there is no collection."""
    service = connection.collections
    with about_no_document():
        connection.check_version()
        current = resolve(service, alias)
        if current is None:
            return []
        listed = [one.name for one in service.List(grpc.ListCollectionsRequest()).collections]
        names = [current, *(name for name in listed if name.startswith(f"{alias}-") and name != current)]
        told = [(name, describe(service, name)[0]) for name in names]
    found = [_member(name, metadata, current) for name, metadata in told if name == current or _of(metadata, alias)]
    return sorted(found, key=lambda member: (not member.current, member.began))


def _of(metadata: Mapping[str, Any], alias: str) -> bool:
    return (metadata.get(MEMBER) or {}).get(ALIAS) == alias


def _member(name: str, metadata: Mapping[str, Any], current: str) -> Member:
    if (model := metadata.get(IDENTITY)) is None:
        raise Misconfigured(f"collection {name!r} was not made by penstock: set PENSTOCK_QDRANT__COLLECTION to another")
    mark = metadata.get(MEMBER) or {}
    return Member(
        name,
        mark.get(GROUP, ""),
        ModelIdentity(**model),
        name == current,
        mark.get(BEGAN, ""),
        bool(mark.get(COPIES)),
        tuple(part for part in range(PARTS) if f"{COPIED}{part}" in metadata),
    )
