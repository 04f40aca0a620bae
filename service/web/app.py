"""The site: public pages, one-click unsubscribe, health; and the local inbox's mails where no relay is set."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from service.bootstrap import Services, services
from service.render.templates import FOLDER
from service.web import cards, errors, health, inbox, preferences, public, reading, requests, subscribing
from service.web.bodies import BoundedBodies
from service.web.floodgate import Floodgate
from service.web.guard import Guard
from service.web.shelf import FromShelf, Shelf
from service.web.slashes import Slashes

STATIC = Path(FOLDER) / "web" / "static"


def site() -> FastAPI:
    """The site over the installation's settings: what `tydzen web` serves."""
    return create_app(services())


def create_app(parts: Services) -> FastAPI:
    """The site over these parts. It describes itself to nobody: there is no schema and no documentation page."""
    app = FastAPI(title="Tydzen", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.services = parts
    app.state.shelf = Shelf(parts)
    app.state.floodgate = Floodgate(parts.form_stamps)
    app.add_middleware(Slashes)
    app.add_middleware(FromShelf, shelf=app.state.shelf)
    app.add_middleware(BoundedBodies)
    app.add_middleware(Guard)
    errors.install(app)
    app.include_router(health.router)
    app.include_router(public.router)
    app.include_router(preferences.router)
    app.include_router(requests.router)
    app.include_router(subscribing.router)
    if parts.settings.smtp_url is None:
        app.include_router(inbox.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(cards.router)
    # Last, because its paths begin with a language and so with anything.
    app.include_router(reading.router)
    return app
