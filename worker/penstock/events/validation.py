"""JSON bodies read by their models: whoever sent a wrong one gets one line that says where it is wrong."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from penstock.core.errors import InvalidEvent

M = TypeVar("M", bound=BaseModel)

FAULTS_SHOWN = 3
LONGEST_LINE, LONGEST_NAME = 600, 80


def parse(model: type[M], value: bytes) -> M:
    """A body as its model has it; raises InvalidEvent that says what is wrong."""
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        raise InvalidEvent(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    """One short line for the first faults of a body, however long what is wrong there."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{_place(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}" for fault in faults[:FAULTS_SHOWN]]
    more = f" (and {len(faults) - FAULTS_SHOWN} more)" if len(faults) > FAULTS_SHOWN else ""
    return "; ".join(lines)[:LONGEST_LINE] + more


def _place(parts: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in parts) or "value"
