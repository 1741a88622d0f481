"""Which methods are there, and what is recorded of their claims: derived, never written into a card.

``claims_baseline.json`` is a digest of the records under ``evidence/claims`` that an installed library carries, with
the date and the machine of every run. ``lodim methods --write`` makes it; it is not edited by hand, and a claim that
was not run is not in it.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lodim.catalog.cards import Card
from lodim.results import Result

__all__ = [
    "ClaimRecord",
    "claim_records",
    "evidence_folder",
    "evidence_of",
    "make_baseline",
    "public",
    "status_of",
]

SCALE = "laptop"
FILE = "claims_baseline.json"


@dataclass(frozen=True)
class ClaimRecord(Result):
    """A recorded run of a claim.

    Attributes
    ----------
    verdict : str
        ``holds``, ``fails``, ``differs`` or ``error``, as the run said.
    recorded : str
        Date of the run.
    machine : str
        What it ran on.
    version : str
        Of lodim.
    command : str
        Runs it again.
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
    """Return where claims are recorded and looked for unless a folder is named.

    ``evidence`` of the current folder where there is one, as in a clone of the project; else one in the user's data
    folder, beside the papers, so that a claim that was run and the pages that show it agree wherever either was
    started. Without the extra ``web``, which finds that folder and brings the pages, it is always the former.
    """
    here = Path("evidence")
    if here.is_dir():
        return here
    try:
        platformdirs = importlib.import_module("platformdirs")
    except ModuleNotFoundError:
        return here
    return Path(platformdirs.user_data_dir("lodim", appauthor=False)) / here


def _digest(record: dict[str, Any], name: str) -> ClaimRecord:
    machine = record.get("machine", {})
    return ClaimRecord(
        name=name,  # of the file: a renamed claim moves its record with it
        scale=record["scale"],
        verdict=record["verdict"],
        checks_passed=sum(bool(check["passed"]) for check in record["checks"]),
        checks=len(record["checks"]),
        seconds=record["seconds"],
        recorded=record["recorded"],
        machine=f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('gpu') or 'no GPU'}",
        version=record.get("versions", {}).get("lodim", ""),
        command=record["command"].replace(record["name"], name),
    )


def make_baseline(evidence: str | os.PathLike[str] = "evidence") -> str:
    """Return the text of ``claims_baseline.json`` for the laptop-scale records of an evidence folder."""
    folder, end = Path(evidence) / "claims", f".{SCALE}.json"
    named = sorted((p.relative_to(folder).as_posix().removesuffix(end), p) for p in folder.rglob(f"*{end}"))
    records = [_digest(json.loads(p.read_text(encoding="utf-8")), name) for name, p in named]
    made = {"made_by": "lodim methods --write", "scale": SCALE, "claims": [r.to_dict() for r in records]}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


@lru_cache(maxsize=1)
def claim_records() -> dict[str, ClaimRecord]:
    """Return the recorded laptop-scale runs that come with this version of lodim, by the claim's name."""
    text = files("lodim.catalog").joinpath(FILE).read_text(encoding="utf-8")
    return {entry["name"]: ClaimRecord.from_dict(entry) for entry in json.loads(text)["claims"]}


def public(entry_point: str) -> bool:
    """Return whether a dotted name is public: its package imports and lists it.

    Packages load lazily, so this costs no heavy import; that every listed name also loads is tested.

    Parameters
    ----------
    entry_point : str
        For example ``lodim.landscape.SubspaceModule``.
    """
    package, _, name = entry_point.rpartition(".")
    try:
        return name in getattr(importlib.import_module(package), "__all__", ())
    except ModuleNotFoundError:
        return False


def status_of(card: Card) -> str:
    """Return ``"available"`` if the method can be used and its evidence is recorded, else ``"planned"``.

    Returns
    -------
    str
        Available means: there are entry points, all are public, and a laptop-scale run of at least one of its claims is
        recorded. It does not say that the claims hold; :func:`evidence_of` does.
    """
    usable = bool(card.entry_points) and all(map(public, card.entry_points))
    return "available" if usable and any(name in claim_records() for name in card.claims) else "planned"


def evidence_of(card: Card, records: Mapping[str, ClaimRecord] | None = None) -> str:
    """Return in a few words what the recorded runs of a card's claims said, e.g. ``7 hold`` or ``not run``.

    Parameters
    ----------
    records : mapping of str to ClaimRecord, optional
        By the claim's name; by default those that come with this version.
    """
    known = claim_records() if records is None else records
    return _in_words(known[name].verdict if name in known else None for name in card.claims)


def _in_words(verdicts: Iterable[str | None]) -> str:
    found = list(verdicts)
    if not any(found):
        return "not run"
    said = []
    for verdict, one, many in (
        ("holds", "holds", "hold"),
        ("differs", "differs", "differ"),
        ("fails", "fails", "fail"),
        ("error", "broke", "broke"),
        (None, "not run", "not run"),
    ):
        n = found.count(verdict)
        if n:
            said.append(f"{n} {one if n == 1 else many}")
    return ", ".join(said)
