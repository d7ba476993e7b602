"""What comes from outside, read: whoever sent something wrong gets one line that says where it is wrong."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel, ValidationError

from penstock.core.errors import InvalidEvent, Stopped, Unavailable, Unforeseen
from penstock.core.formats import without_bom
from penstock.events.frame import misread

M = TypeVar("M", bound=BaseModel)
P = ParamSpec("P")
T = TypeVar("T")

MOST_FIELDS = 64
"""Of a JSON object that has fields of ours: each that is unknown would be told by itself."""

FAULTS_SHOWN = 3
LONGEST_LINE, LONGEST_NAME = 600, 80


def untrusted(read: Callable[P, T]) -> Callable[P, T]:
    """For what reads a record or a request: whatever it raises is about that one, and ends no process.

    Raises InvalidEvent as it is, Unforeseen for anything else that is an error of the reading.
    """

    @wraps(read)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except (InvalidEvent, Unavailable, Stopped, MemoryError):  # no memory: that is about this process
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:LONGEST_NAME]
            raise Unforeseen(f"cannot be read: {type(error).__name__}: {said}") from error

    return guarded


@untrusted
def parse(model: type[M], value: bytes) -> M:
    """A body as its model has it, be there a byte order mark or not; raises InvalidEvent that says what is wrong."""
    try:
        return model.model_validate_json(without_bom(value))
    except ValidationError as error:
        told = misread(value)
        raise InvalidEvent(f"the value is {told}" if told else _explain(error)) from None


def few_fields(value: Any) -> Any:
    """The value; raises ValueError for an object of more fields than any of ours has."""
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        raise ValueError(f"{len(value)} fields, at most {MOST_FIELDS} are allowed")
    return value


def _explain(error: ValidationError) -> str:
    """One short line for the first faults of a body, however long what is wrong there."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{_place(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}" for fault in faults[:FAULTS_SHOWN]]
    more = f" (and {len(faults) - FAULTS_SHOWN} more)" if len(faults) > FAULTS_SHOWN else ""
    return "; ".join(lines)[:LONGEST_LINE] + more


def _place(parts: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in parts) or "value"
