"""Errors over HTTP, in one form: which status each kind has, what it means, and how it is told."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from fastapi.responses import JSONResponse, Response

from penstock.core.errors import InvalidEvent, Misconfigured, NotFinite, Unavailable
from penstock.query.search import TooLate

FIELD = re.compile(r"([a-z_]+(?:\.\w+)*): ")
"""How a message begins that is about one field."""

BUSY_S, AWAY_S, STARTING_S = 1, 2, 5
"""When to come back: as soon as another request is done, when the store may be back, when the models may be warm."""


class Kind(NamedTuple):
    """A kind of error. ``retry_s`` says when it may be worth another try, 0 that it is not."""

    status: int
    meaning: str
    retry_s: int = 0


KINDS: Mapping[str, Kind] = {
    "invalid_request": Kind(400, "The request is wrong; the message says where."),
    "unauthorized": Kind(401, "The key is missing or unknown."),
    "forbidden": Kind(403, "The key is not for that tenant."),
    "no_such_thing": Kind(404, "There is no such path, or not by this method; the status may be another."),
    "too_slow": Kind(408, "The body did not come in time."),
    "too_large": Kind(413, "The body is too large."),
    "internal": Kind(500, "A bug; the worker's log has more."),
    "misconfigured": Kind(500, "The worker's settings do not fit; the message says which."),
    "model_failed": Kind(500, "The model made no finite numbers of this text."),
    "busy": Kind(503, "Too many requests are under way.", BUSY_S),
    "unavailable": Kind(503, "The store is away.", AWAY_S),
    "starting": Kind(503, "The worker is starting.", STARTING_S),
    "too_late": Kind(504, "No answer in time."),
}

KIND_OF: Mapping[type[Exception], str] = {
    InvalidEvent: "invalid_request",
    Unavailable: "unavailable",
    TooLate: "too_late",
    Misconfigured: "misconfigured",
    NotFinite: "model_failed",
}
"""Failures of the work itself."""


class Rejected(Exception):
    """A request that gets an error of some kind; ``text`` says what was wrong with this one."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind

    @property
    def status(self) -> int:
        """Of the answer."""
        return KINDS[self.kind].status

    def response(self) -> Response:
        """What the client gets."""
        status, _, retry_s = KINDS[self.kind]
        headers = {"Retry-After": str(retry_s)} if retry_s else {}
        if self.kind == "unauthorized":
            headers["WWW-Authenticate"] = "Bearer"
        return error_response(status, self.kind, str(self), headers)


def error_response(status: int, kind: str, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """{"error": {"message", "type", "param", "code"}}, as clients of OpenAI's API expect.

    ``param`` is the field that is wrong, where the message begins with one.
    """
    named = FIELD.match(text) if status == HTTPStatus.BAD_REQUEST else None
    error = {"message": text, "type": kind, "param": named[1] if named else None, "code": kind}
    return JSONResponse({"error": error}, status, dict(headers or {}))


def starting() -> Rejected:
    """There are no answers yet."""
    return Rejected("starting", "the worker is starting")


def too_large(most_bytes: int) -> Rejected:
    """A body that is not read to its end."""
    return Rejected("too_large", f"the body is larger than {most_bytes} bytes")


def rejection(error: Exception) -> Rejected | None:
    """What a failure of the work is to the client; None where it is a bug."""
    if isinstance(error, Rejected):
        return error
    for failure, kind in KIND_OF.items():
        if isinstance(error, failure):
            return Rejected(kind, str(error))
    return None
