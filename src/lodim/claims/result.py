"""What a claim is and what running it finds.

A *claim* is one sentence of a paper that a program can check. Each lives in a module of its own under
``lodim/claims/<area>/``, as a plain function and a record named ``CLAIM``::

    def laptop(seed, progress):
        d = measure(...)
        return Findings((check_between("d_int90", d, 380, 800, paper=750),), {"d_int90": d})

    CLAIM = Claim(name="objective-landscapes/mnist", arxiv="1804.08838", statement="...", laptop=laptop)

A claim that was also written at the scale of its paper gives ``full`` as well: a second function, or one function of
the experiment's sizes and two ``functools.partial`` of it.

The verdict is not the claim's to give: it follows from the checks (:func:`verdict_of`). A check is
*essential* when the claim falls with it; the others compare a figure with a published or formerly measured one, and say
that ours differs when it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lodim.results.records import SCALES, Check, ClaimResult, check_between, check_that, verdict_of
from lodim.validation import check_choice

__all__ = [
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

T = TypeVar("T")
Watcher = Callable[[Any, str], Any] | None


class ClaimSkipped(Exception):
    """Raised by a claim that cannot run here, with the reason; recorded evidence stays as it was."""


@dataclass(frozen=True)
class Progress:
    """How far a claim has come, told to whoever watches: ``progress(done, text)`` with done in [0, 1]."""

    watcher: Watcher = None  # called with the share done and a few words; None where nobody watches
    first: float = 0.0  # the stretch of the whole that this part fills begins here
    last: float = 1.0  # and ends here

    def __call__(self, done: Any, text: str) -> None:
        """Say that this share of the part is done."""
        if self.watcher is not None:
            self.watcher(self.first + (self.last - self.first) * done, text)

    def part(self, first: float, last: float) -> Progress:
        """Return the progress of the stretch from ``first`` to ``last`` of this part."""
        return Progress(self, first, last)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Go through items that take about as long each, telling the one at hand."""
        these: Sequence[T] = list(items)
        for i, item in enumerate(these):
            self(i / len(these), item if isinstance(item, str) else f"{i + 1} of {len(these)}")
            yield item


@dataclass(frozen=True)
class Findings:
    """What a claim's function returns: at least one check.

    ``figures`` are everything measured on the way that a reader may want, as plain data; ``notes`` are departures from
    the paper's experiment, and what to make of them.
    """

    checks: Iterable[Check]
    figures: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", tuple(self.checks))


Experiment = Callable[[int, Progress], Findings]


@dataclass(frozen=True)
class Claim:
    """A checkable sentence of a paper (``statement``), and the experiment that checks it.

    Attributes
    ----------
    name : str
        ``system/claim`` in lower case with hyphens; names the evidence file.
    laptop : callable
        ``laptop(seed, progress) -> Findings``: two cores, minutes.
    full : callable, optional
        The same at the paper's own scale.
    needs : tuple of str
        Names of data sets of :mod:`lodim.datasets` or of extras without which it cannot run.
    full_needs : tuple of str
        What the full scale needs besides; ``"gpu"`` is one that torch sees.
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
    laptop: Experiment
    full: Experiment | None = None
    needs: tuple[str, ...] = ()
    full_needs: tuple[str, ...] = ()
    minutes: int | float = 1.0
    fast: bool = False
    formerly: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]+(/[a-z0-9-]+)*", self.name):
            raise ValueError(
                f"a claim's name is lower-case words with hyphens and slashes, got {self.name!r}"
            )

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales that there is an experiment for."""
        return SCALES if self.full is not None else SCALES[:1]

    def needed(self, scale: str) -> tuple[str, ...]:
        """Return what a scale cannot run without."""
        return (*(self.full_needs if scale == "full" else ()), *self.needs)

    def run(self, scale: str, seed: int = 0, watcher: Watcher = None) -> Findings:
        """Run the experiment of a scale, whatever it needs being there; a scale it does not have is a ValueError."""
        check_choice(scale, self.scales, f"scale of {self.name}")
        experiment = self.laptop if scale == "laptop" else self.full
        assert experiment is not None
        return experiment(seed, Progress(watcher))
