"""The size of what may be posted: no page here asks for much, and a stranger must not fill the memory."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.pages import error_page

# An address, languages, a date: a form of ours takes less than one of these.
MOST_OCTETS = 16_384


class BoundedBodies:
    """Answers 413 to a body that is too large: by what it says of itself, else once so much of it has come."""

    def __init__(self, app: ASGIApp, most: int = MOST_OCTETS) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body is small enough."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        # More digits than that are no length of anything, and Python would take its time to read them.
        if said.isdecimal() and (len(said) > 18 or int(said) > self._most):
            answer = await run_in_threadpool(error_page, Request(scope), HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            # What is still on its way is not read.
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers={"Connection": "close"})
            return message

        await self._app(scope, counted, send)
