"""Collections that stand behind one alias, each written by a consumer group of its own. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity

PARTS = 16
"""A collection is copied part by part: several workers share them, and one that is killed begins its part again."""


@dataclass(frozen=True, slots=True)
class Member:
    """A collection that belongs to an alias; ``current`` is the one that readers get.

    ``group`` writes it; empty where there never was a migration, and any group may. ``began`` is when it became a
    member, RFC 3339, empty for the first one; ``copies`` says that it needs more of the one before it than the topic
    holds, ``copied`` are the parts that it has by now, see ``PARTS``.
    """

    name: str
    group: str
    model: ModelIdentity
    current: bool
    began: str = ""
    copies: bool = False
    copied: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all that it needs of the one before it was copied."""
        return not self.copies or len(self.copied) == PARTS


class Beginning(NamedTuple):
    """How a migration begins: ``group`` writes the current collection, ``wanted`` the new one, if somebody says.

    ``copies`` as of Member; with ``again`` the same model is migrated to once more.
    """

    group: str
    now: datetime
    wanted: str = ""
    copies: bool = False
    again: bool = False


def free_name(alias: str, digest: str, taken: Collection[str]) -> str:
    """As a collection of that model is called; with a number where one of the same model is there already."""
    first = f"{alias}-{digest}"
    numbered = (f"{first}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (first, *numbered) if name not in taken)


def other(members: Sequence[Member]) -> Member:
    """The one that readers do not get, of two; raises Misconfigured where there is none."""
    if len(members) > 1:
        return members[1]
    raise Misconfigured("there is no migration: penstock migrate --to BUNDLE begins one")


def newest(members: Sequence[Member]) -> Member:
    """The one that the latest migration has made, or goes to; the only one where there was none."""
    return max(members, key=lambda member: member.began)


def continued(members: Sequence[Member], alias: str, model: ModelIdentity, *, again: bool = False) -> Member | None:
    """What a migration to this model goes on with, whoever readers get by now; None where it is to begin.

    ``again`` asks for another one of the same model. Raises Misconfigured beside a migration to another model.
    """
    latest = newest(members)
    if latest.began and latest.model == model and not again:
        return latest
    if len(members) > 1:
        raise Misconfigured(
            f"{latest.name} is kept beside {alias!r} already: penstock migrate --status tells what it is; "
            "penstock migrate --drop removes it"
        )
    return None


def goes_forward(members: Sequence[Member]) -> bool:
    """Whether the other one is what a migration goes to, and not what it came from."""
    return other(members).began > members[0].began


def group_for(group: str, alias: str, current: str, name: str) -> str:
    """The group of a new member: that of the current one, with what the collection's name has of its own.

    What an earlier migration has put there goes.
    """
    own = group.removesuffix(current.removeprefix(alias))
    return f"{own or group}{name.removeprefix(alias)}"


def written_by(members: Sequence[Member], group: str, model: ModelIdentity) -> Member:
    """The member that a worker of this group and model writes; without a group, as of a file, that of its model.

    One that is alone, and that no migration has made, may be written by any group. Raises Misconfigured where there is
    none.
    """
    (current, *others) = members
    if (not others and not current.began) or (not group and current.model == model):
        return current
    for member in members:
        if member.group == group or (not group and member.model == model):
            return member
    kept = ", ".join(f"{member.name} by {member.group}" for member in members)
    ours = f"group {group!r}" if group else "this model"
    raise Misconfigured(
        f"none of the collections is written by {ours}, but {kept}. "
        "Set PENSTOCK_KAFKA__GROUP, and the model, to those of one of them; penstock migrate --status tells more"
    )
