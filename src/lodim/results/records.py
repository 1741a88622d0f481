"""Records of claims: what a run found, how it is kept under ``evidence/claims/``, how it is read again.

A record is named by its file, ``<system>/<claim>.<scale>.json``: a claim that gets another name moves its record with
it, and what was written inside stays as it was. The run of seed 0 is the record; those of other seeds lie under
``evidence/seeds/`` and say whether the verdict is one of chance.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lodim.results.result import Result

__all__ = [
    "SCALES",
    "Check",
    "ClaimResult",
    "check_between",
    "check_that",
    "evidence_path",
    "format_expected",
    "format_value",
    "read_other_seeds",
    "read_record",
    "read_records",
    "verdict_of",
]

SCALES = ("laptop", "full")


@dataclass(frozen=True)
class Check(Result):
    """One comparison inside a claim.

    Attributes
    ----------
    what : str
        What was measured, in the words of the paper.
    ours : object
        What came out: a number, or a few.
    expected : str or pair of float
        The condition in words, or the interval [low, high] that ``ours`` must lie in.
    paper : object, optional
        The paper's own figure, where it gives one for the same experiment.
    essential : bool
        Whether the claim falls with this check.
    """

    what: str
    ours: Any
    expected: Any
    passed: bool
    paper: Any = None
    essential: bool = True

    def __str__(self) -> str:
        mark = "ok  " if self.passed else "FAIL" if self.essential else "differs"
        paper = "" if self.paper is None else f"; paper: {format_value(self.paper)}"
        return f"{mark} {self.what}: {format_value(self.ours)} (expected {format_expected(self.expected)}{paper})"


@dataclass(frozen=True)
class ClaimResult(Result):
    """A claim that was run: what came out, where, and at what cost.

    Attributes
    ----------
    verdict : str
        ``"holds"``, ``"fails"`` (an essential check did not pass), ``"differs"`` (only other checks did not),
        ``"skipped"`` (could not run here) or ``"error"`` (an exception; see ``message``).
    seconds : float
        Wall time.
    figures : dict
        Everything measured on the way that a reader may want, as plain data.
    message : str
        Why it was skipped, or the exception.
    command : str
        What to type to run it again.
    recorded : str
        Date (UTC) of the run.
    commit : str or None
        Revision of the source, where it is under version control.
    machine : dict
        Processor, cores, memory and GPU; nothing that identifies the machine.
    versions : dict
        Of Python and the libraries that shape the figures.
    """

    name: str
    arxiv: str
    statement: str
    scale: str
    verdict: str
    checks: tuple[Check, ...]
    seconds: float
    seed: int
    figures: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    message: str = ""
    command: str = ""
    recorded: str = ""
    commit: str | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.verdict == "holds"

    def to_frame(self) -> Any:
        """Return the checks as a data frame, one a row."""
        import pandas as pd

        columns = ["what", "ours", "expected", "paper", "essential", "passed"]
        return pd.DataFrame([check.to_dict() for check in self.checks], columns=columns)

    def __str__(self) -> str:
        head = f"{self.name} ({self.scale}): {self.verdict} in {self.seconds:.0f} s"
        body = [f"  {check}" for check in self.checks]
        return "\n".join(
            [head, f"  {self.statement}", *body, *([f"  {self.message}"] if self.message else [])]
        )


def check_between(
    what: str, ours: Any, low: int | float, high: int | float, *, paper: Any = None, essential: bool = True
) -> Check:
    """Return the check that ``low <= ours <= high`` (NaN never passes; infinity is an open end)."""
    ours = float(ours)
    if math.isinf(high):
        expected: Any = f"at least {low:g}"
    elif math.isinf(low):
        expected = f"at most {high:g}"
    else:
        expected = (float(low), float(high))
    return Check(what, ours, expected, bool(low <= ours <= high), paper, essential)


def check_that(
    what: str, ours: Any, expected: str, passed: Any, *, paper: Any = None, essential: bool = True
) -> Check:
    """Return a check whose condition, ``expected``, is said in words."""
    return Check(what, ours, expected, bool(passed), paper, essential)


def verdict_of(checks: tuple[Check, ...]) -> str:
    """Return ``"holds"``, ``"differs"`` or ``"fails"``, as the checks decide; without any there is no verdict."""
    if not checks:
        raise ValueError("a claim needs at least one check to have a verdict")
    if all(check.passed for check in checks):
        return "holds"
    return "fails" if any(check.essential and not check.passed for check in checks) else "differs"


def evidence_path(name: str, scale: str, out: str | os.PathLike[str] = "evidence", seed: int = 0) -> Path:
    """Return the file in the evidence folder that records claim ``name`` at ``scale``, run with ``seed``."""
    if seed:
        return Path(out) / "seeds" / f"{name}.{scale}.{seed}.json"
    return Path(out) / "claims" / f"{name}.{scale}.json"


def read_record(path: Path, name: str) -> ClaimResult:
    """Return a record under ``name``, what its file says the claim is called today.

    A file that holds no record is a ValueError, KeyError or TypeError.
    """
    result = ClaimResult.from_json(path.read_text(encoding="utf-8"))
    return replace(result, name=name, command=result.command.replace(result.name, name))


def _read(folder: Path, suffixes: int) -> list[ClaimResult]:
    """Return the records in a folder, whose files are called ``<name>`` and so many suffixes."""

    def found() -> Iterator[ClaimResult]:
        for path in folder.rglob("*.json"):
            yield read_record(path, path.relative_to(folder).as_posix().rsplit(".", suffixes)[0])

    return sorted(found(), key=lambda result: (result.name, result.scale, result.seed))


def read_records(out: str | os.PathLike[str] = "evidence") -> list[ClaimResult]:
    """Return every claim recorded in the evidence folder, by name and scale; one that does not exist holds none.

    A file that holds no record is a ValueError, KeyError or TypeError.
    """
    return _read(Path(out) / "claims", 2)


def read_other_seeds(out: str | os.PathLike[str] = "evidence") -> list[ClaimResult]:
    """Return the recorded runs of seeds other than 0, as :func:`read_records` does."""
    return _read(Path(out) / "seeds", 3)


def format_value(value: Any) -> str:
    """Return a figure (plain data) as short text: four significant digits, lists in brackets."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {format_value(item)}" for key, item in value.items())
    return str(value)


def format_expected(expected: Any) -> str:
    """Return a check's condition as text: ``low to high`` for an interval."""
    if isinstance(expected, list | tuple) and len(expected) == 2:
        return f"{format_value(expected[0])} to {format_value(expected[1])}"
    return format_value(expected)
