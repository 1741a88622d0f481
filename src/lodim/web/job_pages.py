"""What the pages of profiles and of claims share: the queue, a job's page while it runs and afterwards, its buttons."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from starlette.responses import FileResponse, RedirectResponse, Response

from lodim.web.jobs import Job, JobQueue
from lodim.web.security import check_csrf
from lodim.web.views import render

__all__ = ["add_routes", "address_of", "close_queue", "download", "find", "queue_of", "show", "status"]

ROOTS = {"profile": "/profile", "claim": "/runs"}
Seen = Annotated[int, Query(ge=0, le=1 << 40)]
_opening = threading.Lock()


def queue_of(request: Request) -> JobQueue:
    """Return the application's queue of jobs, opened with the first page that needs it."""
    state = request.app.state
    with _opening:
        if not hasattr(state, "jobs"):
            state.jobs = JobQueue(state.settings.data_dir / "jobs", now=state.now)
    return state.jobs


def close_queue(app: FastAPI) -> None:
    """End the jobs of an application that is being stopped; they are marked as interrupted."""
    if hasattr(app.state, "jobs"):
        app.state.jobs.close()


def address_of(job: Job) -> str:
    """Return the path of a job's page."""
    return f"{ROOTS[job.kind]}/{job.id}"


def find(request: Request, id: str, kind: str) -> Job:
    """Return a job."""
    queue = queue_of(request)
    job = queue.get(id)
    if job is None or job.kind != kind:
        days = queue.limits.days
        raise HTTPException(404, f"It was deleted, or never was: results are kept for {days:g} days.")
    return job


def _state(request: Request, job: Job) -> dict[str, Any]:
    """Return what the templates show of a job that is not over."""
    queue = queue_of(request)
    return {
        "job": job,
        "address": address_of(job),
        "progress": queue.progress(job.id),
        "before": queue.before(job.id),
    }


def show(request: Request, id: str, kind: str) -> Response:
    """Return the page of a job: its progress, or what came of it."""
    job = find(request, id, kind)
    queue = queue_of(request)
    made = {name for name in ("report.html", "report.json") if queue.file(id, name) is not None}
    log, seen = queue.log(job.id)
    return render(
        request,
        "job.html",
        **_state(request, job),
        made=made,
        limits=queue.limits,
        log=log,
        seen=seen,
        added="",
        still="still" in request.query_params,
    )


def status(request: Request, id: str, kind: str, seen: int = 0) -> Response:
    """Return the changing part of a running job's page; once it is over, the word to load the page anew.

    ``seen`` are the bytes of the log that the page has: what came since is added, so that nobody loses their place.
    """
    job = queue_of(request).get(id)
    if job is None or job.kind != kind or job.over:
        return Response(headers={"HX-Refresh": "true", "Cache-Control": "no-store"})
    added, seen = queue_of(request).log(job.id, seen)
    return render(
        request,
        "job_status.html",
        headers={"Cache-Control": "no-store"},
        **_state(request, job),
        added=added,
        seen=seen,
    )


def add_routes(router: APIRouter, kind: str, dependencies: Sequence[Any] = ()) -> None:
    """Add a job's page, its changing part and its buttons."""
    root = f"{ROOTS[kind]}/{{job}}"
    changing = [*dependencies, Depends(check_csrf)]

    @router.get(root, dependencies=dependencies)
    def page(request: Request, job: str) -> Response:
        return show(request, job, kind)

    @router.get(f"{root}/status", dependencies=dependencies)
    def changed(request: Request, job: str, seen: Seen = 0) -> Response:
        return status(request, job, kind, seen)

    @router.post(f"{root}/cancel", dependencies=changing)
    def cancel(request: Request, job: str) -> Response:
        queue_of(request).cancel(find(request, job, kind).id)
        return RedirectResponse(root.format(job=job), status_code=303)

    @router.post(f"{root}/delete", dependencies=changing)
    def delete(request: Request, job: str) -> Response:
        queue_of(request).delete(find(request, job, kind).id)
        return RedirectResponse(ROOTS[kind], status_code=303)


def download(request: Request, id: str, kind: str, name: str, **options: Any) -> Response:
    """Return a file that a job made."""
    job = find(request, id, kind)
    path = queue_of(request).file(job.id, name)
    if path is None:
        raise HTTPException(404, "It has no report.")
    headers = {"Cache-Control": "no-store", **options.pop("headers", {})}
    return FileResponse(path, headers=headers, **options)
