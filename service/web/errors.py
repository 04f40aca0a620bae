"""The one place where a family of errors becomes an HTTP status and a page."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from service import log
from service.domain.errors import (
    CheckFailedError,
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TydzenError,
    UnavailableError,
)
from service.web.guard import complete, is_private
from service.web.pages import READ, error_page

_STATUSES: tuple[tuple[type[TydzenError], HTTPStatus], ...] = (
    (InvalidInputError, HTTPStatus.BAD_REQUEST),
    (CheckFailedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConfigurationError, HTTPStatus.INTERNAL_SERVER_ERROR),
)

_log = log.get("web")


def status_of(error: TydzenError) -> HTTPStatus:
    """The HTTP status of that error's family."""
    found = (status for family, status in _STATUSES if isinstance(error, family))
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def install(app: FastAPI) -> None:
    """Answer errors with pages; what a message says is for the operator's log, not for the public."""

    @app.exception_handler(TydzenError)
    def ours(request: Request, error: TydzenError) -> Response:
        status = status_of(error)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("request-failed", kind=type(error).__name__, why=str(error))
        return error_page(request, status)

    @app.exception_handler(HTTPException)
    def starlettes(request: Request, error: HTTPException) -> Response:
        answer = error_page(request, HTTPStatus(error.status_code))
        answer.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            answer.headers["Allow"] = ", ".join(_taken(request))
        return answer

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, _error: RequestValidationError) -> Response:
        return error_page(request, HTTPStatus.BAD_REQUEST)

    @app.exception_handler(Exception)
    def unexpected(request: Request, _error: Exception) -> Response:
        answer = error_page(request, HTTPStatus.INTERNAL_SERVER_ERROR)
        # This answer is made outside of the guard.
        complete(answer.headers, private=is_private(request.url.path))
        return answer


def _taken(request: Request) -> list[str]:
    """The methods that this address takes, by all its routes (RFC 9110, 15.5.6): reading and writing have one each."""
    scope = {key: request.scope[key] for key in ("type", "path", "root_path", "headers")}
    # A mounted folder matches whatever the method; it is only read.
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    posted = any(route.matches({**scope, "method": "POST"})[0] is Match.FULL for route in routes)
    return [*READ, "POST"] if posted else READ
