"""Addresses with a slash too few or too many at the end lead to the page that is meant, on the same host.

The framework's own redirects name scheme and host as the request did: behind a proxy with TLS that is a way out of it.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What stands in a path as it is (RFC 3986, 3.3); a backslash does not, which browsers take for a slash.
_IN_PATH = "/:@!$&'()*+,;="


class Slashes:
    """Answers 301 where nothing was found and a page stands at the other spelling of the address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and look at the other address when it was in vain."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or not (meant := _meant(scope["path"])):
            await self._app(scope, receive, send)
            return
        held: list[Message] = []
        # A request's scope is written into on its way.
        fresh = dict(scope)

        async def holding(message: Message) -> None:
            if held or (message["type"] == "http.response.start" and message["status"] == HTTPStatus.NOT_FOUND):
                held.append(message)
            else:
                await send(message)

        await self._app(scope, receive, holding)
        if held and await self._found(fresh, meant):
            query = scope.get("query_string", b"").decode("latin-1")
            target = quote(meant, safe=_IN_PATH) + (f"?{query}" if query else "")
            await RedirectResponse(target, HTTPStatus.MOVED_PERMANENTLY)(scope, receive, send)
            return
        for message in held:
            await send(message)

    async def _found(self, scope: Scope, path: str) -> bool:
        """Whether a HEAD of that path finds something."""
        status = 0

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def looking(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        asked = {**scope, "method": "HEAD", "path": path, "raw_path": quote(path, safe=_IN_PATH).encode()}
        await self._app(asked, nothing, looking)
        return HTTPStatus.OK <= status < HTTPStatus.BAD_REQUEST


def _meant(path: str) -> str | None:
    """The other spelling of that path; None where it has none: of a file, the root, and what names a host."""
    if path.startswith("//"):
        return None
    if path.endswith("/"):
        return path.rstrip("/") or None
    return None if "." in path.rpartition("/")[2] else path + "/"
