"""The answer of :func:`lodim.profile`: :class:`Profile`, the data of :mod:`~lodim.profiling.parts` with its views."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lodim.files import write_whole
from lodim.pages import figures
from lodim.profiling import report, text
from lodim.profiling.parts import (
    SCHEMA,
    Advice,
    AssumptionBits,
    CurvePoint,
    DataPart,
    Density,
    DimensionAtScale,
    FoundGroups,
    LandscapePart,
    Layer,
    MeasuredDimension,
    Message,
    Pointwise,
    ProfileData,
    Topology,
)
from lodim.profiling.pictures import pictures

__all__ = [
    "Advice",
    "CurvePoint",
    "DataPart",
    "Density",
    "FoundGroups",
    "LandscapePart",
    "Layer",
    "Message",
    "Pointwise",
    "Profile",
    "Topology",
]

# as pickles of version 0.1 name them
Estimate, ScalePoint, Difficulty = MeasuredDimension, DimensionAtScale, AssumptionBits


@dataclass(frozen=True)
class Profile(ProfileData):
    """How many dimensions a problem needs: the answer of :func:`lodim.profile`.

    Print it, or open :meth:`to_html`; :attr:`verdict` is the answer in two sentences, :meth:`to_json` the same
    figures for machines (the schema is in ``lodim/profiling/schema.json``).

    Attributes
    ----------
    schema : int
        Version of the JSON's layout.
    landscape : LandscapePart or None
        None when no model was asked for.
    seconds : float
        Wall time.
    kind : str or None
        ``classification`` or ``regression``, None without labels.
    notes : tuple of str
        What was done to the data and what had to be left out.
    budget : float
        Seconds that were allowed.
    complete : bool
        False if the run was interrupted.
    timings : dict of str to float
        Seconds of each part.
    difficulty : AssumptionBits or None
        Bits of assumptions that a classification asks for.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON as plain data, the verdict with it."""
        plain = super().to_dict()
        return {
            "schema": plain.pop("schema"),
            "source": plain.pop("source"),
            "verdict": self.verdict,
            **plain,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Profile:
        """Rebuild a profile from :meth:`to_dict`'s data; another version of the schema is a ValueError."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"expected a profile of schema {SCHEMA}, got schema {data.get('schema')!r}")
        return super().from_dict(data)

    @cached_property
    def verdict(self) -> str:
        """The answer in one to three sentences."""
        return text.verdict(self)

    def __str__(self) -> str:
        return text.full_text(self)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one self-contained HTML page, and write it to ``path`` if one is given."""
        page = report.render(self)
        if path is not None:
            write_whole(path, page)
        return page

    def _repr_html_(self) -> str:
        return report.render_fragment(self)

    def plot(self) -> Any:
        """Draw the report's pictures and return the matplotlib figure; nothing to draw is a ValueError."""
        return figures.figure_of(pictures(self))

    def save_json(self, path: str | Path) -> None:
        """Write :meth:`to_json`'s text to a file."""
        write_whole(path, self.to_json() + "\n")

    @classmethod
    def load_json(cls, path: str | Path) -> Profile:
        """Read a profile that :meth:`save_json` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
