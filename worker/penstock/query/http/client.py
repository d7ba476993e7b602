"""A query sent to a running worker. The only importer of httpx."""

import httpx
from pydantic import ValidationError

from penstock.core.errors import Misconfigured, Unavailable
from penstock.query.requests import QueryBody, ReplyBody

SPARE_S = 5.0
"""Waiting beyond the query's own time, so that the worker's answer that it is too late arrives."""


def ask(url: str, key: str, body: QueryBody, timeout_s: float) -> ReplyBody:
    """The worker's answer; raises Misconfigured with what it says is wrong, Unavailable when it is away or busy."""
    address = f"{url.rstrip('/')}/v1/search"
    try:
        answer = httpx.post(
            address,
            content=body.model_dump_json(exclude_none=True, by_alias=True),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s + SPARE_S,
        )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Misconfigured(f"--url {url}: {error}") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"{address}: {str(error) or type(error).__name__}") from None
    if answer.is_success:
        try:
            return ReplyBody.model_validate_json(answer.content)
        except ValidationError:
            raise Misconfigured(f"{address}: what answers there is no query worker") from None
    text = _message(answer)
    if answer.status_code in (503, 504):
        raise Unavailable(f"{address}: {answer.status_code}: {text}")
    raise Misconfigured(f"{address}: {answer.status_code}: {text}")


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase
