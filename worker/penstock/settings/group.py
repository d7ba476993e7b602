"""What groups of settings have in common."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

LONGEST_TOPIC = 249
LETTERS = ".dlq"
"""How the name of a topic of dead letters ends that is not named otherwise."""
TOPIC = r"^[A-Za-z0-9._-]{0,249}$"


def _topic(name: object) -> object:
    """Kafka's rule, told in words."""
    if isinstance(name, str) and (not re.fullmatch(TOPIC[1:-1], name) or name in (".", "..")):
        one = "; it is one topic, not a list" if "," in name else ""
        raise ValueError(f"the name of a topic has letters, digits and . _ - only, at most 249{one}")
    return name


def check_dead_letters(topic: str, letters: str) -> None:
    """Raises ValueError where a topic's dead letters would be read again, or have a name that is too long."""
    if letters == topic:
        raise ValueError("dead_letter_topic is the topic itself: its letters would be read and given up for ever")
    if len(letters) > LONGEST_TOPIC:
        raise ValueError(f"dead_letter_topic: <topic>.dlq has more than {LONGEST_TOPIC} characters: name another")


def _topics(given: object) -> object:
    """One, several with commas, or a pattern; without spaces, in the order of the alphabet."""
    if not isinstance(given, str) or not given.startswith("^"):
        names = [part.strip() for part in given.split(",")] if isinstance(given, str) else []
        if not isinstance(given, str) or len(names) == 1:
            return _topic(given)
        for name in names:
            if not _topic(name):
                raise ValueError("an empty name among the topics")
        if len(set(names)) < len(names):
            raise ValueError("a topic is named twice")
        return ",".join(sorted(names))
    try:
        re.compile(given)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return given


Topics = Annotated[str, BeforeValidator(_topics)]
"""Names with commas between them, or a regular expression that begins with ^."""

Topic = Annotated[str, BeforeValidator(_topic), Field(pattern=TOPIC)]
"""Or nothing."""


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: there is no such user's home") from None


PathAtHome = Annotated[Path, AfterValidator(_at_home)]
"""A path that may begin with ~, as in a shell."""


class Group(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
