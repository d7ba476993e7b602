"""A migration as far as the store is concerned: another collection beside the one that readers get, and the switch."""

from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.collection import create
from penstock.adapters.qdrant.connection import Collection, Connection
from penstock.adapters.qdrant.members import ALIAS, BEGAN, COPIED, COPIES, COPY_RULES, GROUP, members
from penstock.adapters.qdrant.metadata import MEMBER, describe, remember, resolve
from penstock.adapters.qdrant.shape import Shape
from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.members import Beginning, Member, continued, free_name, group_for


def begin(
    connection: Connection,
    alias: str,
    identity: ModelIdentity,
    full: int,
    asked: Beginning,
) -> tuple[Member, bool]:
    """The member that a migration to this model fills, and whether it was begun now.

    The same call goes on with what was begun, whether readers get it by then or not. Raises Misconfigured where there
    is nothing behind an alias of that name, or another migration is under way.
    """
    there = members(connection, alias)
    if not there:
        raise Misconfigured(f"there is no collection {alias!r} yet, hence nothing to migrate: index something first")
    current = there[0]
    if current.name == alias:
        raise Misconfigured(f"{alias!r} is a collection itself, not the alias of one: nothing can take its place")
    if (going := continued(there, alias, identity, again=asked.again)) is not None:
        return _go_on(going, asked.wanted), False
    theirs = current.group if current.began else asked.group
    with about_no_document():
        remember(
            connection.collections, current.name, {MEMBER: _values(alias, theirs, current.began, copies=current.copies)}
        )
        listed = connection.collections.List(grpc.ListCollectionsRequest()).collections
    name = free_name(alias, identity.digest, {one.name for one in listed})
    if asked.wanted == theirs:
        raise Misconfigured(f"migration.group is {asked.wanted!r}, which writes {current.name}: take another name")
    began, own = asked.now.isoformat(timespec="seconds"), asked.wanted or group_for(theirs, alias, current.name, name)
    mark = _values(alias, own, began, copies=asked.copies)
    with about_no_document():
        create(connection, name, identity, Shape(identity.dimension, full, connection.terms), {MEMBER: mark})
    return _alone(connection, alias, name), True


def _go_on(member: Member, wanted: str) -> Member:
    if wanted not in ("", member.group):
        raise Misconfigured(f"{member.name} is written by group {member.group!r}, migration.group is {wanted!r}")
    return member


def _alone(connection: Connection, alias: str, name: str) -> Member:
    """The new one; raises Misconfigured where somebody else has begun with another model in the same moment."""
    there = members(connection, alias)
    made = next(member for member in there if member.name == name)
    if len(there) > 2:  # noqa: PLR2004  # the current one and this
        drop(connection, alias, made)
        raise Misconfigured("another migration has begun in the same moment: penstock migrate --status")
    return made


def mark_copied(connection: Connection, name: str, part: int) -> None:
    """Remember that the member of that name has this part of the one before it; workers do so at the same time."""
    with about_no_document():
        remember(connection.collections, name, {f"{COPIED}{part}": True})


def copy_rules(connection: Connection, name: str, fingerprint: str) -> str:
    """By which rules documents are cut that are copied into a member: those of who began with it."""
    with about_no_document():
        known = describe(connection.collections, name)[0].get(COPY_RULES)
        if known is None:
            remember(connection.collections, name, {COPY_RULES: fingerprint})
            known = describe(connection.collections, name)[0][COPY_RULES]
    return str(known)


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


def _values(alias: str, group: str, began: str, *, copies: bool = False) -> dict[str, Any]:
    return {ALIAS: alias, GROUP: group, BEGAN: began, COPIES: copies}
