"""Profile one's own data from a page: a form, the progress, the report."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse, Response

from lodim.web import job_pages
from lodim.web.jobs import QueueUnavailable
from lodim.web.security import check_csrf, limit
from lodim.web.uploads import file_name, sent_file
from lodim.web.views import render

__all__ = ["router"]

KIND = "profile"
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".xlsx", ".ods", ".npy", ".npz")
BUDGET = (5, 60, 600)  # least, usual and most seconds
_MOST_SEED = 2**31 - 1
MISSING = (
    ("auto", "fill gaps of a table in; refuse stray text, and gaps in arrays"),
    ("impute", "fill every gap in"),
    ("error", "refuse gaps"),
)
# The report is one file with its style and drawings inside; it runs nothing, loads nothing, and is shown as if it came
# from nowhere, so that nothing in it could act as a page of this server. Its tables are downloads.
REPORT_CSP = (
    "sandbox allow-downloads; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_EMPTY = {"named": "", "target": "", "budget": str(BUDGET[1]), "seed": "0", "missing": "auto"}

router = APIRouter(include_in_schema=False)
ration = limit("profile")  # taken from by what is measured, not by mistakes in the form
upload_ration = limit("upload")


def _form(
    request: Request,
    status: int = 200,
    values: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    from lodim.datasets import summaries

    settings = request.app.state.settings
    return render(
        request,
        "profile.html",
        status,
        values={**_EMPTY, **(values or {})},
        errors=errors or {},
        allowed=settings.may_profile,
        datasets=summaries(),
        suffixes=SUFFIXES,
        budget=BUDGET,
        most_seed=_MOST_SEED,
        missing=MISSING,
        # Whose profiles these are is known on one's own machine only.
        recent=job_pages.queue_of(request).jobs(KIND)[:10] if settings.local else [],
    )


@router.get("/profile")
def profile_form(request: Request) -> Response:
    """Show the form."""
    return _form(request)


def _number(text: str, what: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise ValueError(f"{what} must be a whole number from {low} to {high:,}.")
    return int(text)


def _read(form: FormData) -> tuple[dict[str, Any], UploadFile | None, dict[str, str]]:
    """Return the request for the worker, the file if one came, and what is wrong, by field."""
    values = {name: str(form.get(name, "")).strip() for name in _EMPTY}
    errors: dict[str, str] = {}
    request: dict[str, Any] = {"target": values["target"][:200] or None, "missing": values["missing"]}
    file = sent_file(form)
    if file is not None:
        request["name"] = file_name(file)
        suffix = "." + request["name"].rpartition(".")[2].lower()
        request["file"] = f"upload{suffix}"
        if suffix not in SUFFIXES:
            errors["file"] = (
                f"{request['name']} is none of the files that can be read: {', '.join(SUFFIXES)}."
            )
        elif values["named"]:
            errors["file"] = "Give a file or choose a named data set, not both."
    else:
        errors |= _check_named(values)
        request["name"] = values["named"]
    for name, what, low, high in (
        ("budget", "The time", BUDGET[0], BUDGET[2]),
        ("seed", "The seed", 0, _MOST_SEED),
    ):
        try:
            request[name] = _number(values[name], what, low, high)
        except ValueError as error:
            errors[name] = str(error)
    if values["missing"] not in dict(MISSING):
        errors["missing"] = "Choose one of the list."
    return request, file, errors


def _check_named(values: dict[str, str]) -> dict[str, str]:
    from lodim.datasets import names

    if not values["named"]:
        return {"file": "Give a file, or choose a named data set below."}
    if values["named"] not in names():
        return {"named": "Choose a data set of the list."}
    if values["target"]:
        return {"target": "A named data set brings its own target; leave this empty."}
    return {}


@router.post("/profile")
def start_profile(request: Request, form: Annotated[FormData, Depends(check_csrf)]) -> Response:
    """Take the data and queue the measurement."""
    if not request.app.state.settings.may_profile:
        return _form(request, 403)
    asked, file, errors = _read(form)
    values = {name: str(form.get(name, "")) for name in _EMPTY}
    if errors:
        return _form(request, 422, values, errors)
    if file is not None:
        upload_ration(request)
    ration(request)
    try:
        job = job_pages.queue_of(request).submit(
            KIND,
            asked["name"],
            asked,
            files=None if file is None else {asked["file"]: file.file},
            seconds=3 * asked["budget"] + 120,  # reading and the last training run come on top of the budget
        )
    except QueueUnavailable as full:
        return _form(request, 503, values, {"form": str(full)})
    return RedirectResponse(job_pages.address_of(job), status_code=303)


@router.get("/profile/{job}/report")
def profile_report(request: Request, job: str) -> Response:
    """Return the report, which browsers show but let do nothing."""
    # A sandboxed page cannot also be in an opener group of its own: browsers refuse to show it.
    headers = {"Content-Security-Policy": REPORT_CSP, "Cross-Origin-Opener-Policy": "unsafe-none"}
    return job_pages.download(request, job, KIND, "report.html", headers=headers, media_type="text/html")


@router.get("/profile/{job}/report.json")
def profile_figures(request: Request, job: str) -> Response:
    """Return the figures as a file to keep."""
    return job_pages.download(
        request, job, KIND, "report.json", media_type="application/json", filename="lodim-profile.json"
    )


job_pages.add_routes(router, KIND)
