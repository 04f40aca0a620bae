"""For whoever watches: is this process alive, does the installation make progress, and the engine's measures."""

from __future__ import annotations

import hmac
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.delivery.exposition import CONTENT_TYPE, exposition
from service.domain.errors import TydzenError
from service.store import publication, vitals
from service.web.pages import READ, Parts

router = APIRouter()


@router.api_route("/healthz", methods=READ)
def healthz() -> JSONResponse:
    """200 as long as the process answers at all."""
    return JSONResponse({"ok": True})


@router.api_route("/readyz", methods=READ)
def readyz(parts: Parts) -> JSONResponse:
    """200 when the database answers and what is due makes progress; 503 and why when not.

    It is for an alarm, not for a load balancer: the site serves readers also while no worker runs.
    """
    try:
        with parts.database.read() as session:
            published = publication.find(session) is not None
            found = vitals.read(session)
    except TydzenError as error:
        return JSONResponse({"ok": False, "database": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
    limit = parts.settings.stalled_seconds
    stalled = [
        words
        for words, seconds in (("letters", found.due_seconds), ("notices", found.notice_seconds))
        if seconds > limit
    ]
    answer = {
        "ok": not stalled,
        "database": "ok",
        "publication": published,
        "due_seconds": round(found.due_seconds, 1),
        "notice_seconds": round(found.notice_seconds, 1),
    }
    if stalled:
        answer["stalled"] = f"{' and '.join(stalled)} that are due make no progress; run: tydzen doctor"
    return JSONResponse(answer, HTTPStatus.SERVICE_UNAVAILABLE if stalled else HTTPStatus.OK)


@router.api_route("/metrics", methods=READ)
def metrics(request: Request, parts: Parts) -> Response:
    """The measures for Prometheus, for who brings the token that is set; without one they are nobody's business."""
    token = parts.settings.metrics_token
    given = request.headers.get("authorization", "")
    if not token or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return Response(status_code=HTTPStatus.NOT_FOUND)
    with parts.database.read() as session:
        return Response(exposition(session), media_type=CONTENT_TYPE)
