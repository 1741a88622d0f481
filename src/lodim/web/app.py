"""The application: its parts put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

import lodim
from lodim.catalog.digest import start_scheduler
from lodim.catalog.feed import Catalog
from lodim.catalog.feed.filling import Filler
from lodim.web import api, assets, feeds, job_pages, methods, pages, profiles, runs, subscriptions, uploads
from lodim.web.errors import add_error_pages, broken
from lodim.web.evidence import Evidence
from lodim.web.meaning import Meaning
from lodim.web.middleware import Guard
from lodim.web.security import Limiter
from lodim.web.settings import Settings

__all__ = ["create_app"]

ROUTERS = (
    pages.router,
    methods.router,
    feeds.router,
    subscriptions.router,
    uploads.router,
    api.router,
    api.page_router,
    assets.router,
    profiles.router,
    runs.router,
)


def create_app(
    settings: Settings, *, catalog: Catalog | None = None, now: Callable[[], datetime] | None = None
) -> FastAPI:
    """Return the application; needs the extra ``web``.

    In ``app.state`` are ``settings``, ``catalog``, ``visited`` (its store for who looks at a page), ``now`` and
    ``limiter``.

    Parameters
    ----------
    catalog : Catalog, optional
        The papers; by default those of ``settings.catalog``, closed with the application.
    now : callable, optional
        Returns the time, with time zone; also the clock of the rate limits if given.
    """
    papers = Catalog(settings.catalog, "auto" if settings.semantic else None) if catalog is None else catalog
    meaning = Meaning()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        filler = Filler(papers)
        if settings.semantic:
            meaning.start(None if papers.encoder is None else filler.start)
        post = None
        if settings.mail is not None and settings.mail.relay is not None:
            post = app.state.post = start_scheduler(papers, settings.mail, secret=settings.secret, now=now)
        yield
        if post is not None:
            await asyncio.to_thread(post.stop)
        await asyncio.to_thread(filler.stop)
        job_pages.close_queue(app)
        if catalog is None:
            papers.close()

    # Their own routes, as they were made on import: `include_router` would make them all anew, which takes 0.1 s.
    routes = [route for router in ROUTERS for route in router.routes]
    app = FastAPI(
        routes=routes,
        title="lodim",
        version=lodim.__version__,
        summary="Papers, methods and the measured state of their claims.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.catalog = papers
    app.state.visited = papers.store.for_visitors()
    app.state.now = now or (lambda: datetime.now(UTC))
    clock = time.monotonic if now is None else (lambda: now().timestamp())
    app.state.limiter = Limiter(settings.rates, clock)
    app.state.evidence = Evidence(settings.evidence)
    app.state.meaning = meaning
    app.state.post = None  # sends mails while the application runs
    app.state.pages = frozenset(getattr(route, "path", "") for route in routes)
    add_error_pages(app)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(Guard, settings=settings, broken=broken)
    return app
