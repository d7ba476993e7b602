"""A query worker that runs somewhere, asked over HTTP. The only importer of httpx."""

from dataclasses import dataclass, field

import httpx
from pydantic import ValidationError

from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.hosts import is_local, leaks
from penstock.query.replies import ReplyBody
from penstock.query.requests import QueryBody

SPARE_S = 5.0
"""Waiting beyond the query's own time, so that the worker's answer that it is too late arrives."""


@dataclass(frozen=True, slots=True)
class QueryClient:
    """Where the worker is, and the key for it, which travels over https or within this machine unless allowed."""

    url: str
    key: str = field(default="", repr=False)
    allow_insecure: bool = False

    def ask(self, body: QueryBody, timeout_s: float) -> ReplyBody:
        """The worker's answer; raises Misconfigured with what is wrong, Unavailable when it is away or busy."""
        address = f"{self.url.rstrip('/')}/v1/search"
        if not (self.key.isascii() and self.key.isprintable()):
            raise Misconfigured("PENSTOCK_SEARCH__API_KEY: a key has printable ASCII characters only")
        if self.key and leaks(self.url) and not self.allow_insecure:
            raise Misconfigured(
                f"{self.url}: the API key over http is readable on its way: use https, or set "
                "PENSTOCK_SEARCH__ALLOW_INSECURE=true"
            )
        try:
            answer = httpx.post(
                address,
                content=body.model_dump_json(exclude_none=True, by_alias=True),
                headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
                timeout=timeout_s + SPARE_S,
                trust_env=not is_local(httpx.URL(self.url).host),  # a proxy is another machine
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Misconfigured(f"--url {self.url}: {error}") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{address}: {str(error) or type(error).__name__}") from None
        return _reply(address, answer)


def _reply(address: str, answer: httpx.Response) -> ReplyBody:
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
