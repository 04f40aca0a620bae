"""Somebody at the site: a browser without JavaScript and cookies, that shows redirects; and what the relay took for them."""

from __future__ import annotations

import contextlib
import email
import email.policy
import urllib.error
import urllib.parse
import urllib.request
from email.message import EmailMessage


class _Staying(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Visitor:
    """Each answer is status, headers and text."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._browser = urllib.request.build_opener(_Staying)

    def get(self, path: str):
        return self._open(urllib.request.Request(self.base + path))

    def post(self, path: str, **fields: object):
        body = urllib.parse.urlencode(fields, doseq=True).encode()
        return self._open(urllib.request.Request(self.base + path, data=body))

    def answered(self) -> bool:
        """Whether the site is up."""
        with contextlib.suppress(OSError):
            return self.get("/healthz")[0] == 200
        return False

    def _open(self, request: urllib.request.Request):
        try:
            with self._browser.open(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()


def mails(sink, address: str) -> list[EmailMessage]:
    """What the relay took for that address, in order."""
    found = zip(sink.entries(), sink.messages, strict=False)
    return [
        email.message_from_bytes(octets, policy=email.policy.default)
        for entry, octets in found
        if entry.recipient == address
    ]


def body(message: EmailMessage, kind: str) -> str:
    """The `plain` or `html` part, with LF."""
    return message.get_body((kind,)).get_content().replace("\r\n", "\n")
