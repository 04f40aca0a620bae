"""What every answer carries and what is logged of every request: never an address, a token or a machine's address."""

from __future__ import annotations

import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import log

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# Pages reached by a token or about a person: kept by no cache and found by no search engine.
_PRIVATE = ("/c/", "/u/", "/p/", "/r/", "/inbox/")

_log = log.get("web")


class Guard:
    """Sets the security headers an answer does not bring itself, and logs the route (not the path) it was made by."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        private = is_private(scope["path"])

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                complete(MutableHeaders(scope=message), private=private)
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        finally:
            elapsed = round((time.perf_counter() - started) * 1000, 1)
            _log.info("request", method=scope["method"], route=_route(scope), status=int(status), ms=elapsed)


def is_private(path: str) -> bool:
    """Whether that page is for one reader or operator."""
    return path.startswith(_PRIVATE)


def complete(headers: MutableHeaders, *, private: bool) -> None:
    """Add the security headers that are missing; those of a private page win over any of its own."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if private:
        headers["Cache-Control"] = "no-store"
        headers["X-Robots-Tag"] = "noindex, nofollow"
    else:
        headers.setdefault("Cache-Control", "no-cache")


def _route(scope: Scope) -> str:
    """The route's pattern: a path may hold a token."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", None) or "none")
