"""The search as a tool for agents: the Model Context Protocol over HTTP. The only importer of its SDK.

Every request stands for itself: no session is kept, so that any worker may answer the next one.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi.responses import Response
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations

from penstock import __version__
from penstock.core.errors import InvalidEvent
from penstock.events import schemas
from penstock.query.replies import HitBody, ReplyBody
from penstock.query.search import TooLate

Message = MutableMapping[str, Any]

ASKED = ("query", "top_k", "filter", "after", "mode", "offset")
"""What an agent may ask for: what it can choose well. The rest is as the worker is set."""

TOLD = ("title", "text", "metadata", "timestamp")

ABOUT = (
    "Search the indexed documents by meaning and by words, in any language. Returns passages, the best first, each "
    "with its document's id, title and metadata. Put exact strings in quotation marks. A filter narrows by metadata."
)

Search = Callable[[bytes], Awaitable[ReplyBody]]
"""From a body as for /v1/search to the answer."""

Failed = Callable[[Exception], str]
"""Hears of a failure, and says what the agent is told of it."""


@dataclass(frozen=True, slots=True)
class Mcp:
    """Answers the protocol's requests, which no stream follows, so that each ends after ``longest_s`` seconds.

    ``tenants``: an agent says whose documents, since no key does.
    """

    tenants: bool
    longest_s: float

    async def answer(self, scope: Message, body: bytes, search: Search, failed: Failed) -> Response:
        """To one request over HTTP, whose body has been read."""
        server: Server[Any] = Server(
            "penstock", version=__version__, on_list_tools=self._list, on_call_tool=_calling(search, failed)
        )
        manager = StreamableHTTPSessionManager(server, stateless=True, json_response=True)
        sent = _Sent(body)
        try:
            async with asyncio.timeout(self.longest_s), manager.run():
                await manager.asgi_app(scope, sent.receive, sent.send)
        except TimeoutError:
            raise TooLate(f"no answer within {self.longest_s:g} s") from None
        return sent.response()

    async def _list(self, *_: Any) -> ListToolsResult:
        return ListToolsResult(tools=[_tool(tenants=self.tenants)])


@cache
def _tool(*, tenants: bool) -> Tool:
    whole = json.loads(schemas.text("query.v1"))
    names = (*ASKED, "tenant") if tenants else ASKED
    properties = {name: whole["properties"][name] for name in names}
    asked = {"type": "object", "required": ["query"], "additionalProperties": False, "properties": properties}
    return Tool(
        name="search",
        title="Search documents",
        description=ABOUT,
        input_schema={**asked, "$defs": whole["$defs"]},
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


def _calling(search: Search, failed: Failed) -> Callable[..., Awaitable[CallToolResult]]:
    """What is wrong with a call is told to the model, which may do better."""

    async def call(_context: Any, asked: Any) -> CallToolResult:
        try:
            if asked.name != "search":
                raise InvalidEvent(f"there is no tool {asked.name!r}: there is search")
            given = asked.arguments or {}
            if unknown := sorted(given.keys() - {*ASKED, "tenant"}):
                raise InvalidEvent(f"{unknown[0]}: no such argument; there are {', '.join(ASKED)}")
            fields = {"include": TOLD, **given}
            return _told(await search(json.dumps(fields).encode()))
        except Exception as error:  # noqa: BLE001  # else its words are the answer
            return CallToolResult(content=[TextContent(text=failed(error))], is_error=True)

    return call


def _told(reply: ReplyBody) -> CallToolResult:
    hits = [json.loads(hit.model_dump_json(exclude_unset=True)) for hit in reply.hits]
    text = "\n\n".join(map(_passage, reply.hits)) or "nothing found"
    return CallToolResult(content=[TextContent(text=text)], structured_content={"hits": hits})


def _passage(hit: HitBody) -> str:
    title = f"{hit.title} " if hit.title else ""
    metadata = f"\n{json.dumps(hit.metadata, ensure_ascii=False)}" if hit.metadata else ""
    return f"[{hit.document}] {title}(score {hit.score:.3f}){metadata}\n{hit.text}"


class _Sent:
    """What an ASGI application says to a request whose body is there."""

    def __init__(self, body: bytes) -> None:
        self._requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._start: Message = {"status": 500, "headers": []}
        self._body = b""

    async def receive(self) -> Message:
        """The body, and then nothing more: whether the client goes is watched elsewhere."""
        if self._requests:
            return self._requests.pop()
        return await asyncio.Future()

    async def send(self, message: Message) -> None:
        """Kept."""
        if message["type"] == "http.response.start":
            self._start = message
        self._body += message.get("body", b"")

    def response(self) -> Response:
        """As a whole."""
        made = Response(self._body, self._start["status"])
        made.raw_headers = [
            (name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"
        ]
        made.headers["content-length"] = str(len(self._body))
        return made
