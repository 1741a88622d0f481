"""A stored paper as it is shown, and a page of a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from lodim.results import Result

__all__ = ["Page", "Paper", "Statement"]


@dataclass(frozen=True)
class Paper(Result):
    """A paper.

    Attributes
    ----------
    id : int
        Its number in this catalogue.
    link : str or None
        Where it can be read.
    published, updated : str or None
        UTC; ``precision`` (``time``, ``day``, ``month`` or ``year``) says how much of the former is known.
    first_seen, changed : str
        When this catalogue first had it, and last changed what it says of it.
    method, implemented : str or None, bool
        Slug of the card of lodim that implements or plans it; whether that method can be used today.
    signals : mapping of str to float
        ``source:kind`` to the last value.
    score, why : float, str
        What the list was ordered by, and what that comes from.
    """

    id: int
    title: str
    abstract: str
    authors: tuple[str, ...]
    tags: tuple[str, ...]
    arxiv_id: str | None
    doi: str | None
    venue: str | None
    version: int | None
    year: int | None
    link: str | None
    published: str | None
    precision: str
    updated: str | None
    first_seen: str
    changed: str
    kind: str
    source: str
    method: str | None = None
    implemented: bool = False
    signals: Mapping[str, float] = field(default_factory=dict)
    score: float = 0.0
    why: str = ""

    @property
    def date(self) -> str:
        """What is known of the date of publication."""
        return (self.published or "")[: {"year": 4, "month": 7}.get(self.precision, 10)]

    @property
    def uri(self) -> str:
        """An address that stays the paper's in every catalogue."""
        if self.arxiv_id:
            return f"https://arxiv.org/abs/{self.arxiv_id}"
        if self.doi:
            return f"https://doi.org/{self.doi}"
        return uuid5(NAMESPACE_URL, f"{self.title}|{self.authors[:1]}|{self.year}").urn

    def __str__(self) -> str:
        return f"{self.title} ({', '.join(self.authors[:3]) or 'no authors'}; {self.date or 'no date'})"


@dataclass(frozen=True)
class Page(Result):
    """A part of a list of ``n_matching`` papers.

    ``formula`` says what it is ordered by, with its constants; ``next`` is passed as ``cursor`` for the following part
    and None at the end; ``notes`` tell what was not understood of a query.
    """

    papers: tuple[Paper, ...]
    order: str
    formula: str
    next: str | None = None
    n_matching: int = 0
    notes: tuple[str, ...] = ()

    def to_frame(self) -> Any:
        """Return the papers as a data frame, one a row."""
        import pandas as pd

        return pd.DataFrame([paper.to_dict() for paper in self.papers])

    def __str__(self) -> str:
        lines = [f"{i:2}. {paper} [{paper.why}]" for i, paper in enumerate(self.papers, 1)]
        return "\n".join([*lines, *self.notes, f"({self.formula})"])


@dataclass(frozen=True)
class Statement(Result):
    """What a source said about a paper at some time; ``recorded`` is when it came in."""

    source: str
    version: int | None
    title: str
    abstract: str
    authors: tuple[str, ...]
    updated: str | None
    recorded: str
