"""What is recorded of the claims, and which dotted names are there: derived, never written into a card.

``claims_baseline.json`` is a digest of the records under ``evidence/claims`` that an installed library carries, with
the date and the machine of every run. ``lodim methods --write`` makes it; it is not edited by hand, and a claim that
was not run is not in it.
"""

from __future__ import annotations

import importlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from lodim.results import Result
from lodim.results.records import SCALES, ClaimResult, read_records

__all__ = [
    "ClaimRecord",
    "claim_records",
    "digest",
    "evidence_folder",
    "in_words",
    "make_baseline",
    "public",
    "recorded_in",
]

FILE = "claims_baseline.json"


@dataclass(frozen=True)
class ClaimRecord(Result):
    """A recorded run of a claim: ``verdict`` is ``holds``, ``fails``, ``differs`` or ``error``, as the run said;
    ``version`` is that of lodim, and ``command`` runs it again.
    """

    name: str
    scale: str
    verdict: str
    checks_passed: int
    checks: int
    seconds: int | float
    recorded: str
    machine: str
    version: str
    command: str


def evidence_folder() -> Path:
    """Return where claims are recorded and looked for unless a folder is named: ``evidence`` of the current folder
    where there is one, as in a clone of the project; else one in the user's data folder, beside the papers, so that a
    claim that was run and the pages that show it agree wherever either was started. Without the extra ``web``, which
    finds that folder and brings the pages, it is always the former.
    """
    here = Path("evidence")
    if here.is_dir():
        return here
    try:
        platformdirs = importlib.import_module("platformdirs")
    except ModuleNotFoundError:
        return here
    return Path(platformdirs.user_data_dir("lodim", appauthor=False)) / here


def digest(result: ClaimResult) -> ClaimRecord:
    """Return what an installed library keeps of a record."""
    machine = result.machine
    return ClaimRecord(
        name=result.name,
        scale=result.scale,
        verdict=result.verdict,
        checks_passed=sum(check.passed for check in result.checks),
        checks=len(result.checks),
        seconds=result.seconds,
        recorded=result.recorded,
        machine=f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('gpu') or 'no GPU'}",
        version=result.versions.get("lodim", ""),
        command=result.command,
    )


def recorded_in(evidence: str | os.PathLike[str] = "evidence") -> dict[str, ClaimRecord]:
    """Return the laptop-scale runs recorded in an evidence folder, by the claim's name."""
    return {r.name: digest(r) for r in read_records(evidence) if r.scale == SCALES[0]}


def make_baseline(evidence: str | os.PathLike[str] = "evidence") -> str:
    """Return the text of ``claims_baseline.json`` for the laptop-scale records of an evidence folder."""
    records = [record.to_dict() for record in recorded_in(evidence).values()]
    made = {"made_by": "lodim methods --write", "scale": SCALES[0], "claims": records}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


@lru_cache(maxsize=1)
def claim_records() -> dict[str, ClaimRecord]:
    """Return the recorded laptop-scale runs that come with this version of lodim, by the claim's name."""
    text = files("lodim.catalog").joinpath(FILE).read_text(encoding="utf-8")
    return {entry["name"]: ClaimRecord.from_dict(entry) for entry in json.loads(text)["claims"]}


@cache
def public(entry_point: str) -> bool:
    """Return whether a dotted name is public: its package imports and lists it. Packages load lazily, so this costs no
    heavy import; that every listed name also loads is tested.
    """
    package, _, name = entry_point.rpartition(".")
    try:
        return name in getattr(importlib.import_module(package), "__all__", ())
    except ModuleNotFoundError:
        return False


def in_words(claims: Iterable[str], records: Mapping[str, ClaimRecord] | None = None) -> str:
    """Return in a few words what the recorded runs of some claims said, e.g. ``7 hold`` or ``not run``; by default the
    runs are those that come with this version.
    """
    known = claim_records() if records is None else records
    found = Counter(known[name].verdict if name in known else None for name in claims)
    said = [
        f"{found[verdict]} {one if found[verdict] == 1 else many}"
        for verdict, one, many in (
            ("holds", "holds", "hold"),
            ("differs", "differs", "differ"),
            ("fails", "fails", "fail"),
            ("error", "broke", "broke"),
            (None, "not run", "not run"),
        )
        if found[verdict]
    ]
    return ", ".join(said) if set(found) - {None} else "not run"
