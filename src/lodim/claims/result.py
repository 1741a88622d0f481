"""What a claim is, what running it finds, and the verdict that follows.

A *claim* is one sentence of a paper that a program can check. Each lives in a module of its own under
``lodim/claims/`` beside the module it speaks of, as a plain function and a record named ``CLAIM``::

    def run(scale, seed, progress):
        ...
        return Findings(checks=(check_between("d_int90", 163.0, 90, 260, paper=None),), figures={...})

    CLAIM = Claim(name="objective-landscapes/digits", arxiv="1804.08838", statement="...", run=run)

The verdict is not the claim's to give: it follows from the checks. A check is *essential* when the claim falls with it;
the others compare a figure with a published or formerly measured one, and say that ours differs when it does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lodim.results import Result
from lodim.validation import check_choice

__all__ = [
    "SCALES",
    "Check",
    "Claim",
    "ClaimResult",
    "ClaimSkipped",
    "Findings",
    "Progress",
    "check_between",
    "check_that",
    "verdict_of",
]

SCALES = ("laptop", "full")

# ``progress(done, text)``: done in [0, 1], or None where nobody watches.
Progress = Callable[[Any, str], None] | None


class ClaimSkipped(Exception):
    """Raised by a claim that cannot run here, with the reason; recorded evidence stays as it was."""


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
    passed : bool
        Whether it did.
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
class Findings:
    """What a claim's function returns.

    Attributes
    ----------
    checks : tuple of Check
        At least one.
    figures : dict
        Everything measured on the way that a reader may want, as plain data.
    notes : tuple of str
        Departures from the paper's experiment, and what to make of them.
    """

    checks: tuple[Check, ...]
    figures: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A checkable sentence of a paper, and the function that checks it.

    Attributes
    ----------
    name : str
        ``topic/claim`` in lower case with hyphens; names the evidence file.
    arxiv : str
        arXiv identifier of the paper.
    statement : str
        The sentence.
    run : callable
        ``run(scale, seed, progress) -> Findings``.
    scales : tuple of str
        Scales that ``run`` knows: ``"laptop"`` (two cores, minutes) and ``"full"`` (the paper's, one GPU).
    needs : tuple of str
        Names of data sets of :mod:`lodim.datasets` or of extras without which it cannot run.
    minutes : float
        About how long the laptop scale takes on two cores.
    fast : bool
        Whether continuous integration runs it.
    formerly : tuple of str
        Names it had before; they still find it and its older records.
    """

    name: str
    arxiv: str
    statement: str
    run: Callable[..., Findings]
    scales: tuple[str, ...] = ("laptop",)
    needs: tuple[str, ...] = ()
    minutes: int | float = 1.0
    fast: bool = False
    formerly: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]+(/[a-z0-9-]+)*", self.name):
            raise ValueError(
                f"a claim's name is lower-case words with hyphens and slashes, got {self.name!r}"
            )
        for scale in self.scales:
            check_choice(scale, SCALES, "scale")


@dataclass(frozen=True)
class ClaimResult(Result):
    """A claim that was run: what came out, where, and at what cost.

    Attributes
    ----------
    name, arxiv, statement, scale : str
        Of the :class:`Claim` and its run.
    verdict : str
        ``"holds"``, ``"fails"`` (an essential check did not pass), ``"differs"`` (only other checks did not),
        ``"skipped"`` (could not run here) or ``"error"`` (an exception; see ``message``).
    seconds : float
        Wall time.
    figures : dict
        See :class:`Findings`.
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
    """Return the check that ``low <= ours <= high`` (NaN never passes).

    Parameters
    ----------
    ours : float
    low, high : float
        Inclusive; infinite for an open end.
    paper : object, optional
        The paper's figure.
    essential : bool
        Whether the claim falls with it.
    """
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
    """Return a check whose condition is said in words.

    Parameters
    ----------
    ours : object
        Plain data.
    expected : str
        The condition.
    passed : bool
        Whether it was met.
    paper : object, optional
        The paper's figure.
    essential : bool
        Whether the claim falls with it.
    """
    return Check(what, ours, expected, bool(passed), paper, essential)


def verdict_of(checks: tuple[Check, ...]) -> str:
    """Return ``"holds"``, ``"differs"`` or ``"fails"``, as the checks decide.

    Raises
    ------
    ValueError
        Without any check there is no verdict.
    """
    if not checks:
        raise ValueError("a claim needs at least one check to have a verdict")
    if all(check.passed for check in checks):
        return "holds"
    return "fails" if any(check.essential and not check.passed for check in checks) else "differs"


def format_value(value: Any) -> str:
    """Return a figure as short text: four significant digits, lists in brackets.

    Parameters
    ----------
    value : object
        Plain data.
    """
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
    """Return a check's condition as text: ``low to high`` for an interval.

    Parameters
    ----------
    expected : str or pair of float
    """
    if isinstance(expected, list | tuple) and len(expected) == 2:
        return f"{format_value(expected[0])} to {format_value(expected[1])}"
    return format_value(expected)
