"""What is the same for everyone: a strong ETag, 304 for who has it already (RFC 9110, 13.1.2), no body to a HEAD.

Words are sent packed to who takes that, and packed once. They hold no secret that their length could tell.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HTML = "text/html; charset=utf-8"
_OF_BODY = (b"content-length", b"content-type", b"content-encoding")
_GZIP = re.compile(rb"(?:^|[\s,])gzip(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))\s*(?:[,;]|$)")


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
        digest = hashlib.sha256(body).hexdigest()[:32]
        self.etag, self._packed_etag = f'"{digest}"', f'"{digest}-gzip"'
        about = {**headers, **({"Content-Language": language} if language else {})}
        self._packed = gzip.compress(body, mtime=0) if media_type.endswith("charset=utf-8") else None
        if self._packed is not None:
            about["Vary"] = "Accept-Encoding"
        super().__init__(body, headers={**about, "ETag": self.etag}, media_type=media_type)
        if self._packed is not None:
            of_packed = {**about, "ETag": self._packed_etag, "Content-Encoding": "gzip"}
            self._packed_headers = Response(self._packed, headers=of_packed, media_type=media_type).raw_headers

    @property
    def octets(self) -> int:
        """How much room it takes."""
        return len(self.body) + len(self._packed or b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a GET has no body
        """Answer one request."""
        known, packs = _asked(scope, (self.etag, self._packed_etag))
        body: bytes | memoryview = self.body
        headers = self.raw_headers
        if packs and self._packed is not None:
            body, headers = self._packed, self._packed_headers
        if known:
            headers = [(name, value) for name, value in headers if name not in _OF_BODY]
        status = HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        empty = known or scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if empty else body})


def _asked(scope: Scope, etags: tuple[str, str]) -> tuple[bool, bool]:
    """Whether If-None-Match names this page, packed or not, and whether gzip is taken (RFC 9110, 12.5.3).

    A proxy that compressed the page may have made its tag a weak one.
    """
    known = packs = False
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            tags = [tag.strip().removeprefix("W/") for tag in value.decode("latin-1").split(",")]
            known = known or "*" in tags or any(etag in tags for etag in etags)
        elif name == b"accept-encoding":
            packs = packs or _GZIP.search(value) is not None
    return known, packs
