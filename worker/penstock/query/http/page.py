"""The page to search on."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from penstock.observe.page import assembled

PARTS = Path(__file__).parent / "static"
SCRIPTS = ("text", "hits", "search", "begin")
"""In the order that they are read in."""


def add_page(app: FastAPI) -> None:
    """At the root."""
    html, policy = assembled(PARTS, "page", SCRIPTS)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(html, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
