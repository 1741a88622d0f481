"""Recorded runs of claims: those of the release, and over them those found in a folder of this machine."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from lodim.catalog.baseline import ClaimRecord, claim_records, recorded_in
from lodim.catalog.cards import Card, evidence_of, load_cards
from lodim.results.records import SCALES, ClaimResult, evidence_path, read_record

__all__ = ["Evidence", "duration", "interval_bar"]

_log = logging.getLogger("lodim.web")


class Evidence:
    """What is recorded of every claim: the release's records, and over them those that ``lodim claims run --out`` left.

    The folder need not exist; it is read again when a file in it changes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._records: dict[str, ClaimRecord] = {}
        self._here: frozenset[str] = frozenset()
        self._problem = ""

    def _look(self) -> None:
        """Read the folder if anything in it has changed."""
        paths = sorted((self.folder / "claims").rglob("*.json"))
        found = tuple((str(path), (s := path.stat()).st_mtime_ns, s.st_size) for path in paths)
        with self._lock:
            if found == self._seen:
                return
            self._seen, self._problem, here = found, "", {}
            try:
                here = recorded_in(self.folder)
            except (ValueError, KeyError, TypeError, OSError) as error:
                self._problem = (
                    f"the records in {self.folder.name}/ cannot be read: {type(error).__name__}: {error}"
                )
                _log.warning("%s", self._problem)
            shipped = claim_records()
            newer = {
                name: record
                for name, record in here.items()
                if name not in shipped or record.recorded >= shipped[name].recorded
            }
            self._records, self._here = {**shipped, **newer}, frozenset(newer)

    @property
    def problem(self) -> str:
        """Why the folder's records are not shown; empty if they are."""
        self._look()
        return self._problem

    def records(self) -> dict[str, ClaimRecord]:
        """Return the newest laptop-scale record of each claim that was run, by name."""
        self._look()
        return self._records

    def origin(self, name: str) -> str:
        """Return where a record comes from: ``"this machine's records"`` or ``"release run"``."""
        self._look()
        return "this machine's records" if name in self._here else "release run"

    def names(self) -> list[str]:
        """Return the names of all claims: those that cards speak of, and those that were run."""
        return sorted({*(name for card in load_cards() for name in card.claims), *self.records()})

    def results(self, name: str) -> tuple[ClaimResult, ...]:
        """Return the records of a known claim (never what a visitor typed) in full, laptop scale first."""
        paths = [evidence_path(name, scale, self.folder) for scale in SCALES]
        return tuple(read_record(path, name) for path in paths if path.is_file())

    def said(self, card: Card) -> str:
        """Return in a few words what the runs of a card's claims said: ``2 hold, 1 not run``."""
        return evidence_of(card, self.records())


def duration(seconds: int | float) -> str:
    """Return a time in the unit that suits it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def interval_bar(check: Any) -> dict[str, float] | None:
    """Return where a measured figure lies beside the interval it should lie in, on a scale from 0 to 100, or None."""
    numbers = (check.ours, *check.expected) if isinstance(check.expected, list | tuple) else ()
    if len(numbers) != 3 or not all(isinstance(x, int | float) for x in numbers):
        return None
    ours, low, high = (float(x) for x in numbers)
    if not low < high or max(abs(ours), abs(low), abs(high)) > 1e12:
        return None
    start, end = min(low, ours), max(high, ours)
    room = 0.08 * (end - start)
    scale = 100.0 / (end - start + 2 * room)
    return {
        "low": (low - start + room) * scale,
        "width": (high - low) * scale,
        "ours": (ours - start + room) * scale,
    }
