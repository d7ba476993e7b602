"""A migration as far as the store is concerned: another collection beside the one that readers get, and the switch."""

from datetime import datetime
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.collection import create
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.members import ALIAS, BEGAN, COPIED, COPIES, GROUP, members
from penstock.adapters.qdrant.metadata import MEMBER, describe, remember, resolve
from penstock.adapters.qdrant.shape import Shape
from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.members import Member, free_name, group_for


def begin(
    connection: Connection,
    alias: str,
    identity: ModelIdentity,
    full: int,
    group: str,
    now: datetime,
    wanted: str = "",
    *,
    copies: bool = False,
) -> tuple[Member, bool]:
    """The member that a migration to this model fills, and whether it was begun now.

    ``group`` is that of the workers of the current one, ``wanted`` that of the new one, if somebody says; ``copies``
    as of Member. Killed half-way, the same call goes on. Raises Misconfigured where there is nothing behind an alias
    of that name, or another migration is under way.
    """
    there = members(connection, alias)
    if not there:
        raise Misconfigured(f"there is no collection {alias!r} yet, hence nothing to migrate: index something first")
    current, *others = there
    if current.name == alias:
        raise Misconfigured(f"{alias!r} is a collection itself, not the alias of one: nothing can take its place")
    _mark(connection, current, alias, group)
    if others:
        return _go_on(others[0], identity, alias), False
    name = free_name(alias, identity.digest, {current.name})
    theirs = current.group or group
    if wanted == theirs:
        raise Misconfigured(f"migration.group is {wanted!r}, which writes {current.name}: take another name")
    began = now.isoformat(timespec="seconds")
    mark = _values(alias, wanted or group_for(theirs, alias, current.name, name), began, copies=copies)
    with about_no_document():
        create(connection, name, identity, Shape(identity.dimension, full, connection.terms), {MEMBER: mark})
    return next(member for member in members(connection, alias) if member.name == name), True


def mark_copied(connection: Connection, name: str, part: int) -> None:
    """Remember that the member of that name has this part of the one before it."""
    with about_no_document():
        mark = describe(connection.collections, name)[0][MEMBER]
        parts = sorted({*map(int, mark[COPIED]), part})
        remember(connection.collections, name, {MEMBER: {**mark, COPIED: parts}})


def switch(connection: Connection, alias: str, to: Member) -> None:
    """Readers of the alias get that member from now on, in one call: there is no moment without any."""
    create_alias = grpc.CreateAlias(collection_name=to.name, alias_name=alias)
    actions = [
        grpc.AliasOperations(delete_alias=grpc.DeleteAlias(alias_name=alias)),
        grpc.AliasOperations(create_alias=create_alias),
    ]
    with about_no_document():
        connection.collections.UpdateAliases(grpc.ChangeAliases(actions=actions))


def drop(connection: Connection, alias: str, member: Member) -> None:
    """Remove a member that readers do not get; raises Misconfigured for the one that they do."""
    with about_no_document():
        if resolve(connection.collections, alias) == member.name:
            raise Misconfigured(f"{member.name} is what readers of {alias!r} get: switch or roll back first")
        connection.collections.Delete(grpc.DeleteCollection(collection_name=member.name))


def opened(connection: Connection, member: Member) -> Collection:
    """The member as readers and writers need it."""
    with about_no_document():
        shape = describe(connection.collections, member.name)[1]
    return Collection(member.name, shape, member.model.digest, member.group)


def _go_on(member: Member, identity: ModelIdentity, alias: str) -> Member:
    if member.model != identity:
        raise Misconfigured(
            f"{member.name} is kept beside {alias!r} already: penstock migrate --status tells what it is; "
            "penstock migrate --drop removes it"
        )
    return member


def _mark(connection: Connection, member: Member, alias: str, group: str) -> None:
    if not member.group:
        with about_no_document():
            remember(connection.collections, member.name, {MEMBER: _values(alias, group, "")})


def _values(alias: str, group: str, began: str, *, copies: bool = False) -> dict[str, Any]:
    return {ALIAS: alias, GROUP: group, BEGAN: began, COPIES: copies, COPIED: []}
