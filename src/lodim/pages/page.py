"""The page of a report: one self-contained HTML file (no network, no script), whose template reports extend.

Everything that comes from the data (names of files, columns and classes) is escaped by the template engine.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lodim.pages import words
from lodim.pages.picture import Picture
from lodim.pages.svg import svg


@dataclass(frozen=True)
class KeyFigure:
    """A figure of the strip under the verdict."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Share:
    """A bar: how much of what is there is needed."""

    label: str
    words: str
    share: float


def page(package: str, template: str, **context: Any) -> str:
    """Return a page from a package's template, which may extend ``page.html.j2`` of this room.

    The base asks for ``verdict``, ``figures`` (of :class:`KeyFigure`), ``shares`` (of :class:`Share`) and ``advice``
    (texts); the rest is what the template itself reads.
    """
    return _environment(package).get_template(template).render(**context)


@cache
def _environment(package: str) -> Environment:
    def load(name: str) -> str | None:
        for room in (package, "lodim.pages"):
            if (file := files(room) / "templates" / name).is_file():
                return file.read_text(encoding="utf-8")
        return None

    environment = Environment(
        loader=FunctionLoader(load),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    drawn = lambda picture: Markup(svg(picture))  # noqa: E731 - the renderer escapes what it draws
    environment.filters |= {"tidy": _tidy, "cell": _cell, "csv_link": csv_link, "svg": drawn}
    environment.globals["style"] = Markup(load("page.css"))
    return environment


def _tidy(text: str) -> str:
    """Keep intervals and percentages on one line: word joiners around the dash, a fixed space before the sign."""
    return text.replace("–", "\u2060–\u2060").replace(" %", "\u00a0%")


def csv_link(picture: Picture) -> str:
    """Return the numbers behind a picture as a ``data:`` link to a CSV file."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(picture.header)
    writer.writerows(picture.rows)
    return "data:text/csv;charset=utf-8," + quote(out.getvalue())


def _cell(value: object) -> str:
    """A number of a table as people read it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return words.number(value, digits=4)
    return f"{value:,}" if isinstance(value, int) else str(value)
