"""What is the same for everyone: one strong ETag, 304 for who has it already (RFC 9110, 13.1.2), no body to a HEAD."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HTML = "text/html; charset=utf-8"


class Sheet(Response):
    """The same octets for everyone, sent any number of times; nothing in it is changed after it was made."""

    def __init__(
        self,
        body: bytes,
        *,
        language: str | None = None,
        media_type: str = HTML,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        about = {**headers, "ETag": self.etag, **({"Content-Language": language} if language else {})}
        super().__init__(body, headers=about, media_type=media_type)
        of_body = (b"content-length", b"content-type")
        self._unchanged = [(name, value) for name, value in self.raw_headers if name not in of_body]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a GET has no body
        """Answer one request."""
        known = _is_known(scope, self.etag)
        status, headers = (HTTPStatus.NOT_MODIFIED, self._unchanged) if known else (HTTPStatus.OK, self.raw_headers)
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        empty = known or scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if empty else self.body})


def _is_known(scope: Scope, etag: str) -> bool:
    """Whether If-None-Match names this page; a proxy that compressed it may have made its tag a weak one."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            tags = [tag.strip().removeprefix("W/") for tag in value.decode("latin-1").split(",")]
            if etag in tags or "*" in tags:
                return True
    return False
