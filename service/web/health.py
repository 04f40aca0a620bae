"""For whoever watches the site: is this process alive, and can it answer readers."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from service.domain.errors import TydzenError
from service.store import publication
from service.web.pages import READ, Parts

router = APIRouter()


@router.api_route("/healthz", methods=READ)
def healthz() -> JSONResponse:
    """200 as long as the process answers at all."""
    return JSONResponse({"ok": True})


@router.api_route("/readyz", methods=READ)
def readyz(parts: Parts) -> JSONResponse:
    """200 when the database answers, 503 and why when it does not."""
    try:
        with parts.database.read() as session:
            published = publication.find(session) is not None
    except TydzenError as error:
        return JSONResponse({"ok": False, "database": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
    return JSONResponse({"ok": True, "database": "ok", "publication": published})
